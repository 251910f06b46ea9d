#!/bin/bash
# Builds what demo, tests and comparisons run, by the profile `lab`, into TARGET/lab:
#   ain           with the test-only dump of all tables on the admin socket
#   ain-bench     makes packets for a generator, among other things
#   creates       creating signals as hops see them
#   ain-late      the same with slots that drift, for the control that has to tell loaded links from idle ones
#   ain-no-onion  the same with the onion's layers off, for the control that has to see everything
#   ain-tag       the same with a bit flipped in each cell that is passed on, for the proof against tagging
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
cargo build --profile lab --package ain --features test-dump,test-no-onion
cp "$target/lab/ain" "$target/lab/ain-no-onion"
cargo build --profile lab --package ain --features test-dump,test-tag
cp "$target/lab/ain" "$target/lab/ain-tag"
cargo build --profile lab --package ain --features test-dump,test-late-shaper
cp "$target/lab/ain" "$target/lab/ain-late"
cargo build --profile lab --package ain --features test-dump
cargo build --profile lab --package ain --features test-dump --example creates
cargo build --profile lab --package ain-bench
cp "$target/lab/examples/creates" "$target/lab/creates"
