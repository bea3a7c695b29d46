package conf

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// keys maps every key of the configuration, and every table, to its type. In
// tables that users name, "*" stands for the name.
func keys() map[string]reflect.Type {
	out := map[string]reflect.Type{}
	collect(out, reflect.TypeFor[Config](), "")
	return out
}

func collect(out map[string]reflect.Type, t reflect.Type, prefix string) {
	for f := range t.Fields() {
		key := prefix + f.Tag.Get("toml")
		out[key] = f.Type
		if f.Type.Kind() == reflect.Struct {
			collect(out, f.Type, key+".")
		}
		if f.Type.Kind() == reflect.Map {
			out[key+".*"] = f.Type.Elem()
			collect(out, f.Type.Elem(), key+".*.")
		}
	}
}

// keyType finds the type of a key as a user wrote it.
func keyType(k toml.Key, known map[string]reflect.Type) (reflect.Type, bool) {
	if len(k) > 1 {
		if _, named := known[k[0]+".*"]; named {
			k = slices.Clone(k)
			k[1] = "*"
		}
	}
	t, ok := known[strings.Join(k, ".")]
	return t, ok
}

// mismatch says what the value of the key, which is for a field of type t, has
// to be, if it is not; "" otherwise.
func mismatch(k toml.Key, t reflect.Type, md toml.MetaData, values map[string]any) string {
	got := md.Type(k...)
	switch {
	case t == reflect.TypeFor[time.Duration]():
		if got != "String" {
			return `must be a duration such as "90s" or "5m"`
		}
	case t.Kind() == reflect.String:
		if got != "String" {
			return "must be a string in quotes"
		}
	case t.Kind() == reflect.Int:
		if got != "Integer" {
			return "must be a whole number"
		}
	case t.Kind() == reflect.Bool:
		if got != "Bool" {
			return "must be true or false"
		}
	case t.Kind() == reflect.Slice:
		if got != "Array" || !allStrings(k, values) {
			return `must be an array of strings such as ["a", "b"]`
		}
	case got != "Hash":
		return "must be a table"
	}
	return ""
}

func allStrings(k toml.Key, values map[string]any) bool {
	var v any = values
	for _, name := range k {
		table, ok := v.(map[string]any)
		if !ok {
			return false
		}
		v = table[name]
	}
	list, ok := v.([]any)
	for _, e := range list {
		if _, isString := e.(string); !isString {
			return false
		}
	}
	return ok
}

// nearest is the known key that the unknown one is most likely a slip for: by
// its spelling, or because it stands in the wrong table. "" if none is near.
func nearest(key string, known map[string]reflect.Type) string {
	names := slices.Sorted(maps.Keys(known))
	last := key[strings.LastIndex(key, ".")+1:]
	for _, k := range names {
		if k[strings.LastIndex(k, ".")+1:] == last {
			return k
		}
	}
	best, bestDistance := "", 1+len(key)/4
	for _, k := range names {
		if d := distance(key, k); d <= bestDistance {
			best, bestDistance = k, d-1
		}
	}
	return best
}

// distance is the number of characters to insert, delete or replace between a
// and b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j+1]+1, row[j]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

// line finds where a key is set: 1 for the first line, 0 if it is not found.
// The decoder does not tell. It knows table headers, plain and dotted keys,
// which is all that this configuration has.
func line(text string, key toml.Key) int {
	table, found := "", 0
	for i, l := range strings.Split(text, "\n") {
		l = strings.TrimSpace(l)
		if strings.HasPrefix(l, "[") {
			table = compact(strings.Trim(strings.SplitN(l, "]", 2)[0], "[ \t"))
			if table == key.String() {
				found = i + 1
			}
			continue
		}
		name, _, ok := strings.Cut(l, "=")
		if !ok || strings.HasPrefix(l, "#") {
			continue
		}
		full := compact(name)
		if table != "" {
			full = table + "." + full
		}
		if full == key.String() {
			return i + 1
		}
	}
	return found
}

// compact takes the spaces and needless quotes out of a key.
func compact(key string) string {
	return strings.NewReplacer(" ", "", "\t", "", `"`, "", "'", "").Replace(key)
}
