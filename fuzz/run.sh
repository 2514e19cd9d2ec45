#!/usr/bin/env bash
# Fuzzes what qosd parses from the network: fuzz/run.sh SECONDS [TARGET…], all targets if none is named, as many at once as
# there are processors. Fails when a target finds something, or when libFuzzer is blind.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:?"usage: fuzz/run.sh SECONDS [TARGET…]"}
shift
all=(reply_v4 reply_v6 quoted_error)
targets=("${@:-${all[@]}}")
build=$PWD/../target/fuzz
triple=$(rustc -vV | sed -n 's/^host: //p')

# The parsers must stand on the crates that the program is built with.
versions() {
    grep -A 1 -E '^name = "(pnet|pnet_packet|pnet_base|thiserror)"$' "$1"
}
diff <(versions ../Cargo.lock) <(versions Cargo.lock) || {
    echo "fuzz/Cargo.lock has other versions than Cargo.lock: cargo update -p NAME --precise VERSION in fuzz/" >&2
    exit 1
}

# The coverage that libFuzzer is steered by, from LLVM's own pass: needs no nightly compiler, as sanitizers would. With a
# target named, build scripts and macros are left as they are.
export CARGO_INCREMENTAL=0 RUSTFLAGS="-Dwarnings -Cpasses=sancov-module \
-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
arguments=()
for target in "${targets[@]}"; do
    arguments+=(--bin "$target")
done
cargo build --quiet --locked --release --target "$triple" --target-dir "$build" "${arguments[@]}"

# One target: what it has found before and the seeds are where it begins.
fuzz() {
    local target=$1 log=$build/$1.log
    mkdir -p "$build/corpus/$target" "$build/found"
    if ! "$build/$triple/release/$target" -max_total_time="$seconds" -max_len=4096 -timeout=5 -rss_limit_mb=1024 \
        -print_final_stats=1 -artifact_prefix="$build/found/$target-" \
        "$build/corpus/$target" "seeds/$target" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "$target: found something, see above" >&2
        return 1
    fi
    # Without coverage libFuzzer would guess for ever and call it a success.
    if ! grep -q 'Loaded .* inline 8-bit counters' "$log" || ! grep -q 'DONE .*cov: [1-9]' "$log"; then
        tail -n 40 "$log" >&2
        echo "$target: no coverage was measured" >&2
        return 1
    fi
    sed -n "s/^#\([0-9]*\).*DONE *\(cov: [0-9]*\).*corp: \([0-9]*\).*exec.s: \([0-9]*\).*/$target: \1 inputs, \4 a second, \2, corpus \3, nothing found/p" "$log"
}
export -f fuzz
export seconds build triple
printf '%s\0' "${targets[@]}" | xargs -0 -n 1 -P "$(nproc)" bash -euc 'fuzz "$1"' fuzz
