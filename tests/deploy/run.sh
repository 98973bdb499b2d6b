#!/usr/bin/env bash
# Is what lies in deploy/ usable? Each artefact is read by a tool that understands it, or run.
#
#   tests/deploy/run.sh PROGRAM [PYTEST-OPTION...]
#
# PROGRAM: a built gimlet, or the build directory that holds one. Where it may, it works in namespaces of
# its own. The last line is "N passed, N failed, N skipped".
set -uo pipefail
cd "$(dirname "$0")" || exit 1
export PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
program=${1:-}
case $program in /*) ;; *) program=$(cd ../.. && pwd)/$program ;; esac
[ ! -d "$program" ] || program=$program/gimlet
[ -x "$program" ] || { echo "usage: tests/deploy/run.sh PROGRAM [PYTEST-OPTION...]" >&2; echo "0 passed, 1 failed, 0 skipped"; exit 1; }
shift

isolated=()
if unshare -n -m true 2>/dev/null; then
    # shellcheck disable=SC2016 # it is the inner shell that expands
    isolated=(unshare -n -m --propagation private sh -c 'ip link set lo up && GIMLET_DEPLOY_ISOLATED=1 exec "$@"' sh)
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export GIMLET_BIN=$program
"${isolated[@]}" /usr/bin/python3 -m pytest -c pytest.ini -p no:cacheprovider -q -rfEs "$@" . 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
line=$(grep -E '^=* ?[0-9]+ (passed|failed|skipped|error).* in [0-9.]+s' "$log" | tail -n 1)
number() { grep -oE "[0-9]+ $1" <<<"$line" | awk '{ n += $1 } END { print n + 0 }'; }
failed=$(number '(failed|errors?)')
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
echo "$(number passed) passed, $failed failed, $(number skipped) skipped"
[ "$failed" -eq 0 ]
