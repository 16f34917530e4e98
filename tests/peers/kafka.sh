#!/usr/bin/env bash
# A Kafka broker and its console consumer: the jars that a broker needs, from Maven Central.
set -euo pipefail
cd "$(dirname "$0")/../.."
need=()
command -v java >/dev/null || need+=(default-jre-headless)
command -v mvn >/dev/null || need+=(maven)
if [ ${#need[@]} -gt 0 ]; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "${need[@]}"
fi
if ! [ -e target/tools/kafka/complete ]; then
    rm -rf target/tools/kafka
    mvn -q -B -f tests/peers/kafka.xml dependency:copy-dependencies \
        -DoutputDirectory="$PWD/target/tools/kafka" -DincludeScope=runtime
    touch target/tools/kafka/complete
fi
