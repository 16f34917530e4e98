#!/usr/bin/env bash
# A real nginx for the tests; they start it with a configuration of their own:
#
#     tests/peers/nginx.sh install
set -euo pipefail

install() {
    if ! [ -x /usr/sbin/nginx ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        apt-get install -y -qq nginx-light
    fi
    [ -x /usr/sbin/nginx ]
}

"${@:-install}"
