#!/usr/bin/env bash
# Runs the end-to-end tests over the pairs of {rings 1, 2} x {io_uring, epoll} x {release, sanitizers}, and once
# more on io_uring with every optional kernel feature switched off; and TLS itself, streams and failures with TLS on
# every leg, 1.3 on io_uring and 1.2 on epoll.
#
#   tests/e2e/run.sh [--quick] RELEASE [ASAN] [-- PYTEST-OPTION...]
#
# RELEASE and ASAN are programs, or build directories that hold one. Without ASAN only release builds are run.
# --quick leaves out what is marked slow, and runs release builds alone with each back-end once.
# Three runs go on at a time, each in a network namespace of its own, where the user may make one.
# The last line is "N passed, N failed, N skipped in …".
set -uo pipefail
cd "$(dirname "$0")" || exit 1
export PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
root=$(cd ../.. && pwd)

quick=0 programs=() options=()
while [ $# -gt 0 ]; do
    case $1 in
        --quick) quick=1 ;;
        --) shift; options=("$@"); break ;;
        *)
            program=$1
            case $program in /*) ;; *) program=$root/$program ;; esac
            [ ! -d "$program" ] || program=$program/gimlet
            [ -x "$program" ] || { echo "tests/e2e/run.sh: $1: no program there" >&2; echo "1 failed"; exit 1; }
            programs+=("$program") ;;
    esac
    shift
done
[ ${#programs[@]} -ge 1 ] || { echo "usage: tests/e2e/run.sh [--quick] RELEASE [ASAN] [-- PYTEST-OPTION...]" >&2; exit 2; }
release=${programs[0]} asan=${programs[1]:-}
[ $quick -eq 0 ] || asan=

if ! "$release" server --help >/dev/null 2>&1; then
    echo "tests/e2e/run.sh: $release does not run" >&2
    echo "1 failed"
    exit 1
fi

if [ $quick -eq 1 ]; then
    plan="1:uring:$release 2:epoll:$release 2:uring:$release:1.3"
elif [ -n "$asan" ]; then
    plan="1:epoll:$asan 2:uring:$asan 1:uring:$release 2:uring:$asan:1.3 1:epoll:$asan:1.2 2:epoll:$release"
    plan="$plan 2:uring-min:$release"
else
    plan="1:uring:$release 2:epoll:$release 2:uring-min:$release 2:uring:$release:1.3 1:epoll:$release:1.2"
fi

over_tls=(test_tls.py test_tls_trust.py test_tls_abuse.py test_tls_crl.py)
[ $quick -eq 1 ] || over_tls+=(test_streaming.py test_failures.py)

# What depends on no back-end; and what stands so far above the ring that a kernel's features do not reach it.
once=(test_agent_proxy.py test_backend_headers.py test_fleet.py test_jwt.py test_jwt_kms.py test_keys.py test_mesh.py
      test_old_names.py test_proxy_protocol.py test_status.py)
above=(test_agent_ports.py test_defects.py test_health_checks.py test_metrics.py test_surface.py)

# Most of a run's time is waiting. Where the machine gives each its own loopback, three go on at a time.
alone() { unshare -n sh -c 'ip link set lo up && exec "$@"' alone "$@"; }
lanes=1
if alone true 2>/dev/null; then lanes=3; else alone() { "$@"; }; fi

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
set -m # each run is a group of its own: an interrupt reaches pytest, which ends what it has started
trap 'for pid in "${!name_of[@]}"; do kill -INT -- "-$pid"; done; wait; exit 130' INT TERM

# Usage: run_one LOG RINGS IO PROGRAM TLS ONCE     ONCE: 1 for a program's first run
run_one() {
    local log=$1 rings=$2 io=$3 program=$4 tls=$5 once_too=$6
    # Gigabytes once with each back-end; what does not depend on a back-end once with each program.
    local marks=() what=(. --ignore-glob="*test_tls*.py")
    [ -z "$tls" ] || what=("${over_tls[@]}")
    [ "$io" != uring-min ] || marks=(-m "not bulk")
    [ $quick -eq 0 ] || marks=(-m "not slow")
    [ "$once_too" -eq 1 ] || marks+=("${once[@]/#/--ignore=}")
    [ "$io" != uring-min ] || marks+=("${above[@]/#/--ignore=}")
    export GIMLET_BIN=$program GIMLET_E2E_IO=$io GIMLET_E2E_RINGS=$rings GIMLET_E2E_TLS=$tls
    alone /usr/bin/python3 -m pytest -c pytest.ini -p no:cacheprovider -q -rfEs --durations=15 "${marks[@]}" \
        "${options[@]}" "${what[@]}" >"$log" 2>&1 </dev/null
    echo $? >"$log.status"
}

passed=0 failed=0 skipped=0
number() { grep -oE "[0-9]+ $1" <<<"$2" | awk '{ n += $1 } END { print n + 0 }'; }

# Usage: report NAME LOG     prints what a run said, and counts it; what failed in it stands at the end once more
report() {
    local line p s f
    printf '\n==== %s ====\n' "$1"
    cat "$2"
    awk '/^=+ (FAILURES|ERRORS) =+$/, /^=+ (slowest|warnings|short)/' "$2" | tail -n 100 >>"$logs/failures"
    grep -E '^(FAILED|ERROR) ' "$2" | sed "s/^/$1: /" >>"$logs/failures"
    line=$(grep -E '^=* ?[0-9]+ (passed|failed|skipped|error|deselected).* in [0-9.]+s' "$2" | tail -n 1)
    p=$(number passed "$line") s=$(number skipped "$line") f=$(number '(failed|errors?)' "$line")
    if [ "$(cat "$2.status" 2>/dev/null)" != 0 ] && [ "$f" -eq 0 ]; then f=1; fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

declare -A name_of=() log_of=()
seen='' n=0

# Usage: wait_for_one     the next run that ends is reported
wait_for_one() {
    local pid
    wait -n -p pid "${!name_of[@]}"
    report "${name_of[$pid]}" "${log_of[$pid]}"
    unset "name_of[$pid]" "log_of[$pid]"
}

for run in $plan; do
    IFS=: read -r rings io program tls <<<"$run"
    flavour=release first=1
    [ "$program" = "$release" ] || flavour=sanitizers
    case $seen in *" $program "*) first=0 ;; esac
    seen="$seen $program "
    [ ${#name_of[@]} -lt $lanes ] || wait_for_one
    name="rings $rings, $io, $flavour${tls:+, TLS $tls}"
    printf '[%4ds] begins: %s\n' $SECONDS "$name"
    n=$((n + 1))
    run_one "$logs/$n" "$rings" "$io" "$program" "$tls" $first &
    name_of[$!]=$name log_of[$!]=$logs/$n
done
while [ ${#name_of[@]} -gt 0 ]; do wait_for_one; done

printf '\n'
cat "$logs/failures"
printf '%d passed, %d failed, %d skipped in %ds\n' $passed $failed $skipped $SECONDS
[ $failed -eq 0 ]
