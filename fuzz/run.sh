#!/usr/bin/env bash
# fuzz/run.sh SECONDS [TARGET...]
# Fuzzes each target, or those that are named, with libFuzzer, all together for so many seconds. Prints what was
# executed and what coverage that reached. New inputs that reach more are added to fuzz/corpus. An input that breaks a
# target stays in target/fuzz/found. Needs stable Rust and a C++ compiler.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:?"fuzz/run.sh SECONDS [TARGET...]"}
shift
host=$(rustc -vV | sed -n 's/^host: //p')
out=$PWD/target/fuzz
# All crates report which edges were taken and what was compared: what `cargo fuzz` asks of the compiler, without the
# sanitizers that only nightly has.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
cargo build --manifest-path fuzz/Cargo.toml --release --target "$host" --target-dir "$out"
fuzz=$out/$host/release/fuzz
corpus=$out/$host/release/corpus

targets=("$@")
[ ${#targets[@]} -gt 0 ] || for file in fuzz/corpus/*; do targets+=("$(basename "$file")"); done
each=$((seconds / ${#targets[@]}))
[ "$each" -gt 0 ] || each=1

# dictionary TARGET: the words of what it reads
dictionary() {
    case $1 in
    *_answer) echo answers ;;
    config_secrets) echo config ;;
    documents) echo export ;;
    formats | syslog) echo record ;;
    proof) echo note ;;
    *) echo "$1" ;;
    esac
}

mkdir -p "$out/found"
status=0
printf '%-16s %12s %8s %10s %8s %6s\n' target executions edges features inputs found
for target in "${targets[@]}"; do
    export FUZZ_TARGET=$target
    work=$out/work/$target log=$out/work/$target.log
    rm -rf "$work" && mkdir -p "$work"
    "$corpus" unpack "fuzz/corpus/$target" "$work"
    words=fuzz/dictionaries/$(dictionary "$target")
    options=(-max_total_time="$each" -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1)
    [ ! -f "$words" ] || options+=(-dict="$words")
    found=0
    "$fuzz" "$work" "${options[@]}" -artifact_prefix="$out/found/$target-" >"$log" 2>&1 || found=1
    if [ "$found" = 1 ]; then
        status=1
        grep -aE 'panicked|timeout|out-of-memory|Test unit written' -A3 "$log" >&2 || tail -5 "$log" >&2
    fi
    # The fewest inputs that reach all of it.
    rm -rf "$work.least" && mkdir "$work.least"
    "$fuzz" -merge=1 -max_len=4096 "$work.least" "$work" >"$log.merge" 2>&1 || true
    "$corpus" pack "fuzz/corpus/$target" "$work.least"
    executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
    reached=$(grep -aoE 'cov: [0-9]+ ft: [0-9]+' "$log" | sort -k2n | tail -1)
    printf '%-16s %12s %8s %10s %8s %6s\n' "$target" "${executed:-?}" "$(cut -d' ' -f2 <<<"$reached")" \
        "$(cut -d' ' -f4 <<<"$reached")" "$(wc -l <"fuzz/corpus/$target")" "$found"
done
exit "$status"
