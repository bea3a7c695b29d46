// Command registry serves the images of the tests from a registry on loopback
// until it is told to end, for tests that live outside this module and for
// trying things by hand. It prints the registry's address once everything is
// there.
//
//	go run ./test/registry --dir DIR [--agnhost PROGRAM] [--login USER:PASSWORD]
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

// agnhost is the image in which Kubernetes' own suite runs most of its
// containers; the tag is the one that Kubernetes 1.37 asks for.
const agnhost = "e2e-test-images/agnhost:2.66.1"

func main() {
	dir := flag.String("dir", "", "an existing directory for the registry's files")
	program := flag.String("agnhost", "", "Kubernetes' agnhost program, to be served as an image too")
	login := flag.String("login", "", "USER:PASSWORD that is asked of every client; none if empty")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := serve(ctx, *dir, *program, *login)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "registry:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, dir, program, login string) (err error) {
	username, password, _ := strings.Cut(login, ":")
	registry, err := harness.StartRegistry(ctx, dir, harness.Login{Username: username, Password: password})
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
	if program != "" {
		var files fixtures.Tree
		if err := files.Copy("/agnhost", program); err != nil {
			return err
		}
		image := base.Busybox.With(files.Layer(fixtures.Gzip)).Running("pause")
		image.Config.Entrypoint = []string{"/agnhost"}
		if err := fixtures.PushAll(ctx, registry.Registry, map[string]fixtures.Image{agnhost: image}); err != nil {
			return err
		}
	}
	fmt.Println(registry.Host)
	<-ctx.Done()
	return nil
}
