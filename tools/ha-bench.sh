#!/usr/bin/env bash
# Measures a master with and without a slave on this machine, and a slave that is far behind.
#
# tools/ha-bench.sh            BIN: folder with mqnamesrv, mqbroker and mqtool; default: the release build
# Environment: PAIRS=3 times with and without a slave, BACKLOG_GIB=2 that the slave lacks, RATE=5000
# messages a second meanwhile, for LOAD=30s. The backlog's bodies have BODY=1024 bytes each. Whether the slave gets
# the changes of the index or a snapshot depends on whether the changes are still kept: `how` says it.
# ONLY=backlog leaves out what is not about the slave that is behind.
#
# Prints CPU of the broker per message alone and with an asynchronous slave, the latency of one send at a
# time with and without synchronous replication, and how long the slave takes to catch up under load, with
# the latency of the producers before and meanwhile. Then both stop and their stores are compared.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/env.sh
bin=${BIN:-$(target_dir)/release}
pairs=${PAIRS:-3} backlog_gib=${BACKLOG_GIB:-2} rate=${RATE:-5000} body=${BODY:-1024} only=${ONLY:-}
[ -x "$bin/mqbroker" ] || { echo "please run: cargo build --release --workspace --bins" >&2; exit 1; }
work=$(mktemp -d)
master=
slave=
names=
clean_up() {
    for process in $slave $master $names; do kill "$process" 2> /dev/null || true; done
    wait || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

port=$((20000 + RANDOM % 10000))
export NAMESRV_ADDR=127.0.0.1:$port
"$bin/mqnamesrv" --listen "127.0.0.1:$port" 2> "$work/namesrv.log" & names=$!

broker() { # STORE OFFSET_OF_PORT SETTING...
    local store=$work/$1 listen=127.0.0.1:$((port + $2))
    shift 2
    local settings=()
    for setting in name=ha-bench disk_clean_percent=100 disk_force_clean_percent=100 disk_refuse_percent=100 "$@"; do
        settings+=(--set "$setting")
    done
    exec "$bin/mqbroker" --namesrv "$NAMESRV_ADDR" --listen "$listen" --advertise 127.0.0.1 --store "$store" "${settings[@]}"
}
until_says() { # WORDS: what `ha status` must say
    local deadline=$((SECONDS + 600))
    until [[ $("$bin/mqtool" ha status 2> /dev/null) == *"$1"* ]]; do
        [ "$SECONDS" -lt "$deadline" ] || { echo "not in time: $1" >&2; tail -n 5 "$work"/*.log >&2; exit 1; }
        sleep 0.05
    done
}
start_master() {
    broker master 10 "role=$1" 2>> "$work/master.log" & master=$!
    until_says master
}
start_slave() {
    broker slave 20 role=slave broker_id=1 2>> "$work/slave.log" & slave=$!
}
stop_slave() {
    kill "$slave"
    wait "$slave" || true
    slave=
    until_says 'no slaves'
}
send() { # ARGUMENT...
    "$bin/mqtool" bench send --topic bench --server-pid "$master" -o json "$@"
}
field() { sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p"; }

overhead() {
    for _ in $(seq "$pairs"); do
        echo "alone: CPU us per message $(send | field server_cpu_us_per_message)"
        start_slave
        until_says 'in sync: 0 B'
        echo "with a slave: CPU us per message $(send | field server_cpu_us_per_message)"
        stop_slave
    done
    one=$(send --connections 1 --in-flight 1)
    echo "one at a time, alone: p50 us $(field latency_p50_us <<< "$one") p99 us $(field latency_p99_us <<< "$one")"
    kill "$master"
    wait "$master" || true
    start_master sync_master
    start_slave
    until_says 'in sync: 0 B'
    one=$(send --connections 1 --in-flight 1)
    echo "one at a time, synchronous slave: p50 us $(field latency_p50_us <<< "$one") p99 us $(field latency_p99_us <<< "$one")"
    stop_slave
    kill "$master"
    wait "$master" || true
}

start_master async_master
"$bin/mqtool" topic create bench --queues 4 > /dev/null
if [ "$only" = backlog ]; then
    start_slave
    until_says 'in sync: 0 B'
    stop_slave
else
    overhead
    start_master async_master
fi
end() { "$bin/mqtool" ha status -o json | sed -n 's/.*"log_end":\([0-9]*\).*/\1/p' | head -n 1; }
batch=$((32768 / body > 1 ? 32768 / body : 1))
target=$(($(end) + backlog_gib * (1 << 30)))
while [ "$(end)" -lt "$target" ]; do send --batch "$batch" --size "$body" --duration 5s > /dev/null; done
before=$(send --rate "$rate" --duration 10s)
send --rate "$rate" --duration "${LOAD:-30s}" > "$work/meanwhile.json" & load=$!
sleep 2
begun=$(date +%s%N)
start_slave
until_says 'slave 1 in sync'
echo "behind by $backlog_gib GiB and more: in sync after $((($(date +%s%N) - begun) / 1000000)) ms at $rate messages a second"
echo "how: $(grep 'a slave is taken' "$work/master.log" | sed -n 's/.* \(snapshot=[a-z]*\).*/\1/p' | tail -n 2 | tr '\n' ' ')"
wait "$load"
echo "producers before: p50 us $(field latency_p50_us <<< "$before") p99 us $(field latency_p99_us <<< "$before")"
echo "producers meanwhile: p50 us $(field latency_p50_us < "$work/meanwhile.json") p99 us $(field latency_p99_us < "$work/meanwhile.json")"
until_says 'in sync: 0 B'
# A master that stops lets its slave have everything first.
kill "$master"
wait "$master" || true
master=
kill "$slave"
wait "$slave" || true
slave=
"$bin/mqtool" store digest "$work/master" > "$work/digest.master"
"$bin/mqtool" store digest "$work/slave" > "$work/digest.slave"
diff "$work/digest.master" "$work/digest.slave" && echo "the stores are the same"
