#!/usr/bin/env bash
# What Grafana publishes of the form of a dashboard, of three releases, and a TypeScript compiler to compare with: from npm.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=target/tools/grafana

if ! command -v npm >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends npm
fi
if ! [ -x $dir/node_modules/.bin/tsc ]; then
    rm -rf $dir.new
    mkdir -p $dir.new
    echo '{"private": true}' >$dir.new/package.json
    npm install --prefix $dir.new --silent --no-audit --no-fund --ignore-scripts --save-exact typescript@5.9.3 \
        grafana10@npm:@grafana/schema@10.4.19 grafana11@npm:@grafana/schema@11.6.4 grafana12@npm:@grafana/schema@12.2.0
    rm -rf $dir
    mv $dir.new $dir
fi
$dir/node_modules/.bin/tsc --version
