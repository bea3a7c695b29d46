package crilog

import (
	"os"

	"golang.org/x/sys/unix"
)

// Saved is a log between two images of a process. File is a descriptor that the
// next one inherits.
type Saved struct {
	Path    string
	File    int
	Line    int
	Lost    int64             `json:",omitempty"`
	Writers map[string]Middle `json:",omitempty"`
}

// Middle is where a writer is in the middle of a line.
type Middle struct {
	Tail    []byte `json:",omitempty"`
	Partial bool   `json:",omitempty"`
}

// Save describes the log, whose file keep makes inheritable; no writer may be
// at work. It returns nil while a line is being finished in a rotated file.
func (l *Log) Save(keep func(*os.File) (int, error)) (*Saved, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &Saved{Path: l.path, Line: l.line, Lost: l.lost, Writers: make(map[string]Middle)}
	for _, w := range l.writers {
		if w.file != l.current {
			return nil, nil
		}
		if len(w.tail) > 0 || w.partial {
			s.Writers[w.stream] = Middle{w.tail, w.partial}
		}
	}
	var err error
	s.File, err = keep(l.current.File)
	return s, err
}

// Restore makes a log of what Save described. Its writers go on where those
// before were.
func Restore(s *Saved, report func(string)) *Log {
	unix.CloseOnExec(s.File)
	l := logOf(&file{os.NewFile(uintptr(s.File), s.Path)}, s.Path, s.Line, report)
	l.lost, l.middles = s.Lost, s.Writers
	return l
}
