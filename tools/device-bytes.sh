#!/usr/bin/env bash
# How many bytes the device writes for each 1,000-byte message that is acknowledged with sync flush:
# one after the other, again with a reader that follows, and again after a crash. Needs root and a
# loop device. Fails above 16 KiB.
#
# device-bytes.sh [ext4|xfs] (default: both); BIN is the folder of the binaries
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/env.sh
bin=${BIN:-$(target_dir)/release}
limit=16384
[ "$(id -u)" = 0 ] || { echo "device-bytes.sh needs root to mount a loop device" >&2; exit 1; }

work=$(mktemp -d)
image=$(mktemp -p /dev/shm device-bytes.XXXXXX)
loop= namesrv= broker= reader=
stop() { [ -z "$1" ] || { kill "$1" 2>/dev/null || true; wait "$1" 2>/dev/null || true; }; }
take_down() {
    stop "$reader"; stop "$broker"; stop "$namesrv"
    reader= broker= namesrv=
    mountpoint -q "$work/disk" && umount "$work/disk"
    [ -z "$loop" ] || losetup -d "$loop"
    loop=
}
trap 'take_down || true; rm -rf "$work" "$image"' EXIT

start_broker() {
    "$bin/mqbroker" -n 127.0.0.1:19876 --listen 127.0.0.1:19911 --store "$work/disk/store" \
        --set flush=sync --set segment_size_bytes=67108864 --set vip_listen=false \
        --set log=warn 2>>"$work/broker.log" &
    broker=$!
    until "$bin/mqtool" -n 127.0.0.1:19876 topic create bytes --queues 4 >/dev/null 2>&1; do
        kill -0 "$broker" || { cat "$work/broker.log" >&2; exit 1; }
        sleep 0.1
    done
}

# written: bytes that the device has written so far, all that is dirty included
written() { awk '{ print $7 * 512 }' "/sys/block/${loop#/dev/}/stat"; }

# measure NAME: sends for 4 seconds and prints the bytes per message
measure() {
    local before after sent
    sync -f "$work/disk"
    before=$(written)
    sent=$("$bin/mqtool" -n 127.0.0.1:19876 -o json bench send --topic bytes --connections 1 -w 1 \
        --size 1000 --warm-up 1ms --duration 4s | sed -n 's/.*"messages":\([0-9]*\).*/\1/p')
    sync -f "$work/disk"
    after=$(written)
    local each=$(((after - before) / sent))
    printf '%-5s %-22s %6d messages %8d bytes each\n' "$fs" "$1" "$sent" "$each"
    [ "$each" -le "$limit" ] || failed=1
}

failed=0
for fs in ${1:-ext4 xfs}; do
    truncate -s 0 "$image"; truncate -s 1G "$image"
    "mkfs.$fs" -q "$image"
    loop=$(losetup --find --show "$image")
    mkdir -p "$work/disk"
    mount "$loop" "$work/disk"
    "$bin/mqnamesrv" --listen 127.0.0.1:19876 2>"$work/namesrv.log" &
    namesrv=$!
    start_broker
    measure "alone"
    "$bin/mqtool" -n 127.0.0.1:19876 msg tail --topic bytes --from first >/dev/null 2>&1 &
    reader=$!
    measure "with a reader behind"
    stop "$reader"; reader=
    kill -9 "$broker"; wait "$broker" 2>/dev/null || true
    start_broker
    measure "after a crash"
    take_down
done
[ "$failed" = 0 ] || { echo "more than $limit bytes of device for a message" >&2; exit 1; }
