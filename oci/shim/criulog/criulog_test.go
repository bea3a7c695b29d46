package criulog

import (
	"os"
	"path/filepath"
	"testing"
)

func TestErrors(t *testing.T) {
	name := filepath.Join(t.TempDir(), Dump)
	if got := Errors(name, 3); got != "" {
		t.Errorf("no log says %q", got)
	}
	log := "(00.01) Dumping\n(00.02) Error (criu/x.c:1): RLIMIT_NOFILE\n(00.03) Error (criu/x.c:2): first\n(00.04) Warn\n" +
		"(00.05) Error (criu/x.c:3): second\n(00.06) Error (criu/x.c:4): third\n"
	if err := os.WriteFile(name, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := Errors(name, 2); got != "(criu/x.c:2): first; (criu/x.c:3): second" {
		t.Errorf("the log says %q", got)
	}
}
