#!/usr/bin/env bash
# Where our broker's CPU goes: a sampled profile of sends and batches, by what the code does.
#
# bench-profile.sh
# Environment: BIN, a folder of mqbroker, mqnamesrv and mqtool with their symbols (default: cargo build, optimised as
#   the release is but not linked as one); WINDOW=8 seconds of each load; OUT=benches/results for profile.md;
#   TMPDIR for stores and a sparse file.
#
# Needs perf, and the right to read the kernel's symbols for its part.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case " $* " in *' --help '* | *' -h '*) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;; esac
for tool in python3 perf; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: please install it (perf: linux-perf or linux-tools)" >&2; exit 1; }
done
if [ -z "${BIN:-}" ]; then
    BIN=$(cd "$root" && . tools/env.sh && cargo build --workspace --bins --locked >&2 && target_dir)/debug
    export BIN
fi
exec python3 -B "$root/tools/bench/profile.py" "$@"
