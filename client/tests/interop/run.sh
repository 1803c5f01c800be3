#!/usr/bin/env bash
# Runs programs that use unmodified RocketMQ clients against a name server and its brokers.
#
# run.sh --namesrv ADDRESS [LANG ...]     against one that runs already
# run.sh --basalt MQTOOL [LANG ...]       against `MQTOOL dev`, started for this run in a temporary folder
# run.sh --control [LANG ...]             against a real RocketMQ, started for this run: proves the programs themselves
# run.sh --adopt MQTOOL [VERSION ...]     a store of a real RocketMQ is taken over by ours and given back: 4.9.7, 5 (default: both)
# run.sh --failover DIRECTORY [LANG ...]  masters of ours are killed while programs send and consume; DIRECTORY has the binaries
#
# LANG: java-4.9.8, java-5, go (default: all). A language whose tools are missing is skipped, but fails if CI=true.
# The last line is `N passed, N failed` over all languages; the exit code is 0 only if none failed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ready_limit_s=300   # The first start of the control downloads it.
program_limit_s=600 # The first run of a program downloads the client.

usage() {
    sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

work=$(mktemp -d)
server= # process that start_server started
program= # process of the language that runs now
passed=0
failed=0

clean_up() {
    stop "$program"
    stop "$server"
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

stop() {
    if [ -n "$1" ]; then
        kill "$1" 2> /dev/null || true
        wait "$1" 2> /dev/null || true
    fi
}

# start_server COMMAND...: runs it in the background and sets `namesrv` from the line it prints when it is ready.
start_server() {
    # The control stops when its input ends: the writing end is only open here, so it ends whatever ends this shell.
    mkfifo "$work/input"
    exec 8<> "$work/input"
    touch "$work/server.out"
    "$@" < "$work/input" > "$work/server.out" 2> "$work/server.err" 8>&- &
    server=$!
    local deadline=$((SECONDS + ready_limit_s))
    until grep -q '^ready namesrv=' "$work/server.out"; do
        if ! kill -0 "$server" 2> /dev/null || [ "$SECONDS" -ge "$deadline" ]; then
            tail -n 20 "$work/server.out" "$work/server.err" >&2
            echo "no line 'ready namesrv=…' from: $*" >&2
            exit 1
        fi
        sleep 0.1
    done
    grep '^ready namesrv=' "$work/server.out"
    namesrv=$(sed -n 's/^ready namesrv=\([^ ]*\).*/\1/p' "$work/server.out" | head -n 1)
}

# missing LANG: prints the tool that is not there, or nothing.
missing() {
    local tool tools="java javac mvn"
    [ "$1" != go ] || tools=go
    for tool in $tools; do
        command -v "$tool" > /dev/null || { echo "no $tool" && return; }
    done
}

# skip LANG REASON
skip() {
    echo "SKIPPED $1: $2"
    if [ "${CI:-}" = true ]; then
        echo "nothing may be skipped when CI=true" >&2
        exit 1
    fi
}

# run_language LANG: becomes the program, so that the process id of this function's shell is that of the program.
run_language() {
    case $1 in
        java-*)
            export INTEROP_HOME=$work/home
            exec timeout "$program_limit_s" "$here/java/run.sh" "${1#java-}" interop.Main "$namesrv"
            ;;
        go)
            go build -C "$here/go" -buildvcs=false -o target/interop . || exit
            export HOME=$work/home ROCKETMQ_GO_LOG_LEVEL=error
            exec timeout "$program_limit_s" "$here/go/target/interop" "$namesrv"
            ;;
    esac
}

# judge LANG: runs its program and adds its totals; a program that does not get to its last line has failed.
judge() {
    echo "== $1"
    run_language "$1" > "$work/program.out" 2> "$work/program.err" 8>&- &
    program=$!
    local code=0
    wait "$program" || code=$?
    program=
    cat "$work/program.out"
    local totals
    totals=$(tail -n 1 "$work/program.out" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p')
    if [ -z "$totals" ]; then
        echo "FAIL $1: ended with code $code before its last line"
        totals="0 1"
    fi
    passed=$((passed + ${totals% *}))
    failed=$((failed + ${totals#* }))
    [ "$code" = 0 ] || tail -n 60 "$work/program.err" >&2
}

# adopt MQTOOL VERSION: runs that suite and adds its totals, like judge.
adopt() {
    echo "== adopt $2"
    timeout "$program_limit_s" "$here/adopt/run.sh" "$1" "$2" > "$work/program.out" 2> "$work/program.err" &
    program=$!
    local code=0
    wait "$program" || code=$?
    program=
    cat "$work/program.out"
    passed=$((passed + $(grep -c '^PASS' "$work/program.out" || true)))
    if [ "$code" != 0 ]; then
        failed=$((failed + 1))
        tail -n 60 "$work/program.err" >&2
    fi
}

case ${1:-} in
    --adopt)
        [ $# -ge 2 ] || usage
        mqtool=$2
        shift 2
        reason=$(missing java)
        if [ -n "$reason" ]; then
            skip adopt "$reason"
            set --
        elif [ $# = 0 ]; then
            set -- 4.9.7 5
        fi
        for version in "$@"; do
            adopt "$mqtool" "$version"
        done
        echo "$passed passed, $failed failed"
        [ "$failed" = 0 ]
        exit
        ;;
    --failover)
        [ $# -ge 2 ] || usage
        bin=$2
        shift 2
        [ $# -gt 0 ] || set -- java-4.9.8 java-5 go
        languages=()
        touch "$work/program.out"
        for language in "$@"; do
            reason=$(missing "$language")
            if [ -n "$reason" ]; then skip "$language" "$reason"; else languages+=("$language"); fi
        done
        if [ ${#languages[@]} -gt 0 ]; then
            "$here/failover/run.sh" "$bin" "${languages[@]}" 2>&1 | tee "$work/program.out" || failed=1
        fi
        passed=$(grep -c '^PASS' "$work/program.out" || true)
        broken=$(grep -c '^FAIL' "$work/program.out" || true)
        failed=$((broken > failed ? broken : failed))
        echo "$passed passed, $failed failed"
        [ "$failed" = 0 ]
        exit
        ;;
    --namesrv)
        [ $# -ge 2 ] || usage
        namesrv=$2
        shift 2
        ;;
    --basalt)
        [ $# -ge 2 ] || usage
        start_server "$2" dev --namesrv 127.0.0.1:0 --broker 127.0.0.1:0 --data-dir "$work/data"
        shift 2
        ;;
    --control)
        shift
        reason=$(missing java)
        if [ -n "$reason" ]; then
            skip control "$reason"
            echo "0 passed, 0 failed"
            exit 0
        fi
        export INTEROP_HEARTBEAT_MS=1000
        start_server "$here/control/run.sh" "$work/data"
        ;;
    *) usage ;;
esac

[ $# -gt 0 ] || set -- java-4.9.8 java-5 go
for language in "$@"; do
    case $language in
        java-* | go) ;;
        *) usage ;;
    esac
    reason=$(missing "$language")
    if [ -n "$reason" ]; then
        skip "$language" "$reason"
    else
        judge "$language"
    fi
done
if [ "$failed" != 0 ] && [ -n "$server" ]; then
    echo "-- the server's last lines:" >&2
    tail -n 40 "$work/server.err" >&2
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
