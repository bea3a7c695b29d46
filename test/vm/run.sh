#!/bin/sh
# run.sh runs the kernel tests of oci/ in a virtual machine that has Debian's
# kernel, cgroup v2 alone, AppArmor, huge pages and, at the end, systemd, for
# machines that are set up otherwise. It needs qemu-system-x86, cpio and apt; without
# KVM it takes ten minutes.
#
#   test/vm/run.sh [a pattern of tests]      CACHE: where downloads stay
set -eu
cd "$(dirname "$0")/../.."
cache=${CACHE:-$PWD/.cache}/vm
mkdir -p "$cache"
work=$(mktemp -d "$cache/work-XXXXXX")
trap 'rm -rf "$work"' EXIT

# Debian's kernel and its static busybox.
fetch() {
	[ -e "$cache/$1" ] && return
	echo "==> fetching $1"
	mkdir "$work/$1"
	(cd "$work/$1" && apt-get -q -o APT::Sandbox::User=root download "$1" && dpkg-deb -x ./*.deb .)
	rm "$work/$1"/*.deb
	mv "$work/$1" "$cache/$1"
}
kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/ *Depends: \(linux-image.*\)/\1/p' | head -n 1)
fetch "$kernel"
fetch busybox-static
fetch apparmor
fetch systemd
fetch libsystemd-shared

echo "==> building the tests"
root=$work/root
mkdir -p "$root/bin" "$root/tests" "$root/dev" "$root/proc" "$root/sys" "$root/tmp" "$root/run" "$root/etc"
make -s shim SHIM="$root/tests/criruntime-shim"
make -s checkpoint CHECKPOINT="$root/tests/criruntime-checkpoint"
# CRIU as "make tools" builds it, with the libraries that it needs.
install "${CACHE:-$PWD/.cache}/tools/criu" "$root/bin/criu"
install "$cache/apparmor/sbin/apparmor_parser" "$root/bin/apparmor_parser"
install -D "$cache/systemd/lib/systemd/systemd" "$root/lib/systemd/systemd"
mkdir -p "$root/usr"
cp -r "$cache/libsystemd-shared/usr/lib" "$root/usr/lib"
export LD_LIBRARY_PATH="$cache/libsystemd-shared/usr/lib/x86_64-linux-gnu/systemd"
for library in $(ldd "$root/bin/criu" "$root/bin/apparmor_parser" "$root/lib/systemd/systemd" |
	awk '$3 ~ "^/(lib|usr)" { print $3 } $1 ~ "^/lib64" { print $1 }'); do
	install -D "$library" "$root$library"
done
unset LD_LIBRARY_PATH
tags=seccomp,kernel
for package in ${PACKAGES:-oci oci/cgroup oci/namespace oci/host}; do
	mkdir -p "$root/tests/$package"
	CGO_ENABLED=0 go test -c -buildvcs=false -tags $tags -ldflags '-s -w' -o "$root/tests/$package/test" "./$package"
	[ ! -d "$package/testdata" ] || cp -r "$package/testdata" "$root/tests/$package"
done
install "$cache/busybox-static/bin/busybox" "$root/bin/busybox"
install -D "$cache/busybox-static/bin/busybox" "$root/cache/debian/bin/busybox" # where make deps unpacks it
install test/vm/init "$root/init"
echo "${1:-}" >"$root/tests/pattern"
ln -s busybox "$root/bin/sh"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd"

echo "==> booting $kernel"
timeout "${TIMEOUT:-1800}" qemu-system-x86_64 -accel "${ACCEL:-tcg}" -cpu max -smp 2 -m 2048 \
	-nodefaults -nographic -no-reboot -serial stdio -kernel "$cache/$kernel/boot/vmlinuz-${kernel#linux-image-}" \
	-initrd "$work/initrd" -append "console=ttyS0 quiet panic=-1 cgroup_no_v1=all apparmor=1 security=apparmor hugepages=16" </dev/null | tee "$work/console"
grep -q '^all tests passed' "$work/console"
