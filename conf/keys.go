package conf

import (
	"reflect"
	"strings"

	"github.com/BurntSushi/toml"
)

// keys lists every key of the configuration, and every table.
func keys() []string {
	return collect(reflect.TypeFor[Config](), "")
}

func collect(t reflect.Type, prefix string) []string {
	var out []string
	for f := range t.Fields() {
		key := prefix + f.Tag.Get("toml")
		out = append(out, key)
		if f.Type.Kind() == reflect.Struct {
			out = append(out, collect(f.Type, key+".")...)
		}
	}
	return out
}

// nearest is the known key that the unknown one is most likely a slip for: by
// its spelling, or because it stands in the wrong table. "" if none is near.
func nearest(key string, known []string) string {
	best, bestDistance := "", 1+len(key)/4
	for _, k := range known {
		if d := distance(key, k); d <= bestDistance {
			best, bestDistance = k, d-1
		}
	}
	if best != "" {
		return best
	}
	last := key[strings.LastIndex(key, ".")+1:]
	for _, k := range known {
		if k[strings.LastIndex(k, ".")+1:] == last {
			return k
		}
	}
	return ""
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
