#!/bin/sh
# Builds the runtimes that the benchmark compares with, from their Go modules at
# pinned versions, and takes conmon and the libraries it wants out of Debian's
# packages, into the directory given. Nothing is installed, and what is there
# already at the right version is left alone.
set -eu

cache=$(realpath -m "$1")
here=$(cd "$(dirname "$0")" && pwd)

containerd=v2.4.2
runc=v1.5.2
crio=v1.36.3

export GOFLAGS=-buildvcs=false
mkdir -p "$cache/peers/bin" "$cache/stamps"

# once NAME VERSION FUNCTION
once() {
	stamp="$cache/stamps/$1-$2"
	[ -e "$stamp" ] && return
	echo "    building $1 $2"
	"$3"
	rm -f "$cache/stamps/$1-"*
	touch "$stamp"
}

# source_of MODULE@VERSION prints where the module's source is.
source_of() { (cd / && go mod download -json "$1") | sed -n 's/^\t"Dir": "\(.*\)",*/\1/p'; }

# build MODULE@VERSION TAGS PACKAGE ...
build() {
	source=$(source_of "$1")
	tags=$2
	shift 2
	for package in "$@"; do
		(cd "$source" && nice go build -trimpath -ldflags '-s -w' -tags "$tags" -o "$cache/peers/bin/" "$package")
	done
}

build_containerd() {
	CGO_ENABLED=0 build "github.com/containerd/containerd/v2@$containerd" 'no_btrfs no_devmapper no_zfs' \
		./cmd/containerd ./cmd/containerd-shim-runc-v2
}

build_runc() {
	CGO_ENABLED=1 build "github.com/opencontainers/runc@$runc" seccomp .
}

# pinns is C, in the same module.
build_crio() {
	CGO_ENABLED=1 build "github.com/cri-o/cri-o@$crio" \
		'containers_image_openpgp containers_image_ostree_stub exclude_graphdriver_btrfs libsubid_stub seccomp' ./cmd/crio
	gcc -std=c99 -Os -static -o "$cache/peers/bin/pinns" "$(source_of "github.com/cri-o/cri-o@$crio")"/pinns/src/*.c
}

extract_conmon() {
	rm -rf "$cache/peers/debian"
	mkdir -p "$cache/peers/debian/packages"
	cd "$cache/peers/debian/packages"
	packages="conmon libglib2.0-0 libpcre2-8-0 libsystemd0 libseccomp2"
	apt-get -qq -o APT::Sandbox::User=root download $packages 2>/dev/null || {
		apt-get -qq update
		apt-get -qq -o APT::Sandbox::User=root download $packages
	}
	for package in *.deb; do
		dpkg -x "$package" "$cache/peers/debian"
	done
	rm -r "$cache/peers/debian/packages"
}

# The process that holds containerd's sandboxes, small as Kubernetes' own.
build_pause() { gcc -Os -static -o "$cache/peers/bin/pause" "$here/programs/pause.c"; }

once peer-runc "$runc" build_runc
once peer-containerd "$containerd" build_containerd
once peer-crio "$crio" build_crio
once peer-conmon bookworm extract_conmon
once peer-pause v1 build_pause
