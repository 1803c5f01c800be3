# Sourced by the scripts that need a running broker: a scratch folder `$work` that goes with the
# script, and a `mqtool dev` on free ports that stops with it.
work=$(mktemp -d)
dev=
finish() {
    [ -z "$dev" ] || { kill "$dev" 2>/dev/null || true; wait "$dev" 2>/dev/null || true; }
    rm -rf "$work"
}
trap finish EXIT

# start_dev MQTOOL: returns when it serves; $dev is its process, $work/ready its line, and
# NAMESRV_ADDR names it to every mqtool that follows.
start_dev() {
    "$1" dev --namesrv 127.0.0.1:0 --broker 127.0.0.1:0 --data-dir "$work/store" \
        >"$work/ready" 2>"$work/log" &
    dev=$!
    until grep -q '^ready ' "$work/ready"; do
        kill -0 "$dev" 2>/dev/null || { echo "mqtool dev did not start:" >&2; cat "$work/log" >&2; exit 1; }
        sleep 0.05
    done
    NAMESRV_ADDR=$(sed -n 's/^ready namesrv=\([^ ]*\).*/\1/p' "$work/ready")
    export NAMESRV_ADDR
}
