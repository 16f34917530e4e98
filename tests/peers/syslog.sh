#!/usr/bin/env bash
# rsyslog and syslog-ng from Debian's packages, unpacked and not installed: the two exclude each other, and nothing is to be
# started on this machine but by the tests.
set -euo pipefail
cd "$(dirname "$0")/../.."

# What a system has is used only if it can speak TLS: Debian has that of rsyslog in a package of its own.
speaks_tls() { # program
    case $1 in
    rsyslogd) compgen -G "/usr/lib*/rsyslog/lmnsd_gtls.so" >/dev/null || compgen -G "/usr/lib/*/rsyslog/lmnsd_gtls.so" >/dev/null ;;
    *) true ;;
    esac
}

unpacked() { # directory, program, packages…
    local dir=target/tools/$1 program=$2
    shift 2
    if [ -x "$dir/usr/sbin/$program" ] || { command -v "$program" >/dev/null && speaks_tls "$program"; }; then
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
