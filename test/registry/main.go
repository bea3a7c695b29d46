// Command registry serves the images of the tests from a registry on loopback
// until it is told to end, for tests that live outside this module and for
// trying things by hand. It prints the registry's address once everything is
// there.
//
//	go run ./test/registry --dir DIR [--agnhost PROGRAM] [--metrics-server PROGRAM] [--login USER:PASSWORD]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/criruntime/criruntime/test/fixtures"
	"github.com/criruntime/criruntime/test/harness"
)

func main() {
	dir := flag.String("dir", "", "an existing directory for the registry's files")
	agnhost := flag.String("agnhost", "", "Kubernetes' agnhost program, to be served as an image too")
	metrics := flag.String("metrics-server", "", "the program metrics-server, to be served as an image too")
	login := flag.String("login", "", "USER:PASSWORD that is asked of every client; none if empty")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := serve(ctx, *dir, *login, map[string]maker{*agnhost: kubernetes, *metrics: metricsServer})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

// maker makes images of a program, by name.
type maker func(base *fixtures.Base, program string) (map[string]fixtures.Image, error)

// serve pushes what the makers make of the programs; "" is none.
func serve(ctx context.Context, dir, login string, programs map[string]maker) (err error) {
	username, password, _ := strings.Cut(login, ":")
	registry, err := harness.StartRegistry(ctx, dir, harness.RegistryOptions{Username: username, Password: password})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, registry.Close()) }()
	base, err := fixtures.Build(fixtures.Sources{
		Debian:     fixtures.Debian(filepath.Join(harness.Cache(), "debian")),
		NoNewPrivs: harness.Tool("nonewprivs"),
	})
	if err != nil {
		return err
	}
	if err := fixtures.PushCritest(ctx, registry.Registry, base); err != nil {
		return err
	}
	for program, images := range programs {
		if program == "" {
			continue
		}
		images, err := images(base, program)
		if err != nil {
			return err
		}
		if err := fixtures.PushAll(ctx, registry.Registry, images); err != nil {
			return err
		}
	}
	fmt.Println(registry.Host)
	<-ctx.Done()
	return nil
}

// kubernetes are the images that Kubernetes' own suite asks for, with the tags
// of Kubernetes 1.37. Most containers of the suite run agnhost.
func kubernetes(base *fixtures.Base, program string) (map[string]fixtures.Image, error) {
	var files fixtures.Tree
	for path, from := range map[string]string{
		"/agnhost": program, "/agnhost-2": program,
		// What its TLS servers show.
		"/localhost.crt": filepath.Join(filepath.Dir(program), "localhost.crt"),
		"/localhost.key": filepath.Join(filepath.Dir(program), "localhost.key"),
	} {
		if err := files.Copy(path, from); err != nil {
			return nil, err
		}
	}
	files.Dir("/uploads", 0o755)
	// Hooks of the suite call curl, with no more than a URL.
	files.File("/usr/bin/curl", 0o755, "#!/bin/sh\nfor url; do :; done\nexec wget -q -O - \"$url\"\n")
	files.File("/usr/bin/nc", 0o755, udp)
	served(&files, "/var/registry/pause", "testing", base.Pause)
	agnhost := base.Bash.With(files.Layer(fixtures.Gzip)).Running("pause")
	agnhost.Config.Entrypoint = []string{"/agnhost"}
	// The suite knows the messages of Busybox's shell, as /bin/sh, and wants sh to
	// pass on variables with a dash in their names, which that of Debian drops.
	var shell fixtures.Tree
	shell.Symlink("/usr/local/bin/sh", "/bin/bash")
	var kitten fixtures.Tree // an image whose files are looked at
	kitten.File("/data.json", 0o644, `{"image": "kitten.jpg"}`)
	kitten.File("/etc/os-release", 0o644, "NAME=\"Alpine Linux\"\n")
	return map[string]fixtures.Image{
		"e2e-test-images/agnhost:2.55":            agnhost, // the previous one, for updates
		"e2e-test-images/agnhost:2.66.1":          agnhost,
		"e2e-test-images/busybox:1.37.0-2":        base.Bash.With(shell.Layer(fixtures.Gzip)),
		"e2e-test-images/glibc-dns-testing:2.1.1": base.Busybox,
		"e2e-test-images/kitten:1.8":              base.Busybox.With(kitten.Layer(fixtures.Gzip)),
		"e2e-test-images/nginx:1.27.0-2":          base.Nginx,
		"e2e-test-images/nginx:1.28.0-2":          base.Nginx,
		"e2e-test-images/nonewprivs:1.4":          base.NoNewPrivs,
		"e2e-test-images/nonroot:1.5":             base.Busybox.As("1234"),
		"pause:3.10.2":                            agnhost, // whose default is a pause that ends when told so
	}, nil
}

// metricsServer is the image that metrics-server's own manifests name: nothing
// but the program, as its makers have it.
func metricsServer(_ *fixtures.Base, program string) (map[string]fixtures.Image, error) {
	var files fixtures.Tree
	if err := files.Copy("/metrics-server", program); err != nil {
		return nil, err
	}
	image := fixtures.Image{}.With(files.Layer(fixtures.Gzip)).As("65534")
	image.Config.Entrypoint = []string{"/metrics-server"}
	return map[string]fixtures.Image{"k8s-staging-metrics-server/metrics-server:master": image}, nil
}

// served adds an image to a directory from which agnhost, as a registry, serves
// it under a tag.
func served(t *fixtures.Tree, dir, tag string, image fixtures.Image) {
	manifest, blobs := image.Encode()
	add := func(kind string, b fixtures.Blob) {
		hex := b.Digest().Encoded()
		t.File(filepath.Join(dir, kind, "sha256", hex[:2], hex, "data"), 0o644, string(b.Data))
	}
	add("manifests", manifest)
	t.File(filepath.Join(dir, "manifests", tag), 0o644, manifest.Digest().String())
	for _, b := range blobs {
		add("blobs", b)
	}
}

// udp is nc for "nc -w SECONDS -u HOST PORT", which Debian's Busybox cannot.
const udp = `#!/bin/bash
[ "$3" = -u ] || exec /bin/nc "$@"
exec 3<>"/dev/udp/$4/$5" && cat >&3
exec timeout "$2" dd bs=64K count=1 <&3 2>/dev/null
`
