#!/usr/bin/env bash
# Runs tests of the laboratory in a stock Debian kernel under qemu: run.sh LAB_TEST_PROGRAM FILTER...
#
# The programs under test come from TORTIE_BIN_DIR. Everything the guest needs is packed into one initramfs, so that it sees
# nothing of this machine: no disk, no network. VM_SECONDS (default 900) bounds it, VM_MEMORY (default 2048) is its
# memory in MiB. The kernel's package is downloaded and unpacked into VM_CACHE (default target/vm), never installed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
lab=$1
shift
bin=${TORTIE_BIN_DIR:?the folder of the programs under test}
cache=${VM_CACHE:-$here/../../target/vm}
PATH="$PATH:/usr/sbin:/sbin"
for tool in qemu-system-x86_64 busybox cpio dpkg-deb apt-get ip bridge ping timeout; do
  command -v "$tool" >/dev/null || { echo "vm: $tool is not installed: run make deps-vm" >&2; exit 1; }
done
file=$(readlink -f "$(command -v busybox)")
if ldd "$file" >/dev/null 2>&1; then echo "vm: busybox is not static: run make deps-vm" >&2; exit 1; fi

mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
if ! ls "$cache"/kernel/boot/vmlinuz-* >/dev/null 2>&1; then
  package=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
  [ -n "$package" ] || { echo "vm: apt knows no linux-image-amd64: run apt-get update" >&2; exit 1; }
  (cd "$cache" && apt-get download -qq "$package")
  rm -rf "$cache/kernel.part"
  dpkg-deb -x "$cache/$package"_*.deb "$cache/kernel.part"
  mv "$cache/kernel.part" "$cache/kernel"
  rm -f "$cache"/*.deb
fi
kernel=$(ls "$cache"/kernel/boot/vmlinuz-* | head -1)
release=${kernel##*/vmlinuz-}

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,sbin,lab,proc,sys,dev,run,tmp,etc,root,var/tmp}
cp "$file" "$root/bin/busybox"
# A program, and every library it is linked with, at their own paths.
program() {
  local path library
  path=$(readlink -f "$(command -v "$1")")
  install -D "$path" "$root/bin/${1##*/}"
  # A static program is linked with none, and grep says so by its status.
  { ldd "$path" 2>/dev/null | grep -o '/[^ ]*' || true; } | sort -u | while read -r library; do
    [ -e "$root$library" ] || install -D "$(readlink -f "$library")" "$root$library"
  done
}
for tool in ip bridge ping "$bin"/{felix,bird-rs,confd,typha,tortie,tortiectl}; do program "$tool"; done
program "$lab"
mv "$root/bin/${lab##*/}" "$root/lab/lab"
for name in felix bird-rs confd typha tortie tortiectl; do mv "$root/bin/$name" "$root/lab/"; done
find "$root/lab" -type f -exec strip -g {} +
modules=$cache/kernel/lib/modules/$release
while read -r module; do
  install -D "$modules/$module" "$root/lib/modules/$module"
done < "$here/modules"
cp "$here/modules" "$root/etc/modules"
printf '%s\n' "$@" > "$root/etc/filters"
install -m 755 "$here/init" "$root/init"
(cd "$root" && find . | cpio --quiet -o -H newc) > "$cache/initramfs.$$"

# In the guest's own time everything takes ten times as long: software emulation, so that no virtualisation is needed.
log=$cache/console.$$
timeout --kill-after 5 "${VM_SECONDS:-900}" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m "${VM_MEMORY:-2048}" \
  -kernel "$kernel" -initrd "$cache/initramfs.$$" -append "console=ttyS0 quiet panic=-1 mitigations=off" \
  -nographic -monitor none -nodefaults -serial stdio -no-reboot -nic none < /dev/null | tee "$log" || true
rm -f "$cache/initramfs.$$"
sed -i 's/\r//g' "$log"
status=$(sed -n 's/^vm: the tests ended with \([0-9]*\)$/\1/p' "$log" | tail -1)
ran=$(sed -n 's/^test result: .* \([0-9]*\) passed.*/\1/p' "$log" | tail -1)
rm -f "$log"
[ -n "$status" ] || { echo "vm: the guest did not get to the end within ${VM_SECONDS:-900} s" >&2; exit 1; }
[ "${ran:-0}" -gt 0 ] || { echo "vm: no test passed" >&2; exit 1; }
exit "$status"
