"""The laboratory: whole networks of `ain` nodes in network namespaces of one machine, for the demo and the tests."""
