package image

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"

	"github.com/criruntime/criruntime/image/compression"
	"github.com/criruntime/criruntime/image/registry"
)

// Options configure a Store. Root and RunDir are needed, the rest has defaults.
type Options struct {
	// Root keeps images and writable layers over reboots. It is on a file
	// system that overlay takes as its upper directory.
	Root string
	// RunDir keeps what is void after a reboot; best on a tmpfs.
	RunDir string
	// RegistriesConf and Policy are paths; "" stands for the places where the
	// containers tools look. In PolicyDir <namespace>.json comes in the place of
	// Policy for the pods of that namespace.
	RegistriesConf string
	Policy         string
	PolicyDir      string
	// RegistriesDir says where signatures are, as containers-registries.d(5); ""
	// stands for the usual places.
	RegistriesDir string
	// AuthFile holds the credentials of pulls that bring none, in the form of
	// containers-auth.json(5); "" stands for the places where the containers
	// tools look. In AuthDir <namespace>.json counts in its place for the
	// pods of that namespace.
	AuthFile string
	AuthDir  string
	// DecryptionKeys is a directory with the keys of encrypted images, "" for none.
	DecryptionKeys string
	// Pinned are the images that the kubelet must not collect: tags, digests or
	// ids, "*" stands for any text.
	Pinned []string
	// PreloadDir holds archives whose images are imported when the store opens,
	// and when they appear; "" for none.
	PreloadDir string
	// Igzip inflates large layers where it is there.
	Igzip compression.Igzip
	// Layers is how many layers of one image are fetched and unpacked at the
	// same time; all pulls together do four times as many. 0 stands for 6.
	Layers int
	// Stall is how long a transfer may stand still before it is tried again.
	// 0 stands for 30 s.
	Stall time.Duration
	// Retain is how long the finished layers of a pull that failed for lack of
	// an answering registry are kept for the next attempt. 0 stands for 10 min.
	Retain time.Duration
	Log    *logrus.Entry
}

// Store keeps images and root filesystems under Options.Root:
//
//	layers/<dir>             one unpacked layer each, complete
//	staging/<dir>            layers being unpacked
//	records/{layers,images}  what is complete and synced; nothing else counts
//	                         after a reboot
//	containers/<key>         upper, work and lease.json of one holder
//	trash/                   what is being deleted
//	empty/{1,2}              stand in where an image has no layer
//
// and under Options.RunDir the records of what is complete but not synced yet,
// valid in this boot. It is safe for concurrent use; one process may have a
// Root open at a time.
type Store struct {
	o      Options
	log    *logrus.Entry
	boot   string
	client *registry.Client
	pins   atomic.Pointer[pins]
	disk   *os.File // Root, for syncfs: opened before the writes it reports on
	lock   *os.File
	*catalog

	pulls   flights[ID]
	unpacks flights[unpacked]
	slots   *semaphore.Weighted

	// saving serialises changes of the catalog's images with their records, so
	// that they never disagree. No sync is done under it.
	saving sync.Mutex

	leases leases
	upper  upperUsage

	wake, sweep chan struct{} // each for one pending call of settle, of sweep
	quit        context.CancelFunc
	workers     sync.WaitGroup
	retained    sync.WaitGroup
	imports     preloader
	life        context.Context // ends with Close: for timers and workers
	closed      atomic.Bool     // no pull starts any more
}

// Open loads the store's records and starts its background work. What a crash
// left half-made is deleted in the background. Holders keep their mounts until
// Keep says otherwise.
func Open(o Options) (*Store, error) {
	if o.Layers == 0 {
		o.Layers = 6
	}
	if o.Retain == 0 {
		o.Retain = 10 * time.Minute
	}
	if o.Log == nil {
		o.Log = logrus.NewEntry(logrus.StandardLogger())
	}
	client, err := registry.New(registry.Options{
		RegistriesConf: o.RegistriesConf, Policy: o.Policy, PolicyDir: o.PolicyDir, RegistriesDir: o.RegistriesDir,
		AuthFile: o.AuthFile, AuthDir: o.AuthDir, Stall: o.Stall, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("cannot tell this boot from others: %w", err)
	}
	life, quit := context.WithCancel(context.Background())
	s := &Store{
		o: o, log: o.Log, boot: strings.TrimSpace(string(boot)), client: client,
		catalog: newCatalog(), slots: semaphore.NewWeighted(4 * int64(o.Layers)),
		wake: make(chan struct{}, 1), sweep: make(chan struct{}, 1), life: life, quit: quit,
	}
	s.unpacks.unclaimed = s.unclaimed
	s.SetPinned(o.Pinned)
	if err := s.open(); err != nil {
		quit()
		return nil, errors.Join(fmt.Errorf("cannot open the image store %s: %w", o.Root, err), s.closeFiles())
	}
	s.workers.Go(s.settleLoop)
	s.workers.Go(s.sweepLoop)
	poke(s.wake)
	poke(s.sweep)
	if o.PreloadDir != "" {
		if err := s.preload(); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

func (s *Store) open() error {
	for _, dir := range []string{"layers", "staging", "records/layers", "records/images", "containers", "trash"} {
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			return err
		}
	}
	for _, dir := range emptyDirs {
		if err := os.MkdirAll(s.path(dir), 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{"layers", "images"} {
		if err := os.MkdirAll(s.runPath(dir), 0o700); err != nil {
			return err
		}
	}
	if err := s.lockRoot(); err != nil {
		return err
	}
	var err error
	if s.disk, err = os.Open(s.o.Root); err != nil {
		return err
	}
	return s.load()
}

// Close ends running pulls, writes the last records and returns when nothing
// runs any more. Mounts stay.
func (s *Store) Close() error {
	s.closed.Store(true)
	s.imports.close()
	s.pulls.close()
	s.unpacks.close()
	s.upper.rounds.close()
	s.quit()
	s.retained.Wait()
	s.workers.Wait()
	s.settle()
	return s.closeFiles()
}

func (s *Store) closeFiles() error {
	var errs []error
	for _, f := range []*os.File{s.disk, s.lock} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.o.Root}, parts...)...)
}

func (s *Store) runPath(parts ...string) string {
	return filepath.Join(append([]string{s.o.RunDir, "unsynced"}, parts...)...)
}

// discard moves the directory at path to the trash, where it is deleted in the
// background. name tells the layers there apart. It is no error if there is
// nothing at path.
func (s *Store) discard(path, name string) error {
	err := os.Rename(path, s.path("trash", name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	poke(s.sweep)
	return err
}

// newName returns a name that no directory of the store has.
func newName() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// poke asks a worker for a round. One that is asked for already will do.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
