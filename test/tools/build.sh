#!/bin/sh
# Builds the real components that the tests run, from their Go modules at
# pinned versions, into the directory given. What is there already at the right
# version is left alone.
set -eu

cache=$1
here=$(cd "$(dirname "$0")" && pwd)

cni=v1.9.1
cri_tools=v1.37.0
registry=v3.1.2
staticcheck=v0.8.2
criu=4.1.1
criu_sha256=f80a66cb3726bb2116266d4759ce3bcbfab7abdb6b6d430bf20dd41911717afe
# The shim and the runtime that the tests of other runtime handlers drive.
containerd=v2.4.2
runc=v1.5.2
digest=$(sed -n 's/^const CritestDigest = "\(.*\)"/\1/p' "$here/../fixtures/catalogue.go")

export GOFLAGS=-buildvcs=false CGO_ENABLED=0
mkdir -p "$cache/tools" "$cache/cni" "$cache/stamps"

# once NAME VERSION FUNCTION
once() {
	stamp="$cache/stamps/$1-$2"
	[ -e "$stamp" ] && return
	echo "    building $1 $2"
	"$3"
	rm -f "$cache/stamps/$1-"*
	touch "$stamp"
}

build() { go build -trimpath -ldflags '-s -w' "$@"; }

build_registry() { (cd "$here/registry" && build -o "$cache/tools/registry" .); }

build_crictl() { (cd "$here/cri-tools" && build -o "$cache/tools/crictl" sigs.k8s.io/cri-tools/cmd/crictl); }

# What critest runs for its flag -parallel: of the version that it is built with.
build_ginkgo() { (cd "$here/cri-tools" && build -o "$cache/tools/ginkgo" github.com/onsi/ginkgo/v2/ginkgo); }

# One spec pulls an image by a digest that nobody can rebuild: that constant is
# replaced by the digest of the fixture, and nothing else. Go overlays no file of
# the module cache, so the module is copied first.
build_critest() (
	cd "$here/cri-tools"
	work="$cache/critest"
	rm -rf "$work"
	mkdir -p "$work"
	cp -r "$(go list -m -f '{{.Dir}}' sigs.k8s.io/cri-tools)" "$work/source"
	chmod -R u+w "$work"
	cp go.mod "$work/go.mod"
	cp go.sum "$work/go.sum"
	go mod edit -replace "sigs.k8s.io/cri-tools=$work/source" "$work/go.mod"

	source="$work/source/pkg/validate/consts.go"
	grep -q 'test-image-digest@sha256:9700f9a2' "$source"
	sed "/testLinuxImageWithDigest /s/sha256:[0-9a-f]*/$digest/" "$source" >"$work/consts.go"
	printf '{"Replace":{"%s":"%s"}}\n' "$source" "$work/consts.go" >"$work/overlay.json"
	go test -c -trimpath -ldflags '-s -w' -modfile "$work/go.mod" -overlay "$work/overlay.json" \
		-o "$cache/tools/critest" sigs.k8s.io/cri-tools/cmd/critest
	rm -rf "$work"
)

install_cni() {
	for plugin in main/bridge main/loopback ipam/host-local meta/portmap; do
		GOBIN="$cache/cni" go install -trimpath -ldflags '-s -w' \
			"github.com/containernetworking/plugins/plugins/$plugin@$cni"
	done
}

install_staticcheck() { GOBIN="$cache/tools" go install -trimpath -ldflags '-s -w' "honnef.co/go/tools/cmd/staticcheck@$staticcheck"; }

install_containerd_shim() {
	GOBIN="$cache/tools" go install -trimpath -ldflags '-s -w' "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2@$containerd"
}

install_runc() {
	CGO_ENABLED=1 GOBIN="$cache/tools" go install -trimpath -ldflags '-s -w' -tags seccomp "github.com/opencontainers/runc@$runc"
}

build_nonewprivs() { (cd "$here/../fixtures/nonewprivs" && build -o "$cache/tools/nonewprivs" .); }

# Debian 12's own CRIU does not know the vDSO of kernels from 6.13; this is the
# source of Debian 13's.
build_criu() (
	work="$cache/criu"
	rm -rf "$work"
	mkdir -p "$work"
	/usr/lib/apt/apt-helper -o APT::Sandbox::User=root download-file "http://deb.debian.org/debian/pool/main/c/criu/criu_$criu.orig.tar.xz" \
		"$work/source.tar.xz" "SHA256:$criu_sha256" >/dev/null
	tar -xJf "$work/source.tar.xz" -C "$work"
	make -s -C "$work/criu-$criu" criu >"$work/log" 2>&1 || { tail "$work/log"; exit 1; }
	strip -o "$cache/tools/criu" "$work/criu-$criu/criu/criu"
	rm -rf "$work"
)

once cni-plugins "$cni" install_cni
once registry "$registry-redirect" build_registry
once crictl "$cri_tools" build_crictl
once critest "$cri_tools-$(echo "$digest" | cut -c8-19)" build_critest
once ginkgo "$cri_tools" build_ginkgo
once criu "$criu" build_criu
once nonewprivs v1 build_nonewprivs
once staticcheck "$staticcheck" install_staticcheck
once containerd-shim "$containerd" install_containerd_shim
once runc "$runc" install_runc
