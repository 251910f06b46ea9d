# `make demo` and `make test` are all a newcomer needs; `make help` lists the rest. Each target does the set-up it needs.
#
# HUGEPAGES=N       hugepages of 2 MiB to reserve (512)
# FUZZ_SECONDS=N    time a fuzz target runs (10)
# FAMILY=6          family of the addresses in demo and namespace tests, 4 unless given
# AIN_VECTORS=DIR   folder of published test vectors that the project does not carry

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup setup-build setup-interop setup-bench setup-bench-veth build lab plugin demo demo-up demo-down test test-lint test-unit test-nodpdk test-loom test-miri \
        test-oracle test-netns test-interop test-fuzz fuzz loom miri bench bench-full bench-peers bench-memory bench-veth bench-tor bench-failures test-bare audit clean

PARTS := lint unit nodpdk loom miri oracle netns interop fuzz

help: ## this list
	@awk -F ':.*## ' '/^[a-z -]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## packages, hugepages, checks; root; once
	@deploy/setup.sh all

setup-build:
	@deploy/setup.sh build

setup-interop:
	@deploy/setup.sh interop

build: setup-build ## `ain`, optimised, with DPDK and ipsec-mb: target/release/ain
	cargo build --release --package ain

lab: setup-build ## the builds of `ain` that demo and namespace tests use
	deploy/build.sh

plugin: setup-interop ## strongSwan's plugin that hands keys to `ain`: target/strongswan
	$(MAKE) --no-print-directory -C deploy/strongswan

demo: setup lab ## a user's traffic through three nodes, and who could see what
	/usr/bin/python3 deploy/demo.py run

demo-up: setup lab ## the demo's network, kept running to play with
	/usr/bin/python3 deploy/demo.py up

demo-down: ## ends it
	/usr/bin/python3 deploy/demo.py down

test: setup-interop lab ## every part below but bench, test-bare and audit
	@.ci/test $(PARTS)

test-lint: setup-build ## format, clippy, docs, shell scripts, licences
	@.ci/test lint
test-unit: setup ## every crate's own tests
	@.ci/test unit
test-nodpdk: ## the same where neither DPDK nor ipsec-mb is installed
	@.ci/test nodpdk
test-oracle: setup lab ## our AH and ESP against scapy's
	@.ci/test oracle
test-netns: setup lab ## real nodes in network namespaces
	@.ci/test netns
test-interop: setup-interop lab ## nodes and peers that are not ours: Linux kernels in user mode, strongSwan, scapy, tshark
	@.ci/test interop
test-loom loom: ## every interleaving of what is lock-free
	@.ci/test loom
test-miri miri: ## undefined behaviour in the pure crates, where miri is installed
	@.ci/test miri
test-fuzz fuzz: setup-build ## each parser's fuzz target, FUZZ_SECONDS each
	@.ci/test fuzz

audit: ## known vulnerabilities of dependencies; needs the network
	@.ci/test audit

bench: setup ## what a packet costs, beside the bare primitives; minutes; into target/bench
	cargo run --release --package ain-bench -- all
bench-full: setup ## the same with every path length, burst, datagram size and number of AIVTs
	cargo run --release --package ain-bench -- all --full
	cargo bench --package ain-bench

setup-bench:
	@deploy/setup.sh bench

setup-bench-veth:
	@deploy/setup.sh bench-veth

bench-peers: bench-memory bench-veth ## what users would pick instead, beside ours in one run
bench-memory: setup-bench lab ## our node in each role against ipsec-secgw, memory to memory on one core
	/usr/bin/python3 deploy/bench_memory.py
bench-veth: setup-bench-veth lab ## three AINs against three nested WireGuard tunnels, through the kernel
	/usr/bin/python3 deploy/bench_veth.py

bench-failures: setup lab ## what a user loses when each AIN is killed, stopped, cut off, restarted; 15 minutes
	/usr/bin/python3 deploy/bench_failures.py

bench-tor: setup-bench lab ## one stream through three AINs, and through a private Tor network
	/usr/bin/python3 deploy/bench_tor.py

test-bare: ## the demo and every test in a fresh Debian root; root, debootstrap
	deploy/bare/run.sh

clean: ## build results and the marks of set-up
	cargo clean
