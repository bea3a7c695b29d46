//go:build kernel

package oci_test

import (
	"io"
	"slices"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/criruntime/criruntime/oci"
)

// TestStages: where a container's creation spent its time is told, last stage
// first, and in more detail to who debugs.
func TestStages(t *testing.T) {
	for level, want := range map[logrus.Level][]string{
		logrus.InfoLevel:  {"streams", "seccomp", "init", "state", "configuration"},
		logrus.DebugLevel: {"streams", "seccomp", "rootfs", "go runtime", "namespaces", "bootstrap", "state", "configuration"},
	} {
		// What init says is heard by and by, and left out where that is too late.
		for try := 1; ; try++ {
			stages := stagesAt(t, level)
			if slices.Equal(stages, want) {
				break
			}
			if try == 10 || level != logrus.DebugLevel {
				t.Errorf("at level %v: stages %q, want %q", level, stages, want)
				break
			}
		}
	}
}

// stagesAt are those of a creation, the last one first.
func stagesAt(t *testing.T, level logrus.Level) (stages []string) {
	p := newPod(t)
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.SetLevel(level)
	var sum time.Duration
	launcher, err := oci.NewLauncher(oci.LauncherOptions{
		ShimPath: shimProgram, Log: logrus.NewEntry(log),
		Observe: func(stage string, took, ago time.Duration) {
			stages = append(stages, stage)
			if took <= 0 || ago != sum {
				t.Errorf("stage %s took %v and ended %v ago, after which %v passed", stage, took, ago, sum)
			}
			sum += took
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer launcher.Close()
	plain := p.Shim
	if p.Shim, err = launcher.Connect(p.context(), p.options); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p.create(script("true"))
	if took := time.Since(began); sum > took {
		t.Errorf("at level %v: stages %q of %v in %v", level, stages, sum, took)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	p.Shim = plain
	return stages
}
