#!/usr/bin/env bash
# Builds the Java programs for one version of the client, if needed, and runs one of them.
#
# java/run.sh VERSION MAIN [ARGUMENT ...]      VERSION: 4.9.8, or 5 for the newest tested 5.x
#   e.g. java/run.sh 5 interop.LinesConsumer 127.0.0.1:9876 TOPIC GROUP COUNT TIMEOUT_S FILE
# Environment: INTEROP_HOME, where the client writes its logs and local offsets (default: a temporary folder).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -ge 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
version=$1 main=$2
shift 2
if [ "$version" = 5 ]; then
    version=$(sed -n 's|.*<rocketmq.version>\(5[^<]*\)<.*|\1|p' "$here/pom.xml" | head -n 1)
fi

target=$here/target/$version
mkdir -p "$target"
(
    flock 9
    if [ ! -e "$target/built" ] || [ -n "$(find "$here/pom.xml" "$here/src" -newer "$target/built" -print -quit)" ]; then
        mvn -q -B -f "$here/pom.xml" "-Drocketmq.version=$version" compile dependency:copy-dependencies >&2
        touch "$target/built"
    fi
) 9> "$target/lock"

home=${INTEROP_HOME:-$(mktemp -d)}
[ -n "${INTEROP_HOME:-}" ] || trap 'rm -rf "$home"' EXIT
java "-Duser.home=$home" -cp "$target/classes:$target/lib/*" "$main" "$@"
