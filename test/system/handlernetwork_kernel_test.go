//go:build kernel

package system

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/criruntime/criruntime/test/harness"
)

// TestHandlerNetwork: pods of a handler with a CNI directory of its own have that
// network, and leave it whole after it has gone from the configuration.
func TestHandlerNetwork(t *testing.T) {
	directory := t.TempDir()
	was := otherRuntimes
	handler, otherRuntimes = "walled", []func(*testing.T) string{func(*testing.T) string {
		return fmt.Sprintf("[runtimes.walled]\nshim = %q\nbinary = %q\ncni_conf_dir = %q\n",
			harness.Tool("containerd-shim-runc-v2"), harness.Tool("runc"), directory)
	}}
	defer func() { handler, otherRuntimes = "", was }()
	w := pulled(t)
	_, err := w.RunPod(w.ctx, w.PodConfig("walled"))
	refused(t, err, codes.Unavailable, "no CNI configuration in "+directory)

	// The same bridge under another name, with addresses from the middle on.
	subnet := netip.MustParsePrefix(w.Subnet)
	bytes := subnet.Addr().As4()
	bytes[3] = 128
	middle := netip.AddrFrom4(bytes)
	text, err := os.ReadFile(w.CNIConfig())
	must(t, err)
	conf := strings.NewReplacer(
		`"name": "`, `"name": "walled-`,
		`"subnet": "`, fmt.Sprintf(`"rangeStart": %q, "subnet": "`, middle),
	).Replace(string(text))
	file := filepath.Join(directory, "10-walled.conflist")
	must(t, os.WriteFile(file, []byte(conf), 0o600))

	address := func(pod string) netip.Addr {
		s, err := w.PodStatus(w.ctx, pod)
		must(t, err)
		a, err := netip.ParseAddr(s.GetNetwork().GetIp())
		must(t, err)
		return a
	}
	walled, _ := w.pod("walled")
	w.Client.Handler = ""
	plain, _ := w.pod("plain")
	if a, b := address(walled), address(plain); a.Less(middle) || !b.Less(middle) {
		t.Errorf("the handler's pod has the address %s, the other %s", a, b)
	}
	must(t, os.Remove(file))
	must(t, w.Kill())
	must(t, w.Restart(w.ctx))
	info, err := w.Runtime.Status(w.ctx, &cri.StatusRequest{Verbose: true})
	must(t, err)
	for _, c := range info.Status.Conditions {
		if !c.Status {
			t.Errorf("%s: %s", c.Type, c.Message)
		}
	}
	has(t, info.Info["cni"], directory)
	must(t, w.RemovePod(w.ctx, walled))
	must(t, w.RemovePod(w.ctx, plain))
	w.clean()
}
