#!/bin/sh
# Gets what the tests need of Debian. Development packages are installed where
# they are missing; what goes into the test images is only downloaded and
# unpacked into the directory given, so that no service of it starts here.
set -eu

cache=$1

# libseccomp-dev: libcontainer includes its header, and tests compare with the
# library. No program of ours links it.
# crun is a runtime that the tests have another shim drive; isal has igzip, which
# this runtime and containerd leave large layers to.
missing=
for package in gcc libc6-dev libseccomp-dev pkg-config iptables iproute2 ca-certificates curl e2fsprogs \
	make xz-utils libcap-dev libnet1-dev libnl-3-dev libprotobuf-dev libprotobuf-c-dev protobuf-compiler protobuf-c-compiler uuid-dev crun isal; do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
images="busybox bash libtinfo6 nginx nginx-common util-linux libc6 libcrypt1 libpcre2-8-0 libssl3 zlib1g"
stamp=$cache/stamps/debian-$(echo "$images" | cksum | cut -d" " -f1)
[ -z "$missing" ] && [ -e "$stamp" ] && exit

# The lists are fetched only if they are missing or too old to be of use.
apt_get() { apt-get -qq -o Dpkg::Use-Pty=0 -o Acquire::Retries=3 "$@"; }
if [ -n "$missing" ]; then
	echo "    installing$missing"
	apt_get update
	DEBIAN_FRONTEND=noninteractive apt_get install -y --no-install-recommends $missing >/dev/null
fi
[ -e "$stamp" ] && exit

echo "    downloading $images"
rm -rf "$cache/debian"
mkdir -p "$cache/debian/packages" "$cache/stamps"
cd "$cache/debian/packages"
apt_get -o APT::Sandbox::User=root download $images 2>/dev/null || {
	apt_get update
	apt_get -o APT::Sandbox::User=root download $images
}
for package in *.deb; do
	dpkg -x "$package" "$cache/debian"
done
rm -r "$cache/debian/packages"
touch "$stamp"
