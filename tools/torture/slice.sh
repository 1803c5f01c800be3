#!/bin/sh
# The short slice of the torture for every run of the tests: at most a minute.
#     tools/torture/slice.sh DIRECTORY-OF-BINARIES
# kill -9 always; power cuts, a failing disk and a full disk where root and loop devices are there.
set -eu
bin=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run() {
    echo "torture: $*"
    if ! "$bin/mqtool" torture run --work "$work" "$@" >"$work/out" 2>&1; then
        cat "$work/out"
        # Whoever looks for the reason needs what the run has left.
        trap - EXIT
        exit 1
    fi
    grep -E "RULE|cycles on|acked|window|restart, worst" "$work/out"
}
run --nemesis kill --cycles 30
lacks=""
[ "$(id -u)" = 0 ] || lacks="root"
[ -e /dev/loop-control ] || lacks="$lacks loop devices"
for program in mkfs.ext4 mkfs.xfs xfs_io losetup fsfreeze; do
    command -v $program >/dev/null || lacks="$lacks $program"
done
if [ -n "$lacks" ]; then
    echo "torture: SKIPPED power cuts, failing and full disks: this machine lacks $lacks"
    exit 0
fi
run --nemesis cut --fs ext4 --cycles 10
run --nemesis cut,kill-cut --fs xfs --cycles 5
run --nemesis eio --fs ext4 --cycles 1
run --nemesis eio --fs xfs --cycles 1
run --nemesis full --fs ext4 --cycles 1
