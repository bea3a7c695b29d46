//go:build kernel

package critest

import (
	"os"
	"regexp"
)

// leftOut is a group of specs that do not run here.
type leftOut struct {
	specs  *regexp.Regexp
	reason string
	// here says whether the reason holds on this machine; nil is always.
	here func() bool
}

var table = []leftOut{
	{
		specs:  regexp.MustCompile(`^\[k8s\.io\] (Container|Image|PodSandbox) benchmark `),
		reason: "a benchmark, not a check; critest runs them with -benchmark only",
	},
	{
		specs:  regexp.MustCompile(`^\[k8s\.io\] AppArmor `),
		reason: "this kernel runs without AppArmor",
		here:   func() bool { return !exists("/sys/kernel/security/apparmor") },
	},
}

// reason finds why a spec is left out, "" if it is not.
func reason(spec string) string {
	for _, l := range table {
		if l.specs.MatchString(spec) && (l.here == nil || l.here()) {
			return l.reason
		}
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
