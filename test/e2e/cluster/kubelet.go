package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// Kubelet is the node's kubelet. It is run again with another configuration by
// Restart; pods run on meanwhile.
type Kubelet struct {
	*Process
	control *ControlPlane
	runtime *Runtime
	dir     string
	cgroups cgroupRoot
	ports   struct{ api, health int }
}

func newKubelet(dir string, control *ControlPlane, runtime *Runtime, cgroups cgroupRoot) (*Kubelet, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	k := &Kubelet{control: control, runtime: runtime, dir: dir, cgroups: cgroups}
	k.ports.api, k.ports.health = ports[0], ports[1]
	for _, path := range []string{k.Root(), k.StaticPods(), k.Logs()} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return nil, err
		}
	}
	return k, os.WriteFile(k.path("resolv.conf"), []byte("nameserver 10.96.0.10\nsearch example.test\n"), 0o644)
}

func (k *Kubelet) path(name string) string { return filepath.Join(k.dir, name) }

// Root is the kubelet's --root-dir.
func (k *Kubelet) Root() string { return k.path("kubelet") }

// StaticPods is the directory of static pods' manifests.
func (k *Kubelet) StaticPods() string { return k.path("manifests") }

// Logs is where the pods' logs are.
func (k *Kubelet) Logs() string { return k.path("pods") }

// Start runs the kubelet and waits until its node is Ready. The changes are
// made to its configuration, a KubeletConfiguration as its YAML has it.
func (k *Kubelet) Start(ctx context.Context, changes map[string]any) error {
	conf := k.configuration()
	for key, value := range changes {
		conf[key] = value
	}
	data, err := yaml.Marshal(conf)
	if err != nil {
		return err
	}
	if err := os.WriteFile(k.path("kubelet.yaml"), data, 0o600); err != nil {
		return err
	}
	began := time.Now()
	k.Process, err = start(k.path("kubelet.log"), filepath.Join(k.control.bin, "kubelet"),
		"--config="+k.path("kubelet.yaml"), "--kubeconfig="+k.control.Kubeconfig("kubelet"),
		"--root-dir="+k.Root(), "--cert-dir="+k.path("pki"), "--hostname-override="+NodeName, "--v=2")
	if err != nil {
		return err
	}
	return k.ready(ctx, 5*time.Minute, func(ctx context.Context) error { return k.nodeReady(ctx, began) })
}

// nodeReady says whether the node was found Ready after a time and takes pods.
func (k *Kubelet) nodeReady(ctx context.Context, after time.Time) error {
	node, err := k.control.Client.CoreV1().Nodes().Get(ctx, NodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, c := range node.Status.Conditions {
		if c.Type != v1.NodeReady {
			continue
		}
		if c.Status != v1.ConditionTrue {
			return fmt.Errorf("the node is not ready: %s", c.Message)
		}
		if c.LastHeartbeatTime.Time.Before(after.Truncate(time.Second)) {
			return errors.New("the node has not reported yet")
		}
		if len(node.Spec.Taints) > 0 {
			return fmt.Errorf("the node is still tainted: %v", node.Spec.Taints)
		}
		return nil
	}
	return errors.New("the node has no Ready condition yet")
}

// Restart ends the kubelet and runs it again.
func (k *Kubelet) Restart(ctx context.Context, changes map[string]any) error {
	if err := errors.Join(ctx.Err(), k.Stop()); err != nil {
		return err
	}
	return k.Start(ctx, changes)
}

// Get asks the kubelet's own port, as "/stats/summary": the apiserver does not
// proxy to a loopback address.
func (k *Kubelet) Get(ctx context.Context, path string) ([]byte, error) {
	client, err := k.control.httpClient()
	if err != nil {
		return nil, err
	}
	return get(ctx, client, fmt.Sprintf("https://127.0.0.1:%d%s", k.ports.api, path))
}

// JSON asks the kubelet's own port and decodes the answer.
func (k *Kubelet) JSON(ctx context.Context, path string, into any) error {
	body, err := k.Get(ctx, path)
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// configuration is what a node of this kind needs: everything on loopback,
// limits that a small and busy machine does not hit by itself, and an
// oom_score_adj that can be set without CAP_SYS_RESOURCE.
func (k *Kubelet) configuration() map[string]any {
	certs := k.control.certs
	return map[string]any{
		"apiVersion":               "kubelet.config.k8s.io/v1beta1",
		"kind":                     "KubeletConfiguration",
		"containerRuntimeEndpoint": k.runtime.Endpoint(),
		"cgroupDriver":             "cgroupfs", // used if the runtime does not say
		"cgroupRoot":               string(k.cgroups),
		"failCgroupV1":             false,
		"failSwapOn":               false,
		"oomScoreAdj":              0,
		"address":                  "127.0.0.1",
		"port":                     k.ports.api,
		"healthzBindAddress":       "127.0.0.1",
		"healthzPort":              k.ports.health,
		"tlsCertFile":              certs.path("kubelet.crt"),
		"tlsPrivateKeyFile":        certs.path("kubelet.key"),
		"authentication": map[string]any{
			"anonymous": map[string]any{"enabled": false},
			"webhook":   map[string]any{"enabled": true},
			"x509":      map[string]any{"clientCAFile": certs.path("ca.crt")},
		},
		"authorization":          map[string]any{"mode": "Webhook"},
		"clusterDomain":          "cluster.local",
		"clusterDNS":             []string{"10.96.0.10"},
		"resolvConf":             k.path("resolv.conf"),
		"staticPodPath":          k.StaticPods(),
		"podLogsDir":             k.Logs(),
		"volumePluginDir":        k.path("volume-plugins"),
		"fileCheckFrequency":     "2s",
		"syncFrequency":          "10s",
		"makeIPTablesUtilChains": false,
		"registryPullQPS":        0,
		"eventRecordQPS":         0,
		"serializeImagePulls":    false,
		"shutdownGracePeriod":    "0s",
		"evictionHard": map[string]string{
			"memory.available": "50Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%", "imagefs.available": "1%",
		},
		"featureGates":                map[string]bool{"ContainerStopSignals": true},
		"imageGCHighThresholdPercent": 100,
		// Small, so that a check of it takes seconds.
		"containerLogMaxSize": "1Mi", "containerLogMaxFiles": 3, "containerLogMonitorInterval": "3s",
	}
}
