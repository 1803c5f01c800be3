#!/usr/bin/env bash
# Lets a real RocketMQ fill a store, ours take it over, and RocketMQ take it back; every message, queue and consumer
# offset is looked at each time. Prints PASS or FAIL for each step and stops at the first that fails.
#
# adopt/run.sh MQTOOL VERSION      VERSION: 4.9.7 or 5, of the broker
# Environment: ADOPT_KEEP=1 leaves the folder and names it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# = 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
mqtool=$1 version=$2
client=5
[ "$version" = 5 ] || client=4.9.8
step_limit_s=45
ready_limit_s=300 # The first start of the control downloads it.
# As `mqtool dev` has it: RocketMQ opens files of its own size only.
segment_bytes=$((64 << 20))

work=$(mktemp -d)
server=
passed=0
failed=0

clean_up() {
    [ -z "$server" ] || kill "$server" 2> /dev/null || true
    [ -z "$server" ] || wait "$server" 2> /dev/null || true
    if [ -n "${ADOPT_KEEP:-}" ]; then echo "kept: $work"; else rm -rf "$work"; fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# step NAME COMMAND...: runs a program or function within the limit, its output only shown when it fails.
step() {
    local name=$1 code=0 begun=$SECONDS
    shift
    timeout "$step_limit_s" bash -c '"$@"' step "$@" > "$work/step.out" 2> "$work/step.err" || code=$?
    if [ "$code" = 0 ]; then
        passed=$((passed + 1))
        echo "PASS $name ($((SECONDS - begun)) s)"
        return
    fi
    failed=$((failed + 1))
    echo "FAIL $name (code $code)"
    tail -n 40 "$work/step.out" "$work/step.err" >&2
    grep -v '|-INFO' "$work/server.err" | tail -n 40 >&2
    exit 1
}

# start COMMAND...: sets namesrv and broker from the line that it prints when it is ready.
start() {
    rm -f "$work/input"
    mkfifo "$work/input"
    exec 8<> "$work/input"
    : > "$work/server.out"
    "$@" < "$work/input" > "$work/server.out" 2>> "$work/server.err" 8>&- &
    server=$!
    local deadline=$((SECONDS + ready_limit_s))
    until grep -q '^ready namesrv=' "$work/server.out"; do
        if ! kill -0 "$server" 2> /dev/null || [ "$SECONDS" -ge "$deadline" ]; then
            tail -n 20 "$work/server.out" "$work/server.err" >&2
            echo "FAIL no line 'ready namesrv=…' from: $*"
            exit 1
        fi
        sleep 0.1
    done
    namesrv=$(sed -n 's/^ready namesrv=\([^ ]*\).*/\1/p' "$work/server.out")
    broker=$(sed -n 's/^ready .*broker=\([^ ]*\).*/\1/p' "$work/server.out")
}

stop() {
    exec 8>&-
    kill "$server"
    wait "$server" || true
    server=
}

start_java() {
    CONTROL_VERSION=$version start "$here/../control/run.sh" "$work/control" "$@" \
        "storePathRootDir=$work/data/store" "mappedFileSizeCommitLog=$segment_bytes"
}

# The ids of messages name the broker's address, so it stays the same.
start_ours() {
    start "$mqtool" dev --namesrv 127.0.0.1:0 --broker "$broker" --data-dir "$work/data" --log info
}

program() {
    INTEROP_HOME=$work/home "$here/../java/run.sh" "$client" interop.Adopt "$namesrv" "$work/notes" "$@"
}

# steps NAME STEP...: steps of the Java program.
steps() {
    local name=$1
    shift
    export namesrv
    step "$name" program "$@"
    grep -v '^PASS' "$work/step.out" | sed 's/^/     /' || true
}

# not_carried WHAT...: `migrate check` names exactly what stays behind.
not_carried() {
    local code=0 expected
    "$mqtool" migrate check "$work/data/store" -o json > "$work/check.json" || code=$?
    cat "$work/check.json"
    [ "$code" = 1 ] || return 1
    expected=$(printf '"what":"%s"\n' "$@")
    [ "$(grep -o '"what":"[^"]*"' "$work/check.json")" = "$expected" ]
}

# only_one_at_a_time: a broker that runs keeps ours out, by the lock file that both use.
only_one_at_a_time() {
    local text
    if text=$("$mqtool" dev --namesrv 127.0.0.1:0 --broker 127.0.0.1:0 --data-dir "$work/data" 2>&1); then
        return 1
    fi
    grep -q 'in use by another program' <<< "$text"
}

export here client work mqtool
export -f program not_carried only_one_at_a_time
mkdir -p "$work/data"
touch "$work/server.err"
start_java
port=${broker##*:}
steps "RocketMQ $version is filled" fill check
step "ours keeps off a store that RocketMQ has open" only_one_at_a_time
stop
step "migrate check names the delayed message" not_carried "delayed messages"

start_ours
steps "ours serves all of it, the group goes on, ours takes more" check consume more check
stop
step "store verify finds nothing wrong" "$mqtool" store verify "$work/data/store"

start_java "listenPort=$port"
steps "RocketMQ serves all of it, the group goes on, the delayed message comes" check consume more delivered
stop

start_ours
steps "ours serves what RocketMQ has added" check consume
# Without a last word to anybody: the offsets in consumerOffset.json are up to 30 s old then.
kill -9 "$server"
wait "$server" 2> /dev/null || true
server=
start_java "listenPort=$port"
steps "RocketMQ opens a store that ours has not closed" messages more messages
stop
echo "$passed passed, $failed failed"
