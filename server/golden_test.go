package server

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/sandbox"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden keeps, for each full request, the calls that it makes of the
// domain and the answer that the client gets.
func TestGolden(t *testing.T) {
	f := &fakeDomain{exec: sandbox.ExecResult{Stdout: []byte("out"), Stderr: []byte("err"), Code: 3}}
	served := methods(t, testOptions(f))
	requests := fullRequests()
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		t.Run(name, func(t *testing.T) {
			f.events = oneEvent()
			var got bytes.Buffer
			for _, req := range requests[name] {
				answers, err := served[name].invoke(context.Background(), req)
				if err != nil && name != "GetContainerEvents" {
					t.Fatal(err)
				}
				for _, call := range f.taken() {
					got.WriteString("call " + call + "\n")
				}
				for _, a := range answers {
					switch a := a.(type) {
					case *runtimeapi.PodSandboxStatusResponse:
						a.Timestamp = 1
					case *runtimeapi.ListPodSandboxMetricsResponse:
						timeless(a.PodMetrics)
					case *runtimeapi.StreamPodSandboxMetricsResponse:
						timeless(a.PodSandboxMetrics)
					case *runtimeapi.ExecResponse:
						a.Url = "http://"
					case *runtimeapi.AttachResponse:
						a.Url = "http://"
					case *runtimeapi.PortForwardResponse:
						a.Url = "http://"
					}
					text, err := protojson.Marshal(a)
					if err != nil {
						t.Fatal(err)
					}
					got.WriteString("answer ")
					if err := json.Indent(&got, text, "", "  "); err != nil {
						t.Fatal(err)
					}
					got.WriteString("\n")
				}
			}
			golden(t, filepath.Join("testdata", name+".golden"), got.Bytes())
		})
	}
}

// timeless takes the time of the request out of metrics.
func timeless(pods []*runtimeapi.PodSandboxMetrics) {
	for _, p := range pods {
		for _, c := range p.ContainerMetrics {
			for _, m := range c.Metrics {
				if m.Name == "container_last_seen" {
					m.Value.Value = 1
				}
			}
		}
	}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func oneEvent() chan sandbox.Event {
	events := make(chan sandbox.Event, 1)
	events <- sandbox.Event{
		Kind: sandbox.EventStopped, ContainerID: containerID, PodID: podID, At: birth,
		Pod: fakePod(), Containers: []*sandbox.ContainerStatus{fakeContainer()},
	}
	close(events)
	return events
}
