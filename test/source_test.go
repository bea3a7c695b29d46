package test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/criruntime/criruntime/"

// pkg is a package of the module with what its code (not its tests) imports.
type pkg struct {
	Name    string // path below the module
	Imports []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Module", "./...")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false -tags=containers_image_openpgp,containers_image_storage_stub,containers_image_docker_daemon_stub,nri_no_wasm,seccomp")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, pkg{strings.TrimPrefix(p.ImportPath, module), p.Imports})
	}
	if len(all) < 10 {
		t.Fatalf("go list found %d packages, the module has more", len(all))
	}
	return all
}

// within says whether a package is one of the trees, "a/..." or "a".
func within(name string, trees ...string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool {
		root, all := strings.CutSuffix(tree, "/...")
		return name == root || all && strings.HasPrefix(name, root+"/")
	})
}

// directions say who may import what lies under a path. Code that only tests
// use is not asked.
var directions = []struct {
	path  string
	only  []string // the trees that may import it
	never []string // or: the trees that may not
}{
	{path: "k8s.io/cri-api", only: []string{"server/...", "test/..."}},
	{path: "k8s.io/cri-streaming", only: []string{"server/...", "test/..."}},
	{path: "github.com/opencontainers/runc/libcontainer", only: []string{"oci/shim/...", "cmd/criruntime-shim/..."}},
	{path: module + "oci/shim/criu", only: []string{"cmd/criruntime-checkpoint"}},
	{path: module + "conf", only: []string{"cmd/...", "conf/...", "test/..."}},
	{path: module + "server", only: []string{"cmd/...", "server/...", "test/..."}},
	{path: module + "sandbox", only: []string{"cmd/...", "server/...", "nri/...", "sandbox/...", "test/..."}},
	{path: "github.com/containerd/containerd/api", only: []string{"oci/adapter/..."}},
	{path: "github.com/containerd/nri", only: []string{"nri/...", "test/..."}},
	{path: module + "oci", never: []string{"network/...", "image/..."}},
	{path: module + "network", never: []string{"oci/...", "image/..."}},
	{path: module + "image", never: []string{"oci/...", "network/..."}},
	{path: module + "oci/shim", only: []string{"cmd/criruntime-shim/...", "cmd/criruntime-checkpoint", "oci/...", "test/..."}},
	{path: module + "oci/adapter", only: []string{"cmd/criruntime-adapter/...", "oci/adapter/..."}},
	{path: module + "test", only: []string{"test/..."}},
	{path: "os", never: []string{"oci/spec", "server/cri", "sandbox/lifecycle"}},
	{path: "golang.org/x/sys/unix", never: []string{"oci/spec", "server/cri", "sandbox/lifecycle"}},
}

// TestImportDirections keeps the layers apart; ARCHITECTURE.md says why.
func TestImportDirections(t *testing.T) {
	all := packages(t)
	for _, d := range directions {
		imported := false
		for _, p := range all {
			for _, path := range p.Imports {
				exact := !strings.Contains(d.path, ".") // the standard library
				if path != d.path && (exact || !strings.HasPrefix(path, d.path+"/")) {
					continue
				}
				imported = true
				if d.only != nil && !within(p.Name, d.only...) || within(p.Name, d.never...) {
					t.Errorf("package %s must not import %s", p.Name, path)
				}
			}
		}
		if !imported {
			t.Errorf("nothing imports %s: the rule has lost its meaning", d.path)
		}
	}
}

// TestShimLinksLittle keeps the shim small: its start-up runs the initialisation
// of every package that it links, for each container and each exec.
func TestShimLinksLittle(t *testing.T) {
	allowed := []string{
		module, "github.com/opencontainers/", "github.com/containerd/ttrpc", "github.com/aperturerobotics/protobuf-go-lite", "github.com/containerd/log",
		"github.com/containerd/console", "github.com/sirupsen/logrus", "github.com/moby/sys/", "github.com/seccomp/",
		"github.com/cyphar/filepath-securejoin", "cyphar.com/go-pathrs", "github.com/checkpoint-restore/go-criu",
		"github.com/cilium/ebpf", "github.com/coreos/go-systemd", "github.com/godbus/dbus", "github.com/vishvananda/",
		"github.com/mrunalp/fileutils", "github.com/docker/go-units", "golang.org/x/sys", "golang.org/x/net",
		"google.golang.org/protobuf", "google.golang.org/genproto/googleapis/rpc/status",
		"google.golang.org/grpc/codes", "google.golang.org/grpc/status", "google.golang.org/grpc/internal",
		"google.golang.org/grpc/grpclog", "google.golang.org/grpc/experimental", "google.golang.org/grpc/attributes",
		"google.golang.org/grpc/connectivity", "google.golang.org/grpc/serviceconfig",
	}
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./cmd/criruntime-shim")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false -tags=seccomp")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, path := range strings.Fields(string(out)) {
		if !slices.ContainsFunc(allowed, func(a string) bool { return strings.HasPrefix(path+"/", strings.TrimSuffix(a, "/")+"/") }) {
			t.Errorf("the shim must not link %s", path)
		}
	}
}

