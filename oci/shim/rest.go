package shim

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/criruntime/criruntime/oci/pidfd"
	"github.com/criruntime/criruntime/oci/shim/api"
	"github.com/criruntime/criruntime/oci/shim/doze"
	"github.com/criruntime/criruntime/oci/shim/podinit"
	"github.com/criruntime/criruntime/oci/shim/stdio"
)

// A shim that has worked holds three times the memory of a new one: Go gives
// back neither its tables nor pages of which it uses a part. So when it has been
// idle for a while the shim rests: the process executes its program again and
// goes on from what it has written down, once there is something to do: until then
// it dozes, and holds a few pages. It keeps its number, its children, its sockets
// and what the kernel holds for it; every descriptor that is not named in the notes
// closes itself. Nobody notices but those who listen for exits, who are cut off
// when it wakes, ask again, and miss nothing.
//
// Nothing can get lost, since rest begins only while nobody is served (door),
// nobody works (awake) and no exec is left. What a container writes or how it
// ends meanwhile waits in the kernel, and wakes the shim.

// notes are what a shim's next image has to know. Numbers of files are
// descriptors that it inherits.
type notes struct {
	API, Stdio int
	Listeners  []int `json:",omitempty"` // connections of those who listen for exits
	OOM        int
	Naps       int
	PodInit    *podInitNotes `json:",omitempty"`
	Containers []containerNotes
}

// alarms are the descriptors on which something to do arrives.
func (n *notes) alarms() []int {
	fds := []int{n.API, n.Stdio}
	for _, c := range n.Containers {
		if s := c.Streams; s != nil {
			fds = append(fds, s.Outputs()...)
		}
	}
	return fds
}

type podInitNotes struct{ Pid, Lease int }

type containerNotes struct {
	ID, Bundle string
	Pid        int
	State      api.State
	Exit       *exitNotes `json:",omitempty"`
	OOMs       uint64
	Execs      int            // how many there were
	Stale      []subgroupNote `json:",omitempty"`
	Streams    *stdio.Saved   `json:",omitempty"` // of a container that has not stopped
}

type exitNotes struct {
	Code       int32
	FinishedAt int64
	OOMKilled  bool
}

type subgroupNote struct {
	Dir   string
	Paths map[string]string
}

// luggage are the descriptors that the next image inherits.
type luggage struct{ fds []int }

// keep makes a copy of a file's descriptor that survives an exec.
func (l *luggage) keep(f syscall.Conn) (fd int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	if e := conn.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD, 3) }); e != nil {
		return 0, e
	}
	if err != nil {
		return 0, fmt.Errorf("cannot keep a descriptor: %v", err)
	}
	l.fds = append(l.fds, fd)
	return fd, nil
}

func (l *luggage) keepFile(f *os.File) (int, error) { return l.keep(f) }

func (l *luggage) drop() { stdio.CloseAll(l.fds) }

// rest executes the program again. It returns where that is not possible now.
func (s *Shim) rest() {
	if !s.awake.TryLock() {
		return
	}
	defer s.awake.Unlock()
	for _, d := range []*door{s.api, s.io} {
		open, ok := d.hold()
		if !ok {
			return
		}
		defer open()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping || s.reaper.busy() {
		return
	}
	if err := s.execAgain(); err != nil {
		s.log.Warnf("the shim keeps its memory: %v", err)
	}
}

// execAgain returns only with an error, or nil when now is not the time.
func (s *Shim) execAgain() error {
	l := &luggage{}
	defer l.drop()
	n := notes{OOM: s.oom, Naps: s.memory.nap()}
	for _, c := range s.containers {
		noted, resume, ok := c.note(l)
		if !ok {
			return nil
		}
		defer resume()
		n.Containers = append(n.Containers, *noted)
	}
	var err error
	if n.API, err = l.keep(s.api); err != nil {
		return err
	}
	if n.Stdio, err = l.keep(s.io); err != nil {
		return err
	}
	for _, conn := range s.api.visitors() {
		fd, err := l.keep(conn)
		if err != nil {
			return err
		}
		n.Listeners = append(n.Listeners, fd)
	}
	if s.pod != nil {
		n.PodInit = &podInitNotes{Pid: s.pod.pid}
		if n.PodInit.Lease, err = l.keep(s.pod.Lease); err != nil {
			return err
		}
	}
	fd, err := l.write(&n)
	if err != nil {
		return err
	}
	args := []string{os.Args[0], "-pod", s.podID, "-notes", strconv.Itoa(fd), "-rest-after", s.memory.delay.String()}
	env := os.Environ()
	if alarms := doze.Env(n.alarms()); alarms != "" {
		env = append(env, alarms)
	}
	return os.NewSyscallError("execve", syscall.Exec("/proc/self/exe", args, env))
}

// write puts the notes into memory and returns the descriptor.
func (l *luggage) write(n *notes) (int, error) {
	b, err := json.Marshal(n)
	if err != nil {
		return 0, err
	}
	fd, err := unix.MemfdCreate("notes", 0)
	if err != nil {
		return 0, fmt.Errorf("cannot make a file for the notes: %v", err)
	}
	l.fds = append(l.fds, fd)
	written, err := unix.Pwrite(fd, b, 0)
	if err == nil && written < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return 0, fmt.Errorf("cannot write the notes: %v", err)
	}
	return fd, nil
}

