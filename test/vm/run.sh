#!/bin/sh
# run.sh runs tests in virtual machines that have Debian's kernel and cgroup v2
# alone, for machines that are set up otherwise. The first has AppArmor, huge pages
# and, at the end, systemd, and runs the kernel tests of oci/; the second enforces
# an SELinux policy and runs the system test of it; the third has its power cut again
# and again (test/powercut). Without KVM they take twenty minutes. It needs root, apt,
# and what "make deps tools" gets.
#
#   test/vm/run.sh [a pattern of tests]
#
# CACHE: where downloads stay. MACHINES: which of "apparmor selinux powercut".
# CUTS: how often the power is cut.
set -eu
cd "$(dirname "$0")/../.."
tools=${CACHE:-$PWD/.cache}
cache=$tools/vm
mkdir -p "$cache"
work=$(mktemp -d "$cache/work-XXXXXX")
trap 'rm -rf "$work"' EXIT

missing=
for program in qemu-system-x86_64/qemu-system-x86 cpio/cpio iptables/iptables mkfs.ext4/e2fsprogs; do
	command -v "${program%/*}" >/dev/null || missing="$missing ${program#*/}"
done
if [ -n "$missing" ]; then
	echo "==> installing$missing"
	apt-get -qq update
	DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null
fi

