#!/usr/bin/env bash
# Our broker and a real RocketMQ under the same load generator, in one run on this machine.
#
# compare.sh [PAIRS]     PAIRS measurements of each, taking turns; 5 unless given
# MQTOOL=FILE            the binary; without it the release build is made
# COMPARE_RAW=FILE       where to leave every measurement, a line of JSON each
#
# Prints a Markdown table of ratios: medians over the pairs, with the range in parentheses. Ratios of
# one run on one machine are all that it can tell: both brokers share the machine with the generator,
# so absolute figures would be those of the machine. Takes about four minutes.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
pairs=${1:-5}
case $pairs in
    '' | *[!0-9]* | 0) echo "usage: tools/compare.sh [PAIRS]" >&2; exit 2 ;;
esac
for tool in java mvn; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: the real RocketMQ needs it" >&2; exit 1; }
done
if [ -z "${MQTOOL:-}" ]; then
    cd "$root"
    . tools/env.sh
    cargo build --release --locked -p mqtool
    MQTOOL=$(target_dir)/release/mqtool
fi
export LC_ALL=C
warm_up=500ms
duration=2s
warm_java=8s
warm_ours=2s

work=$(mktemp -d)
ours= theirs=
finish() {
    for server in $ours $theirs; do
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap finish EXIT

# ready NAME PID: waits for the server's line and prints the address of its name server.
ready() {
    until grep -q '^ready ' "$work/$1.out"; do
        kill -0 "$2" 2>/dev/null || { echo "$1 did not start:" >&2; tail -n 20 "$work/$1.err" >&2; exit 1; }
        sleep 0.1
    done
    sed -n 's/^ready namesrv=\([^ ]*\).*/\1/p' "$work/$1.out"
}

"$MQTOOL" dev --namesrv 127.0.0.1:0 --broker 127.0.0.1:0 --data-dir "$work/ours" \
    >"$work/ours.out" 2>"$work/ours.err" &
ours=$!
# It stops when its input ends; this pipe ends with this shell, whatever ends that.
mkfifo "$work/input"
exec 8<>"$work/input"
"$root/client/tests/interop/control/run.sh" "$work/theirs" \
    <"$work/input" >"$work/theirs.out" 2>"$work/theirs.err" 8>&- &
theirs=$!
ours_at=$(ready ours "$ours")
theirs_at=$(ready theirs "$theirs")

# bench ours|theirs ARGUMENTS...: one measurement as a line of JSON. Refusals are part of a measurement: RocketMQ's
# flow control refuses what has queued for too long.
bench() {
    local at pid line
    case $1 in
        ours) at=$ours_at pid=$ours ;;
        theirs) at=$theirs_at pid=$theirs ;;
    esac
    shift
    line=$("$MQTOOL" -n "$at" -o json --timeout 10s bench "$@" --server-pid "$pid" 2>"$work/bench.err") ||
        [ -n "$line" ] || { cat "$work/bench.err" >&2; exit 1; }
    echo "$line"
}

field() { sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p"; }

# spread FILE: median and range of the numbers in a file, as ratios.
spread() {
    sort -g "$1" | awk '
        { value[NR] = $1 }
        END {
            if (NR == 0) { print "-"; exit }
            middle = NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2
            printf "%.2f (%.2f to %.2f)\n", middle, value[1], value[NR]
        }'
}

# ratio FILE A B: appends A / B, unless one of them is not known.
ratio() {
    [ -z "$2" ] || [ -z "$3" ] || awk -v a="$2" -v b="$3" 'BEGIN { if (b > 0) print a / b }' >>"$1"
}

# compare closed|open NAME ARGUMENTS...: one row of the table.
compare() {
    local kind=$1 name=$2 pair a b
    shift 2
    echo "$name" >&2
    bench theirs "$@" --warm-up "$warm_java" --duration 500ms >/dev/null
    bench ours "$@" --warm-up "$warm_ours" --duration 500ms >/dev/null
    rm -f "$work"/ratio.*
    touch "$work"/ratio.{rate,p50,p99,cpu}
    for ((pair = 0; pair < pairs; pair++)); do
        a=$(bench ours "$@" --warm-up "$warm_up" --duration "$duration")
        b=$(bench theirs "$@" --warm-up "$warm_up" --duration "$duration")
        echo "  ours $a" >>"$work/all"
        echo "  theirs $b" >>"$work/all"
        # An open loop has a fixed rate, and the latency of a closed loop is only its rate again.
        case $kind in
            closed)
                ratio "$work/ratio.rate" "$(field messages_per_second <<<"$a")" "$(field messages_per_second <<<"$b")"
                ;;
            open)
                ratio "$work/ratio.p50" "$(field latency_p50_us <<<"$b")" "$(field latency_p50_us <<<"$a")"
                ratio "$work/ratio.p99" "$(field latency_p99_us <<<"$b")" "$(field latency_p99_us <<<"$a")"
                ;;
        esac
        ratio "$work/ratio.cpu" "$(field server_cpu_us_per_message <<<"$b")" "$(field server_cpu_us_per_message <<<"$a")"
    done
    echo "| $name | $(spread "$work/ratio.rate") | $(spread "$work/ratio.p50") | $(spread "$work/ratio.p99") | $(spread "$work/ratio.cpu") |" >>"$work/table"
}

# ticks PID: user and system time of a process; of this shell that of its ended children.
ticks() { sed 's/.*)//' "/proc/$1/stat" | awk -v self="$([ "$1" = $$ ] && echo 1)" '{ print self ? $14 + $15 : $12 + $13 }'; }
busy() { awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 }' /proc/stat; }
others() { echo $(($(busy) - $(ticks "$ours") - $(ticks "$theirs") - $(ticks $$))); }

# Queues of their own for reading, filled alike.
for server in ours theirs; do
    bench "$server" send -t compare-read --rate 40000 --batch 32 --warm-up 1s --duration 2s >/dev/null
done
others_before=$(others)
started=$SECONDS
compare closed "send, 4 connections x 16" send -t compare -c 4 -w 16
compare closed "send, 1 connection x 64, a write each" send -t compare -c 1 -w 64 --write-each
compare closed "send in batches of 32" send -t compare -c 4 -w 4 --batch 32
compare open "send, 5000 a second" send -t compare -c 4 -w 1024 --rate 5000
compare closed "pull, 32 a request" consume -t compare-read -c 4 -w 4
elapsed=$((SECONDS - started))
# refused ours|theirs
refused() { sed -n "s/^  $1 .*\"refused\":\([0-9]*\).*/\1/p" "$work/all" | awk '{ sum += $1 } END { print sum + 0 }'; }
cores=$(nproc)
other=$(awk -v ticks=$(($(others) - others_before)) -v s="$elapsed" -v hz="$(getconf CLK_TCK)" \
    'BEGIN { printf "%.2f", ticks / hz / s }')

cat <<TABLE
| load, 1 KiB bodies | throughput, ours / RocketMQ | p50, RocketMQ / ours | p99, RocketMQ / ours | CPU a message, RocketMQ / ours |
|---|---|---|---|---|
$(cat "$work/table")

Above 1 is better for us. Medians of $pairs pairs, range in parentheses. $("$MQTOOL" --version) and the name server and broker of
RocketMQ $(ls "$root/client/tests/interop/control/target/lib" | sed -n 's/^rocketmq-broker-\(.*\)\.jar$/\1/p') took turns under one generator on $cores cores: loopback, asynchronous flush, 4 queues, JSON headers, both warmed
up. Throughput is that of a closed loop, latency that of an open loop from the time a message was due. The generator ran
on the same cores; other processes used $other of them on average. Refused by flow control and not counted: $(refused ours)
requests by ours, $(refused theirs) by RocketMQ.
TABLE
[ -z "${COMPARE_RAW:-}" ] || cp "$work/all" "$COMPARE_RAW"
