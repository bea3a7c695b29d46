//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// count is a container that writes numbered lines without end.
const count = "i=0; while true; do echo line $i; i=$((i+1)); sleep 0.1; done"

func TestKubectlLogsFollowsTailsAndSelectsByTime(t *testing.T) {
	u := begin(t)
	u.apply(pod("count", "containers: ["+shell("main", count)+"]"))
	u.ready("count")
	ctx, cancel := context.WithTimeout(u.ctx, patience)
	defer cancel()
	follow := u.command(ctx, "logs", "-f", "count")
	out, err := follow.StdoutPipe()
	u.must(err)
	u.must(follow.Start())
	lines := bufio.NewScanner(out)
	for i := range 30 {
		if !lines.Scan() || lines.Text() != fmt.Sprintf("line %d", i) {
			u.Fatalf("followed line %d is %q", i, lines.Text())
		}
	}
	cancel()
	_ = follow.Wait() // it was killed
	if got := strings.Count(u.kubectl("logs", "count", "--tail=5"), "\n"); got != 5 {
		u.Errorf("--tail=5 gives %d lines", got)
	}
	u.eventually(func(ctx context.Context) error { // in some seconds it may write nothing
		all, err := u.run(ctx, "", "logs", "count")
		if err != nil {
			return err
		}
		recent, err := u.run(ctx, "", "logs", "count", "--since=1s")
		if err == nil && (recent == "" || len(recent) >= len(all)) {
			err = fmt.Errorf("--since=1s gives %d bytes of %d", len(recent), len(all))
		}
		return err
	})
	stamp, _, _ := strings.Cut(u.kubectl("logs", "count", "--timestamps", "--tail=1"), " ")
	if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil {
		u.Error(err)
	}
}

func TestKubectlLogsSeparatesTheStreamsOfEveryContainer(t *testing.T) {
	u := begin(t)
	u.apply(pod("two", "restartPolicy: Never\ncontainers:\n- "+shell("one", "echo out; echo err >&2")+"\n- "+shell("two", "printf 'no newline'")))
	u.ended("two", "Succeeded")
	u.has(u.kubectl("logs", "two", "-c", "one"), "out\n", "err\n")
	u.has(u.kubectl("logs", "two", "--all-containers", "--prefix"), "pod/two/one", "pod/two/two", "no newline")
}

// TestALogIsRotatedUnderLoad writes more than the kubelet lets one file hold.
func TestALogIsRotatedUnderLoad(t *testing.T) {
	u := begin(t)
	// 30000 lines of about 100 bytes in some ten seconds; it ends when told to.
	dir := t.TempDir()
	u.apply(pod("load", "restartPolicy: Never\nvolumes: [{name: host, hostPath: {path: "+dir+"}}]\ncontainers: ["+shell("main",
		"s=$(printf '%080d' 0); i=0; while [ $i -lt 30000 ]; do echo $i $s; i=$((i+1)); [ $((i%300)) = 0 ] && sleep 0.1; done; "+
			"touch /host/written; until [ -e /host/end ]; do sleep 0.1; done; echo last", "volumeMounts: [{name: host, mountPath: /host}]")+"]"))
	u.eventually(func(context.Context) error { _, err := os.Stat(filepath.Join(dir, "written")); return err })
	u.eventually(func(context.Context) error {
		if logs := u.logFiles("load"); len(logs) < 2 {
			return fmt.Errorf("the log was not rotated: %v", logs)
		}
		return nil
	})
	u.must(os.WriteFile(filepath.Join(dir, "end"), nil, 0o600))
	u.await("load", succeeded)
	u.has(u.kubectl("logs", "load"), "last\n")
	u.eventually(func(context.Context) error { return u.continuous(u.logFiles("load")) })
}

// logFiles are those of a pod's container named main.
func (u *user) logFiles(pod string) []string {
	u.Helper()
	logs, err := filepath.Glob(filepath.Join(node.Kubelet.Logs(), u.ns+"_"+pod+"_*", "main", "*.log*"))
	u.must(err)
	return logs
}

// continuous says whether no line was lost between the files that are left, which
// the kubelet may still be renaming and compressing.
func (u *user) continuous(logs []string) error {
	u.Helper()
	seen := map[int]bool{}
	least := 30000
	for _, path := range logs {
		data, err := os.ReadFile(path)
		if err == nil && strings.HasSuffix(path, ".gz") {
			data, err = exec.Command("gzip", "-dc", path).Output()
		}
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			var n int
			if fields := strings.Fields(line); len(fields) == 5 {
				if _, err := fmt.Sscan(fields[3], &n); err == nil {
					seen[n] = true
					least = min(least, n)
				}
			}
		}
	}
	for i := least; i < 30000; i++ {
		if !seen[i] {
			return fmt.Errorf("line %d is in none of %v", i, logs)
		}
	}
	u.Logf("%d files hold lines %d to 29999", len(logs), least)
	return nil
}

