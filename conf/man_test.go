package conf

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write contrib/man/criruntime.toml.5 anew")

// The manual page of the configuration file is made of the reference, so that
// they cannot differ.
func TestManualPage(t *testing.T) {
	const file = "../contrib/man/criruntime.toml.5"
	want := manualPage()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != want {
		t.Errorf("%s is not up to date (%v): run go test ./conf -update", file, err)
	}
}

func manualPage() string {
	var b strings.Builder
	b.WriteString(`.\" Generated from conf/default.toml by "go test ./conf -update".
.TH CRIRUNTIME.TOML 5 "" "criruntime" "File formats"
.SH NAME
criruntime.toml \- configuration of criruntime
.SH DESCRIPTION
`)
	intro, rest, _ := strings.Cut(Reference(), "\n\n")
	b.WriteString(roff(strings.TrimPrefix(intro, "# Configuration of criruntime. ")))
	b.WriteString(".SH KEYS\n")
	table, comment := "", ""
	for _, l := range strings.Split(rest, "\n") {
		switch {
		case strings.HasPrefix(l, "#"):
			comment += strings.TrimPrefix(strings.TrimPrefix(l, "#"), " ") + "\n"
		case strings.HasPrefix(l, "["):
			table = strings.Trim(l, "[]")
			b.WriteString(".SS [" + table + "]\n" + roff(comment))
			comment = ""
		case l != "":
			key, value, _ := strings.Cut(l, " = ")
			b.WriteString(".TP\n.BR " + key + " \" (default " + strings.ReplaceAll(escape(value), `"`, `\(dq`) + ")\"\n" + roff(comment))
			comment = ""
		}
	}
	b.WriteString(`.SH FILES
.I /etc/criruntime/criruntime.toml
.br
.I /etc/criruntime/criruntime.toml.d/*.toml
.SH SEE ALSO
.BR criruntime (8),
.BR containers\-registries.conf (5),
.BR containers\-policy.json (5)
`)
	return b.String()
}

// roff is text as lines of troff.
func roff(text string) string {
	var b strings.Builder
	if text == "" {
		return ""
	}
	for _, l := range strings.Split(strings.TrimSpace(text), "\n") {
		l = escape(strings.TrimPrefix(strings.TrimPrefix(l, "#"), " "))
		if l == "" {
			l = ".PP"
		} else if l[0] == '.' || l[0] == '\'' {
			l = `\&` + l
		}
		b.WriteString(l + "\n")
	}
	return b.String()
}

func escape(text string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
}
