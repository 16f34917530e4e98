#!/usr/bin/env bash
# rsyslog and syslog-ng from Debian's packages, unpacked and not installed: the two exclude each other, and nothing is to be
# started on this machine but by the tests.
set -euo pipefail
cd "$(dirname "$0")/../.."

unpacked() { # directory, program, packages…
    local dir=target/tools/$1 program=$2
    shift 2
    if [ -x "$dir/usr/sbin/$program" ] || command -v "$program" >/dev/null; then
        return
    fi
    local archives
    archives=$(mktemp -d)
    mkdir -p "$archives/partial" "$dir.new"
    apt-get install -y -qq --download-only --no-install-recommends -o "Dir::Cache::archives=$archives" "$@"
    for archive in "$archives"/*.deb; do
        dpkg-deb -x "$archive" "$dir.new"
    done
    rm -rf "$archives" "$dir"
    mv "$dir.new" "$dir"
    test -x "$dir/usr/sbin/$program"
}

apt-get update -qq
unpacked rsyslog rsyslogd rsyslog rsyslog-gnutls
unpacked syslog-ng syslog-ng syslog-ng-core
