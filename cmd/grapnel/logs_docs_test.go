package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	diff "github.com/google/go-cmp/cmp"
)

// logLine is one call of a logger in the source.
type logLine struct {
	room, level, message string
	keys                 []string
}

// logLevels are the methods of a slog.Logger that write a line, and which argument
// is the message.
var logLevels = map[string]int{
	"Debug": 0, "Info": 0, "Warn": 0, "Error": 0, "DebugContext": 1, "InfoContext": 1, "WarnContext": 1, "ErrorContext": 1, "Log": 2, "LogAttrs": 2,
}

// logLines are the lines that the daemon can log. wrong are those whose message is
// no constant text, or has a key that is none.
func logLines(t *testing.T) (lines []logLine, wrong []string) {
	t.Helper()
	for _, room := range []string{"cmd", "sqlite", "fanout", "cursor", "deliver", "stream"} {
		err := filepath.WalkDir(filepath.Join(house, room), func(path string, d fs.DirEntry, err error) error {
			name := filepath.Base(path)
			if err != nil || d.IsDir() && (name == "testdata" || strings.HasSuffix(name, "test")) {
				return cmp.Or(err, fs.SkipDir)
			}
			if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(name, "bench") {
				return nil
			}
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				line, bad, ok := logCall(n)
				switch {
				case !ok:
				case bad != "":
					wrong = append(wrong, fmt.Sprintf("%s: %s", fset.Position(n.Pos()), bad))
				default:
					line.room = room
					lines = append(lines, line)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return lines, wrong
}

// logCall reads a call of a logger, which all are called log or Log or Logger.
func logCall(n ast.Node) (line logLine, bad string, ok bool) {
	call, isCall := n.(*ast.CallExpr)
	if !isCall {
		return line, "", false
	}
	method, isMethod := call.Fun.(*ast.SelectorExpr)
	if !isMethod {
		return line, "", false
	}
	at, isLog := logLevels[method.Sel.Name]
	var of string
	switch x := method.X.(type) {
	case *ast.Ident:
		of = x.Name
	case *ast.SelectorExpr:
		of = x.Sel.Name
	}
	if !isLog || of != "log" && of != "Log" && of != "Logger" || len(call.Args) <= at {
		return line, "", false
	}
	message, constant := constantText(call.Args[at])
	if !constant {
		return line, "the message is not a constant text", true
	}
	line.level, line.message = strings.TrimSuffix(strings.ToLower(method.Sel.Name), "context"), message
	args := call.Args[at+1:]
	if strings.HasPrefix(method.Sel.Name, "Log") {
		line.level = logLevel(call.Args[1])
	}
	if call.Ellipsis.IsValid() || method.Sel.Name == "LogAttrs" {
		return line, "", true
	}
	for i := 0; i < len(args); i += 2 {
		key, constant := constantText(args[i])
		if !constant || key == "" || strings.ContainsFunc(key, func(r rune) bool { return !(r >= 'a' && r <= 'z' || r == '_') }) {
			return line, fmt.Sprintf("%q: argument %d is no key of lower-case letters and _", message, i+1), true
		}
		line.keys = append(line.keys, key)
	}
	return line, "", true
}

// constantText is a constant text, perhaps in parts.
func constantText(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		return s, err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		a, ok := constantText(e.X)
		b, also := constantText(e.Y)
		return a + b, ok && also && e.Op == token.ADD
	}
	return "", false
}

// logLevel is the level of slog.LevelInfo and its like; of others, "varies".
func logLevel(e ast.Expr) string {
	if s, ok := e.(*ast.SelectorExpr); ok && strings.HasPrefix(s.Sel.Name, "Level") {
		return strings.ToLower(strings.TrimPrefix(s.Sel.Name, "Level"))
	}
	return "varies"
}

// Every line that can be in the log stands in docs/logs.md, with a constant text,
// so that it can be looked up and counted. (OPS-06)
func TestOPS06_DocsLogs(t *testing.T) {
	lines, wrong := logLines(t)
	for _, w := range wrong {
		t.Error(w)
	}
	if len(lines) < 60 {
		t.Fatalf("found only %d lines", len(lines))
	}
	rank := map[string]int{"error": 0, "warn": 1, "info": 2, "varies": 3, "debug": 4}
	slices.SortStableFunc(lines, func(a, b logLine) int {
		return cmp.Or(cmp.Compare(rank[a.level], rank[b.level]), strings.Compare(a.message, b.message), strings.Compare(a.room, b.room))
	})
	lines = slices.CompactFunc(lines, func(a, b logLine) bool { return a.level == b.level && a.message == b.message })
	var table strings.Builder
	table.WriteString("| level | message | with | of |\n| --- | --- | --- | --- |\n")
	for _, l := range lines {
		keys := "`" + strings.Join(l.keys, "`, `") + "`"
		if len(l.keys) == 0 {
			keys = ""
		}
		fmt.Fprintf(&table, "| %s | %s | %s | %s |\n", l.level, l.message, keys, l.room)
	}
	page := filepath.Join(house, "docs", "logs.md")
	before, rest, found := strings.Cut(read(t, page), "| level | message |")
	if !found {
		t.Fatal("docs/logs.md has no table")
	}
	after := ""
	if _, behind, more := strings.Cut(rest, "\n\n"); more {
		after = "\n" + behind
	}
	want := before + table.String() + after
	if *updateGoldens {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := diff.Diff(want, read(t, page)); d != "" {
		t.Errorf("docs/logs.md (-want +got; go test ./cmd/grapnel -run DocsLogs -update writes it):\n%s", d)
	}
}
