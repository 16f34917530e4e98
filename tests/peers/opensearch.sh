#!/usr/bin/env bash
# A real OpenSearch for the tests:
#
#     tests/peers/opensearch.sh install           into target/tools/opensearch, from Maven Central
#     tests/peers/opensearch.sh start DIR PORT    on 127.0.0.1, its data in DIR, until it is killed
#
# Needs Java 17 or newer; as root it installs that and Maven. It is the distribution of OpenSearch's own integration tests: the
# server without its plugins, so without security and without index state management.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=2.19.3
home=$PWD/target/tools/opensearch/opensearch-$version

install() {
    [ ! -x "$home/bin/opensearch" ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        local need=()
        command -v java >/dev/null || need+=(default-jre-headless)
        command -v mvn >/dev/null || need+=(maven)
        command -v unzip >/dev/null || need+=(unzip)
        [ ${#need[@]} -eq 0 ] || { apt-get update -qq && apt-get install -y -qq "${need[@]}"; }
    fi
    mkdir -p target/tools/opensearch
    mvn --quiet --batch-mode org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy \
        -Dartifact=org.opensearch.distribution.integ-test-zip:opensearch:$version:zip -DoutputDirectory="$PWD/target/tools/opensearch"
    unzip -q -o "target/tools/opensearch/opensearch-$version.zip" -d target/tools/opensearch
    rm "target/tools/opensearch/opensearch-$version.zip"
}

start() {
    local dir=$1 port=$2
    mkdir -p "$dir/config" "$dir/data" "$dir/logs"
    cp "$home/config/log4j2.properties" "$dir/config/"
    # Disks of test machines are small and full: no watermark holds it up.
    cat >"$dir/config/opensearch.yml" <<CONFIG
discovery.type: single-node
network.host: 127.0.0.1
http.port: $port
transport.port: 0
path.data: $dir/data
path.logs: $dir/logs
cluster.routing.allocation.disk.threshold_enabled: false
CONFIG
    cat >"$dir/config/jvm.options" <<OPTIONS
-Xms512m
-Xmx512m
-XX:+UseSerialGC
-XX:TieredStopAtLevel=1
-Djava.security.manager=allow
-Djava.util.concurrent.ForkJoinPool.common.threadFactory=org.opensearch.secure_sm.SecuredForkJoinWorkerThreadFactory
OPTIONS
    JAVA_HOME=$(dirname "$(dirname "$(readlink -f "$(command -v java)")")")
    export JAVA_HOME OPENSEARCH_PATH_CONF=$dir/config
    # It does not run as root.
    if [ "$(id -u)" = 0 ]; then
        exec unshare --user --map-user=1000 --map-group=1000 "$home/bin/opensearch"
    fi
    exec "$home/bin/opensearch"
}

"${@:-install}"
