//go:build kernel

package system

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

func TestExecSync(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("execsync")
	id := w.run(pod, podConfig, harness.Shell("main", "sleep 1000"))
	run := func(timeout int64, cmd ...string) (*cri.ExecSyncResponse, error) {
		return w.Runtime.ExecSync(w.ctx, &cri.ExecSyncRequest{ContainerId: id, Cmd: cmd, Timeout: timeout})
	}
	r, err := run(10, "sh", "-c", "echo out; echo err >&2; exit 5")
	must(t, err)
	if string(r.Stdout) != "out\n" || string(r.Stderr) != "err\n" || r.ExitCode != 5 {
		t.Errorf("ExecSync answers %v", r)
	}
	r, err = run(0, "head", "-c", "3000000", "/dev/zero")
	must(t, err)
	if len(r.Stdout) != 3000000 {
		t.Errorf("of 3000000 bytes came %d", len(r.Stdout))
	}
	// The whole tree of a command that takes too long is killed.
	_, err = run(1, "sh", "-c", "sleep 7777 & sleep 7778")
	refused(t, err, codes.DeadlineExceeded)
	w.eventually(func() error {
		out, err := w.Exec(w.ctx, id, "ps", "-o", "args")
		if err == nil && strings.Contains(out, "sleep 777") {
			err = fmt.Errorf("the timed-out command runs on:\n%s", out)
		}
		return err
	})
	_, err = run(10, "no-such-command")
	if err == nil {
		t.Error("a command that does not exist could be executed")
	} else {
		has(t, err.Error(), "no-such-command")
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// crictl runs crictl against the node.
func (w *world) crictl(args ...string) *exec.Cmd {
	return w.crictlFor(w.ctx, args...)
}

// crictlFor runs it no longer than ctx lasts.
func (w *world) crictlFor(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, harness.Tool("crictl"), append([]string{"--config", filepath.Join(w.Dir, "crictl.yaml")}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+w.Dir)
	return cmd
}

// says runs crictl and gives what it printed.
func (w *world) says(args ...string) string {
	w.t.Helper()
	cmd := w.crictl(args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr // warnings
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("crictl %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

func (w *world) file(name, content string) string {
	w.t.Helper()
	path := filepath.Join(w.Dir, name)
	must(w.t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// TestStreams runs exec, attach and port-forward through crictl, over both
// transports.
func TestStreams(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("streams")
	config := harness.Shell("main", "while read line; do echo \"got $line\"; done")
	config.Stdin = true
	id := w.run(pod, podConfig, config)
	w.run(pod, podConfig, harness.Shell("server", "while :; do echo answer | nc -l -p 8099; done"))

	for _, transport := range []string{"spdy", "websocket"} {
		t.Run(transport, func(t *testing.T) {
			cmd := w.crictl("exec", "--transport", transport, "-i", id, "sh", "-c", "cat; echo oops >&2; exit 4")
			var stdout, stderr bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("through stdin\n"), &stdout, &stderr
			if err := cmd.Run(); err == nil {
				t.Error("the exit code is lost")
			}
			has(t, stdout.String(), "through stdin")
			has(t, stderr.String(), "oops", "exit code 4")

			has(t, w.terminal(t, "tty; exit\n", "exec", "--transport", transport, "-it", id, "sh"), "/dev/pts/")
			has(t, w.attached(t, transport, id), "got a line")
			w.forwarded(t, transport, pod)
		})
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestInputThatEndsAtOnce gives commands an input that has ended, or nearly, before
// they run: whoever passes it on must not close what nobody has opened yet.
func TestInputThatEndsAtOnce(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("input")
	id := w.run(pod, podConfig, harness.Shell("main", "sleep 1000"))
	for i := range 20 {
		transport := []string{"spdy", "websocket"}[i%2]
		text := []string{"", "text\n"}[i/2%2]
		ctx, cancel := context.WithTimeout(w.ctx, patience)
		cmd := w.crictlFor(ctx, "exec", "--transport", transport, "-i", id, "cat")
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.Output()
		cancel()
		if err != nil || string(out) != text {
			t.Fatalf("exec %d by %s: of %q came %q back: %v", i, transport, text, out, err)
		}
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestOldWebSocket runs a command over a WebSocket as older clients speak it,
// with and without a terminal.
func TestOldWebSocket(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("websocket")
	id := w.run(pod, podConfig, harness.Shell("main", "sleep 1000"))
	for _, tty := range []bool{false, true} {
		r, err := w.Runtime.Exec(w.ctx, &cri.ExecRequest{
			ContainerId: id, Cmd: []string{"sh", "-c", "read line; echo got $line; exit 4"},
			Stdin: true, Stdout: true, Stderr: !tty, Tty: tty,
		})
		must(t, err)
		conn, err := websocket.Dial("ws"+strings.TrimPrefix(r.Url, "http"), "v4.channel.k8s.io", "http://localhost")
		must(t, err)
		must(t, conn.SetDeadline(time.Now().Add(patience)))
		must(t, websocket.Message.Send(conn, append([]byte{0}, "a line\n"...)))
		channels := map[byte]string{}
		for {
			var frame []byte
			if err := websocket.Message.Receive(conn, &frame); err != nil {
				break // the server closes when all is said
			}
			if len(frame) > 0 {
				channels[frame[0]] += string(frame[1:])
			}
		}
		must(t, conn.Close())
		has(t, channels[1], "got a line")
		has(t, channels[3], `"ExitCode"`, `"4"`)
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// terminal runs crictl under a terminal of its own, types input, and gives what
// the terminal shows.
func (w *world) terminal(t *testing.T, input string, args ...string) string {
	t.Helper()
	c := w.crictl(args...)
	quoted := ""
	for _, a := range c.Args {
		quoted += " '" + a + "'"
	}
	cmd := exec.CommandContext(w.ctx, "script", "-qec", quoted, "/dev/null")
	cmd.Env = c.Env
	in, err := cmd.StdinPipe()
	must(t, err)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, cmd.Start())
	_, err = io.WriteString(in, input)
	must(t, err)
	if err := cmd.Wait(); err != nil {
		t.Errorf("crictl %q under a terminal: %v\n%s", args, err, out.String())
	}
	return out.String()
}

// attached sends a line to the container's stdin and waits for its answer.
func (w *world) attached(t *testing.T, transport, id string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	cmd := w.crictl("attach", "--transport", transport, "-i", id)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	_, err = io.WriteString(in, "a line\n")
	must(t, err)
	answer := make([]byte, 100)
	n, err := io.ReadAtLeast(out, answer, len("got a line\n"))
	if err != nil {
		t.Errorf("attach: %v", err)
	}
	_ = cmd.Process.Kill() // detaches; the container reads on
	_ = cmd.Wait()
	return string(answer[:n])
}

// forwarded reads an answer through a forwarded port.
func (w *world) forwarded(t *testing.T, transport, pod string) {
	t.Helper()
	local := freePort(t)
	cmd := w.crictl("port-forward", "--transport", transport, pod, fmt.Sprintf("%d:8099", local))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	w.eventually(func() error {
		answer, err := exec.CommandContext(w.ctx, "bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/127.0.0.1/%d; timeout 3 head -n1 <&3", local)).CombinedOutput()
		if err == nil && strings.TrimSpace(string(answer)) != "answer" {
			err = fmt.Errorf("port-forward answers %q", answer)
		}
		return err
	})
}

// TestLogRotation renames a log while its container writes, and reopens it: no
// line is lost or doubled.
func TestLogRotation(t *testing.T) {
	w := pulled(t)
	pod, podConfig := w.pod("rotate")
	config := harness.Shell("main", "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done")
	id := w.run(pod, podConfig, config)
	log := filepath.Join(podConfig.LogDirectory, config.LogPath)
	var rotated []string
	for i := range 5 {
		to := fmt.Sprintf("%s.%d", log, i)
		must(t, os.Rename(log, to))
		rotated = append(rotated, to)
		if _, err := w.Runtime.ReopenContainerLog(w.ctx, &cri.ReopenContainerLogRequest{ContainerId: id}); err != nil {
			refused(t, err, codes.FailedPrecondition) // it has ended already
			must(t, os.Rename(to, log))
			rotated = rotated[:len(rotated)-1]
			break
		}
	}
	_, err := w.Exited(w.ctx, id, patience)
	must(t, err)
	numbered(t, 3000, append(rotated, log)...)
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// TestLogLine: the configuration says where the lines of logs are split.
func TestLogLine(t *testing.T) {
	w := pulled(t, func(o *harness.NodeOptions) { o.Config = "[containers]\nmax_log_line = 20000\n" })
	pod, podConfig := w.pod("lines")
	config := harness.Shell("main", "head -c 50000 /dev/zero | tr '\\0' x; echo")
	_, err := w.Exited(w.ctx, w.run(pod, podConfig, config), patience)
	must(t, err)
	log, err := os.ReadFile(filepath.Join(podConfig.LogDirectory, config.LogPath))
	must(t, err)
	var got []string
	for record := range strings.Lines(string(log)) {
		fields := strings.Fields(record)
		got = append(got, fmt.Sprintf("%s%d", fields[2], len(fields[3])))
	}
	if !slices.Equal(got, []string{"P20000", "P20000", "F10000"}) {
		t.Errorf("the log has the records %v", got)
	}
	must(t, w.RemovePod(w.ctx, pod))
	w.clean()
}

// numbered checks that logs hold the lines "line 0" to "line count-1", each once
// and in order.
func numbered(t *testing.T, count int, logs ...string) {
	t.Helper()
	var lines []string
	for _, log := range logs {
		part, err := harness.Log(log)
		must(t, err)
		lines = append(lines, part...)
	}
	if len(lines) != count {
		t.Errorf("the log has %d lines, want %d", len(lines), count)
	}
	for i, line := range lines {
		if line != fmt.Sprintf("line %d", i) {
			t.Fatalf("line %d of the log is %q", i, line)
		}
	}
}

// TestNewcomer does by hand what a newcomer does with crictl.
func TestNewcomer(t *testing.T) {
	w := pulled(t)
	has(t, w.says("version"), "RuntimeName", "v1")
	has(t, w.says("info"), "NetworkReady")
	has(t, w.says("pull", harness.Nginx), "sha256:")
	has(t, w.says("images"), "e2e-test-images/nginx", "e2e-test-images/busybox")
	podFile := w.file("pod.json", fmt.Sprintf(`{"metadata": {"name": "hand", "namespace": "default", "uid": "1"},
		"log_directory": %q, "linux": {"cgroup_parent": %q}}`, filepath.Join(w.Dir, "logs"), "/"+w.Name))
	containerFile := w.file("container.json", fmt.Sprintf(`{"metadata": {"name": "web"}, "image": {"image": %q}, "log_path": "web.log", "linux": {}}`, harness.Nginx))
	pod := w.says("runp", podFile)
	has(t, w.says("pods"), pod[:13], "hand", "Ready")
	id := w.says("create", pod, containerFile, podFile)
	has(t, w.says("ps", "-a"), id[:13], "Created")
	w.says("start", id)
	has(t, w.says("ps"), id[:13], "Running")
	has(t, w.says("exec", id, "cat", "/etc/nginx/nginx.conf"), "listen 80")
	w.eventually(func() error {
		out, err := w.crictl("exec", "-s", id, "wget", "-qO-", "http://127.0.0.1/").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	w.eventually(func() error { // written when the request is over
		if text := w.says("logs", id); !strings.Contains(text, "GET / HTTP") {
			return fmt.Errorf("crictl logs shows %q", text)
		}
		return nil
	})
	has(t, w.says("stats"), id[:13])
	has(t, w.says("statsp"), pod[:13])
	has(t, w.says("inspect", id), `"state": "CONTAINER_RUNNING"`)
	has(t, w.says("inspectp", pod), `"state": "SANDBOX_READY"`)
	has(t, w.says("inspecti", harness.Nginx), "repoTags")
	w.followed(id)
	w.says("stop", id)
	w.says("rm", id)
	w.says("stopp", pod)
	w.says("rmp", pod)
	w.says("rmi", harness.Nginx)
	w.clean()
}

// followed checks that "crictl logs -f" shows what is written after it began.
func (w *world) followed(id string) {
	w.t.Helper()
	cmd := w.crictl("logs", "-f", "--tail", "0", id)
	out, err := cmd.StdoutPipe()
	must(w.t, err)
	must(w.t, cmd.Start())
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	line := make(chan string, 1)
	go func() {
		buf := make([]byte, 1000)
		n, _ := out.Read(buf) // "" if crictl ends
		line <- string(buf[:n])
	}()
	w.eventually(func() error {
		if _, err := w.Exec(w.ctx, id, "wget", "-qO-", "http://127.0.0.1/followed"); err == nil {
			return fmt.Errorf("there is no such page")
		}
		select {
		case text := <-line:
			if !strings.Contains(text, "/followed") {
				w.t.Errorf("logs -f shows %q", text)
			}
			return nil
		default:
			return fmt.Errorf("logs -f shows nothing")
		}
	})
}
