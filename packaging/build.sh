#!/usr/bin/env bash
# Builds the deb and the rpm, with SHA-256 sums and an SBOM next to them: packaging/build.sh [DIR], by default
# target/packaging/out. Needs Rust, python3 with venv, and Debian's rpm and binutils, and says before it builds which of them is
# missing; it installs cargo-deb, cargo-zigbuild, zig and pySigma under target/tools. The same commit gives the same bytes.
#
# PACKAGE_VERSION, PACKAGE_CONFIG: another version and default configuration for the binary that has been built before, for tests
# of upgrades.
# SOURCE_DATE_EPOCH: the time in the packages; by default the commit's.
set -euo pipefail
cd "$(dirname "$0")/.."
name=confluence-audit-agent
# What the oldest hosts have: RHEL 8.
glibc=2.28
cargo_deb_version=3.8.0
zigbuild_version=0.24.0
ziglang_version=0.17.1

out=$(realpath -m "${1:-target/packaging/out}")
version=${PACKAGE_VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}
config=${PACKAGE_CONFIG:-packaging/$name.toml}
target=$(uname -m)-unknown-linux-gnu
root=target/packaging/root
tools=target/tools
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.lock)}
export PATH=$PWD/$tools/bin:$PWD/$tools/zig/bin:$PATH LC_ALL=C TZ=UTC
umask 022

