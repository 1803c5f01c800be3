#!/usr/bin/env bash
# Our broker while one thing varies: size of messages, batch, requests in flight, queues, consumers, backlog,
# flush, slaves, kind of header.
#
# bench-sweep.sh [--axes NAME,…] [--peers NAME,…]
#   --axes     only these; a wrong name lists all
#   --peers    these RocketMQs too: 5-file, 5-rocksdb, 4.9.7
# Environment: BIN, the folder of mqbroker, mqnamesrv and mqtool (default: the release build, made now);
#   WINDOWS=3 measurements of each point, WINDOW=3 seconds of each, WARM_UP=10 seconds of RocketMQ before each
#   point; OUT=benches/results for sweep.json and sweep.md; TMPDIR for stores and a sparse file.
#
# Prints a table for each axis. What the disk has no room for is skipped and says so.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case " $* " in *' --help '* | *' -h '*) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;; esac
command -v python3 >/dev/null || { echo "python3 is missing: please install it" >&2; exit 1; }
exec python3 -B "$root/tools/bench/sweep.py" "$@"