func TestKubectlExecRunsCommandsWithInputAndExitCode(t *testing.T) {
	u := begin(t)
	u.apply(sleeper("exec"))
	u.ready("exec")
	u.prints("sleep", "exec", "exec", "--", "cat", "/proc/1/cmdline") // once it is executed
	out, err := u.try("typed in", "exec", "-i", "exec", "--", "sh", "-c", "cat; echo to stderr >&2")
	u.must(err)
	if out != "typed in" {
		u.Errorf("standard output is %q", out)
	}
	_, err = u.try("", "exec", "exec", "--", "sh", "-c", "echo why >&2; exit 42")
	if err == nil || !strings.Contains(err.Error(), "why") || !strings.Contains(err.Error(), "exit code 42") {
		u.Errorf("a command that fails gives %v", err)
	}
	if _, err := u.try("", "exec", "exec", "--", "no-such-command"); err == nil || !strings.Contains(err.Error(), "no-such-command") {
		u.Errorf("a command that is missing gives %v", err)
	}
	// Much data in both directions, and its end.
	big := strings.Repeat("0123456789abcdef", 1<<16)
	out, err = u.try(big, "exec", "-i", "exec", "--", "cat")
	u.must(err)
	if out != big {
		u.Errorf("of %d bytes %d came back", len(big), len(out))
	}
}

func TestKubectlExecWithATerminalFollowsItsSize(t *testing.T) {
	u := begin(t)
	u.apply(sleeper("tty"))
	u.ready("tty")
	terminal, other := u.terminal()
	resize := func(rows, columns uint16) {
		u.must(unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}))
	}
	resize(33, 77)
	cmd := u.command(u.ctx, "exec", "-it", "tty", "--", "sh", "-c", `tty; until stty size | grep '44 99'; do stty size; sleep 0.2; done; echo done`)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = other, other, other
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	u.must(cmd.Start())
	u.must(other.Close())
	var shown strings.Builder
	lines := bufio.NewScanner(terminal)
	for lines.Scan() {
		if shown.WriteString(lines.Text() + "\n"); lines.Text() == "33 77" {
			resize(44, 98) // an equal size is not told, should kubectl have missed it
			resize(44, 99)
		}
	}
	u.must(cmd.Wait())
	u.has(shown.String(), "/dev/pts/0\n", "33 77\n", "44 99\n", "done\n")
}

// terminal makes a pseudo-terminal: what is written to one end is read from the
// other.
func (u *user) terminal() (master, slave *os.File) {
	u.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	u.must(err)
	u.Cleanup(func() { _ = master.Close() })
	u.must(unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	u.must(err)
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	u.must(err)
	return master, slave
}

func TestKubectlAttachSpeaksToTheContainersProcess(t *testing.T) {
	u := begin(t)
	u.apply(pod("attach", "containers: ["+shell("main", "while read line; do echo you said $line; done", "stdin: true")+"]"))
	u.ready("attach")
	ctx, cancel := context.WithTimeout(u.ctx, patience)
	defer cancel()
	cmd := u.command(ctx, "attach", "-i", "attach")
	in, err := cmd.StdinPipe()
	u.must(err)
	out, err := cmd.StdoutPipe()
	u.must(err)
	u.must(cmd.Start())
	lines := bufio.NewScanner(out)
	for _, word := range []string{"one", "two"} {
		_, err := fmt.Fprintln(in, word)
		u.must(err)
		if !lines.Scan() || lines.Text() != "you said "+word {
			u.Fatalf("the answer to %q is %q", word, lines.Text())
		}
	}
	cancel()
	_ = cmd.Wait() // it was killed
	u.prints("you said one\nyou said two\n", "logs", "attach")
}

func TestKubectlPortForwardReachesThePod(t *testing.T) {
	u := begin(t)
	u.apply(web("web", "readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}"))
	u.ready("web") // and the server listens
	ctx, cancel := context.WithTimeout(u.ctx, patience)
	defer cancel()
	cmd := u.command(ctx, "port-forward", "pod/web", ":80")
	out, err := cmd.StdoutPipe()
	u.must(err)
	u.must(cmd.Start())
	first, err := bufio.NewReader(out).ReadString('\n')
	u.must(err)
	var port int
	if _, err := fmt.Sscanf(first, "Forwarding from 127.0.0.1:%d", &port); err != nil {
		u.Fatalf("kubectl port-forward says %q", first)
	}
	for range 5 {
		res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		u.must(err)
		body, err := io.ReadAll(res.Body)
		u.must(err)
		u.must(res.Body.Close())
		if res.StatusCode != http.StatusOK || len(body) == 0 {
			u.Errorf("the forwarded server answers %s with %d bytes", res.Status, len(body))
		}
	}
	cancel()
	_ = cmd.Wait() // it was killed
}

// web is a pod with a web server on port 80.
func web(name string, more ...string) string {
	fields := append([]string{"name: web", "image: " + nginx, "ports: [{containerPort: 80}]"}, more...)
	return pod(name, "containers: [{"+strings.Join(fields, ", ")+"}]")
}

func TestKubectlCpCopiesBothWays(t *testing.T) {
	u := begin(t)
	u.apply(sleeper("cp"))
	u.ready("cp")
	dir := t.TempDir()
	data := bytes.Repeat([]byte("content\n"), 100_000)
	u.must(os.WriteFile(filepath.Join(dir, "there"), data, 0o644))
	u.kubectl("cp", filepath.Join(dir, "there"), "cp:/tmp/file")
	u.kubectl("cp", "cp:/tmp/file", filepath.Join(dir, "back"))
	back, err := os.ReadFile(filepath.Join(dir, "back"))
	u.must(err)
	if !bytes.Equal(back, data) {
		u.Errorf("of %d bytes %d came back", len(data), len(back))
	}
}
