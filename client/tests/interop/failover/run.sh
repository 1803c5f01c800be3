#!/usr/bin/env bash
# Two pairs of master and slave and two name servers; programs of unmodified clients send and consume all the time, while
# the master of the first pair is killed and started again, without anybody being promoted. Prints PASS or FAIL lines.
#
# failover/run.sh DIRECTORY [LANG ...]     DIRECTORY has mqbroker, mqnamesrv and mqtool; LANG: java-4.9.8, java-5, go (default: all)
# Environment: FAILOVER_KILLS (default 20), FAILOVER_ROLE (ASYNC_MASTER or SYNC_MASTER, which waits for the slave; default
# ASYNC_MASTER), FAILOVER_KEEP=1 leaves the folder and names it.
#
# In some rounds the master stays down until a new group (of Go: one that is behind) has got everything of the pair from the
# slave. In the middle the first name server is down for some rounds.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -ge 1 ] || { sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
bin=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- java-4.9.8 java-5 go
kills=${FAILOVER_KILLS:-20}
role=${FAILOVER_ROLE:-ASYNC_MASTER}
start_limit_s=30
slave_limit_s=200 # A client may need half a minute to ask for a new route, and 60 s or 90 s are given to it.
end_limit_s=300

work=$(mktemp -d)
declare -A process=() # by name of the server or program

