package conf

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
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

// decode lays the file's keys over c, unless one of them is faulty.
func (s *source) decode(c *Config) []error {
	var values map[string]any
	md, err := toml.Decode(s.text, &values)
	if err != nil {
		return []error{s.fault(err)}
	}
	s.md = md
	known := keys()
	var errs []error
	for _, k := range md.Keys() {
		var text string
		if t, ok := keyType(k, known); ok {
			text = mismatch(k, t, md, values)
		} else if _, ok := keyType(k[:len(k)-1], known); !ok && len(k) > 1 {
			continue // the table itself is reported
		} else {
			text = "unknown key"
			if near := nearest(k.String(), known); near != "" {
				text += fmt.Sprintf("; is %s meant?", near)
			}
		}
		if text != "" {
			errs = append(errs, &Error{File: s.file, Line: line(s.text, k), Key: k.String(), Text: text})
		}
	}
	if len(errs) > 0 {
		return errs
	}
	earlier := maps.Clone(c.Runtimes)
	if _, err := toml.Decode(s.text, c); err != nil {
		return []error{s.fault(err)}
	}
	for name, h := range earlier {
		c.Runtimes[name] = s.override(name, h, c.Runtimes[name])
	}
	return nil
}

// override is a handler of an earlier file with the keys that this file sets: the
// decoder begins tables that users name from nothing.
func (s *source) override(name string, earlier, now Handler) Handler {
	from, to := reflect.ValueOf(now), reflect.ValueOf(&earlier).Elem()
	for i := range from.NumField() {
		if s.md.IsDefined("runtimes", name, from.Type().Field(i).Tag.Get("toml")) {
			to.Field(i).Set(from.Field(i))
		}
	}
	return earlier
}

// fault places an error of the decoder.
func (s *source) fault(err error) error {
	e := &Error{File: s.file, Text: strings.TrimPrefix(err.Error(), "toml: ")}
	var parse toml.ParseError
	if errors.As(err, &parse) {
		e.Line, e.Key, e.Text = parse.Position.Line, parse.LastKey, parse.Message
	}
	return e
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
