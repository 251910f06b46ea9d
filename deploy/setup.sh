#!/usr/bin/env bash
# Makes a bare Debian 12 machine ready to build, test and demonstrate. Says what it does, does it once.
#
#   deploy/setup.sh [build|all|interop|bench|bench-veth]   build: what compiling and the unit tests need; all (default): the demo and
#                                                          most tests; interop: all, and peers that are not ours, for `make test`; bench:
#                                                          all, and what users would pick instead of `ain`, to measure beside it;
#                                                          bench-veth: bench, and boringtun, which is compiled
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/sbin:/sbin"
SCOPE="${1:-all}"
STAMPS="${CARGO_TARGET_DIR:-target}/setup"
HUGEPAGES_WANTED="${HUGEPAGES:-512}" # of 2 MiB

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: error: %s\n' "$*" >&2
    exit 1
}

# DPDK, Intel IPsec Multi-Buffer (it brings libipsec-mb1, all that a run needs) and what builds against them; a C++ compiler for
# the fuzz runtime; the linters.
BUILD_PACKAGES=(libdpdk-dev libipsec-mb-dev pkg-config gcc g++ libc6-dev libclang-dev clang make git ca-certificates shellcheck)
# Drivers that DPDK loads at run time, the network laboratory, traffic, and the oracles.
RUN_PACKAGES=(
    librte-net-null23 librte-net-ring23 librte-net-memif23 librte-net-tap23 librte-net-af-packet23 librte-net-af-xdp23
    librte-net-pcap23 librte-net-virtio23 librte-net-vhost23 librte-mempool-ring23
    iproute2 iputils-ping fping procps kmod ethtool tcpdump curl iperf3 nftables
    python3 python3-pytest python3-scapy python3-cryptography python3-sklearn
)

# A Linux kernel with IPsec, in user mode; another reader of ESP; strongSwan, and what its plugin of ours is built with (deploy/strongswan).
INTEROP_PACKAGES=(user-mode-linux tshark charon-systemd strongswan-swanctl libstrongswan-standard-plugins dpkg-dev binutils)
# Peers: nested WireGuard, a private Tor network, the ipsec-secgw of DPDK's samples with its crypto driver.
BENCH_PACKAGES=(wireguard-go wireguard-tools tor dpdk dpdk-dev librte-crypto-ipsec-mb23 xz-utils)

missing_packages() {
    local package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || printf '%s ' "$package"
    done
}

install_packages() {
    local missing
    missing="$(missing_packages "$@")"
    [ -n "$missing" ] || { say "all ${#} packages are there"; return; }
    [ "$(id -u)" = 0 ] || fail "packages are missing and only root can install them: $missing"
    say "installing: $missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q >"$STAMPS/apt-update.log" 2>&1 || { tail -20 "$STAMPS/apt-update.log" >&2; fail "apt-get update failed"; }
    # shellcheck disable=SC2086  # a list of package names
    apt-get install -q -y --no-install-recommends $missing >"$STAMPS/apt-install.log" 2>&1 ||
        { tail -30 "$STAMPS/apt-install.log" >&2; fail "apt-get install failed"; }
    say "installed"
}

# without_services PROGRAM SERVICE COMMAND...: installs what brings a service that nobody here asked for. Debian's tor would join the
# public network as soon as it is installed, and at every boot; its charon would take the ports of IKE. Tests start their own. Every
# init system asks this program before it starts what has been installed.
POLICY=/usr/sbin/policy-rc.d
without_services() {
    local program="$1"
    UNWANTED="$2"
    shift 2
    if [ "$(id -u)" != 0 ] || command -v "$program" >/dev/null; then
        "$@"
        return
    fi
    [ ! -e "$POLICY" ] || [ -e "$POLICY.before" ] || mv "$POLICY" "$POLICY.before"
    trap services_again EXIT
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
    "$@"
    services_again
    trap - EXIT
}

services_again() {
    rm -f "$POLICY"
    [ ! -e "$POLICY.before" ] || mv "$POLICY.before" "$POLICY"
    if [ -e "/etc/init.d/$UNWANTED" ]; then update-rc.d "$UNWANTED" disable >/dev/null; fi
    if [ -e "/lib/systemd/system/$UNWANTED.service" ] && command -v systemctl >/dev/null; then systemctl -q disable "$UNWANTED" || true; fi
}

