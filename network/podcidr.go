package network

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// templateFile is the name of the configuration that SetPodCIDR writes.
const templateFile = "10-criruntime.conflist"

// cidrFields is what a template may name.
type cidrFields struct {
	// PodCIDR is the first range.
	PodCIDR string
	// PodCIDRRanges are all ranges, primary first.
	PodCIDRRanges []string
	// Routes are the default routes for the families of the ranges.
	Routes []string
}

// SetPodCIDR takes the node's pod address ranges, separated by commas, as the
// kubelet hands them down. With a template configured it writes from it the
// file 10-criruntime.conflist in the configuration directory, if that changes
// it; otherwise the network provider's own configuration is the one that
// counts, and the ranges are only logged.
func (n *Network) SetPodCIDR(cidrs string) error {
	if cidrs == "" {
		return nil
	}
	fields, err := parseCIDRs(cidrs)
	if err != nil {
		return err
	}
	if n.o.Template == "" {
		n.log.Infof("the node's pod addresses are %s; the network configuration decides whether they are used", cidrs)
		return nil
	}
	b, err := renderTemplate(n.o.Template, fields)
	if err != nil {
		return err
	}
	path := filepath.Join(n.o.ConfDir, templateFile)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, b) {
		return nil
	}
	if err := replaceFile(path, b); err != nil {
		return fmt.Errorf("cannot write the network configuration: %w", err)
	}
	n.log.Infof("wrote %s for the pod addresses %s", path, cidrs)
	n.standard.current()
	return nil
}

func parseCIDRs(cidrs string) (cidrFields, error) {
	var f cidrFields
	for _, c := range strings.Split(cidrs, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(c))
		if err != nil {
			return cidrFields{}, fmt.Errorf("invalid pod address range %q", c)
		}
		f.PodCIDRRanges = append(f.PodCIDRRanges, p.Masked().String())
		route := "0.0.0.0/0"
		if p.Addr().Is6() {
			route = "::/0"
		}
		if !strings.Contains(strings.Join(f.Routes, " "), route) {
			f.Routes = append(f.Routes, route)
		}
	}
	f.PodCIDR = f.PodCIDRRanges[0]
	return f, nil
}

// renderTemplate returns a configuration that is known to be valid.
func renderTemplate(path string, f cidrFields) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the network template: %w", err)
	}
	t, err := template.New(filepath.Base(path)).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("the network template is invalid: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, f); err != nil {
		return nil, fmt.Errorf("the network template is invalid: %w", err)
	}
	if _, err := parseConfig(b.Bytes(), ""); err != nil {
		return nil, fmt.Errorf("the network template %s makes an invalid configuration: %w", path, err)
	}
	return b.Bytes(), nil
}

// replaceFile writes the file so that readers see the old or the new one.
func replaceFile(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".criruntime-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
