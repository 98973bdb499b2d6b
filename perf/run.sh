#!/usr/bin/env bash
# Performance scenarios, side by side with peers. How to read them: perf/README.md.
#
#   perf/run.sh smoke|tls [--quick] [--io auto|uring|epoll] [--seconds N] [--rounds N]
#   perf/run.sh tls [--only idle|small|bulk|handshakes]...
#
# Builds build/ (release) unless GIMLET_BIN names a program. Prints a table, and last a line of JSON.
# Exit code 1: a request failed.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1

scenario=${1:-}
case $scenario in
    smoke | tls) shift ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

sh deploy/packages.sh perf
ulimit -n "$(ulimit -Hn)" || true
if [ -z "${GIMLET_BIN:-}" ]; then
    wolfssl=bundled
    subprojects/fill-cache.sh wolfssl >/dev/null 2>&1 || wolfssl=system
    if [ $wolfssl = system ]; then
        echo "perf: the bundled wolfSSL cannot be had here: tokens and TLS cost more with the system's" >&2
        sh deploy/packages.sh system-wolfssl
    fi
    subprojects/fill-cache.sh rust-ring || echo "perf: without wide AES-GCM, TLS costs more" >&2
    [ -f build/build.ninja ] || meson setup build -Dwolfssl=$wolfssl >/dev/null
    ninja -C build gimlet >/dev/null || { echo "perf: the build fails: ninja -C build" >&2; exit 1; }
    GIMLET_BIN=build/gimlet
fi
exec /usr/bin/python3 "perf/$scenario.py" "$GIMLET_BIN" "$@"
