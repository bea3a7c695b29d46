// Package criu is the body of criruntime-checkpoint, the program that a shim
// starts to have CRIU write the processes of a container, or restore them. It
// uses libcontainer's knowledge of what CRIU has to be told of a container; it
// is a program of its own because that would add a quarter to the shim, which
// is loaded for every container and every exec. It decides nothing, and the
// container is the shim's before and after.
package criu

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	// Without it, containers with device rules fail.
	_ "github.com/opencontainers/cgroups/devices"

	"github.com/criruntime/criruntime/oci/shim"
	"github.com/criruntime/criruntime/oci/shim/criulog"
)

// Options say what to write or restore.
type Options struct {
	Bundle, ID string
	// Criu is the program; libcontainer finds it by its name, so that must be
	// "criu".
	Criu string
	// Images is the directory of CRIU's images, Work that of its log.
	Images, Work string
	// Console says that the descriptor CriuConsole takes the terminal.
	Console bool
}

// restoreLog is the log that CRIU writes of a restore to Options.Work.
const restoreLog = "restore.log"

// Dump writes the processes of a container, which go on.
func Dump(o Options) error {
	if err := o.prepare(); err != nil {
		return err
	}
	c, err := libcontainer.Load(shim.StateDir(o.Bundle), o.ID)
	if err != nil {
		return err
	}
	opts := o.criu()
	opts.LeaveRunning = true
	return o.explain(criulog.Dump, c.Checkpoint(opts))
}

// Restore makes a container with the processes of a checkpoint, whose streams
// are this process's own, and leaves its state where the shim expects it. On an
// error nothing of it is left.
func Restore(o Options) error {
	if err := o.prepare(); err != nil {
		return err
	}
	config, err := shim.Config(o.ID, o.Bundle)
	if err != nil {
		return err
	}
	root := shim.StateDir(o.Bundle)
	c, err := libcontainer.Create(root, o.ID, config)
	if err != nil {
		return err
	}
	p := &libcontainer.Process{Init: true, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	if o.Console {
		p.ConsoleSocket = os.NewFile(shim.CriuConsole, "console")
	}
	opts := o.criu()
	opts.ManageCgroupsMode = "ignore" // they stay where CRIU itself is put
	putBack, err := keepSettings(config.Namespaces)
	if err != nil {
		return errors.Join(err, c.Destroy(), os.RemoveAll(root))
	}
	if err := c.Restore(p, opts); err != nil {
		err = o.explain(restoreLog, err)
		return errors.Join(err, putBack(), c.Destroy(), os.RemoveAll(root))
	}
	if err := putBack(); err != nil {
		return errors.Join(err, c.Signal(unix.SIGKILL))
	}
	return nil
}

// prepare lets libcontainer find CRIU, and CRIU the programs that it needs.
func (o *Options) prepare() error {
	logrus.SetOutput(io.Discard) // the log of CRIU says more
	if filepath.Base(o.Criu) != "criu" {
		return fmt.Errorf("the program %s is not called criu", o.Criu)
	}
	path := filepath.Dir(o.Criu) + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	return os.Setenv("PATH", path)
}

func (o *Options) criu() *libcontainer.CriuOpts {
	return &libcontainer.CriuOpts{ImagesDirectory: o.Images, WorkDirectory: o.Work, FileLocks: true, StatusFd: -1}
}

// explain adds to a failure what CRIU's log says of its cause.
func (o *Options) explain(log string, err error) error {
	if err == nil {
		return nil
	}
	if why := criulog.Errors(filepath.Join(o.Work, log), 3); why != "" {
		return fmt.Errorf("%w: %s", err, why)
	}
	return err
}
