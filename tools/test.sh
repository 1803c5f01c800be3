#!/usr/bin/env bash
# Everything that has to hold: formatting, lints, all tests, the interop programs of other languages,
# real text through the whole path and the price of the hot loops. Interop languages whose toolchain is
# missing are reported as skipped; with CI=true they fail.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/env.sh

step() { printf '\n== %s (%ss)\n' "$*" "$SECONDS"; }

step "formatting"
cargo fmt --all --check
step "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings
step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
step "tests"
cargo test --workspace --locked --no-fail-fast
# The tests have built the binaries too.
mqtool=$(target_dir)/debug/mqtool
step "interop: clients of other languages"
client/tests/interop/run.sh --basalt "$mqtool" java-4.9.8 java-5 go
step "interop: a store of RocketMQ is taken over and given back"
client/tests/interop/run.sh --adopt "$mqtool"
step "torture: a short slice"
tools/torture/slice.sh "$(dirname "$mqtool")"
step "torture: a master and its slave"
tools/torture/cluster.sh "$(dirname "$mqtool")"
step "real text through mqtool and the Java push consumer"
MQTOOL=$mqtool tools/lines.sh 5000
step "instructions of the hot loops"
tools/gate.sh
step "the comparison with other brokers works"
BIN=$(dirname "$mqtool") tools/bench-compare.sh --smoke
step "the commands of the README"
MQTOOL=$mqtool tools/readme.sh
step "done"
