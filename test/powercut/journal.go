package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/criruntime/criruntime/image/record"
)

// journal says which images must have been kept. What add returns from is on the
// disk; a line that a cut tore is one that add never returned from.
type journal struct {
	file *os.File
	kept map[string]bool // by name
}

func openJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	j := &journal{file: f, kept: map[string]bool{}}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "keeps "); ok {
			j.kept[name] = true
		} else if name, ok := strings.CutPrefix(lines.Text(), "may lose "); ok {
			delete(j.kept, name)
		}
	}
	// The end of a torn line, if there is one.
	_, err = f.WriteString("\n")
	return j, errors.Join(err, f.Sync(), record.SyncDir(filepath.Dir(path)))
}

// keeps notes that the runtime may not lose an image any more.
func (j *journal) keeps(name string) error {
	j.kept[name] = true
	return j.add("keeps " + name)
}

// mayLose notes that it is about to be removed.
func (j *journal) mayLose(name string) error {
	delete(j.kept, name)
	return j.add("may lose " + name)
}

func (j *journal) add(line string) error {
	_, err := fmt.Fprintln(j.file, line)
	return errors.Join(err, j.file.Sync())
}
