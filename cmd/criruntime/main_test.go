package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/criruntime/criruntime/conf"
)

// TestMain lets the test binary be the daemon's process that a failpoint kills.
func TestMain(m *testing.M) {
	if os.Getenv("CRIRUNTIME_FAILPOINT") != "" {
		hook := failpoint()
		hook("run/network/intent")
		os.Stdout.WriteString("passed the first\n")
		hook("run/network/done")
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestFailpoint(t *testing.T) {
	for point, want := range map[string]struct {
		killed bool
		output string
	}{
		"run/network/intent": {true, ""},
		"run/network/done":   {true, "passed the first\n"},
		"run/network":        {false, "passed the first\n"},
	} {
		c := exec.Command("/proc/self/exe")
		c.Env = append(os.Environ(), "CRIRUNTIME_FAILPOINT="+point)
		out, err := c.Output()
		killed := c.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		if killed != want.killed || string(out) != want.output {
			t.Errorf("%s: killed %v, output %q (%v)", point, killed, out, err)
		}
	}
	if failpoint() != nil {
		t.Error("a hook without a failpoint")
	}
}

func TestCommandLine(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.toml")
	if err := os.WriteFile(bad, []byte("[log]\nlevle = \"info\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	good := filepath.Join(t.TempDir(), "good.toml")
	if err := os.WriteFile(good, []byte("[log]\nlevel = \"debug\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args   []string
		code   int
		stdout string // regular expressions
		stderr string
	}{
		{[]string{"help"}, exitOK, `^criruntime runs Kubernetes pods`, `^$`},
		{[]string{"version"}, exitOK, `^criruntime \S+ go1\.\S+ linux/\S+\n$`, `^$`},
		{[]string{"config", "default"}, exitOK, `^# Configuration of criruntime`, `^$`},
		{[]string{"config", "check", good}, exitOK, `is valid`, `^$`},
		{[]string{"config", "check", bad}, exitFailure, `^$`, `bad.toml:2: log.levle: unknown key; is log.level meant\?`},
		{[]string{"config", "check", "/none/x.toml"}, exitFailure, `^$`, `cannot read the configuration: open /none/x.toml`},
		{[]string{"config"}, exitUsage, `^$`, `usage: criruntime config`},
		{[]string{"config", "show"}, exitUsage, `^$`, `usage: criruntime config`},
		{[]string{"--config", bad}, exitFailure, `^$`, `bad.toml:2`},
		{[]string{"serve", "--config", bad}, exitFailure, `^$`, `bad.toml:2`},
		{[]string{"check", "-c", bad}, exitFailure, `^$`, `bad.toml:2`},
		{[]string{"serve", "now"}, exitUsage, `^$`, `unexpected argument "now"`},
		{[]string{"--loud"}, exitUsage, `^$`, `flag provided but not defined: -loud`},
		{[]string{"start"}, exitUsage, `^$`, `unknown command "start"`},
		{[]string{"--version"}, exitOK, `^criruntime `, `^$`},
		{[]string{"--help"}, exitOK, `^criruntime runs Kubernetes pods`, `^$`},
	} {
		var stdout, stderr bytes.Buffer
		code := run(tt.args, &stdout, &stderr)
		if code != tt.code || !regexp.MustCompile(tt.stdout).MatchString(stdout.String()) || !regexp.MustCompile(tt.stderr).MatchString(stderr.String()) {
			t.Errorf("criruntime %v: exit %d\nstdout: %.200s\nstderr: %.200s", tt.args, code, &stdout, &stderr)
		}
	}
}

// The manual page names every command, and no flag is forgotten.
func TestManualPage(t *testing.T) {
	b, err := os.ReadFile("../../contrib/man/criruntime.8")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(b), `\-`, "-")
	for _, want := range []string{"serve", "config default", "config check", "version", "help", "--config", "-c", "SIGHUP", "SIGUSR1", conf.DefaultPath, conf.Default().API.Listen} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not mention %s", want)
		}
	}
}

// What is shipped beside the daemon names the daemon's own defaults.
func TestShippedFiles(t *testing.T) {
	for file, want := range map[string]string{
		"../../contrib/crictl.yaml":               "runtime-endpoint: unix://" + conf.Default().API.Listen,
		"../../contrib/systemd/criruntime.socket": "ListenStream=" + conf.Default().API.Listen,
	} {
		b, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(b), want+"\n") {
			t.Errorf("%s does not say %q (%v)", file, want, err)
		}
	}
}

func TestClaim(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	first, err := claim(dir, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := claim(dir, time.Now().Add(50*time.Millisecond)); err == nil || err.Error() != "another criruntime works in "+dir {
		t.Errorf("second claim: %v", err)
	}
	time.AfterFunc(50*time.Millisecond, func() { first.Close() })
	again, err := claim(dir, time.Now().Add(time.Minute))
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	again.Close()
}

func TestFindShim(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "a-shim")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	for configured, want := range map[string]string{"a-shim": program, program: program, "data": "", dir: "", filepath.Join(dir, "data"): "", "none": ""} {
		if got, err := findShim(configured); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", configured, got, err)
		}
	}
}
