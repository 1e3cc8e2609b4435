package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "example.org/house"

// at is the package with this path in a module of ours.
func at(path string, imports ...string) pkg {
	p := pkg{ImportPath: module + "/" + path, Imports: imports}
	p.Module.Path = module
	return p
}

func ours(path string) string { return module + "/" + path }

func TestCheckImports(t *testing.T) {
	tests := []struct {
		name string
		pkg  pkg
		want []string
	}{
		{"down the house", at("sqlite", ours("fanout"), ours("deliver/sign"), "database/sql", "github.com/mattn/go-sqlite3"), nil},
		{"wiring imports everything", at("cmd/grapnel", ours("cmd/internal/httpapi"), ours("sqlite"), ours("stream/outbox")), nil},
		{"the stream is NATS", at("stream", "github.com/nats-io/nats.go/jetstream", "github.com/nats-io/nats-server/v2/server"), nil},
		{"a helper in its room", at("fanout/fanouttest", ours("fanout"), ours("stream/streamtest"), "testing"), nil},
		{"a helper, as a test may", at("fanout/fanouttest", ours("deliver/sign")), nil},
		{"a name that only begins like a room", at("streams"), []string{"streams: stands in no room"}},
		{"a root package", pkg{ImportPath: module, Module: struct{ Path string }{module}}, []string{".: stands in no room"}},
		{"up the house", at("stream", ours("cursor")), []string{"stream: imports cursor: stream may import no other room"}},
		{"sideways", at("cursor", ours("deliver")), []string{"cursor: imports deliver: cursor may import only stream"}},
		{"down, past the table", at("fanout", ours("deliver/sign")), []string{"fanout: imports deliver/sign: fanout may import only stream, cursor, deliver"}},
		{"signing alone", at("deliver/sign", ours("deliver")), []string{"deliver/sign: imports deliver: deliver/sign may import no other room"}},
		{"the outbox is its own room", at("stream", ours("stream/outbox")), []string{"stream: imports stream/outbox: stream may import no other room"}},
		{"NATS below the stream", at("stream/inner", "github.com/nats-io/nats.go"), []string{"stream/inner: imports github.com/nats-io/nats.go: only stream may know NATS"}},
		{"NATS in the binary", at("cmd/grapnel", "github.com/nats-io/nats-server/v2/server"), []string{"cmd/grapnel: imports github.com/nats-io/nats-server/v2/server: only stream may know NATS"}},
		{"a driver elsewhere", at("fanout", "github.com/mattn/go-sqlite3"), []string{"fanout: imports github.com/mattn/go-sqlite3: only sqlite may know a database driver"}},
		{"the outbox has no driver", at("stream/outbox", "database/sql", "database/sql/driver"), []string{"stream/outbox: imports database/sql/driver: only sqlite may know a database driver"}},
		{"database/sql elsewhere", at("cmd/grapnel", "database/sql"), []string{"cmd/grapnel: imports database/sql: only sqlite and stream/outbox may know database/sql"}},
		{"a helper in production", at("cmd/grapnel", ours("deliver/delivertest")), []string{"cmd/grapnel: imports deliver/delivertest: only tests may import it"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, checkImports(tt.pkg)); diff != "" {
				t.Error("-want +got:\n" + diff)
			}
		})
	}
}

func TestCheckImportsOfTests(t *testing.T) {
	tests := []struct {
		name    string
		path    string
		imports []string
		want    []string
	}{
		{"what is below, helpers and a client", "fanout", []string{ours("deliver/sign"), ours("stream/streamtest"), "github.com/nats-io/nats.go"}, nil},
		{"what is above", "deliver", []string{ours("sqlite")}, []string{"deliver: imports sqlite: a test in deliver may import what is below it"}},
	}
	for _, tt := range tests {
		for _, external := range []bool{false, true} {
			p := at(tt.path)
			if external {
				p.XTestImports = tt.imports
			} else {
				p.TestImports = tt.imports
			}
			if diff := cmp.Diff(tt.want, checkImports(p)); diff != "" {
				t.Errorf("%s, external %t: -want +got:\n%s", tt.name, external, diff)
			}
		}
	}
}

func TestCheckComment(t *testing.T) {
	silent := at("stream")
	silent.GoFiles = []string{"event.go"}
	if got := checkComment(silent); len(got) != 1 {
		t.Errorf("without a comment: %q, want one line", got)
	}
	silent.Doc = "Package stream is the durable log of events."
	if got := checkComment(silent); got != nil {
		t.Errorf("with a comment: %q, want none", got)
	}
	if got := checkComment(at("testdata")); got != nil {
		t.Errorf("without code: %q, want none", got)
	}
}

func TestCheckFile(t *testing.T) {
	const sleeping = "package p\nimport (\n\t\"testing\"\n\t\"time\"\n)\nfunc TestX(*testing.T) { time.Sleep(1) }\n"
	const query = "package p\nconst q = `\n\tSELECT id FROM events`\n"
	tests := []struct {
		name      string
		file, src string
		want      []string
	}{
		{"a test sleeps", "cursor/a_test.go", sleeping, []string{"cursor/a_test.go:6: time.Sleep in a test: wait for a signal, or use testing/synctest"}},
		{"under another name", "cursor/a_test.go", strings.NewReplacer(`"time"`, `clock "time"`, "time.Sleep", "clock.Sleep").Replace(sleeping), []string{"cursor/a_test.go:6: time.Sleep in a test: wait for a signal, or use testing/synctest"}},
		{"in a bubble", "cursor/a_test.go", strings.Replace(sleeping, `"testing"`, "\"testing\"\n\t\"testing/synctest\"", 1), nil},
		{"code may sleep", "cursor/a.go", sleeping, nil},
		{"a sleep in a comment", "cursor/a_test.go", "package p // no time.Sleep(1) here\n", nil},
		{"SQL elsewhere", "fanout/a.go", query, []string{"fanout/a.go:2: SQL outside package sqlite"}},
		{"SQL at home", "sqlite/a.go", query, nil},
		{"SQL in the outbox", "stream/outbox/a.go", query, nil},
		{"SQL in a test", "cmd/grapnel/a_test.go", query, nil},
		{"prose", "cmd/grapnel/a.go", "package p\nconst help = `Select one of the endpoints; delete from the list what is gone`\n", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := checkFile(tt.file, []byte(tt.src))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error("-want +got:\n" + diff)
			}
		})
	}
}

func TestCheckFileLength(t *testing.T) {
	body := "package p\n" + strings.Repeat("\n", maxLines)
	_, long, err := checkFile("stream/a.go", []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"stream/a.go: 601 lines"}, long); diff != "" {
		t.Error("-want +got:\n" + diff)
	}
	_, long, err = checkFile("stream/a.go", []byte("// Code generated by hand. DO NOT EDIT.\n\n"+body))
	if err != nil || long != nil {
		t.Errorf("generated: %q, %v, want no warning", long, err)
	}
}
