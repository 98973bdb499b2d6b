#!/usr/bin/env bash
# Runs every fuzz target of a build directory for some seconds, five at a time.
#
#   tests/fuzz/run.sh BUILD_DIR SECONDS [NAME...]
#
# The seeds in tests/fuzz/corpus/NAME are replayed first; what libFuzzer finds is
# kept in BUILD_DIR/corpus/NAME, and an input that crashes in BUILD_DIR/crashes/.
set -uo pipefail
tree=$(cd "$(dirname "$0")/../.." && pwd)
[ $# -ge 2 ] || { echo "usage: tests/fuzz/run.sh BUILD_DIR SECONDS [NAME...]" >&2; exit 2; }
build=$(cd "$1" && pwd) || exit 2
export build seconds=$2 corpora=$tree/tests/fuzz/corpus
shift 2

run_target() {
    local name=$1 found=$build/corpus/$1 log=$build/corpus/$1.log seeds=()
    mkdir -p "$found" "$build/crashes"
    [ ! -d "$corpora/$name" ] || seeds=("$corpora/$name")
    if ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
        "$build/tests/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
        -print_final_stats=1 -artifact_prefix="$build/crashes/$name-" "$found" "${seeds[@]}" >"$log" 2>&1; then
        printf 'ok   %-24s %s runs\n' "$name" \
            "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
    else
        tail -n 40 "$log"
        printf 'FAIL %-24s input in %s\n' "$name" "$build/crashes/"
    fi
}
export -f run_target

if [ $# -eq 0 ]; then
    mapfile -t names < <(find "$build/tests/fuzz" -maxdepth 1 -type f -name 'fuzz_*' -perm -u+x -printf '%f\n' |
        sed 's/^fuzz_//' | sort)
    set -- "${names[@]}"
fi
[ $# -gt 0 ] || { echo "no fuzz targets in $build"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }

# The server's side of TLS needs a certificate.
if [ -x "$build/tests/fuzz/fuzz_tls_session" ]; then
    GM_FUZZ_CERT=$build/fuzz.crt GM_FUZZ_KEY=$build/fuzz.key
    export GM_FUZZ_CERT GM_FUZZ_KEY
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=fuzz \
        -keyout "$GM_FUZZ_KEY" -out "$GM_FUZZ_CERT" 2>/dev/null || { echo "openssl makes no certificate" >&2; exit 1; }
fi

report=$(printf '%s\n' "$@" | xargs -P 5 -I{} bash -c 'run_target {}')
printf '%s\n' "$report"
failed=$(grep -c '^FAIL ' <<<"$report")
printf '%d passed, %d failed, 0 skipped\n' "$(grep -c '^ok ' <<<"$report")" "$failed"
[ "$failed" -eq 0 ]
