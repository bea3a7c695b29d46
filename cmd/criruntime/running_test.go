package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc/codes"

	"github.com/criruntime/criruntime/conf"
	"github.com/criruntime/criruntime/sandbox"
	"github.com/criruntime/criruntime/server/certificate"
	"github.com/criruntime/criruntime/server/certificate/certificatetest"
)

// captureLog gives the test the process's log for its duration.
func captureLog(t *testing.T) *bytes.Buffer {
	t.Helper()
	l := logrus.StandardLogger()
	out, formatter, level := l.Out, l.Formatter, l.Level
	t.Cleanup(func() { l.SetOutput(out); l.SetFormatter(formatter); l.SetLevel(level) })
	b := &bytes.Buffer{}
	l.SetOutput(b)
	return b
}

// TestReload: what can change does, what cannot is named, and a fault changes
// nothing.
func TestReload(t *testing.T) {
	log := captureLog(t)
	r := &reloader{file: filepath.Join(t.TempDir(), "c.toml"), running: conf.Default()}
	var applied []*conf.Config
	var refusal error
	set := func(text string) {
		t.Helper()
		if err := os.WriteFile(r.file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		log.Reset()
		r.reload()
	}
	set("[image]\npinned = [\"early\"]\n")
	r.begin(func(c *conf.Config) error { applied = append(applied, c); return refusal })
	if len(applied) != 1 || applied[0].Image.Pinned[0] != "early" {
		t.Fatalf("a signal that came early: %+v", applied)
	}
	set("root = \"/elsewhere\"\n[log]\nlevel = \"debug\"\n[containers]\nselinux = true\npids_limit = 7\n[runtimes.x]\nshim = \"x\"\n")
	if c := r.config(); c != applied[1] || c.Root != conf.Default().Root || c.Log.Level != "debug" || c.Containers.PidsLimit != 7 || c.Containers.SELinux || len(c.Runtimes) != 0 {
		t.Errorf("in force is %+v", c)
	}
	for _, want := range []string{"changed: containers.pids_limit, image.pinned, log.level\"", "restarted: containers.selinux, root, runtimes.x\""} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in the log: %s", want, log)
		}
	}
	before := r.config()
	set("[log]\nlevel = \"loud\"\n")
	if r.config() != before || len(applied) != 2 || !strings.Contains(log.String(), "c.toml:2: log.level") {
		t.Errorf("a broken file: %v, log %s", len(applied), log)
	}
	refusal = errors.New("no such thing")
	set("[log]\nlevel = \"error\"\n")
	if r.config() != before || !strings.Contains(log.String(), "no such thing") {
		t.Errorf("refused: log %s", log)
	}
}

func TestLogFormats(t *testing.T) {
	log := captureLog(t)
	if err := setUpLogging(conf.Log{Level: "warning", Format: "json"}); err != nil {
		t.Fatal(err)
	}
	logrus.Info("not this")
	logrus.WithField("pod", "p1").Warn("this")
	var line map[string]string
	if err := json.Unmarshal(log.Bytes(), &line); err != nil || line["msg"] != "this" || line["pod"] != "p1" || line["level"] != "warning" {
		t.Errorf("%v, log %s", err, log)
	}
}

type twoPods struct{}

func (twoPods) Pods(sandbox.PodFilter) []*sandbox.PodStatus {
	return []*sandbox.PodStatus{{State: sandbox.PodReady}, {State: sandbox.PodNotReady}, {State: sandbox.PodReady}}
}

func (twoPods) Containers(sandbox.ContainerFilter) []*sandbox.ContainerStatus {
	return []*sandbox.ContainerStatus{{State: sandbox.ContainerRunning}}
}

func TestMetrics(t *testing.T) {
	log := captureLog(t)
	m := newMetrics()
	m.registry.MustRegister(census{twoPods{}})
	m.request("/runtime.v1.RuntimeService/RunPodSandbox", codes.Unavailable, 30*time.Millisecond)
	m.step("RunPod/network", 20*time.Millisecond)
	m.plugin("bridge", "ADD", 10*time.Millisecond, errors.New("x"))
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer probe.Close()
	if err := m.serve(t.Context(), probe.Addr().String(), certificate.Options{}); err == nil {
		t.Error("an address in use was accepted")
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if err := m.serve(ctx, "127.0.0.1:0", certificate.Options{}); err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`http://[^/]+`).FindString(log.String())
	body := get(t, http.DefaultClient, address+"/metrics")
	for _, want := range []string{
		`criruntime_cri_request_duration_seconds_count{code="Unavailable",method="RunPodSandbox"} 1`,
		`criruntime_step_duration_seconds_bucket{step="RunPod/network",le="0.025"} 1`,
		`criruntime_cni_plugin_duration_seconds_count{command="ADD",plugin="bridge",result="error"} 1`,
		`criruntime_pods{state="ready"} 2`, `criruntime_pods{state="notready"} 1`,
		`criruntime_containers{state="running"} 1`, `criruntime_containers{state="exited"} 0`,
		`criruntime_build_info{version="`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s", want)
		}
	}
	if !strings.Contains(get(t, http.DefaultClient, address+"/debug/pprof/goroutine?debug=1"), "goroutine profile") {
		t.Error("no profiles")
	}
}

// TestMetricsTLS: with a certificate the metrics are served over TLS alone, and with
// authorities of clients to these alone.
func TestMetricsTLS(t *testing.T) {
	log := captureLog(t)
	cert, key := certificatetest.Write(t)
	clientCert, clientKey := certificatetest.Write(t)
	m := newMetrics()
	if err := m.serve(t.Context(), "127.0.0.1:0", certificate.Options{Cert: cert, Key: cert}); err == nil {
		t.Error("a certificate was taken for a key")
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if err := m.serve(ctx, "127.0.0.1:0", certificate.Options{Cert: cert, Key: key, ClientCA: clientCert}); err != nil {
		t.Fatal(err)
	}
	url := regexp.MustCompile(`https://[^/]+/metrics`).FindString(log.String())
	as := func(own ...string) *http.Client {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: certificatetest.Client(t, cert, own...)}}
		t.Cleanup(client.CloseIdleConnections)
		return client
	}
	if !strings.Contains(get(t, as(clientCert, clientKey), url), "criruntime_build_info") {
		t.Error("no metrics")
	}
	if r, err := as().Get(url); err == nil {
		t.Errorf("a client without a certificate gets %s", r.Status)
	}
	if r, err := http.Get(strings.Replace(url, "https", "http", 1)); err == nil && r.StatusCode == http.StatusOK {
		t.Error("the metrics are served without TLS too")
	}
}

func get(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	r, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, r.Status, err)
	}
	return string(b)
}
