#!/usr/bin/env bash
# Brings the real servers and published schemas that the tests use into target/tools: each script beside this one brings
# its own. Needs root and Debian. Without a server its tests are skipped, which fails under CI=true.
set -uo pipefail
cd "$(dirname "$0")/../.."
mkdir -p target/tools
for script in tests/peers/*.sh; do
    name=$(basename "$script" .sh)
    [ "$name" = install ] && continue
    if bash "$script" >"target/tools/$name.log" 2>&1; then
        echo "$name: there"
    else
        echo "skipped: $name could not be installed here, see target/tools/$name.log"
        tail -n 3 "target/tools/$name.log"
    fi
done
