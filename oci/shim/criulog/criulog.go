// Package criulog reads what CRIU's logs say of a failure. It knows nothing of
// what CRIU was asked for.
package criulog

import (
	"bufio"
	"os"
	"strings"
)

// Dump is the name of the log that CRIU writes of a checkpoint.
const Dump = "dump.log"

// Errors are the first n lines of a log that are errors, without their times, in
// one line; "" where there are none.
func Errors(name string, n int) string {
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	var found []string
	for lines := bufio.NewScanner(f); lines.Scan() && len(found) < n; {
		if _, text, ok := strings.Cut(lines.Text(), "Error "); ok && !strings.Contains(text, "RLIMIT_NOFILE") {
			found = append(found, text)
		}
	}
	return strings.Join(found, "; ")
}
