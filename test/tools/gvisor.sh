#!/bin/sh
# Builds gVisor, runsc and its shim, from its Go module at a pinned version into
# the directory given, beside the other tools. It takes long, so that nothing but
# "make gvisor" needs it.
#
# The shim wants to be spared by the OOM killer and does not start where it may
# not ask for that, as on machines without CAP_SYS_RESOURCE: that one constant is
# changed. Go overlays no file of the module cache, so the module is copied.
set -eu

cache=$1
version=v0.0.0-20260224225140-573d5e7127a8

stamp="$cache/stamps/gvisor-$version"
[ -e "$stamp" ] && exit
echo "    building gvisor $version"

export GOFLAGS=-buildvcs=false CGO_ENABLED=0
source=$(cd / && go mod download -json "gvisor.dev/gvisor@$version" | sed -n 's/^\t"Dir": "\(.*\)",*/\1/p')
work="$cache/gvisor"
rm -rf "$work"
mkdir -p "$cache/tools" "$cache/stamps"
cp -r "$source" "$work"
chmod -R u+w "$work"
cd "$work"
grep -q 'oomScoreMaxKillable = -999' pkg/shim/v1/service.go
sed -i 's/oomScoreMaxKillable = -999/oomScoreMaxKillable = 0/' pkg/shim/v1/service.go
go build -trimpath -ldflags '-s -w' -o "$cache/tools/runsc" ./runsc
go build -trimpath -ldflags '-s -w' -o "$cache/tools/containerd-shim-runsc-v1" ./shim
rm -rf "$work"
rm -f "$cache/stamps/gvisor-"*
touch "$stamp"
