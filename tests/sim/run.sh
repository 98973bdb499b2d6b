#!/usr/bin/env bash
# Runs seeds of the simulated server, two processes at a time.
#
#   tests/sim/run.sh BUILD_DIR [--seeds N] [--first SEED]
#
# BUILD_DIR should be built with -Db_sanitize=address,undefined. A failing seed is printed with the
# command that replays it. The last line is "N passed, N failed, N skipped".
set -uo pipefail
build=${1:?usage: tests/sim/run.sh BUILD_DIR [--seeds N] [--first SEED]}
shift
seeds=2400 first=1
while [ $# -gt 0 ]; do
    case $1 in
        --seeds) seeds=$2; shift ;;
        --first) first=$2; shift ;;
        *) echo "tests/sim/run.sh: unknown option $1" >&2; exit 2 ;;
    esac
    shift
done
program=$build/tests/sim/sim-server
[ -x "$program" ] || { echo "skip: $program is not built"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1}

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
half=$((seeds / 2))
"$program" --first "$first" --seeds $half >"$logs/a" 2>&1 &
"$program" --first $((first + half)) --seeds $((seeds - half)) >"$logs/b" 2>&1 &
wait
passed=0 failed=0
for log in "$logs"/a "$logs"/b; do
    tail -n 40 "$log" | grep -v ' passed, '
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1)
    p=$(grep -oE '^[0-9]+' <<<"$line")
    f=$(grep -oE '[0-9]+ failed' <<<"$line" | grep -oE '[0-9]+')
    passed=$((passed + ${p:-0}))
    # A process that died without a count has failed.
    failed=$((failed + ${f:-1}))
    seed=$(grep -oE 'seed [0-9]+' "$log" | tail -n 1 | grep -oE '[0-9]+')
    [ "${f:-1}" -eq 0 ] || echo "replay: $program --first ${seed:-?} --seeds 1"
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
