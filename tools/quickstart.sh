#!/usr/bin/env bash
# From a fresh clone to one message found by key and by offset. Leaves nothing running and no data
# behind; `--keep` keeps the broker running until Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."

keep=
case "${1-}" in
    "") ;;
    --keep) keep=yes ;;
    *) echo "usage: tools/quickstart.sh [--keep]" >&2; exit 2 ;;
esac

. tools/env.sh
echo "1. building mqtool (the first build compiles RocksDB: about 20 minutes on two cores)"
cargo build --release --locked -p mqtool
mqtool=$(target_dir)/release/mqtool

. tools/dev.sh

echo "2. starting a name server and a broker on free ports: mqtool dev"
start_dev "$mqtool"
cat "$work/ready"

echo "3. sending: mqtool msg send --topic orders --key order-42 --tag paid --property region=eu"
"$mqtool" msg send --topic orders --key order-42 --tag paid --property region=eu \
    "one cup of coffee" -o json | tee "$work/sent"
queue=$(sed -n 's/.*"queue":\([0-9]*\).*/\1/p' "$work/sent")
offset=$(sed -n 's/.*"offset":\([0-9]*\).*/\1/p' "$work/sent")

echo "4. tailing: mqtool msg tail --topic orders --from first --count 1"
"$mqtool" msg tail --topic orders --from first --count 1

echo "5. finding it by key: mqtool msg find --topic orders --key order-42"
"$mqtool" msg find --topic orders --key order-42

echo "6. getting it by offset: mqtool msg get --topic orders --queue $queue --offset $offset"
"$mqtool" msg get --topic orders --queue "$queue" --offset "$offset"

if [ -n "$keep" ]; then
    echo "still running; point any RocketMQ client at the name server $NAMESRV_ADDR; Ctrl-C stops it"
    wait "$dev"
else
    echo "done: one message sent, tailed, found by key and by offset; stopping and cleaning up"
fi
