#!/usr/bin/env bash
# Microsoft's parser of the query language of Sentinel, from npm.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=target/tools/kusto

if ! command -v npm >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends npm
fi
if ! [ -e $dir/node_modules/@kusto/language-service-next/package.json ]; then
    rm -rf $dir.new
    mkdir -p $dir.new
    echo '{"private": true}' >$dir.new/package.json
    npm install --prefix $dir.new --silent --no-audit --no-fund --ignore-scripts --save-exact @kusto/language-service-next@12.4.1
    rm -rf $dir
    mv $dir.new $dir
fi
