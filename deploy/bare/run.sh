#!/usr/bin/env bash
# Proves that a bare Debian 12 suffices: builds a minbase root with debootstrap, binds in the Rust toolchain and the package
# clients' settings and nothing else of this machine, clones HEAD into it and runs `make demo` and `make test` to their end.
#
#   deploy/bare/run.sh [TARGET...]      make targets to run there (demo test)
#
# The log stays at target/bare.log. BARE_ROOT_PARENT (/var/tmp) is where the root is built: 8 GB, no nodev, removed at the end.
set -euo pipefail
cd "$(dirname "$0")/../.."
REPOSITORY="$PWD"
LOG="${CARGO_TARGET_DIR:-$PWD/target}/bare.log"
export PATH="$PATH:/usr/sbin:/sbin"

fail() {
    printf 'bare: error: %s\n' "$*" >&2
    exit 1
}
say() { printf 'bare: %s\n' "$*"; }

# Second half, inside the private mount and process namespaces: lays out the mounts, enters the root, runs the targets.
if [ "${1:-}" = --inside ]; then
    ROOT="$2"
    shift 2
    mount --bind "$ROOT" "$ROOT" # `ip netns exec` wants / to be a mount point
    mount -t proc proc "$ROOT/proc"
    mount --rbind /sys "$ROOT/sys"
    mount --rbind /dev "$ROOT/dev"
    mount -t tmpfs tmpfs "$ROOT/run"
    mkdir -p "$ROOT/run/lock"
    bind() {
        mkdir -p "$ROOT$2"
        mount --bind "$1" "$ROOT$2"
        mount -o remount,bind,ro "$ROOT$2"
    }
    bind "${RUSTUP_HOME:-$HOME/.rustup}" /opt/rustup
    [ -z "${AIN_VECTORS:-}" ] || bind "$AIN_VECTORS" /opt/vectors
    # shellcheck disable=SC2016  # expanded in there
    exec chroot "$ROOT" /usr/bin/env -i HOME=/root TERM=dumb LANG=C.UTF-8 \
        PATH=/opt/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        RUSTUP_HOME=/opt/rustup CARGO_HOME=/opt/cargo ${AIN_VECTORS:+AIN_VECTORS=/opt/vectors} \
        ${FUZZ_SECONDS:+FUZZ_SECONDS="$FUZZ_SECONDS"} \
        bash -c 'set -ae; . /opt/environment; set +a; cd /src/ain
                 apt-get update -q && apt-get install -q -y --no-install-recommends make
                 for target in "$@"; do
                     echo "bare: make $target"; at=$SECONDS
                     make --no-print-directory "$target"
                     echo "bare: make $target took $((SECONDS - at)) s"
                 done' bash "$@"
fi

[ "$(id -u)" = 0 ] || fail "debootstrap and chroot need root"
command -v debootstrap >/dev/null || {
    say "installing debootstrap"
    apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends debootstrap >/dev/null
}
[ $# -gt 0 ] || set -- demo test

# The first archive of this release that this machine itself uses.
# shellcheck disable=SC1091
SUITE="$(. /etc/os-release && echo "$VERSION_CODENAME")"
# shellcheck disable=SC2016  # apt's own fields
MIRROR="$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' "Created-By: Packages" |
    awk -v suite="$SUITE" '$2 == suite && $3 == "main" { print $1; exit }')"
[ -n "$MIRROR" ] || fail "the apt configuration names no archive with $SUITE main (apt-get update first?)"

ROOT="$(mktemp -d "${BARE_ROOT_PARENT:-/var/tmp}/ain-bare.XXXXXX")"
trap 'rm -rf --one-file-system "$ROOT"' EXIT
mkdir -p "$(dirname "$LOG")"

say "$SUITE from $MIRROR into $ROOT"
debootstrap --variant=minbase "$SUITE" "$ROOT" "$MIRROR" >"$LOG" 2>&1 || { tail -20 "$LOG" >&2; fail "debootstrap failed"; }

# Settings of the package clients: archives, credentials, keys, certificates, transport options, name service. No packages.
for path in /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/auth.conf /etc/apt/auth.conf.d /etc/apt/preferences.d \
    /etc/apt/trusted.gpg.d /etc/apt/keyrings /usr/share/keyrings /etc/ssl/certs /usr/share/ca-certificates \
    /usr/local/share/ca-certificates /etc/ca-certificates.conf /etc/pip.conf /etc/resolv.conf /etc/hosts; do
    [ -e "$path" ] || continue
    rm -rf "${ROOT:?}$path"
    mkdir -p "$(dirname "$ROOT$path")"
    cp -RL "$path" "$ROOT$path" 2>/dev/null || cp -R "$path" "$ROOT$path"
done
apt-config dump | grep -E '^Acquire::' >"$ROOT/etc/apt/apt.conf.d/00host" || true
chmod 755 "$ROOT"

# The toolchain's own programs only; the registry starts empty.
CARGO="${CARGO_HOME:-$HOME/.cargo}"
mkdir -p "$ROOT/opt/cargo/bin" "$ROOT/src"
for program in cargo rustc rustdoc rustup rustfmt cargo-fmt cargo-clippy clippy-driver cargo-miri; do
    [ ! -e "$CARGO/bin/$program" ] || cp -P "$CARGO/bin/$program" "$ROOT/opt/cargo/bin/"
done
for file in config.toml config credentials.toml; do
    [ ! -e "$CARGO/$file" ] || cp "$CARGO/$file" "$ROOT/opt/cargo/"
done
# What the clients read from the environment: proxies, certificate bundles, registries.
for name in $(compgen -e | grep -iE '_proxy$|^(SSL_CERT|CURL_CA|GIT_SSL|REQUESTS_CA|PIP_|CARGO_(HTTP|NET|REGISTR|SOURCE))'); do
    printf '%s=%q\n' "$name" "${!name}"
done >"$ROOT/opt/environment"

git clone -q --no-hardlinks "$REPOSITORY" "$ROOT/src/ain"
say "commit $(git -C "$ROOT/src/ain" rev-parse --short HEAD); make $* (log: $LOG)"
export AIN_VECTORS="${AIN_VECTORS:-}" FUZZ_SECONDS="${FUZZ_SECONDS:-}"
status=0
unshare --mount --pid --fork --kill-child "$0" --inside "$ROOT" "$@" 2>&1 | tee -a "$LOG" || status=$?
if [ "$status" = 0 ]; then say "all done"; else say "FAILED, see $LOG"; fi
exit "$status"
