#!/usr/bin/env bash
# Builds Gimlet in every flavour and runs every suite.
#
#   tests/run.sh [--quick] [--only unit|tidy|fuzz|e2e|vm|sim|deploy]
#
# Trees: build/ (release), build-asan/ (ASan+UBSan: unit tests, simulation),
# build-tsan/ (TSan: unit tests, with tests/unit/tsan in Criterion's place), build-fuzz/
# (libFuzzer), build-static/ (release, static: what deploy/ ships).
# --quick: 5 seconds per fuzz target instead of 30, end-to-end on build/ alone.
# The last line is "N passed, N failed, N skipped"; the exit code is 1 if any failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
# Debian's own python3 and meson, whatever else the machine has in front of them.
export PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1

quick=0 only=
while [ $# -gt 0 ]; do
    case $1 in
        --quick) quick=1 ;;
        --only) only=${2:-}; shift ;;
        --only=*) only=${1#--only=} ;;
        *) echo "usage: tests/run.sh [--quick] [--only unit|tidy|fuzz|e2e|vm|sim|deploy]" >&2; exit 2 ;;
    esac
    shift
done
case $only in '' | unit | tidy | fuzz | e2e | vm | sim | deploy) ;; *)
    echo "tests/run.sh: --only $only: not one of unit tidy fuzz e2e vm sim deploy" >&2; exit 2 ;;
esac

logs=build-logs
mkdir -p $logs
passed=0 failed=0 skipped=0 summary=() failures=()

say() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }
wanted() { [ -z "$only" ] || [ "$only" = "$1" ]; }

# Usage: count NAME PASSED FAILED SKIPPED
count() {
    passed=$((passed + $2)) failed=$((failed + $3)) skipped=$((skipped + $4))
    summary+=("$(printf '%-24s %5d passed %4d failed %4d skipped' "$1" "$2" "$3" "$4")")
    say "$1: $2 passed, $3 failed, $4 skipped"
}

show() { tail -n "${2:-40}" "$1" | sed 's/^/    | /'; }

