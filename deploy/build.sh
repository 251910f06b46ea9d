#!/bin/bash
# Builds the two `ain`s of demo and tests into TARGET/lab, and leaves the ordinary one in TARGET/release:
#   ain           with the test-only dump of all tables on the admin socket
#   ain-no-onion  the same with the onion's layers off, for the control that has to see everything
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
build() {
    cargo build --release --package ain "$@"
}

mkdir -p "$target/lab"
build --features test-dump,test-no-onion
cp "$target/release/ain" "$target/lab/ain-no-onion"
build --features test-dump
cp "$target/release/ain" "$target/lab/ain"
build
