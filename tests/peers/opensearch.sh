#!/usr/bin/env bash
# A real OpenSearch for the tests:
#
#     tests/peers/opensearch.sh install           into target/tools/opensearch, from Maven Central
#     tests/peers/opensearch.sh start DIR PORT    on 127.0.0.1, its data in DIR, until it is killed
#
# Needs Java 17 or newer; as root it installs that and Maven. It is the distribution of OpenSearch's own integration tests: the
# server without its plugins, so without security and without index state management. It has no modules either; those
# for ingest processors and the templates in them are added.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=2.19.3
home=$PWD/target/tools/opensearch/opensearch-$version

copy() {
    mvn --quiet --batch-mode org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy -Dartifact="$1" -DoutputDirectory="$2"
}

# Its name, its class, and what it is made of. The descriptor comes last: with it the module is whole.
module() {
    local name=$1 class=$2 artifact
    shift 2
    for artifact; do
        copy "$artifact" "$home/modules/$name"
    done
    cat >"$home/modules/$name/plugin-descriptor.properties" <<DESCRIPTOR
description=$name
version=$version
name=$name
classname=$class
java.version=11
opensearch.version=$version
custom.foldername=
extended.plugins=
has.native.controller=false
DESCRIPTOR
}

install() {
    [ ! -e "$home/modules/ingest-common/plugin-descriptor.properties" ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        local need=()
        command -v java >/dev/null || need+=(default-jre-headless)
        command -v mvn >/dev/null || need+=(maven)
        command -v unzip >/dev/null || need+=(unzip)
        [ ${#need[@]} -eq 0 ] || { apt-get update -qq && apt-get install -y -qq "${need[@]}"; }
    fi
    mkdir -p target/tools/opensearch
    copy "org.opensearch.distribution.integ-test-zip:opensearch:$version:zip" "$PWD/target/tools/opensearch"
    unzip -q -o "target/tools/opensearch/opensearch-$version.zip" -d target/tools/opensearch
    rm "target/tools/opensearch/opensearch-$version.zip"
    module lang-mustache org.opensearch.script.mustache.MustachePlugin org.opensearch.plugin:lang-mustache-client:$version \
        com.github.spullara.mustache.java:compiler:0.9.14
    module ingest-common org.opensearch.ingest.common.IngestCommonPlugin org.opensearch.plugin:ingest-common:$version \
        org.opensearch:opensearch-grok:$version org.opensearch:opensearch-dissect:$version \
        org.jruby.joni:joni:2.2.1 org.jruby.jcodings:jcodings:1.0.61
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