clean_up() {
    local name
    for name in "${!process[@]}"; do
        # A Java program is a child of the script that starts it; a group of processes ends as a whole.
        kill -9 -- "-${process[$name]}" 2> /dev/null || kill -9 "${process[$name]}" 2> /dev/null || true
        wait "${process[$name]}" 2> /dev/null || true
    done
    if [ -n "${FAILOVER_KEEP:-}" ]; then echo "kept: $work"; else rm -rf "$work"; fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    echo "FAIL $1"
    shift
    [ $# = 0 ] || tail -n 30 "$@" >&2
    exit 1
}

# A free port whose successor is free too.
free_port() {
    local port
    while :; do
        port=$((12000 + RANDOM % 10000 * 2))
        [[ " ${taken:-} " != *" $port "* ]] || continue
        (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null && continue
        (exec 3<> "/dev/tcp/127.0.0.1/$((port + 1))") 2> /dev/null && continue
        taken="${taken:-} $port"
        found=$port
        return
    done
}

start_namesrv() {
    "$bin/mqnamesrv" --listen "127.0.0.1:${port[namesrv-$1]}" >> "$work/namesrv-$1.log" 2>&1 &
    process[namesrv-$1]=$!
}

# configure NAME PAIR ID ROLE: a configuration as RocketMQ has it.
configure() {
    cat > "$work/$1.conf" << EOF
brokerClusterName=failover
brokerName=$2
brokerId=$3
brokerRole=$4
inSyncReplicas=$([ "$4" = SYNC_MASTER ] && echo 2 || echo 1)
flushDiskType=ASYNC_FLUSH
namesrvAddr=$namesrv
bindAddress=127.0.0.1
brokerIP1=127.0.0.1
listenPort=${port[$1]}
haListenPort=$((port[$1] + 1))
storePathRootDir=$work/store-$1
mappedFileSizeCommitLog=$((16 << 20))
registerNameServerPeriod=5000
EOF
}

start_broker() {
    "$bin/mqbroker" -c "$work/$1.conf" >> "$work/$1.log" 2>&1 &
    process[$1]=$!
}

# known COUNT: so many brokers are known to the name server that lives.
known() {
    local deadline=$((SECONDS + start_limit_s))
    until [ "$("$bin/mqtool" -n "$namesrv" cluster ls -o json 2> /dev/null | grep -c .)" = "$1" ]; do
        [ "$SECONDS" -lt "$deadline" ] || fail "the name server does not know $1 brokers" "$work"/*.log
        sleep 0.1
    done
}

# phase TEXT: tells the programs, at once.
phase() {
    echo "$1" > "$work/phase.new"
    mv "$work/phase.new" "$work/phase"
}

alive() {
    local name
    for name in "${!process[@]}"; do
        kill -0 "${process[$name]}" 2> /dev/null || fail "$name has ended by itself" "$work/$name".*
    done
}

declare -A port=()
for name in namesrv-1 namesrv-2 master-1 slave-1 master-2 slave-2; do
    free_port
    port[$name]=$found
done
namesrv="127.0.0.1:${port[namesrv-1]};127.0.0.1:${port[namesrv-2]}"
start_namesrv 1
start_namesrv 2
for pair in 1 2; do
    configure "master-$pair" "pair-$pair" 0 "$role"
    configure "slave-$pair" "pair-$pair" 1 SLAVE
    start_broker "master-$pair"
    start_broker "slave-$pair"
done
known 4

phase up
for language in "$@"; do
    topic=failover-$language
    "$bin/mqtool" -n "$namesrv" topic create "${topic//./-}" --queues 4 > /dev/null
    program=("${namesrv}" "${topic//./-}" "${language//./-}" "$work/phase" pair-1)
    case $language in
        java-*)
            INTEROP_HOME=$work/home-$language setsid "$here/../java/run.sh" "${language#java-}" interop.Failover "${program[@]}" \
                > "$work/$language.out" 2> "$work/$language.err" &
            ;;
        go)
            go build -C "$here/../go" -buildvcs=false -o target/interop .
            HOME=$work/home-go ROCKETMQ_GO_LOG_LEVEL=error "$here/../go/target/interop" failover "${program[@]}" \
                > "$work/go.out" 2> "$work/go.err" &
            ;;
        *) fail "no such language: $language" ;;
    esac
    process[$language]=$!
done
# Java needs a while to start, and everybody shall have sent something.
sleep 8

namesrv_round=
for ((round = 1; round <= kills; round++)); do
    alive
    # Not when new consumers start: one that meets a dead name server first does not try another.
    if [ "$round" -ge $((kills / 2)) ] && [ -z "$namesrv_round" ] && [ $((round % 7)) != 3 ]; then
        namesrv_round=$round
        kill -9 "${process[namesrv-1]}"
        wait "${process[namesrv-1]}" 2> /dev/null || true
        unset "process[namesrv-1]"
    fi
    if [ $((round % 7)) = 3 ]; then
        # Go's slow group falls behind.
        phase "hold $round"
        sleep 4
    fi
    kill -9 "${process[master-1]}"
    wait "${process[master-1]}" 2> /dev/null || true
    unset "process[master-1]"
    if [ $((round % 7)) = 3 ]; then
        phase "slave $round"
        deadline=$((SECONDS + slave_limit_s))
        for language in "$@"; do
            until [ -e "$work/phase.$round.${language//./-}" ]; do
                [ "$SECONDS" -lt "$deadline" ] || fail "$language reads from the slave for too long" "$work/$language".*
                alive
                sleep 0.2
            done
        done
    else
        phase "down $round"
        sleep "$((1 + RANDOM % 3)).$((RANDOM % 10))"
    fi
    phase up
    start_broker master-1
    if [ -z "${process[namesrv-1]:-}" ] && { [ "$round" = $((namesrv_round + 3)) ] || [ "$round" = "$kills" ]; }; then
        start_namesrv 1
    fi
    known 4
    sleep "$((2 + RANDOM % 3)).$((RANDOM % 10))"
done
alive

phase end
failed=0
deadline=$((SECONDS + end_limit_s))
for language in "$@"; do
    while kill -0 "${process[$language]}" 2> /dev/null; do
        [ "$SECONDS" -lt "$deadline" ] || fail "$language does not end" "$work/$language".*
        sleep 0.2
    done
    code=0
    wait "${process[$language]}" || code=$?
    unset "process[$language]"
    cat "$work/$language.out"
    if [ "$code" != 0 ]; then
        failed=1
        tail -n 20 "$work/$language.err" >&2
    fi
done
alive
exit $failed
