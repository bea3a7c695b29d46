package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/conf"
	"github.com/criruntime/criruntime/network"
	"github.com/criruntime/criruntime/server/certificate"
)

func checkShim(c *conf.Config) []finding {
	path, err := findShim(c.Runtime.Shim)
	if err != nil {
		return []finding{{fail, "shim", err.Error(), "install criruntime-shim beside criruntime, or set runtime.shim"}}
	}
	if _, err := shimCPUs(c); err != nil {
		return []finding{{fail, "shim", err.Error(), "correct the key: the daemon does not start with it"}}
	}
	return []finding{{ok, "shim", path, ""}}
}

// checkPolicy refuses what the daemon would not start with.
func checkPolicy(c *conf.Config) []finding {
	if _, err := policy(&c.Containers); err != nil {
		return []finding{{fail, "containers", err.Error(), "correct the key, or what it names"}}
	}
	return nil
}

// checkTLS refuses what servers would not start with.
func checkTLS(c *conf.Config) []finding {
	var out []finding
	for _, server := range []struct {
		key     string
		options certificate.Options
	}{{"api.streaming_cert", streamingTLS(c)}, {"metrics.cert", metricsTLS(c)}} {
		if _, err := certificate.Server(server.options); err != nil {
			out = append(out, finding{fail, server.key, err.Error(), "correct the paths or the files"})
		}
	}
	return out
}

// checkNetwork asks what a daemon with this configuration would answer to the
// kubelet, and the same of handlers with a directory of their own.
func checkNetwork(c *conf.Config) []finding {
	out, ports := checkNetworkIn(c, "network", c.Network.ConfDir, fail)
	dirs := networkDirs(c)
	for _, name := range slices.Sorted(maps.Keys(dirs)) {
		more, hasPorts := checkNetworkIn(c, "network of runtime "+name, dirs[name], warn)
		out, ports = append(out, more...), ports || hasPorts
	}
	if ports {
		out = append(out, checkFirewall())
	}
	return out
}

// checkNetworkIn looks at one directory, and says whether pods get host ports by it.
// Without a network the finding is of the given level.
func checkNetworkIn(c *conf.Config, what, dir string, without level) (out []finding, ports bool) {
	scratch, err := os.MkdirTemp("", "criruntime-check-*")
	if err != nil {
		return []finding{{without, what, err.Error(), ""}}, false
	}
	defer os.RemoveAll(scratch)
	n, err := network.New(network.Options{
		ConfDir: dir, BinDirs: c.Network.BinDirs, CacheDir: scratch, PluginTimeout: c.Network.PluginTimeout,
	})
	if err != nil {
		return []finding{{without, what, err.Error(), ""}}, false
	}
	defer n.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	d := n.Describe().(network.Description)
	for _, s := range d.Skipped {
		out = append(out, finding{warn, what, fmt.Sprintf("%s/%s is broken and not used: %s", d.ConfDir, s.File, s.Reason), "correct or remove the file"})
	}
	if err := n.Status(ctx); err != nil {
		return append(out, finding{without, what, strings.TrimPrefix(err.Error(), network.ErrNotReady.Error()+": "),
			"install a network provider, or a configuration in " + d.ConfDir + " with its plugins in " + strings.Join(d.BinDirs, " or ")}), false
	}
	out = append(out, finding{ok, what, fmt.Sprintf("%s from %s/%s with the plugins %s", d.Network, d.ConfDir, d.File, strings.Join(d.Plugins, ", ")), ""})
	return out, slices.Contains(d.Plugins, "portmap")
}

// checkFirewall looks for what the portmap plugin runs.
func checkFirewall() finding {
	var found []string
	for _, program := range []string{"iptables", "nft"} {
		if path, err := exec.LookPath(program); err == nil {
			found = append(found, path)
		}
	}
	if len(found) == 0 {
		return finding{warn, "host ports", "neither iptables nor nft is in PATH", "install iptables or nftables: pods with host ports cannot start without"}
	}
	return finding{ok, "host ports", "by " + strings.Join(found, " or "), ""}
}

// checkIgzip looks for what makes pulls faster, and need not be there.
func checkIgzip(c *conf.Config) []finding {
	const what = "layers"
	if c.Image.Igzip == "" {
		return []finding{{ok, what, "the daemon inflates all of them (image.igzip)", ""}}
	}
	path, err := exec.LookPath(c.Image.Igzip)
	if err != nil {
		return []finding{{ok, what, "the daemon inflates all of them", "with igzip (package isal) large ones are inflated in a third of the time"}}
	}
	return []finding{{ok, what, path + " inflates large ones", ""}}
}

func checkForwarding(*conf.Config) []finding {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	if err == nil && strings.TrimSpace(string(b)) == "1" {
		return []finding{{ok, "forwarding", "net.ipv4.ip_forward is 1", ""}}
	}
	return []finding{{warn, "forwarding", "net.ipv4.ip_forward is not 1", "pods cannot reach other machines; put net.ipv4.ip_forward=1 into /etc/sysctl.d (the bridge plugin sets it for the time being)"}}
}

// checkFiles looks for the files that the configuration names. Those of credentials
// may come later, and most images need none.
func checkFiles(c *conf.Config) []finding {
	var out []finding
	for _, file := range []struct {
		key, path string
		without   level
	}{
		{"image.registries_conf", c.Image.RegistriesConf, fail},
		{"image.registries_dir", c.Image.RegistriesDir, fail},
		{"image.policy", c.Image.Policy, fail},
		{"image.policy_dir", c.Image.PolicyDir, fail},
		{"image.auth_file", c.Image.AuthFile, warn},
		{"image.auth_dir", c.Image.AuthDir, warn},
		{"image.decryption_keys", c.Image.DecryptionKeys, fail},
		{"network.template", c.Network.Template, fail},
		{"containers.blockio_config", c.Containers.BlockIOConfig, fail},
		{"containers.rdt_config", c.Containers.RDTConfig, fail},
	} {
		if file.path == "" {
			continue
		}
		if err := unix.Access(file.path, unix.R_OK); err != nil {
			out = append(out, finding{file.without, file.key, fmt.Sprintf("%s: %v", file.path, err), "correct the path or the file"})
		}
	}
	return out
}

// checkSocket says whether a daemon serves already.
func checkSocket(c *conf.Config) []finding {
	conn, err := net.DialTimeout("unix", c.API.Listen, 2*time.Second)
	switch {
	case err == nil:
		conn.Close()
		return []finding{{ok, "daemon", "serves on " + c.API.Listen, ""}}
	case errors.Is(err, os.ErrNotExist):
		return []finding{{ok, "daemon", "does not run; " + c.API.Listen + " is free", ""}}
	case errors.Is(err, unix.ECONNREFUSED):
		return []finding{{ok, "daemon", "does not run; the socket that an earlier one left at " + c.API.Listen + " will be replaced", ""}}
	}
	return []finding{{fail, "daemon", err.Error(), "correct api.listen"}}
}
