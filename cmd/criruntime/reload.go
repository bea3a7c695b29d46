package main

import (
	"strings"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/criruntime/criruntime/conf"
	"github.com/criruntime/criruntime/oci/class"
)

// reloader puts a changed configuration into force while the daemon runs.
type reloader struct {
	file string

	mu      sync.Mutex
	running *conf.Config                 // what is in force
	apply   func(now *conf.Config) error // nil until the daemon is assembled
	missed  bool                         // a signal came before that
}

// begin is told how to apply what is adopted. What has changed before is made
// good.
func (r *reloader) begin(apply func(*conf.Config) error) {
	r.mu.Lock()
	r.apply = apply
	missed := r.missed
	r.mu.Unlock()
	if missed {
		r.reload()
	}
}

// config is what is in force, for who wants to look at it.
func (r *reloader) config() *conf.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running
}

// reload reads the file again. A fault in it leaves all as it is.
func (r *reloader) reload() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.apply == nil {
		r.missed = true
		return
	}
	wanted, err := conf.Load(r.file)
	if err != nil {
		logrus.Errorf("the configuration is not reloaded: %v", err)
		return
	}
	now := adopt(r.running, wanted)
	if err := r.apply(now); err != nil {
		logrus.Errorf("the configuration is not reloaded: %v", err)
		return
	}
	logrus.Infof("the configuration is reloaded; changed: %s", difference(r.running, now))
	if rest := difference(now, wanted); rest != "" {
		logrus.Warnf("these keys have changed too and take effect when the daemon is restarted: %s", rest)
	}
	r.running = now
}

// adopt returns the running configuration with those keys of the wanted one that
// can change while the daemon runs.
func adopt(running, wanted *conf.Config) *conf.Config {
	now := *running
	now.Log.Level = wanted.Log.Level
	now.Image.Pinned = wanted.Image.Pinned
	now.Containers = wanted.Containers
	now.Containers.SELinux = running.Containers.SELinux
	now.Containers.AppArmorProfile = running.Containers.AppArmorProfile
	now.Containers.RDTConfig = running.Containers.RDTConfig
	return &now
}

// apply puts into force what adopt adopts: all of it, or nothing with an error.
func (d *parts) apply(c *conf.Config) error {
	p, err := policy(&c.Containers)
	if err != nil {
		return err
	}
	if err := class.LoadBlockIO(c.Containers.BlockIOConfig); err != nil {
		return err
	}
	if err := setLevel(c.Log); err != nil {
		return err
	}
	d.pods.SetPolicy(p)
	d.images.SetPinned(c.Image.Pinned)
	return nil
}

// difference lists the keys that differ, for the log.
func difference(a, b *conf.Config) string {
	keys, err := conf.Differing(a, b)
	if err != nil {
		return err.Error()
	}
	return strings.Join(keys, ", ")
}
