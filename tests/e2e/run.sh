#!/usr/bin/env bash
# Runs the end-to-end tests over the pairs of {rings 1, 2} x {io_uring, epoll} x {release, sanitizers}, and once
# more on io_uring with every optional kernel feature switched off; then with TLS on every leg: streams and failures on
# io_uring, TLS itself on epoll.
#
#   tests/e2e/run.sh [--quick] RELEASE [ASAN] [-- PYTEST-OPTION...]
#
# RELEASE and ASAN are programs, or build directories that hold one. Without ASAN only release builds are run.
# --quick leaves out what is marked slow, and runs release builds alone with each back-end once.
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
    plan="1:uring:$release 2:epoll:$release 2:uring:$asan 1:epoll:$asan 2:uring-min:$release"
    plan="$plan 2:uring:$release:1.3 1:epoll:$asan:1.2"
else
    plan="1:uring:$release 2:epoll:$release 2:uring-min:$release 2:uring:$release:1.3 1:epoll:$release:1.2"
fi

# Over TLS: whose seconds are spent waiting, for what TLS has no part in, is left to the runs in plain text.
waits="two_hundred or fail_over_within or replacement or frozen_path or token or idle_link"
tls_itself=(test_tls.py test_tls_trust.py test_tls_abuse.py test_tls_crl.py)
tls_13=(test_streaming.py test_failures.py -k "not ($waits)")
tls_12=("${tls_itself[@]}")
[ $quick -eq 0 ] || tls_13=("${tls_itself[@]}")

# What depends on no back-end; and what stands so far above the ring that a kernel's features do not reach it.
once=(test_jwt.py test_jwt_kms.py test_mesh.py test_old_names.py test_proxy_protocol.py)
above=(test_agent_ports.py test_backend_headers.py test_health_checks.py test_keys.py test_metrics.py test_status.py
       test_surface.py)

passed=0 failed=0 skipped=0 seen='' log=$(mktemp)
trap 'rm -f "$log"' EXIT
number() { grep -oE "[0-9]+ $1" <<<"$2" | awk '{ n += $1 } END { print n + 0 }'; }

for run in $plan; do
    IFS=: read -r rings io program tls <<<"$run"
    flavour=release
    [ "$program" = "$release" ] || flavour=sanitizers
    # Gigabytes once with each back-end; what does not depend on a back-end once with each program.
    marks=() what=(. --ignore-glob="*test_tls*.py")
    [ "$tls" != 1.2 ] || what=("${tls_12[@]}")
    [ "$tls" != 1.3 ] || what=("${tls_13[@]}")
    [ $io != uring-min ] || marks=(-m "not bulk")
    [ $quick -eq 0 ] || marks=(-m "not slow")
    case $seen in *" $program "*) marks+=("${once[@]/#/--ignore=}") ;; esac
    [ $io != uring-min ] || marks+=("${above[@]/#/--ignore=}")
    seen="$seen $program "
    printf '\n==== rings %s, %s, %s%s ====\n' "$rings" "$io" "$flavour" "${tls:+, TLS $tls}"
    GIMLET_BIN=$program GIMLET_E2E_IO=$io GIMLET_E2E_RINGS=$rings GIMLET_E2E_TLS=$tls \
        /usr/bin/python3 -m pytest -c pytest.ini -p no:cacheprovider -q -rfEs "${marks[@]}" "${options[@]}" "${what[@]}" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    line=$(grep -E '^=* ?[0-9]+ (passed|failed|skipped|error|deselected).* in [0-9.]+s' "$log" | tail -n 1)
    p=$(number passed "$line") s=$(number skipped "$line") f=$(number '(failed|errors?)' "$line")
    if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done

printf '\n%d passed, %d failed, %d skipped in %ds\n' $passed $failed $skipped $SECONDS
[ $failed -eq 0 ]
