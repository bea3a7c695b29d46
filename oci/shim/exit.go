package shim

import (
	"time"

	"github.com/criruntime/criruntime/oci/shim/api"
	"github.com/criruntime/criruntime/oci/shim/exits"
)

// watch waits for the container's end, records it, and tells everybody once
// all output is in the log. The order matters: the OOM counter is read while
// the cgroup is there, and the file is written before anyone hears of the
// exit, so that a daemon which misses the event finds it.
func (c *container) watch() {
	_ = c.fd.Wait()
	at := time.Now()
	c.shim.awake.RLock()
	defer c.shim.awake.RUnlock()
	oom := false
	_, cgroup, err := c.open()
	if err == nil {
		oom = cgroup.oomKilled(c.ooms)
		err = cgroup.kill()
	}
	if err != nil {
		c.shim.log.Errorf("container %s has ended and left processes: %v", c.id, err)
	}
	code := c.reap()
	exit := &api.Exit{Id: c.id, Code: code, FinishedAt: at.UnixNano(), OomKilled: oom && code != 0}
	if err := exits.Write(c.bundle, exit); err != nil {
		c.shim.log.Errorf("container %s has ended with code %d: %v", c.id, exit.Code, err)
	}
	c.streams.Drain()
	c.shim.exits.Publish(exit, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.state, c.exit = api.State_STOPPED, exit
	})
	c.fd.Close()
	close(c.gone)
	c.shim.memory.tidy()
}

// reap takes the init's exit status.
func (c *container) reap() int32 {
	ws, err := reapChild(c.pid)
	c.shim.reaper.reaped(c.pid)
	if err != nil {
		c.shim.log.Errorf("the exit code of container %s is lost: %v", c.id, err)
		return 255
	}
	return exitCode(ws)
}
