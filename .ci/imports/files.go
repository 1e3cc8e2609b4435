package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"strings"
)

// maxLines is how long a file may grow before somebody should ask why.
const maxLines = 600

// statement finds SQL by how its statements begin. SQL keywords are written in
// capitals here, which tells them from prose.
var statement = regexp.MustCompile(`^\s*(SELECT\s|INSERT\s+(OR\s+\w+\s+)?INTO\s|REPLACE\s+INTO\s|UPDATE\s+\S+\s+SET\s|DELETE\s+FROM\s|` +
	`WITH\s+(RECURSIVE\s+)?\w+\s*(\([^)]*\)\s*)?AS\s|(CREATE|ALTER|DROP)\s+(\w+\s+)?(TABLE|INDEX|VIEW|TRIGGER)\s|PRAGMA\s|BEGIN\s+IMMEDIATE|ATTACH\s+DATABASE\s)`)

// checkFile looks into one Go file; name is its path inside the module.
//
//   - SQL stands in package sqlite, and in the outbox, which writes into its
//     caller's database. Tests may look into a database themselves.
//   - A test that sleeps is slow, and on a busy machine it fails. Inside a
//     testing/synctest bubble a sleep costs nothing and is exact, so files that
//     import it may.
//   - A file of more than maxLines lines is mentioned, unless it is generated.
func checkFile(name string, src []byte) (wrong, long []string, err error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, fmt.Errorf("parse: %w", err)
	}
	add := func(at ast.Node, what string) {
		wrong = append(wrong, fmt.Sprintf("%s:%d: %s", name, fset.Position(at.Pos()).Line, what))
	}

	isTest := strings.HasSuffix(name, "_test.go")
	mayHaveSQL := isTest || below("sqlite", name) || below("stream/outbox", name)
	timeName := ""
	if isTest && importName(file, "testing/synctest") == "" {
		timeName = importName(file, "time")
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && timeName != "" && x.Name == timeName && n.Sel.Name == "Sleep" {
				add(n, "time.Sleep in a test: wait for a signal, or use testing/synctest")
			}
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); n.Kind == token.STRING && err == nil && !mayHaveSQL && statement.MatchString(text) {
				add(n, "SQL outside package sqlite")
			}
		}
		return true
	})

	if lines := bytes.Count(src, []byte("\n")); lines > maxLines && !ast.IsGenerated(file) {
		long = append(long, fmt.Sprintf("%s: %d lines", name, lines))
	}
	return wrong, long, nil
}

// importName is the name by which the file knows an imported package, "" if
// it does not import it.
func importName(file *ast.File, importPath string) string {
	for _, imp := range file.Imports {
		if p, err := strconv.Unquote(imp.Path.Value); err != nil || p != importPath {
			continue
		}
		if imp.Name != nil {
			return imp.Name.Name
		}
		return importPath[strings.LastIndex(importPath, "/")+1:]
	}
	return ""
}
