package main

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// A room is a directory of the module and what its code may know.
type room struct {
	dir       string
	floor     int      // what tests in this room may import: this floor and below
	mayImport []string // the other rooms that its code may import
}

// rooms is the house, lowest floor first.
var rooms = []room{
	{"testdata", 0, nil}, // data alone
	{"deliver/sign", 0, nil},
	{"stream", 1, nil},
	{"stream/outbox", 2, []string{"stream"}},
	{"cursor", 2, []string{"stream"}},
	{"deliver", 2, []string{"stream", "deliver/sign"}},
	{"fanout", 3, []string{"stream", "cursor", "deliver"}},
	{"sqlite", 4, []string{"stream", "stream/outbox", "cursor", "deliver", "deliver/sign", "fanout"}},
	{"cmd", 5, []string{"stream", "stream/outbox", "cursor", "deliver", "deliver/sign", "fanout", "sqlite", "testdata"}},
}

// A technology is a set of outside packages that only some packages may know.
type technology struct {
	name     string
	prefixes []string // import paths, each with everything below it
	allowed  []string // packages of ours, without what is below them
}

var technologies = []technology{
	{"NATS", []string{"github.com/nats-io"}, []string{"stream"}},
	{"a database driver", []string{
		"github.com/mattn/go-sqlite3", "modernc.org/sqlite", "github.com/ncruces/go-sqlite3",
		"github.com/jackc/pgx", "github.com/lib/pq", "database/sql/driver",
	}, []string{"sqlite"}},
	// The outbox appends inside its caller's *sql.Tx.
	{"database/sql", []string{"database/sql"}, []string{"sqlite", "stream/outbox"}},
}

// roomOf is the deepest room that holds the package with this path.
func roomOf(pkgPath string) (found room, ok bool) {
	for _, r := range rooms {
		if below(r.dir, pkgPath) && len(r.dir) > len(found.dir) {
			found, ok = r, true
		}
	}
	return found, ok
}

// checkImports lists what the package imports and may not.
//
// Its code keeps to the table. Its tests may use whatever stands on their floor
// or below, and any technology: a test of the whole program is a NATS client.
func checkImports(p pkg) []string {
	from, ok := roomOf(p.path())
	if !ok {
		return []string{p.path() + ": stands in no room"}
	}
	var wrong []string
	add := func(imported, why string) {
		wrong = append(wrong, fmt.Sprintf("%s: imports %s: %s", p.path(), imported, why))
	}
	for _, imp := range p.Imports {
		if !below(p.Module.Path, imp) {
			if t, ok := technologyOf(imp); ok && !p.isTestHelper() && !t.isFor(p.path()) {
				add(imp, fmt.Sprintf("only %s may know %s", strings.Join(t.allowed, " and "), t.name))
			}
			continue
		}
		imp = within(p.Module.Path, imp)
		to, ok := roomOf(imp)
		switch {
		case !ok:
			add(imp, "stands in no room")
		case p.isTestHelper() && to.floor < from.floor: // as a test may
		case to.dir != from.dir && !slices.Contains(from.mayImport, to.dir):
			add(imp, fmt.Sprintf("%s may import %s", from.dir, orNothing(from.mayImport)))
		case isTestHelper(imp) && !p.isTestHelper():
			add(imp, "only tests may import it")
		}
	}
	for _, imp := range append(p.TestImports, p.XTestImports...) {
		if !below(p.Module.Path, imp) {
			continue
		}
		imp = within(p.Module.Path, imp)
		if to, ok := roomOf(imp); !ok {
			add(imp, "stands in no room")
		} else if to.floor > from.floor {
			add(imp, fmt.Sprintf("a test in %s may import what is below it", from.dir))
		}
	}
	return wrong
}

// technologyOf is the most special technology that an import path belongs to.
func technologyOf(importPath string) (technology, bool) {
	for _, t := range technologies {
		for _, prefix := range t.prefixes {
			if below(prefix, importPath) {
				return t, true
			}
		}
	}
	return technology{}, false
}

func (t technology) isFor(pkgPath string) bool { return slices.Contains(t.allowed, pkgPath) }

// below tells whether an import path is dir or lies under it.
func below(dir, importPath string) bool {
	return importPath == dir || strings.HasPrefix(importPath, dir+"/")
}

// within is an import path without its module's.
func within(module, importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

func isTestHelper(pkgPath string) bool {
	return strings.HasSuffix(path.Base(pkgPath), "test")
}

func orNothing(names []string) string {
	if len(names) == 0 {
		return "no other room"
	}
	return "only " + strings.Join(names, ", ")
}
