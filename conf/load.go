package conf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
)

// Error is one thing that is wrong in a configuration file.
type Error struct {
	File string
	Line int    // 0 where no line is to blame
	Key  string // such as "log.level"; "" for a fault of syntax
	Text string
}

// Error renders "file:line: key: text".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Key != "" {
		fmt.Fprintf(&b, ": %s", e.Key)
	}
	return b.String() + ": " + e.Text
}

// source is one file's text, for finding lines.
type source struct {
	file string
	text string
	md   toml.MetaData
}

// Load reads the file at path and the *.toml files in the directory path+".d".
// With path "" it is DefaultPath, which may be absent. The error joins one
// *Error for each fault, or is the file system's.
func Load(path string) (*Config, error) {
	optional := path == ""
	if optional {
		path = DefaultPath
	}
	texts, err := read(path, optional)
	if err != nil {
		return nil, err
	}
	c := Default()
	var errs []error
	for i := range texts {
		errs = append(errs, texts[i].decode(c)...)
	}
	if len(errs) == 0 {
		errs = blame(c.validate(), texts)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, nil
}

// read returns the files in the order in which they apply.
func read(path string, optional bool) ([]source, error) {
	var out []source
	b, err := os.ReadFile(path)
	switch {
	case err == nil:
		out = append(out, source{file: path, text: string(b)})
	case !optional || !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	entries, err := os.ReadDir(path + ".d")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	for _, e := range entries { // sorted by name
		if e.IsDir() || filepath.Ext(e.Name()) != ".toml" || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		file := filepath.Join(path+".d", e.Name())
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("cannot read the configuration: %w", err)
		}
		out = append(out, source{file: file, text: string(b)})
	}
	return out, nil
}

// decode lays the file's keys over c.
func (s *source) decode(c *Config) []error {
	md, err := toml.Decode(s.text, c)
	var parse toml.ParseError
	switch {
	case errors.As(err, &parse):
		return []error{&Error{File: s.file, Line: parse.Position.Line, Key: parse.LastKey, Text: strings.TrimPrefix(parse.Message, "toml: ")}}
	case err != nil:
		return []error{&Error{File: s.file, Text: strings.TrimPrefix(err.Error(), "toml: ")}}
	}
	s.md = md
	var errs []error
	for _, k := range md.Undecoded() {
		key := k.String()
		if unknownTable(k, md) {
			continue // the table itself is reported
		}
		text := "unknown key"
		if near := nearest(key, keys()); near != "" {
			text += fmt.Sprintf("; is %s meant?", near)
		}
		errs = append(errs, &Error{File: s.file, Line: line(s.text, k), Key: key, Text: text})
	}
	return errs
}

// unknownTable says whether the table that holds k is itself unknown.
func unknownTable(k toml.Key, md toml.MetaData) bool {
	for _, u := range md.Undecoded() {
		if len(u) < len(k) && strings.HasPrefix(k.String(), u.String()+".") {
			return true
		}
	}
	return false
}

// blame gives each fault the file and line that set the key last.
func blame(faults []fault, texts []source) []error {
	var errs []error
	for _, f := range faults {
		key := toml.Key(strings.Split(f.key, "."))
		e := &Error{File: "default configuration", Key: f.key, Text: f.text}
		for _, s := range texts {
			if s.md.IsDefined(key...) {
				e.File, e.Line = s.file, line(s.text, key)
			}
		}
		errs = append(errs, e)
	}
	return errs
}
