package network

import (
	"os"
	"strings"
	"testing"
)

// The configuration that is shipped is one that this package takes.
func TestShippedConfiguration(t *testing.T) {
	b, err := os.ReadFile("../contrib/cni/" + templateFile)
	if err != nil {
		t.Fatal(err)
	}
	l, err := parseConfig(b, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(pluginNames(l), " "); got != "bridge host-local portmap" {
		t.Errorf("it needs the plugins %s", got)
	}
}
