package oci_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// shimModules are all that the shim may link: libcontainer and ttrpc with what
// they bring along. Every package more costs each container start and each exec
// its initialisation.
var shimModules = []string{
	"github.com/criruntime/criruntime",
	"github.com/opencontainers/runc",
	"github.com/opencontainers/runtime-spec",
	"github.com/containerd/ttrpc",
	"github.com/sirupsen/logrus",
	"golang.org/x/sys",
	// libcontainer's
	"cyphar.com/go-pathrs",
	"github.com/aperturerobotics/protobuf-go-lite",
	"github.com/checkpoint-restore/go-criu/v8",
	"github.com/cilium/ebpf",
	"github.com/containerd/console",
	"github.com/coreos/go-systemd/v22",
	"github.com/cyphar/filepath-securejoin",
	"github.com/godbus/dbus/v5",
	"github.com/moby/sys/capability",
	"github.com/moby/sys/mountinfo",
	"github.com/moby/sys/user",
	"github.com/moby/sys/userns",
	"github.com/mrunalp/fileutils",
	"github.com/opencontainers/cgroups",
	"github.com/opencontainers/selinux",
	"github.com/seccomp/libseccomp-golang",
	"github.com/vishvananda/netlink",
	"github.com/vishvananda/netns",
	"golang.org/x/net",
	// ttrpc's
	"github.com/containerd/log",
	"google.golang.org/genproto/googleapis/rpc",
	"google.golang.org/grpc",
	"google.golang.org/protobuf",
}

func TestShimLinksLittle(t *testing.T) {
	allowed := make(map[string]bool)
	for _, m := range shimModules {
		allowed[m] = true
	}
	for _, line := range deps(t, "../cmd/criruntime-shim") {
		path, module, _ := strings.Cut(line, " ")
		if module != "" && !allowed[module] {
			t.Errorf("the shim links %s of module %s", path, module)
		}
		for _, banned := range []string{"net/http", "crypto/tls", "text/template", "google.golang.org/grpc/internal/transport"} {
			if path == banned {
				t.Errorf("the shim links %s", path)
			}
		}
		if own, ok := strings.CutPrefix(path, "github.com/criruntime/criruntime/"); ok &&
			!strings.HasPrefix(own, "oci/shim") && own != "oci/pidfd" && own != "oci/affinity" && own != "oci/thread" && own != "cmd/criruntime-shim" {
			t.Errorf("the shim links %s", path)
		}
	}
}

// The daemon must never link libcontainer.
func TestClientLinksNoLibcontainer(t *testing.T) {
	for _, line := range deps(t, ".") {
		if strings.Contains(line, "opencontainers/runc") {
			t.Errorf("package oci links %s", line)
		}
	}
}

// adapterModules are all that the adapter may link: ttrpc, and containerd's
// messages without their gRPC side.
var adapterModules = []string{
	"github.com/criruntime/criruntime",
	"github.com/containerd/containerd/api",
	"github.com/containerd/log",
	"github.com/containerd/ttrpc",
	"github.com/containerd/typeurl/v2",
	"github.com/opencontainers/go-digest",
	"github.com/opencontainers/image-spec",
	"github.com/opencontainers/runtime-spec",
	"github.com/sirupsen/logrus",
	"golang.org/x/sys",
	"google.golang.org/genproto/googleapis/rpc",
	"google.golang.org/grpc",
	"google.golang.org/protobuf",
}

func TestAdapterLinksLittle(t *testing.T) {
	for _, line := range deps(t, "../cmd/criruntime-adapter") {
		path, module, _ := strings.Cut(line, " ")
		if module != "" && !slices.Contains(adapterModules, module) {
			t.Errorf("the adapter links %s of module %s", path, module)
		}
		if slices.Contains([]string{"net/http", "crypto/tls", "google.golang.org/grpc", "runtime/cgo"}, path) {
			t.Errorf("the adapter links %s", path)
		}
	}
}

// deps lists the packages that a package links, each with its module.
func deps(t *testing.T, pkg string) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}} {{with .Module}}{{.Path}}{{end}}", pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo(pkg), "GOFLAGS=-buildvcs=false -tags=seccomp,netgo,osusergo,no_grpc")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// cgo is how a program is built: the shim alone needs C.
func cgo(pkg string) string {
	if strings.HasSuffix(pkg, "-adapter") {
		return "0"
	}
	return "1"
}

// shimSize is the limit of the released program, in bytes.
const shimSize = 9_000_000

// TestShimSize builds the shim as it is released.
func TestShimSize(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	program := filepath.Join(t.TempDir(), "criruntime-shim")
	if err := buildShim(program); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	if st.Size() >= shimSize {
		t.Errorf("the shim has %d bytes", st.Size())
	}
	t.Logf("the shim has %d bytes", st.Size())
}