# fetch unpacks a package of Debian, which is not installed.
fetch() {
	[ -e "$cache/$1" ] && return
	echo "==> fetching $1"
	mkdir "$work/$1"
	(cd "$work/$1" && apt-get -q -o APT::Sandbox::User=root download "$1" && dpkg-deb -x ./*.deb .)
	rm "$work/$1"/*.deb
	mv "$work/$1" "$cache/$1"
}
kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/ *Depends: \(linux-image.*\)/\1/p' | head -n 1)
for package in "$kernel" busybox-static apparmor systemd libsystemd-shared secilc libsepol2; do
	fetch "$package"
done

echo "==> building the tests"
root=$work/root
mkdir -p "$root/bin" "$root/tests" "$root/cache" "$root/dev" "$root/proc" "$root/sys" "$root/tmp" "$root/run" "$root/etc" "$root/var"
make -s build
cp -r go.mod bin "$root/tests" # what marks and makes a source tree
# The images that tests build, and the programs that they run, as make deps and make
# tools put them.
cp -r "$tools/debian" "$tools/cni" "$root/cache"
install -D -t "$root/cache/tools" "$tools/tools/registry" "$tools/tools/crictl" "$tools/tools/criu" "$tools/tools/nonewprivs" \
	"$tools/tools/containerd-shim-runc-v2" "$tools/tools/runc"
install "$cache/busybox-static/bin/busybox" "$root/bin/busybox"
cp "$cache/busybox-static/bin/busybox" "$root/cache/debian/bin/busybox"
ln -s busybox "$root/bin/sh"
install "$cache/apparmor/sbin/apparmor_parser" "$root/bin/apparmor_parser"
install "$(readlink -f "$(command -v iptables)")" "$root/bin/xtables"
for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
	ln -s xtables "$root/bin/$name"
done
install -D "$cache/systemd/lib/systemd/systemd" "$root/lib/systemd/systemd"
mkdir -p "$root/usr"
cp -r "$cache/libsystemd-shared/usr/lib" "$root/usr/lib"
cp -r /usr/lib/x86_64-linux-gnu/xtables "$root/usr/lib/x86_64-linux-gnu"
export LD_LIBRARY_PATH="$cache/libsystemd-shared/usr/lib/x86_64-linux-gnu/systemd:$cache/libsepol2/lib/x86_64-linux-gnu"
ldd "$root/cache/tools/criu" "$root/bin/apparmor_parser" "$root/bin/xtables" "$root/lib/systemd/systemd" "$root"/usr/lib/x86_64-linux-gnu/xtables/*.so >"$work/ldd"
if grep 'not found' "$work/ldd" >&2; then
	echo "cannot go on without these libraries: install their packages" >&2
	exit 1
fi
for library in $(awk '$3 ~ "^/(lib|usr)" { print $3 } $1 ~ "^/lib64" { print $1 }' "$work/ldd" | sort -u); do
	install -D "$library" "$root$library"
done
# The policy, with as many categories as Fedora's.
{
	cat test/vm/policy.cil
	seq -f '(category c%g)' 0 1023
	echo "(categoryorder ($(seq -s ' ' -f c%g 0 1023)))"
	echo "(sensitivitycategory s0 (range c0 c1023))"
} >"$work/policy.cil"
"$cache/secilc/usr/bin/secilc" -c 33 -o "$root/etc/policy" -f /dev/null "$work/policy.cil"
unset LD_LIBRARY_PATH
modules=lib/modules/${kernel#linux-image-}
for part in kernel/arch kernel/crypto kernel/lib kernel/net kernel/fs/overlayfs kernel/drivers/net/veth.ko; do
	mkdir -p "$root/$modules/${part%/*}"
	cp -r "$cache/$kernel/$modules/$part" "$root/$modules/$part"
done
"$root/bin/busybox" depmod -b "$root" "${kernel#linux-image-}"
tags=containers_image_openpgp,containers_image_storage_stub,containers_image_docker_daemon_stub,nri_no_wasm,seccomp,kernel
packages="oci oci/cgroup oci/namespace oci/host test/system"
for package in $packages; do
	mkdir -p "$root/tests/$package"
	CGO_ENABLED=0 go test -c -buildvcs=false -trimpath -tags $tags -ldflags '-s -w' -o "$root/tests/$package/test" "./$package"
	[ ! -d "$package/testdata" ] || cp -r "$package/testdata" "$root/tests/$package"
done
CGO_ENABLED=0 go build -buildvcs=false -trimpath -tags $tags -ldflags '-s -w' -o "$root/tests/powercut" ./test/powercut
install test/vm/init "$root/init"
echo "${1:-}" >"$root/tests/pattern"
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd"

# boot starts a machine and shows its console, which stays in $work/console: boot
# PARAMETERS [QEMU'S OPTIONS...]. The process id is in $work/pid.
boot() {
	parameters=$1
	shift
	timeout "${TIMEOUT:-3600}" qemu-system-x86_64 -accel "${ACCEL:-tcg}" -cpu max -smp 2 -m 3072 -pidfile "$work/pid" \
		-nodefaults -nographic -no-reboot -serial stdio -kernel "$cache/$kernel/boot/vmlinuz-${kernel#linux-image-}" \
		-initrd "$work/initrd" -append "console=ttyS0 quiet panic=-1 cgroup_no_v1=all $parameters" "$@" </dev/null | tee "$work/console"
}

boot_disk() {
	boot "$1" -drive "file=$work/disk,format=raw,if=none,id=disk" -device nvme,drive=disk,serial=1
}

passed() { grep -q '^all tests passed' "$work/console"; }

# cut_power boots a machine with a disk and kills it when it has worked for a while,
# several times, so that what its kernel has not written is lost. Then it may end.
cut_power() {
	truncate -s 4G "$work/disk" && mkfs.ext4 -q -F "$work/disk" || return 1
	for cut in $(seq "${CUTS:-6}"); do
		: >"$work/console"
		boot_disk powercut &
		until grep -q '^==> working' "$work/console"; do
			kill -0 $! 2>/dev/null || return 1
			sleep 1
		done
		sleep $((cut * 7 % 20 + 3))
		kill -KILL "$(cat "$work/pid")"
		wait
		echo "==> the power is cut ($cut)"
	done
	boot_disk "powercut last" && passed
}

failed=
for machine in ${MACHINES:-apparmor selinux powercut}; do
	echo "==> booting $kernel: $machine"
	case $machine in
	powercut) cut_power ;;
	*) boot "security=$machine hugepages=16" && passed ;;
	esac || failed="$failed $machine"
done
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
