#!/usr/bin/env bash
# The price of the hot loops in instructions per message, against the figures in
# benches/instructions.toml. Instructions do not depend on how busy or how fast a machine is, so that
# a tenth more is somebody's change. Needs valgrind, which is installed if it is missing; takes about
# half a minute when everything is built.
#
# gate.sh              fails if a loop needs over a tenth more than its figure; tells if it needs over
#                      a tenth less, as then the figure is too old to notice a loss
# gate.sh --accept     makes what it measures the new figures; commit the file with its reason
# INSTRUCTIONS=FILE    the binary `instructions` with its symbols; without it the release build is made
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."
figures=benches/instructions.toml
accept=
case "${1-}" in
    "") ;;
    --accept) accept=yes ;;
    *) echo "usage: tools/gate.sh [--accept]" >&2; exit 2 ;;
esac
# What the compiler and the libraries choose for another processor is another program.
if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "skipped: $figures is of Linux on x86_64, this is $(uname -sm)"
    exit 0
fi
. tools/env.sh
if ! command -v valgrind >/dev/null; then
    command -v apt-get >/dev/null || { echo "please install: valgrind" >&2; exit 1; }
    root=""
    [ "$(id -u)" = 0 ] || root=sudo
    echo "installing: valgrind" >&2
    $root apt-get update -qq >&2
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq valgrind >&2
fi
if [ -z "${INSTRUCTIONS:-}" ]; then
    # As the release is built, but valgrind has to find a function by its name.
    cargo build --release --workspace --bin instructions --locked --config profile.release.package.benches.strip=false
    INSTRUCTIONS=$(target_dir)/release/instructions
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export INSTRUCTIONS work TMPDIR=$work

# measure LOOP: leaves its instructions per message in $work/LOOP.
measure() {
    local messages collected
    messages=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null \
        --toggle-collect='*instructions::measured*' "$INSTRUCTIONS" "$1" 2>"$work/$1.err") ||
        { echo "the loop $1 did not run:" >&2; tail -n 20 "$work/$1.err" >&2; return 1; }
    collected=$(sed -n 's/^==[0-9]*== Collected : \([0-9]*\)$/\1/p' "$work/$1.err")
    if [ "${collected:-0}" = 0 ]; then
        echo "$1: valgrind has not found the function 'measured'; was $INSTRUCTIONS stripped?" >&2
        return 1
    fi
    echo $(((collected + messages / 2) / messages)) >"$work/$1"
}
export -f measure
"$INSTRUCTIONS" >"$work/loops"
xargs -P "$(nproc)" -I{} bash -euo pipefail -c 'measure "$1"' measure {} <"$work/loops"

if [ -n "$accept" ]; then
    {
        echo "# Instructions per message of the loops in instructions.rs, with Rust's optimised build on"
        echo "# Linux and x86_64. tools/gate.sh compares with it, tools/gate.sh --accept writes it."
        echo "# $(rustc --version)"
        while read -r loop; do
            echo "$loop = $(cat "$work/$loop")"
        done <"$work/loops"
    } >"$work/accepted"
    [ ! -e "$figures" ] || diff "$figures" "$work/accepted" || true
    mv "$work/accepted" "$figures"
    echo "these are the figures now: $figures"
    exit 0
fi

accept_with="If that is meant, run tools/gate.sh --accept and commit $figures with the reason."
failed=
while read -r loop; do
    new=$(cat "$work/$loop")
    old=$(sed -n "s/^$loop = //p" "$figures")
    if [ -z "$old" ]; then
        echo "$loop has no figure in $figures, it needs $new instructions a message. $accept_with" >&2
        failed=yes
        continue
    fi
    printf '%-20s %7d -> %7d  %+5.1f %%\n' "$loop" "$old" "$new" "$(((new - old) * 1000 / old))e-1"
    if [ $((new * 10)) -gt $((old * 11)) ]; then
        echo "$loop has become slower: $new instructions a message, $old before. $accept_with" >&2
        failed=yes
    elif [ $((new * 10)) -lt $((old * 9)) ]; then
        echo "$loop has become faster: $new instructions a message, $old before. Keep the gain:" \
            "run tools/gate.sh --accept and commit $figures." >&2
    fi
done <"$work/loops"
if [ -n "$failed" ]; then
    echo "the figures are of $(sed -n 's/^# \(rustc .*\)/\1/p' "$figures"), this is $(rustc --version)" >&2
    exit 1
fi
