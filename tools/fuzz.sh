#!/usr/bin/env bash
# Fuzzes every target in turn: tools/fuzz.sh [SECONDS [TARGET…]], 10 s each unless said otherwise.
# Prints executions, speed and crashes of each, and fails if anything crashed; the input that did
# stays in ARTIFACTS. Needs rustup's nightly and cargo-fuzz. The corpus is kept beside the build for
# next time. The targets of the store need RocksDB and take the library of a build of the workspace, if
# there is one, instead of compiling it for many minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/env.sh
seconds=${1:-10}
shift $(($# > 0 ? 1 : 0))

command -v cargo-fuzz >/dev/null || { echo "please run: cargo install cargo-fuzz --locked" >&2; exit 1; }
build=${FUZZ_TARGET_DIR:-$(target_dir)-fuzz}
corpus=$build/corpus
artifacts=${ARTIFACTS:-$build/artifacts}

# Seeds: the golden frames and records. A byte in front chooses encoding or kind where a target has one.
seed() { # TARGET PREFIX FILE…
    local target=$1 prefix=$2 file
    shift 2
    mkdir -p "$corpus/$target"
    for file in "$@"; do
        { printf '%s' "$prefix"; tr -dc '0-9a-fA-F' <"$file"; } |
            perl -ne 'print pack("H*", $_)' >"$corpus/$target/$(basename "$file" .hex)-$prefix"
    done
}
golden=client/protocol/tests/golden
seed frame "" $golden/v0[1-6]*.hex
for kind in 00 01 03 07 0c; do
    for at in 00 01; do seed headers "$at$kind" $golden/v0[1-7]*.hex; done
done
# Headers without the 8 bytes of lengths in front of them.
for file in "$corpus"/headers/*; do
    { head -c 2 "$file"; tail -c +11 "$file"; } >"$file.part" && mv "$file.part" "$file"
done
seed record "" $golden/v08*.hex $golden/v1[0-3]*.hex
seed batch "" $golden/v14*.hex
mkdir -p "$corpus/properties" "$corpus/bodies"
printf 'TAGS\001TagA\002KEYS\001k1 k2\002UNIQ_KEY\001A\002' >"$corpus/properties/pairs"
printf '0A00000900002A9F0000000000001000' >"$corpus/properties/id"
for kind in $(seq 0 11); do
    seed bodies "$(printf %02x "$kind")" $golden/v19*.hex
    for file in $golden/bodies/*; do
        { printf "\\x$(printf %02x "$kind")"; cat "$file"; } >"$corpus/bodies/$kind-$(basename "$file")"
    done
done

# A log of two records at 0 behind choices: one segment, positions put right, a watermark or none.
mkdir -p "$corpus/recovery" "$corpus/values"
record=$(tr -dc '0-9a-fA-F' <$golden/v08-record-v1.hex)
for flags in 04 0c 0d 05; do
    printf '01 00 %s 00 00 00 01 00 %s %s' "$flags" "$record" "$record" | tr -d ' ' |
        perl -ne 'print pack("H*", $_)' >"$corpus/recovery/$flags"
done
for kind in $(seq 0 7); do
    printf '%02x 00 02 0000000000000100 00000000000003e8 00 8001 02 8001 8001 00' "$kind" | tr -d ' ' |
        perl -ne 'print pack("H*", $_)' >"$corpus/values/$kind"
done

failed=0
run() { # PACKAGE TARGET
    local log=$build/$2.log
    mkdir -p "$corpus/$2" "$artifacts/$2"
    # What one input may make a decoder allocate at once.
    local memory=64
    # No sanitizer: what is fuzzed has no unsafe code but for mapped reads, and it is five times as fast.
    cargo +nightly fuzz build --fuzz-dir "storage/fuzz/$1" --target-dir "$build" --release \
        --sanitizer none "$2" 2>"$log" || { cat "$log" >&2; exit 1; }
    cargo +nightly fuzz run --fuzz-dir "storage/fuzz/$1" --target-dir "$build" --release \
        --sanitizer none "$2" "$corpus/$2" -- -max_total_time="$seconds" -max_len=8192 \
        -rss_limit_mb=2048 -malloc_limit_mb="$memory" -timeout=10 -print_final_stats=1 \
        -artifact_prefix="$artifacts/$2/" >"$log" 2>&1 || true
    # A run that ended by itself says DONE.
    local crashes=0 executions
    grep -q '^Done ' "$log" || crashes=1
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    rm -rf /dev/shm/fuzz-recovery-*
    printf '%-12s %12s executions in %4s s, %s crashes\n' "$2" "${executions:-?}" "$seconds" "$crashes"
    [ "$crashes" = 0 ] || { failed=1; grep -m5 -E 'panicked|ERROR|^SUMMARY|Test unit' "$log" || tail -5 "$log"; }
}

targets() { sed -n '/^\[\[bin\]\]/{n;s/^name = "\(.*\)"/\1/p}' "storage/fuzz/$1/Cargo.toml"; }
library=$(find "$(target_dir)" -path '*librocksdb-sys*' -name librocksdb.a 2>/dev/null | head -1 || true)
if [ -n "$library" ]; then
    mkdir -p "$build/lib"
    cmp -s "$library" "$build/lib/librocksdb.a" || cp "$library" "$build/lib/"
fi
[ ! -f "$build/lib/librocksdb.a" ] || export ROCKSDB_LIB_DIR=$build/lib ROCKSDB_STATIC=1

for package in wire store; do
    for target in $(targets "$package"); do
        if [ $# = 0 ] || [[ " $* " == *" $target "* ]]; then run "$package" "$target"; fi
    done
done
exit $failed
