#!/usr/bin/env bash
# Real text through the whole path: lines of source code that cargo has downloaded go through
# `mqtool msg send -` into `mqtool dev` and come out of RocketMQ's own Java push consumer, the same
# ones, each exactly once.
#
# lines.sh [COUNT]       COUNT lines, 100000 unless given
# MQTOOL=FILE            the binary; without it the release build is made
# LINES_CLIENT=VERSION   version of the Java client as client/tests/interop/java/run.sh knows it: 5 or 4.9.8
#
# Prints the checksums of both sides; exits with 1 when they differ.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
count=${1:-100000}
case $count in
    '' | *[!0-9]* | 0) echo "usage: tools/lines.sh [COUNT]" >&2; exit 2 ;;
esac

for tool in java javac mvn; do
    command -v "$tool" >/dev/null && continue
    echo "SKIPPED lines: no $tool"
    [ "${CI:-}" != true ] || { echo "nothing may be skipped when CI=true" >&2; exit 1; }
    exit 0
done
if [ -z "${MQTOOL:-}" ]; then
    cd "$root"
    . tools/env.sh
    cargo build --release --locked -p mqtool
    MQTOOL=$(target_dir)/release/mqtool
fi

. "$root/tools/dev.sh"

# Bytes, not characters: some of these files are deliberately not UTF-8. Empty lines are left out, as
# RocketMQ has no messages without a body. `head` ends the pipe early, which is no failure.
export LC_ALL=C
sources=${CARGO_HOME:-$HOME/.cargo}/registry/src
collect() {
    find "$sources" -type f \( -name '*.rs' -o -name '*.md' -o -name '*.cc' -o -name '*.h' \) -print0 |
        sort -z | xargs -0 -r cat -- 2>/dev/null | grep -a . | head -n "$count"
}
(set +o pipefail; collect) >"$work/sent"
lines=$(wc -l <"$work/sent")
if [ "$lines" -lt "$count" ]; then
    echo "cargo has downloaded only $lines lines to $sources; build the workspace first" >&2
    exit 1
fi

start_dev "$MQTOOL"

echo "sending $count lines, $(wc -c <"$work/sent") bytes"
"$MQTOOL" msg send --topic lines - <"$work/sent"
echo "receiving them with RocketMQ's Java push consumer"
INTEROP_HOME=$work/home "$root/client/tests/interop/java/run.sh" "${LINES_CLIENT:-5}" \
    interop.LinesConsumer "$NAMESRV_ADDR" lines lines-consumer "$count" 300 "$work/received" || true

checksum() { sort "$1" | sha256sum | cut -d ' ' -f 1; }
touch "$work/received"
sent=$(checksum "$work/sent")
received=$(checksum "$work/received")
echo "sent      $lines lines, sha256 of the sorted lines $sent"
echo "received  $(wc -l <"$work/received") lines, sha256 of the sorted lines $received"
if [ "$sent" != "$received" ]; then
    echo "the lines differ; the broker's last words:" >&2
    tail -n 20 "$work/log" >&2
    exit 1
fi
echo "the same lines"
