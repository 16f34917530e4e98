#!/usr/bin/env bash
# A verifier of signed checkpoints, tiles and proofs that is not ours: Go's golang.org/x/mod/sumdb, called by tlog/main.go.
set -euo pipefail
cd "$(dirname "$0")/../.."

if ! command -v go >/dev/null && [ -x /usr/local/go/bin/go ]; then
    PATH=$PATH:/usr/local/go/bin
fi
if ! command -v go >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends golang-go
fi
cd tests/peers/tlog
go build -buildvcs=false -o ../../../target/tools/tlog .