# boringtun, the fastest userspace WireGuard here, is a crate; without it the bench takes wireguard-go alone.
BORINGTUN=0.7.1
boringtun() {
    local root="${CARGO_TARGET_DIR:-target}/peers"
    grep -qs "^\"boringtun-cli $BORINGTUN " "$root/.crates.toml" && return
    say "building boringtun-cli $BORINGTUN"
    CARGO_TARGET_DIR="$root/build" cargo install --quiet --locked --root "$root" --version "=$BORINGTUN" boringtun-cli \
        >"$STAMPS/boringtun.log" 2>&1 || say "warning: boringtun-cli cannot be built, see $STAMPS/boringtun.log"
}

check_machine() {
    [ "$(uname -s)" = Linux ] || fail "this is $(uname -s); a Linux machine is needed"
    command -v dpkg-query >/dev/null || fail "no dpkg here: the package names are Debian 12's"
    # shellcheck disable=SC1091
    . /etc/os-release
    [ "${VERSION_CODENAME:-}" = bookworm ] || say "warning: made for Debian 12 (bookworm); this is ${PRETTY_NAME:-unknown}"
}

check_rust() {
    command -v cargo >/dev/null || fail "no cargo: install the stable Rust toolchain (https://rustup.rs), with clippy and rustfmt"
    local have want
    have="$(rustc --version | cut -d' ' -f2)"
    want="$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)"
    [ "$(printf '%s\n' "$want" "$have" | sort -V | head -1)" = "$want" ] || fail "Rust $want or later is needed; this is $have"
    cargo clippy --version >/dev/null 2>&1 && cargo fmt --version >/dev/null 2>&1 ||
        { say "adding clippy and rustfmt"; rustup component add clippy rustfmt; } ||
        fail "clippy and rustfmt are missing"
    say "Rust $have"
}

hugepages() {
    local file=/proc/sys/vm/nr_hugepages have
    have="$(cat "$file" 2>/dev/null || echo 0)"
    if [ "$have" -lt "$HUGEPAGES_WANTED" ]; then
        say "reserving $HUGEPAGES_WANTED hugepages of 2 MiB (there were $have)"
        echo "$HUGEPAGES_WANTED" 2>/dev/null >"$file" || true
        have="$(cat "$file" 2>/dev/null || echo 0)"
    fi
    [ "$have" -ge "$HUGEPAGES_WANTED" ] && { say "$have hugepages"; return; }
    say "warning: only $have hugepages of $HUGEPAGES_WANTED: nodes fall back to ordinary memory, more slowly"
}

network() {
    [ "$(id -u)" = 0 ] || fail "network namespaces and packet sockets need root"
    unshare --net true 2>/dev/null || fail "this machine does not let root make network namespaces (a container needs CAP_SYS_ADMIN)"
    if [ ! -c /dev/net/tun ]; then
        say "making /dev/net/tun"
        mkdir -p /dev/net
        mknod /dev/net/tun c 10 200 2>/dev/null || fail "there is no /dev/net/tun and it cannot be made here"
    fi
    unshare --net ip tuntap add dev ain-setup mode tun 2>/dev/null || fail "the kernel has no TUN devices (modprobe tun)"
    unshare --net ip link add ain-setup0 type veth peer name ain-setup1 2>/dev/null || fail "the kernel has no veth devices"
    unshare --net ip link add ain-setup0 type bridge 2>/dev/null || fail "the kernel has no bridges"
    say "network namespaces, TUN, veth and bridge work"
}

mkdir -p "$STAMPS"
check_machine
check_rust
# The stamp spares the package query of later runs; hugepages and kernel are looked at each time, they may change.
stamp="$STAMPS/$SCOPE-$({ cat "$0" /etc/machine-id /var/lib/dpkg/status 2>/dev/null || true; } | sha256sum | cut -c1-16)"
if [ ! -e "$stamp" ]; then
    install_packages "${BUILD_PACKAGES[@]}"
    if [ "$SCOPE" != build ]; then install_packages "${RUN_PACKAGES[@]}"; fi
    if [ "$SCOPE" = interop ]; then without_services charon-systemd strongswan install_packages "${INTEROP_PACKAGES[@]}"; fi
    if [[ "$SCOPE" = bench* ]]; then without_services tor tor install_packages "${BENCH_PACKAGES[@]}"; fi
    touch "$stamp"
fi
if [ "$SCOPE" != build ]; then
    network
    hugepages
fi
if [ "$SCOPE" = bench-veth ]; then boringtun; fi