# Usage: check NAME COMMAND...   One check: it passes if the command does.
check() {
    local name=$1 log
    shift
    log=$logs/${name//[^a-z0-9]/-}.log
    say "$name"
    if "$@" >"$log" 2>&1; then
        count "$name" 1 0 0
        return 0
    fi
    show "$log"
    count "$name" 0 1 0
    return 1
}

# Usage: counted NAME COMMAND...   The command's last "N passed, N failed, …" line counts.
counted() {
    local name=$1 log status line p f s
    shift
    log=$logs/${name//[^a-z0-9]/-}.log
    say "$name"
    "$@" >"$log" 2>&1
    status=$?
    line=$(grep -E '[0-9]+ (passed|failed|skipped|error)' "$log" | tail -n 1)
    p=$(grep -oE '[0-9]+ passed' <<<"$line" | grep -oE '[0-9]+')
    f=$(grep -oE '[0-9]+ (failed|errors?)' <<<"$line" | awk '{ n += $1 } END { print n + 0 }')
    s=$(grep -oE '[0-9]+ skipped' <<<"$line" | grep -oE '[0-9]+')
    p=${p:-0} f=${f:-0} s=${s:-0}
    # A suite that dies without saying so, or that counts nothing, has failed.
    if [ "$f" -eq 0 ] && { [ $status -ne 0 ] || [ $((p + s)) -eq 0 ]; }; then f=1; fi
    if [ "$f" -ne 0 ]; then
        show "$log" 60
        # A log may be thousands of lines: what failed in it is said once more at the very end.
        mapfile -t -O ${#failures[@]} failures < <(
            grep -aE '(^|: )(FAILED|ERROR) |^ *not ok|^ *(failed|FAIL)[: ]' "$log" | tail -n 20 | sed "s/^/$name: /" | cut -c1-400)
    fi
    if [ "$s" -ne 0 ]; then grep -iE '^ *skip' "$log" | head -20 | sed 's/^/    | /'; fi
    count "$name" "$p" "$f" "$s"
}

# --- build -----------------------------------------------------------------------
wolfssl=bundled

prepare() {
    deploy/packages.sh test || return 1
    if ! subprojects/fill-cache.sh wolfssl; then
        echo "#### THE BUNDLED wolfSSL CANNOT BE HAD HERE: using the system's, which is slower and not what we ship ####"
        wolfssl=system
        count "bundled wolfSSL" 0 0 1
        deploy/packages.sh system-wolfssl || return 1
    fi
    subprojects/fill-cache.sh rust-ring || count "wide AES-GCM" 0 0 1
}

# Usage: configure DIR OPTION...
configure() {
    local dir=$1
    shift
    if [ -f "$dir/build.ninja" ]; then
        meson setup --reconfigure "$dir" -Dwolfssl=$wolfssl "$@" && return 0
    fi
    rm -rf "$dir"
    meson setup "$dir" -Dwolfssl=$wolfssl "$@"
}

# Usage: build DIR OPTION...
build() {
    configure "$@" && ninja -C "$1"
}

# Of the tests only those that are run in release builds: linking each as a whole takes a minute.
build_release() {
    local targets=(gimlet gimlet-server gimlet-agent tests/unit/tls/unit-tls)
    [ $wolfssl = system ] || targets+=(tests/unit/unit-bundle)
    configure build -Dtests=true && ninja -C build "${targets[@]}"
}

build_fuzz() {
    if [ -f build-fuzz/build.ninja ]; then
        build build-fuzz
    else
        CC=clang build build-fuzz -Dfuzz=true -Dtests=false -Db_lto=false -Db_lundef=false \
            -Db_sanitize=address,undefined
    fi
}

# grep reads to the end: with -q it would leave, and pipefail take readelf's SIGPIPE for an answer.
is_hardened() {
    readelf -h "$1" | grep 'Type: *DYN' >/dev/null || { echo "$1 is not position independent"; return 1; }
    readelf -d "$1" | grep -E 'BIND_NOW|FLAGS_1.*NOW' >/dev/null || { echo "$1 binds lazily"; return 1; }
    readelf -lW "$1" | grep GNU_RELRO >/dev/null || { echo "$1 has no RELRO"; return 1; }
    readelf -lW "$1" | grep GNU_STACK | grep RWE >/dev/null && { echo "$1 has an executable stack"; return 1; }
    readelf -sW "$1" | grep __stack_chk_fail >/dev/null || { echo "$1 has no stack protector"; return 1; }
}

# --- suites ----------------------------------------------------------------------
# Usage: meson_tests NAME DIR MESON-TEST-OPTION...
meson_tests() {
    local name=$1 dir=$2
    shift 2
    counted "$name" tests/unit/counted.py "$dir" "$@"
}

# What is shipped is the static executable; --quick takes the one that is there.
run_deploy() {
    if [ $quick -eq 1 ]; then
        check "build release" build build -Dtests=true && counted "deploy" tests/deploy/run.sh build
        return
    fi
    subprojects/fill-cache.sh liburing || { count "build static" 0 0 1; return; }
    check "build static" build build-static -Dstatic=true -Dliburing=bundled -Dtests=false -Db_lto=false &&
        counted "deploy" tests/deploy/run.sh build-static
}

run_suites() {
    local asan="build-asan" seconds=30
    [ $quick -eq 0 ] || seconds=5
    if wanted tidy; then
        counted "tidy" python3 tests/tidy/tidy.py --self-test .
    fi
    if wanted unit || wanted e2e || wanted vm; then
        if check "build release" build_release && [ -x build/gimlet ]; then
            check "hardening" is_hardened build/gimlet
        fi
    fi
    if wanted unit && [ -x build/gimlet ]; then
        counted "docs" /usr/bin/python3 tests/docs/check.py --self-test build/gimlet
    fi
    if wanted unit || wanted sim || wanted e2e; then
        check "build asan" build $asan -Dtests=true -Dperf=true -Db_sanitize=address,undefined -Db_lto=false
    fi
    if wanted unit; then
        meson_tests "unit (asan)" $asan
        if check "build tsan" build build-tsan -Dtests=true -Db_sanitize=thread -Db_lto=false; then
            meson_tests "unit (tsan)" build-tsan
        fi
        [ $wolfssl = system ] || meson_tests "bundle (release)" build unit-bundle
    fi
    if wanted deploy; then
        run_deploy
    fi
    if wanted fuzz && check "build fuzz" build_fuzz; then
        counted "fuzz, $seconds s each" tests/fuzz/run.sh build-fuzz $seconds
    fi
    if wanted e2e && [ -f tests/e2e/run.sh ]; then
        if [ $quick -eq 1 ]; then
            counted "end to end" bash tests/e2e/run.sh build
        else
            counted "end to end" bash tests/e2e/run.sh build $asan
        fi
    fi
    if wanted vm && [ $quick -eq 0 ] && [ -x build/gimlet ]; then
        counted "kernel TLS" bash tests/vm/run.sh build
    fi
    if wanted sim && [ -f tests/sim/run.sh ]; then
        counted "simulation" bash tests/sim/run.sh $asan
    fi
}

if [ "$only" = tidy ] || prepare; then
    run_suites
else
    count "prepare" 0 1 0
fi

printf '\n'
printf '%s\n' "${summary[@]}"
[ ${#failures[@]} -eq 0 ] || printf '\n%s\n' "${failures[@]}"
printf '\n%d passed, %d failed, %d skipped\n' $passed $failed $skipped
[ $failed -eq 0 ]