# Missing tools are reported before the build, which takes minutes.
needs() {
    local missing=()
    command -v cargo >/dev/null || missing+=("cargo (rustup)")
    command -v python3 >/dev/null || missing+=("python3 (package python3)")
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=("python3's venv (package python3-venv)")
    command -v readelf >/dev/null || missing+=("readelf (package binutils)")
    command -v rpmbuild >/dev/null || missing+=("rpmbuild (package rpm; rpm-build on Fedora and RHEL)")
    [ ${#missing[@]} -eq 0 ] && return
    {
        echo "packaging/build.sh needs, and this machine does not have:"
        printf '  %s\n' "${missing[@]}"
        echo "On Debian: apt-get install binutils python3-venv rpm"
    } >&2
    return 1
}

tools() {
    if ! command -v cargo-zigbuild >/dev/null; then
        python3 -m venv $tools/zig
        $tools/zig/bin/pip install --quiet "cargo-zigbuild==$zigbuild_version" "ziglang==$ziglang_version"
    fi
    if ! command -v cargo-deb >/dev/null; then
        cargo install cargo-deb --version $cargo_deb_version --locked --quiet --root $tools --target-dir $tools/build
        rm -rf $tools/build
    fi
    # Aside, so that half an environment is not taken for a whole one. Other requirements make another one.
    local wanted=packaging/detections/requirements.txt
    if ! cmp -s $wanted $tools/detections/requirements.txt; then
        rm -rf $tools/detections.new
        python3 -m venv $tools/detections.new
        $tools/detections.new/bin/python -m pip install --quiet --disable-pip-version-check -r $wanted
        cp $wanted $tools/detections.new
        rm -rf $tools/detections
        mv $tools/detections.new $tools/detections
    fi
}

# No path of this machine gets into the binary: where cargo keeps the sources and where this tree is does not matter.
binary() {
    local cargo_home=${CARGO_HOME:-$HOME/.cargo}
    RUSTFLAGS="--remap-path-prefix=$cargo_home=/cargo --remap-path-prefix=$PWD=/src" \
        cargo zigbuild --release --locked --bin $name --target "$target.$glibc" --target-dir target/packaging/build
}

# The binary must start where that glibc is the newest.
symbols() {
    local newest
    newest=$(readelf --version-info --wide "$1" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
    echo "the newest symbol version is $newest"
    if [ "$(printf '%s\nGLIBC_%s\n' "$newest" $glibc | sort -V | tail -n 1)" != GLIBC_$glibc ]; then
        echo "$1 needs $newest, and hosts have GLIBC_$glibc" >&2
        return 1
    fi
}

# The bullets of the newest part of CHANGELOG.md, the first line of each begun with `$1`, the others with `$2`.
changes() {
    awk '/^## / { part++; next } part == 1 && /^- / { printf "%s%s", end, $0; end = "\n" } part == 1 && /^  / { printf "%s", substr($0, 2) }
        END { print "" }' CHANGELOG.md | fold -s -w 72 | sed -e "s/^- /$1/;t end" -e "s/^/$2/" -e ':end' -e 's/ *$//'
}

put() {
    install -D -m "$1" "$2" "$root/$3"
}

# All files as they will lie on a host; both packages are made of this tree.
tree() {
    local bin=target/packaging/build/$target/release/$name made=target/packaging/made page unit=$name.service
    symbols "$bin"
    rm -rf $root $made
    mkdir -p $made
    $bin man $made/man
    for shell in bash zsh fish; do
        $bin completions $shell >$made/$shell
    done
    packaging/sbom.py "$version" "$target" >$made/sbom.cdx.json
    $tools/detections/bin/python packaging/detections/build.py $made/detections
    # Further instances: another configuration, another state.
    sed -e "s/^Description=.*/& %i/" -e "s/config\.toml/%i.toml/" -e "s#^\(\(State\|Runtime\)Directory=.*\)#\1-instances/%i#" \
        -e "s|^ExecStart=.*|& --state /var/lib/$name-instances/%i|" -e "/^# packaging.build.sh makes/d" \
        packaging/systemd/$unit >$made/template
    {
        printf '%s (%s-1) unstable; urgency=medium\n\n' $name "$version"
        changes '  * ' '    '
        printf '\n -- The maintainers of %s <packages@%s.invalid>  %s\n' $name $name "$(date -R -d "@$SOURCE_DATE_EPOCH")"
    } >$made/changelog

    put 755 "$bin" usr/bin/$name
    put 640 "$config" etc/$name/config.toml
    put 644 packaging/systemd/$unit usr/lib/systemd/system/$unit
    put 644 $made/template usr/lib/systemd/system/$name@.service
    put 644 packaging/systemd/sysusers.conf usr/lib/sysusers.d/$name.conf
    put 644 packaging/systemd/tmpfiles.conf usr/lib/tmpfiles.d/$name.conf
    put 755 packaging/after-install usr/share/$name/after-install
    put 644 packaging/$name.toml usr/share/$name/config.toml
    for document in packaging/elasticsearch/*.json packaging/{prometheus,grafana,opensearch,kibana,sentinel,splunk}/*; do
        put 644 "$document" "usr/share/$name/${document#packaging/}"
    done
    find $made/detections -type f | while read -r file; do
        put 644 "$file" "usr/share/$name/${file#"$made"/}"
    done
    find packaging/detections/{sigma,pipelines} -name '*.yml' | while read -r file; do
        put 644 "$file" "usr/share/$name/${file#packaging/}"
    done
    put 644 packaging/selinux/$name.cil usr/share/$name/selinux/$name.cil
    put 644 $made/bash usr/share/bash-completion/completions/$name
    put 644 $made/fish usr/share/fish/vendor_completions.d/$name.fish
    for page in "$made"/man/*; do
        put 644 "$page" "usr/share/man/man${page##*.}/${page##*/}"
    done
    find $root/usr/share/man -type f -exec gzip -9n {} +
    for doc in README.md SECURITY.md docs/*.md docs/*/*.md; do
        put 644 "$doc" "usr/share/doc/$name/${doc#docs/}"
    done
    put 644 $made/sbom.cdx.json usr/share/doc/$name/sbom.cdx.json
}

deb() {
    put 644 packaging/apparmor/$name etc/apparmor.d/$name
    put 644 packaging/deb/copyright usr/share/doc/$name/copyright
    put 644 packaging/deb/lintian-overrides usr/share/lintian/overrides/$name
    put 644 target/packaging/made/zsh usr/share/zsh/vendor-completions/_$name
    gzip -9n <CHANGELOG.md >target/packaging/made/changelog.gz
    put 644 target/packaging/made/changelog.gz usr/share/doc/$name/changelog.gz
    cargo deb --quiet --no-build --no-strip --locked --target "$target" --deb-version "$version-1" --output "$out/"
    rm -r $root/etc/apparmor.d $root/usr/share/{lintian,zsh} $root/usr/share/doc/$name/{copyright,changelog.gz}
}

rpm() {
    local top=target/packaging/rpmbuild
    put 644 target/packaging/made/zsh usr/share/zsh/site-functions/_$name
    put 644 LICENSE usr/share/licenses/$name/LICENSE
    put 644 CHANGELOG.md usr/share/doc/$name/CHANGELOG.md
    rm -rf $top
    mkdir -p $top
    {
        cat packaging/rpm/$name.spec
        printf '\n%%changelog\n* %s The maintainers of %s <packages@%s.invalid> - %s-1\n' \
            "$(date -d "@$SOURCE_DATE_EPOCH" '+%a %b %d %Y')" $name $name "$version"
        changes '- ' '  '
    } >$top/$name.spec
    rpmbuild -bb --quiet --define "_topdir $PWD/$top" --define "root_ $PWD/$root" --define "version_ $version" \
        --define "_rpmdir $out" --define '_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' \
        --define '_binary_payload w19.xzdio' $top/$name.spec
}

needs
tools
mkdir -p "$out"
if [ -z "${PACKAGE_VERSION:-}" ]; then
    binary
fi
tree
rm -f "$out/$name"*"$version"-1*
deb
rpm
cp target/packaging/made/sbom.cdx.json "$out/$name-$version.cdx.json"
(cd "$out" && sha256sum -- *"$version"* | grep -v SHA256SUMS >"SHA256SUMS-$version")
ls -l "$out"
