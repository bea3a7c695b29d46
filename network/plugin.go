package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/sirupsen/logrus"
)

// maxOutput bounds what a plugin may print on either stream.
const maxOutput = 1 << 20

// runner runs plugins for libcni, each in its own process group and within its
// own time.
type runner struct {
	version.PluginDecoder
	timeout time.Duration
	// hold is a file that stays open in the plugin and in what it starts.
	hold    *os.File
	observe func(plugin, command string, took time.Duration, err error)
	log     *logrus.Entry
}

// FindInPath is part of libcni's interface.
func (r *runner) FindInPath(plugin string, dirs []string) (string, error) {
	path, err := invoke.FindInPath(plugin, dirs)
	if err != nil {
		return "", fmt.Errorf("%w: plugin %s not found in %s", ErrNotReady, plugin, strings.Join(dirs, ", "))
	}
	return path, nil
}

// ExecPlugin runs a plugin and returns what it printed. Its failure is a
// *types.Error, the plugin's own if it printed one.
func (r *runner) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	name, command := filepath.Base(path), commandOf(environ)
	began := time.Now()
	out, err := r.run(ctx, path, stdin, environ)
	r.observe(name, command, time.Since(began), err)
	if err != nil {
		r.log.Debugf("CNI plugin %s: %s failed after %s: %v", name, command, time.Since(began).Round(time.Millisecond), err)
	}
	return out, err
}

func (r *runner) run(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	p, err := start(ctx, func() (*process, error) { return startProcess(ctx, path, stdin, withoutNotify(environ), r.hold) })
	if err != nil {
		return nil, r.failure(ctx, filepath.Base(path), commandOf(environ), err, &output{})
	}
	if err := p.wait(); err != nil {
		return nil, r.failure(ctx, filepath.Base(path), commandOf(environ), err, &p.out)
	}
	out := &p.out
	if out.stdout.over {
		return nil, fmt.Errorf("plugin %s printed more than %d bytes", filepath.Base(path), maxOutput)
	}
	if err := checkOutput(out.stdout.buf); err != nil {
		return nil, fmt.Errorf("plugin %s: %w", filepath.Base(path), err)
	}
	return out.stdout.buf, nil
}

// checkOutput refuses output on which libcni would panic: lists with null in
// them. All else that is wrong libcni reports itself.
func checkOutput(b []byte) error {
	var result struct {
		IPs        []*struct{} `json:"ips"`
		Interfaces []*struct{} `json:"interfaces"`
		Routes     []*struct{} `json:"routes"`
	}
	_ = json.Unmarshal(b, &result)
	for _, list := range [][]*struct{}{result.IPs, result.Interfaces, result.Routes} {
		if slices.Contains(list, nil) {
			return errors.New("it printed a result with null in a list")
		}
	}
	return nil
}

// start starts the command, again for a while where the program's file is just
// being written, as during an update of the plugins.
func start(ctx context.Context, attempt func() (*process, error)) (*process, error) {
	for wait := 20 * time.Millisecond; ; wait *= 2 {
		p, err := attempt()
		if !errors.Is(err, syscall.ETXTBSY) || wait > time.Second {
			return p, err
		}
		select {
		case <-ctx.Done():
			return p, err
		case <-time.After(wait):
		}
	}
}

// failure says what went wrong, in the plugin's words if it had any.
func (r *runner) failure(ctx context.Context, name, command string, err error, out *output) error {
	if cause := ctx.Err(); errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("plugin %s did not end its %s within %s and was killed: %w", name, command, r.timeout, cause)
	} else if cause != nil {
		return fmt.Errorf("plugin %s was killed during its %s: %w", name, command, cause)
	}
	printed := &types.Error{}
	if json.Unmarshal(out.stdout.buf, printed) == nil && printed.Msg != "" {
		return printed
	}
	text := strings.TrimSpace(string(out.stderr.buf) + " " + string(out.stdout.buf))
	if len(text) > 1000 {
		text = text[:1000] + "..."
	}
	if text == "" {
		text = "it printed nothing"
	}
	return fmt.Errorf("plugin %s: %v: %s", name, err, text)
}

func commandOf(environ []string) string {
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, "CNI_COMMAND="); ok {
			return v
		}
	}
	return ""
}

// withoutNotify keeps plugins from speaking to the service manager in the
// daemon's name.
func withoutNotify(environ []string) []string {
	out := make([]string, 0, len(environ))
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES":
			continue
		}
		out = append(out, kv)
	}
	return out
}

// output is what a plugin printed.
type output struct {
	stdout, stderr limited
}

// limited is a buffer that drops what exceeds maxOutput.
type limited struct {
	buf  []byte
	over bool
}

// Write never fails: a plugin that prints too much is not to block or die of it.
func (l *limited) Write(p []byte) (int, error) {
	room := maxOutput - len(l.buf)
	l.over = l.over || len(p) > room
	l.buf = append(l.buf, p[:min(len(p), room)]...)
	return len(p), nil
}
