#!/bin/sh
# The Debian packages that Gimlet needs, and the one place that installs them.
#
#   deploy/packages.sh build|test|perf [--list]
#
# build: compile the program. test: build, and everything tests/run.sh uses.
# perf: test, and the load generators and peers of perf/. --list only prints.
# Needs root or password-less sudo, unless everything is there already.
set -eu

build="meson ninja-build gcc libc6-dev pkg-config patch dpkg-dev git ca-certificates \
    liburing-dev libjansson-dev libc-ares-dev libxxhash-dev"
# Only when the bundled wolfSSL cannot be had: deploy/packages.sh system-wolfssl
system_wolfssl="libwolfssl-dev"
test="libcriterion-dev clang libclang-rt-14-dev llvm-14 python3 python3-pytest python3-pytest-timeout \
    python3-websockets python3-requests python3-jwt python3-cryptography python3-botocore \
    nginx-light curl nghttp2-client openssl sslscan procps iproute2 prometheus \
    python3-yaml systemd runc libseccomp2 qemu-system-x86 busybox-static kmod cpio"
perf="wrk haproxy linux-perf valgrind python3-matplotlib"

say() { printf 'packages: %s\n' "$*" >&2; }

case ${1:-} in
    build) set="$build" ;;
    system-wolfssl) set="$build $system_wolfssl" ;;
    test) set="$build $test" ;;
    perf) set="$build $test $perf" ;;
    *) say "usage: packages.sh build|system-wolfssl|test|perf [--list]"; exit 2 ;;
esac
if [ "${2:-}" = --list ]; then
    printf '%s\n' $set
    exit 0
fi

command -v dpkg-query >/dev/null || { say "this is not Debian: install the likes of: $(echo $set)"; exit 1; }

missing=
for package in $set; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
if [ -z "$missing" ]; then
    say "$1: everything is here"
    exit 0
fi

as_root=
if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || { say "missing:$missing; run this as root"; exit 1; }
    as_root="sudo -n"
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run_apt() {
    $as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get -q -y \
        -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" >"$log" 2>&1 </dev/null
}
say "$1: reading package lists"
run_apt update || say "the package lists could not be refreshed; trying with what is here"
say "$1: installing$missing"
# A package that starts a daemon would take its port from the tests.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee $policy >/dev/null && $as_root chmod 755 $policy
    trap 'rm -f "$log"; $as_root rm -f $policy' EXIT
fi
# shellcheck disable=SC2086 # a list of words
if ! run_apt install --no-install-recommends $missing; then
    tail -20 "$log" >&2
    say "$1: installation failed"
    exit 1
fi
say "$1: done"
