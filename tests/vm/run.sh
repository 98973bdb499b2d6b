#!/usr/bin/env bash
# Kernel TLS, tested on a kernel that has it: Debian's own, in an emulated machine (QEMU without KVM, so that it runs
# anywhere) which sees this machine's files and writes to none of them.
#
#   tests/vm/run.sh BUILD [KERNEL]
#
# BUILD: a release build with its tests. KERNEL: the folder of another kernel, unpacked, with its modules; from Linux
# 6.14 on TLS 1.3 is tested, too. Skipped with a word where this kernel has TLS itself (then every other suite has tried
# it already), on other processors, and where kernel or emulator cannot be had.
# The last line is "N passed, N failed, N skipped".
set -uo pipefail
cd "$(dirname "$0")" || exit 1
export PATH=/usr/bin:/bin:/usr/sbin:/sbin:$PATH LC_ALL=C.UTF-8
here=$PWD root=$(cd ../.. && pwd)
build=${1:?usage: tests/vm/run.sh BUILD [KERNEL]} kernel=${2:-}
case $build in /*) ;; *) build=$root/$build ;; esac

skip() { echo "skip: kernel TLS: $*"; echo "0 passed, 0 failed, 1 skipped"; exit 0; }
[ "$(uname -m)" = x86_64 ] || skip "the emulated machine is an x86-64"
for tool in qemu-system-x86_64 depmod cpio; do
    command -v $tool >/dev/null || skip "$tool is not here (deploy/packages.sh test installs it)"
done
[ -x /bin/busybox ] || skip "busybox is not here (deploy/packages.sh test installs it)"
if grep -qw tls /proc/sys/net/ipv4/tcp_available_ulp; then
    skip "this kernel has it: what runs here natively is tested here natively"
fi

work=$(mktemp -d) && chmod 755 "$work"
trap 'rm -rf "$work"' EXIT

# --- the kernel: Debian's newest for this release, unpacked ---
fetch_kernel() {
    local package
    package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
    [ -n "$package" ] && cd "$work" && apt-get download "$package" && dpkg -x "$package"_*.deb "$work/kernel"
}
if [ -z "$kernel" ]; then
    kernel=$work/kernel
    fetch_kernel >"$work/fetch.log" 2>&1 || { cat "$work/fetch.log"; skip "Debian's kernel cannot be had here"; }
fi
base=$kernel
[ -d "$base/lib/modules" ] || base=$kernel/usr
version=$(basename "$(echo "$base"/lib/modules/*)")
image=$(find "$kernel" -name "vmlinuz*" | head -n 1)
[ -n "$image" ] || { echo "no vmlinuz below $kernel"; echo "0 passed, 1 failed"; exit 1; }

# --- its first file system: modules in the order in which they need each other, and an init ---
first=$work/first
mkdir -p "$first/bin" "$first/modules" "$work/base/lib/modules"
cp /bin/busybox "$first/bin/" && cp "$here/init" "$first/init" && chmod 755 "$first/init"
ln -s "$base/lib/modules/$version" "$work/base/lib/modules/$version"
if [ ! -f "$base/lib/modules/$version/modules.dep" ]; then
    depmod -b "$base" "$version" 2>/dev/null || depmod -b "$work/base" "$version"
fi
place=10
for module in virtio_pci 9pnet_virtio 9p overlay gcm aesni_intel chacha chacha_generic poly1305_generic chacha20poly1305 tls; do
    modprobe -d "$work/base" -S "$version" --show-depends $module
done 2>/dev/null | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' | while read -r file; do
    name=$place-$(basename "$file") place=$((place + 1))
    case $file in
        *.xz) xz -dc "$file" >"$first/modules/${name%.xz}" ;;
        *.zst) zstd -qdc "$file" >"$first/modules/${name%.zst}" ;;
        *) cp "$file" "$first/modules/$name" ;;
    esac
done
(cd "$first" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/first.gz"

# --- the machine ---
printf '#!/bin/bash\nexec %q %q %q\n' "$here/inside.sh" "$root" "$build" >"$work/inside" && chmod 755 "$work/inside"
echo "kernel $version, emulated"
timeout 600 qemu-system-x86_64 -machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 2G -nographic -no-reboot \
    -net none -kernel "$image" -initrd "$work/first.gz" \
    -append "console=ttyS0 quiet panic=-1 no_timer_check run=$work/inside now=$(date +%s)" \
    -virtfs local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap </dev/null 2>&1 |
    stdbuf -oL tr -d '\r' | tee "$work/out" | grep --line-buffered -av '^$'
line=$(grep -aoE '[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped' "$work/out" | tail -n 1)
echo "${line:-0 passed, 1 failed, 0 skipped: the machine did not come to an end}"
