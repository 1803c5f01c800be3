#!/usr/bin/env bash
# Runs every command of the README's `sh` blocks, in order, against a fresh `mqtool dev`, and fails
# when one fails. The blocks marked `sh build` are the build itself and are run by .ci/run.
set -euo pipefail
cd "$(dirname "$0")/.."
mqtool=${MQTOOL:?path of the mqtool binary}

. tools/dev.sh
mkdir "$work/bin"
for name in mqtool mqbroker mqnamesrv; do ln -s "$(dirname "$(realpath "$mqtool")")/$name" "$work/bin/$name"; done
export PATH="$work/bin:$PATH"

start_dev mqtool

awk '/^```sh$/ { on = 1; next } /^```/ { on = 0 } on' README.md >"$work/commands"
passed=0
while IFS= read -r command; do
    [ -n "$command" ] || continue
    echo "\$ $command"
    if ! bash -c "$command" </dev/null; then
        echo "the README's command failed: $command" >&2
        exit 1
    fi
    passed=$((passed + 1))
done <"$work/commands"
[ "$passed" -gt 0 ] || { echo "the README has no commands to run" >&2; exit 1; }
echo "$passed passed, 0 failed"
