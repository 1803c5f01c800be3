#!/bin/sh
# Switches each deliberate bug of the storage engine on and shows that the torture finds it.
#     tools/torture/bugs.sh DIRECTORY-OF-BINARIES [NAME…]
# The broker must be built with debug assertions. Exit code 1 if a bug was not found in time.
set -eu
bin=$1
shift
limit=${LIMIT:-600s}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
missed=0
bug() {
    name=$1
    shift
    case " $only " in *" $name "* | "  ") ;; *) return 0 ;; esac
    began=$(date +%s)
    if "$bin/mqtool" torture run --work "$work" --bug "$name" --cycles 100000 --time "$limit" "$@" \
        >"$work/out" 2>&1; then
        printf '%-18s %-36s NOT FOUND in %s\n' "$name" "$*" "$limit"
        missed=1
        return 0
    fi
    seconds=$(($(date +%s) - began))
    rule=$(sed -n 's/.*mqtool: rule \([0-9]*\) is broken: \(.\{0,100\}\).*/rule \1: \2/p' "$work/out" | head -1)
    if [ -z "$rule" ]; then
        tail -5 "$work/out"
        missed=1
    fi
    printf '%-18s %-36s %4s s  %s\n' "$name" "$*" "$seconds" "$rule"
}
only="$*"
bug ack-before-sync --nemesis cut --fs ext4
bug retry-failed-sync --nemesis eio --fs ext4
bug no-clamp --nemesis cut --fs ext4 --mode async
bug no-index-cut --nemesis cut --fs ext4 --mode async
bug no-zeroing --nemesis cut --fs ext4 --mode async --store-cycles 10 --check-every 5
bug no-redirty --nemesis kill-cut --fs ext4 --mode async --check-every 5
bug skip-checksum --nemesis cut --fs ext4 --mode async --store-cycles 10 --check-every 5
bug early-visible --nemesis cut --fs ext4 --check-every 5
bug unsynced-topic --nemesis cut --fs ext4
exit $missed
