#!/bin/sh
# Builds the Kubernetes of this directory's go.mod into CACHE/kubernetes/VERSION,
# once, and unpacks Debian's etcd beside it; nothing is installed. Programs that
# are there already are left alone.
#
#	build.sh CACHE [PROGRAM...]
#
# Without names it builds what the checks need; "agnhost" is Kubernetes' own test
# image, "e2e.test" its test suite, and "ginkgo" runs its specs side by side.
set -eu

cache=$(realpath -m "$1")
shift
cd "$(dirname "$0")"

export GOFLAGS=-buildvcs=false CGO_ENABLED=0
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
to=$cache/kubernetes/$version
mkdir -p "$to"

set_version() {
	for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
		printf ' -X %s.gitVersion=%s -X %s.gitMajor=%s -X %s.gitMinor=%s -X %s.gitTreeState=clean' \
			"$package" "$version" "$package" "$(echo "$version" | sed 's/v\([0-9]*\).*/\1/')" \
			"$package" "$(echo "$version" | cut -d. -f2)" "$package"
	done
}

# programs PACKAGE...: one command for all, so that what they share is compiled
# once and no core waits while one of them is linked. They are built in another
# place first, so that what is there is always whole.
programs() {
	echo "    building $(echo "$@" | sed 's|[^ ]*/||g') $version (several minutes the first time)"
	began=$(date +%s)
	work=$(mktemp -d "$to/build.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	go build -trimpath -ldflags "-s -w$(set_version)" -o "$work/" "$@"
	mv "$work"/* "$to"
	echo "    built in $(($(date +%s) - began)) s"
}

suite() {
	echo "    building e2e.test $version"
	go test -c -trimpath -ldflags "-s -w$(set_version)" -o "$to/e2e.test.new" k8s.io/kubernetes/test/e2e
	mv "$to/e2e.test.new" "$to/e2e.test"
}

etcd() {
	echo "    downloading Debian's etcd-server"
	unpack=$(mktemp -d "$cache/etcd.XXXXXX")
	(
		cd "$unpack"
		get="apt-get -qq -o APT::Sandbox::User=root -o Acquire::Retries=3"
		$get download etcd-server 2>/dev/null || {
			$get update
			$get download etcd-server
		}
		dpkg -x etcd-server_*.deb .
	)
	mv "$unpack/usr/bin/etcd" "$to/etcd"
	rm -r "$unpack"
}

[ $# -gt 0 ] || set -- etcd kube-apiserver kube-scheduler kube-controller-manager kubectl kubelet agnhost
packages=
for name in "$@"; do
	[ -e "$to/$name" ] && continue
	case $name in
	etcd) etcd ;;
	e2e.test) suite ;;
	agnhost)
		go mod download k8s.io/kubernetes # a new machine has no directory of it yet
		packages="$packages k8s.io/kubernetes/test/images/agnhost"
		certificates=$(go list -m -f '{{.Dir}}' k8s.io/kubernetes)/test/images/agnhost/porter
		install -m 0644 "$certificates/localhost.crt" "$certificates/localhost.key" "$to"
		;;
	ginkgo) packages="$packages github.com/onsi/ginkgo/v2/ginkgo" ;;
	*) packages="$packages k8s.io/kubernetes/cmd/$name" ;;
	esac
done
[ -z "$packages" ] || programs $packages
