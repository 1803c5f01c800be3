#!/usr/bin/env bash
# Starts a real RocketMQ (name server and broker) for comparison.
#
# control/run.sh STORE_DIR [namesrvPort=N] [listenPort=N] [key=value ...]     key: any key of broker.conf
# Environment: CONTROL_HEAP (default 1g); CONTROL_JVM, more options of the JVM; CONTROL_VERSION: 4.9.7, or 5
# for the newest tested 5.x (default).
# Prints `ready namesrv=… broker=…` when it serves; stops on SIGTERM or when its standard input ends.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -ge 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
store=$1

version=${CONTROL_VERSION:-5}
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

mkdir -p "$store"
heap=${CONTROL_HEAP:-1g}
# user.home: RocketMQ writes its logs below it; 4.9 finds the file that says so in its distribution only, and without one
# it logs every detail. CONTROL_JVM is a list of words. The opened packages are what RocketMQ's own start script opens on JDK 17.
# shellcheck disable=SC2086
exec java "-Xms$heap" "-Xmx$heap" -XX:MaxDirectMemorySize=1g ${CONTROL_JVM:-} "-Duser.home=$store" \
    "-Dlogback.configurationFile=$here/src/control4/logback.xml" \
    --add-opens=java.base/java.nio=ALL-UNNAMED --add-opens=java.base/sun.nio.ch=ALL-UNNAMED \
    --add-opens=java.base/java.lang=ALL-UNNAMED --add-opens=java.base/jdk.internal.misc=ALL-UNNAMED \
    --add-exports=java.base/jdk.internal.ref=ALL-UNNAMED --add-exports=java.base/sun.nio.ch=ALL-UNNAMED \
    -cp "$target/classes:$target/lib/*" interop.control.Control "$@"