func readNotes(fd int) (*notes, error) {
	f := os.NewFile(uintptr(fd), "notes")
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("cannot read the notes: %v", err)
	}
	var n notes
	if err := json.Unmarshal(b, &n); err != nil {
		return nil, fmt.Errorf("cannot read the notes: %v", err)
	}
	return &n, nil
}

// note describes the container; resume undoes what that stopped. ok is false
// while something of it is not over.
func (c *container) note(l *luggage) (n *containerNotes, resume func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetUnclaimed(0)
	waits := c.restore != nil && c.state == api.State_CREATED // for the start that restores it
	if len(c.execs) > 0 || c.state == api.State_UNKNOWN || waits {
		return nil, nil, false
	}
	n = &containerNotes{ID: c.id, Bundle: c.bundle, Pid: c.pid, State: c.state, OOMs: c.ooms, Execs: c.nextID}
	for _, g := range c.stale {
		n.Stale = append(n.Stale, subgroupNote{g.dir, g.paths})
	}
	if e := c.exit; e != nil {
		n.Exit = &exitNotes{e.Code, e.FinishedAt, e.OomKilled}
		return n, func() {}, true
	}
	n.Streams, resume, ok = c.streams.Save(l.keepFile, c.shim.guard)
	return n, resume, ok
}

// resume takes up what the image before has noted. Who has ended meanwhile is
// not told from an unknown orphan before all are adopted.
func (s *Shim) resume(n *notes) error {
	defer s.reaper.starting()()
	s.oom = n.OOM
	stdio.CloseAll(n.Listeners)
	if p := n.PodInit; p != nil {
		if err := s.resumePodInit(p); err != nil {
			return err
		}
	}
	for i := range n.Containers {
		if err := s.resumeContainer(&n.Containers[i]); err != nil {
			return fmt.Errorf("cannot resume container %s: %v", n.Containers[i].ID, err)
		}
	}
	s.spread()
	return nil
}

func (s *Shim) resumeContainer(n *containerNotes) (err error) {
	c := s.newContainer(n.ID, n.Bundle)
	c.pid, c.state, c.ooms, c.nextID = n.Pid, n.State, n.OOMs, n.Execs
	for _, g := range n.Stale {
		c.stale = append(c.stale, &subgroup{g.Dir, g.Paths})
	}
	s.containers[c.id] = c
	if e := n.Exit; e != nil {
		c.exit = &api.Exit{Id: c.id, Code: e.Code, FinishedAt: e.FinishedAt, OomKilled: e.OOMKilled}
		c.streams = &streams{Streams: &stdio.Streams{}}
		close(c.gone)
		return nil
	}
	if c.streams, err = restoreStreams(n.Streams, s.log.Warn); err != nil {
		return err
	}
	return c.carryOn()
}

// carryOn takes up the work for a container that was alive before the rest. It
// may have ended meanwhile.
func (c *container) carryOn() (err error) {
	c.shim.reaper.adopt(c.pid)
	if c.fd, err = pidfd.Open(c.pid); err != nil {
		return err
	}
	c.streams.Run(c.shim.guard)
	c.shim.guard("container", c.watch)
	return nil
}

func (s *Shim) resumePodInit(n *podInitNotes) error {
	unix.CloseOnExec(n.Lease)
	i, err := podinit.Adopt(n.Pid, os.NewFile(uintptr(n.Lease), "pod-init"))
	if err != nil {
		return err
	}
	s.pod = &podInit{Init: i, shim: s, pid: n.Pid, gone: make(chan struct{})}
	s.reaper.adopt(n.Pid)
	s.guard("pod init", s.pod.wait)
	return nil
}
