#!/usr/bin/env bash
# Runs inside the emulated machine: the unit tests of kernel TLS, then TLS end to end, with the kernel's records.
#
#   inside.sh ROOT BUILD
export PATH=/usr/bin:/bin:/usr/sbin:/sbin LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 HOME=/root
root=$1 build=$2 passed=0 failed=0 skipped=0
ulimit -n 65536
cd /tmp || exit 1
# Without it every test would be skipped, and nothing tested.
grep -w tls /proc/sys/net/ipv4/tcp_available_ulp || { failed=1; echo "this kernel has no TLS, or its module is not loaded"; }

"$build/tests/unit/tls/unit-tls" --filter 'kernel/*' -j1 --tap >unit.log 2>&1
grep -E '^(ok|not ok) - kernel::' unit.log
s=$(grep -cE '^ok - kernel::.*# *SKIP' unit.log) f=$(grep -c '^not ok' unit.log) p=$(grep -c '^ok - kernel::' unit.log)
passed=$((passed + p - s)) failed=$((failed + f)) skipped=$((skipped + s))
[ "$p" -gt 0 ] || { failed=$((failed + 1)); tail -n 20 unit.log; }

cd "$root/tests/e2e" || exit 1
for io in uring epoll; do
    GIMLET_BIN=$build/gimlet GIMLET_E2E_IO=$io GIMLET_E2E_RINGS=1 GIMLET_E2E_PATIENCE=90 \
        timeout 280 python3 -m pytest -c pytest.ini -p no:cacheprovider -q test_kernel_tls.py >/tmp/e2e.log 2>&1
    grep -E '^(E  |FAILED|ERROR|SKIPPED)' /tmp/e2e.log | head -n 20
    line=$(tail -n 1 /tmp/e2e.log)
    echo "end to end, $io: $line"
    p=$(grep -oE '[0-9]+ passed' <<<"$line" | grep -oE '[0-9]+')
    f=$(grep -oE '[0-9]+ (failed|error)' <<<"$line" | awk '{ n += $1 } END { print n + 0 }')
    s=$(grep -oE '[0-9]+ skipped' <<<"$line" | grep -oE '[0-9]+')
    [ $((${p:-0} + f + ${s:-0})) -gt 0 ] || f=1
    passed=$((passed + ${p:-0})) failed=$((failed + f)) skipped=$((skipped + ${s:-0}))
done
echo "$passed passed, $failed failed, $skipped skipped"
