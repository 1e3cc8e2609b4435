// Command imports checks what the compiler does not: that the packages import
// each other in one direction only, that each technology stays in its room,
// that every package says what it is, and that no test sleeps in real time.
//
//	go run ./.ci/imports
//
// It reads the packages of the module in the current directory, prints one line
// for each violation and exits 1 if there is one. Long files are a warning.
//
// # The rooms
//
//	cmd → sqlite → fanout → {cursor, deliver} → stream
//
// A room is a directory with everything below it, unless a deeper room takes
// it (deliver/sign, stream/outbox). Inside a room packages import each other as
// they like. A room's test helpers (streamtest, …) are part of it; only tests
// import them.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A pkg is what `go list -json` says of one package of the module.
type pkg struct {
	ImportPath string
	Dir        string
	Doc        string // the package comment's first sentence
	Module     struct{ Path string }

	GoFiles, CgoFiles, IgnoredGoFiles  []string // names inside Dir
	TestGoFiles, XTestGoFiles          []string
	Imports, TestImports, XTestImports []string
}

// path is the package's path inside its module: "deliver/sign", "." for the root.
func (p pkg) path() string { return within(p.Module.Path, p.ImportPath) }

// isTestHelper tells a package that exists for tests: streamtest, delivertest.
func (p pkg) isTestHelper() bool { return isTestHelper(p.path()) }

func main() {
	pkgs, err := list("./...")
	if err != nil {
		fmt.Fprintln(os.Stderr, "imports:", err)
		os.Exit(1)
	}
	var wrong, long []string
	for _, p := range pkgs {
		wrong = append(wrong, checkImports(p)...)
		wrong = append(wrong, checkComment(p)...)
		w, l, err := checkFiles(p)
		if err != nil {
			fmt.Fprintln(os.Stderr, "imports:", err)
			os.Exit(1)
		}
		wrong, long = append(wrong, w...), append(long, l...)
	}
	for _, line := range long {
		fmt.Println("warning:", line)
	}
	for _, line := range wrong {
		fmt.Println(line)
	}
	if len(wrong) > 0 {
		fmt.Printf("%d packages, %d violations\n", len(pkgs), len(wrong))
		os.Exit(1)
	}
	fmt.Printf("%d packages in order\n", len(pkgs))
}

// list reads the packages that patterns name, in the order of their paths.
func list(patterns ...string) ([]pkg, error) {
	cmd := exec.Command("go", append([]string{"list", "-json"}, patterns...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(&out); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read the list of packages: %w", err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) == 0 {
		return nil, fmt.Errorf("no packages match %s", strings.Join(patterns, " "))
	}
	return pkgs, nil
}

// checkComment wants a package comment. A directory of tests alone needs none.
func checkComment(p pkg) []string {
	if p.Doc != "" || len(p.GoFiles)+len(p.CgoFiles) == 0 {
		return nil
	}
	return []string{p.path() + ": no package comment"}
}

// checkFiles looks into the package's files, whatever build they belong to.
func checkFiles(p pkg) (wrong, long []string, err error) {
	names := slices.Concat(p.GoFiles, p.CgoFiles, p.TestGoFiles, p.XTestGoFiles, p.IgnoredGoFiles)
	slices.Sort(names)
	for _, name := range names {
		src, err := os.ReadFile(filepath.Join(p.Dir, name))
		if err != nil {
			return nil, nil, err
		}
		shown := filepath.ToSlash(filepath.Join(p.path(), name))
		w, l, err := checkFile(shown, src)
		if err != nil {
			return nil, nil, err
		}
		wrong, long = append(wrong, w...), append(long, l...)
	}
	return wrong, long, nil
}
