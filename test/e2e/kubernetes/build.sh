#!/bin/sh
# Builds the Kubernetes of this directory's go.mod into CACHE/kubernetes/VERSION,
# once, and unpacks Debian's etcd beside it; nothing is installed. Programs that
# are there already are left alone.
#
#	build.sh CACHE [PROGRAM...]
#
# Without names it builds what the checks need; "agnhost" is Kubernetes' own test
# image, "metrics-server" what "kubectl top" asks, "e2e.test" Kubernetes' test
# suite, and "ginkgo" runs its specs side by side.
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
	echo "    building $(echo "$@" | sed 's|[^ ]*/||g') of Kubernetes $version (several minutes the first time)"
	began=$(date +%s)
	work=$(mktemp -d "$to/build.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	go build -trimpath -ldflags "-s -w$(set_version)" -o "$work/" "$@"
	mv "$work"/* "$to"
	echo "    built in $(($(date +%s) - began)) s"
}

# source_of MODULE: the directory with a module's files.
source_of() {
	go mod download "$1" # a new machine has no directory of it yet
	go list -m -f '{{.Dir}}' "$1"
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

[ $# -gt 0 ] || set -- etcd kube-apiserver kube-scheduler kube-controller-manager kubectl kubelet agnhost metrics-server
packages=
for name in "$@"; do
	[ -e "$to/$name" ] && continue
	case $name in
	etcd) etcd ;;
	e2e.test) suite ;;
	agnhost)
		packages="$packages k8s.io/kubernetes/test/images/agnhost"
		certificates=$(source_of k8s.io/kubernetes)/test/images/agnhost/porter
		install -m 0644 "$certificates/localhost.crt" "$certificates/localhost.key" "$to"
		;;
	metrics-server)
		packages="$packages sigs.k8s.io/metrics-server/cmd/metrics-server"
		install -m 0644 -D -t "$to/metrics-server.manifests" "$(source_of sigs.k8s.io/metrics-server)"/manifests/base/*.yaml
		;;
	ginkgo) packages="$packages github.com/onsi/ginkgo/v2/ginkgo" ;;
	*) packages="$packages k8s.io/kubernetes/cmd/$name" ;;
	esac
done
[ -z "$packages" ] || programs $packages