// TestDaemonLinksNoLibcontainer keeps what only the shim needs out of the
// daemon, whichever way it would come in.
func TestDaemonLinksNoLibcontainer(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "./cmd/criruntime")
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0",
		"GOFLAGS=-buildvcs=false -tags=containers_image_openpgp,containers_image_storage_stub,containers_image_docker_daemon_stub,nri_no_wasm,seccomp")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for _, path := range strings.Fields(string(out)) {
		if within(path, "github.com/opencontainers/runc/libcontainer/...", module+"oci/shim", "runtime/cgo") {
			t.Errorf("the daemon must not link %s", path)
		}
	}
}

// TestPackageNames refuses names that say nothing.
func TestPackageNames(t *testing.T) {
	banned := []string{"util", "utils", "common", "helper", "helpers", "types", "lib", "misc", "base"}
	for _, f := range files(t) {
		for _, part := range strings.Split(strings.TrimSuffix(f, ".go"), "/") {
			if slices.Contains(banned, strings.TrimSuffix(part, "_test")) {
				t.Errorf("%s: %q is no name for a package or file", f, part)
			}
		}
	}
}

// Limits of the style, see CONTRIBUTING.md.
const (
	maxFunction   = 100 // lines
	maxParameters = 5
	maxFile       = 700 // lines; 500 is the aim
)

// exempt lists the functions that may exceed a limit, with the reason.
var exempt = map[string]string{
	"server/stream/session.go:ExecInContainer": "the streaming library's interface",
	"image/pull_kernel_test.go:TestBadImages":  "a table",
	"server/stream/session.go:AttachContainer": "the streaming library's interface",
}

// TestShape asserts what can be counted of the style: documented names, short
// functions, few parameters, short files.
func TestShape(t *testing.T) {
	documented := map[string]bool{}
	dirs := map[string]string{}
	for _, name := range files(t) {
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, filepath.Join("..", name), nil, parser.ParseComments)
		if err != nil {
			t.Error(err)
			continue
		}
		if ast.IsGenerated(f) {
			continue
		}
		if lines := set.File(f.Pos()).LineCount(); lines > maxFile {
			t.Errorf("%s has %d lines, the limit is %d", name, lines, maxFile)
		}
		checkFunctions(t, set, name, f)
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		dir := filepath.Dir(name)
		dirs[dir] = cmp.Or(dirs[dir], f.Name.Name)
		documented[dir] = documented[dir] || f.Doc != nil
		checkDocs(t, name, f)
	}
	for dir := range dirs {
		if !documented[dir] {
			t.Errorf("package %s has no doc comment", dir)
		}
	}
}

func checkFunctions(t *testing.T, set *token.FileSet, file string, f *ast.File) {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || exempt[file+":"+fn.Name.Name] != "" {
			continue
		}
		lines := set.Position(fn.End()).Line - set.Position(fn.Pos()).Line + 1
		if lines > maxFunction {
			t.Errorf("%s: function %s has %d lines, the limit is %d", file, fn.Name.Name, lines, maxFunction)
		}
		if n := fn.Type.Params.NumFields(); n > maxParameters {
			t.Errorf("%s: function %s has %d parameters, the limit is %d", file, fn.Name.Name, n, maxParameters)
		}
	}
}

// checkDocs asks for a comment on every exported name. Fields and the members of
// a documented group may do without.
func checkDocs(t *testing.T, file string, f *ast.File) {
	missing := func(name string) {
		if ast.IsExported(name) {
			t.Errorf("%s: %s has no doc comment", file, name)
		}
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Doc == nil && exportedReceiver(d) {
				missing(d.Name.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					if d.Doc == nil && s.Doc == nil {
						missing(s.Name.Name)
					}
				case *ast.ValueSpec:
					if d.Doc == nil && s.Doc == nil && s.Comment == nil {
						missing(s.Names[0].Name)
					}
				}
			}
		}
	}
}

// exportedReceiver says whether a function's method set is visible at all.
func exportedReceiver(fn *ast.FuncDecl) bool {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return true
	}
	receiver := fn.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	if index, ok := receiver.(*ast.IndexExpr); ok {
		receiver = index.X
	}
	name, ok := receiver.(*ast.Ident)
	return ok && name.IsExported()
}

// files lists the Go files of the tree, without what tools and builds leave.
func files(t *testing.T) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != ".." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".go") {
			name, err := filepath.Rel("..", path)
			if err != nil {
				return err
			}
			all = append(all, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
