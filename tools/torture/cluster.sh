#!/bin/sh
# The short slice of the torture of a master and its slave, about a minute: six kills and four
# partitions, with promotions.
#     tools/torture/cluster.sh DIRECTORY-OF-BINARIES
# Needs root and network namespaces; without them it says so and does nothing.
set -eu
bin=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
lacks=""
[ "$(id -u)" = 0 ] || lacks="root"
for program in ip nft python3; do
    command -v $program >/dev/null || lacks="$lacks $program"
done
if [ -z "$lacks" ] && ! unshare --net true 2>/dev/null; then
    lacks="network namespaces"
fi
if [ -n "$lacks" ]; then
    echo "torture: SKIPPED the cluster: this machine lacks $lacks"
    exit 0
fi
run() {
    echo "torture: cluster $*"
    if ! "$bin/mqtool" torture cluster --work "$work" "$@" >"$work/out" 2>&1; then
        cat "$work/out"
        # Whoever looks for the reason needs what the run has left.
        trap - EXIT
        exit 1
    fi
    grep -E "episodes on|acked|promotion, worst|sends go on" "$work/out"
}
run --nemesis failover,failover,slave --cycles 6 --seed 1
run --nemesis partition,split --cycles 4 --seed 2
