#!/usr/bin/env bash
# Prometheus and promtool from Debian's package, unpacked and not installed: nothing is to be started on this machine but by
# the tests.
set -euo pipefail
cd "$(dirname "$0")/../.."

unpacked() {
    local dir=target/tools/prometheus archives
    [ ! -x "$dir/usr/bin/promtool" ] || return 0
    archives=$(mktemp -d)
    mkdir -p "$dir.new"
    apt-get update -qq
    # Debian's newest stable one has the web interface in JavaScript packages; only the two programs are used.
    (cd "$archives" && apt-get download -qq prometheus)
    for archive in "$archives"/*.deb; do
        dpkg-deb -x "$archive" "$dir.new"
    done
    rm -rf "$archives" "$dir"
    mv "$dir.new" "$dir"
}

unpacked
target/tools/prometheus/usr/bin/promtool --version
