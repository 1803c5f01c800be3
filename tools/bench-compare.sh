#!/usr/bin/env bash
# Our broker and real RocketMQ brokers under one load generator, in turns, in one run on this machine.
#
# bench-compare.sh [--rows NAME,…] [--peers NAME,…] [--smoke]
#   --rows     only these rows; a wrong name lists all
#   --peers    only these of 5-file (RocketMQ 5.x, file consume queue), 5-rocksdb (RocksDB consume queue),
#              4.9.7, and self (a second broker of ours: what noise alone makes of a ratio)
#   --smoke    ours only, one pair, windows of 0.3 s: whether all this works; leaves no results
# Environment: BIN, the folder of mqbroker, mqnamesrv and mqtool (default: the release build, made now);
#   FLOOR, the program of benches/examples/floor, the least that a broker can do; PAIRS=5 measurements
#   of each; WINDOW=3 seconds of each; WARM_UP=20 seconds of RocketMQ before each row;
#   OUT=benches/results for compare.json, compare.md and compare.svg; TMPDIR for stores and a sparse file.
#
# Prints the table. All rows with all peers take about an hour and 12 GiB of disk on a machine that is
# otherwise idle: absolute figures are those of the machine, ratios are what the run is for.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case " $* " in *' --help '* | *' -h '*) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;; esac
command -v python3 >/dev/null || { echo "python3 is missing: please install it" >&2; exit 1; }
exec python3 -B "$root/tools/bench/compare.py" "$@"
