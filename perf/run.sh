#!/usr/bin/env bash
# The laboratory: Gimlet beside other proxies and tunnels. Without arguments it says what there is.
#
# Builds build/ (release) unless GIMLET_BIN names a program. How to read the figures: perf/README.md.
# Exit code 1: a request failed. 2: it was asked nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONPATH=perf

case ${1:-} in
    "" | -* | report) exec /usr/bin/python3 -m lab "" "$@" ;;
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
exec /usr/bin/python3 -m lab "$GIMLET_BIN" "$@"
