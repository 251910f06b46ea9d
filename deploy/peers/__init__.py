"""What users would pick instead of `ain`, built beside it in the same laboratory and measured in turn."""
