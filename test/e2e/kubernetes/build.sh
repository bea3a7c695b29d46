#!/bin/sh
# Builds the Kubernetes of this directory's go.mod into CACHE/kubernetes/VERSION,
# once, and unpacks Debian's etcd beside it; nothing is installed. Programs that
# are there already are left alone.
#
#	build.sh CACHE [PROGRAM...]
#
# Without names it builds what a node and its control plane need; "agnhost" and
# "e2e.test" are Kubernetes' own test image and test suite.
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

# program NAME COMMAND...: builds into a name of its own first, so that what is
# there is always whole.
program() {
	name=$1
	shift
	[ -e "$to/$name" ] && return
	echo "    building $name $version (several minutes the first time)"
	began=$(date +%s)
	"$@" -trimpath -ldflags "-s -w$(set_version)" -o "$to/$name.new" "$package"
	mv "$to/$name.new" "$to/$name"
	echo "    built $name in $(($(date +%s) - began)) s"
}

etcd() {
	[ -e "$to/etcd" ] && return
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

[ $# -gt 0 ] || set -- etcd kube-apiserver kube-scheduler kube-controller-manager kubectl kubelet
for name in "$@"; do
	case $name in
	etcd) etcd ;;
	e2e.test) package=k8s.io/kubernetes/test/e2e program e2e.test go test -c ;;
	agnhost)
		package=k8s.io/kubernetes/test/images/agnhost program agnhost go build
		source=$(go list -m -f '{{.Dir}}' k8s.io/kubernetes)/test/images/agnhost/porter
		install -m 0644 "$source/localhost.crt" "$source/localhost.key" "$to"
		;;
	*) package=k8s.io/kubernetes/cmd/$name program "$name" go build ;;
	esac
done
