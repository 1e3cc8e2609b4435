package main

import (
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/sqlite"
	_ "github.com/mattn/go-sqlite3"
	"github.com/spf13/pflag"
)

// house is the top of the module, seen from this package.
const house = "../.."

// documents are the pages for users, by their path in the house.
func documents(t *testing.T) map[string]string {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(house, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]string{}
	for _, page := range append(pages, filepath.Join(house, "README.md"), filepath.Join(house, "CONTRIBUTING.md")) {
		docs[strings.TrimPrefix(filepath.ToSlash(page), house+"/")] = read(t, page)
	}
	return docs
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var (
	inConsole = regexp.MustCompile(`(?m)^\$ (grapnel .*)$`)
	inText    = regexp.MustCompile("`(grapnel [^`\n]*)`")
)

// Whoever copies a command from a page gets no usage error.
func TestDocsCommands(t *testing.T) {
	n := 0
	for page, text := range documents(t) {
		for _, m := range inConsole.FindAllStringSubmatch(text, -1) {
			n++
			if err := parseCommand(shellWords(m[1]), true); err != nil {
				t.Errorf("%s: %s: %v", page, m[1], err)
			}
		}
		for _, m := range inText.FindAllStringSubmatch(text, -1) {
			n++
			if err := parseCommand(shellWords(m[1]), false); err != nil {
				t.Errorf("%s: %s: %v", page, m[1], err)
			}
		}
	}
	if n < 40 {
		t.Errorf("found only %d commands in the pages", n)
	}
	for _, wrong := range []string{"grapnel server", "grapnel org", "grapnel org rename acme x", "grapnel listen --secrets x", "grapnel org add"} {
		if parseCommand(shellWords(wrong), true) == nil {
			t.Errorf("the check takes %q", wrong)
		}
	}
}

// parseCommand says why a command line cannot be, without running it. In the
// text commands are named without their arguments.
func parseCommand(words []string, whole bool) error {
	root := (&app{in: strings.NewReader(""), out: io.Discard, err: io.Discard}).command()
	root.InitDefaultCompletionCmd()
	root.InitDefaultHelpCmd()
	c, rest, err := root.Find(words[1:])
	if err != nil {
		return err
	}
	c.InitDefaultHelpFlag()
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	args := c.Flags().Args()
	if c.HasSubCommands() && c.Name() != "bench" && (whole || len(args) > 0) {
		return fmt.Errorf("%s has no command for %q", c.CommandPath(), args)
	}
	if !whole && len(args) == 0 {
		return nil
	}
	return c.ValidateArgs(args)
}

// shellWords splits one command off a line, as far as the pages need it:
// quotes, and an end at a pipe, a redirection or a comment.
func shellWords(line string) (words []string) {
	word, quote, open := "", rune(0), false
	end := func() {
		if open {
			words = append(words, word)
		}
		word, open = "", false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word += string(r)
		case r == '\'' || r == '"':
			quote, open = r, true
		case r == ' ':
			end()
		case strings.ContainsRune("|>;#", r) && !open:
			return words
		default:
			word, open = word+string(r), true
		}
	}
	end()
	return words
}

func TestDocsSettings(t *testing.T) {
	page := documents(t)["docs/configuration.md"]
	serve, _, err := (&app{}).command().Find([]string{"serve"})
	if err != nil {
		t.Fatal(err)
	}
	serve.Flags().VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(page, "`--"+f.Name+"`") {
			t.Errorf("docs/configuration.md does not name --%s", f.Name)
		}
		if def := f.DefValue; def != "" && def != "[]" && !strings.Contains(page, "`"+def+"`") {
			t.Errorf("docs/configuration.md does not name the default of --%s, %s", f.Name, def)
		}
	})
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

func TestDocsLinks(t *testing.T) {
	docs := documents(t)
	for page, text := range docs {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			to := page
			if target != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(page), target))
			}
			if _, err := os.Stat(filepath.Join(house, to)); err != nil {
				t.Errorf("%s: link to %s: %v", page, m[1], err)
			}
			if anchor != "" && !slices.Contains(anchors(docs[to]), anchor) {
				t.Errorf("%s: link to %s: no such heading", page, m[1])
			}
		}
	}
}

// anchors are the names of a page's headings in links.
func anchors(text string) (names []string) {
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// The stops of "Reading the source" are functions of the files that they are
// said to be in.
func TestDocsReading(t *testing.T) {
	readme := documents(t)["README.md"]
	_, section, _ := strings.Cut(readme, "\n## Reading the source\n")
	section, _, _ = strings.Cut(section, "\n## ")
	source, n := "", 0
	for _, m := range regexp.MustCompile("\\[`[^`]+`\\]\\(([^)]+\\.go)\\)|`([A-Za-z]+)`").FindAllStringSubmatch(section, -1) {
		if m[1] != "" {
			source = m[1]
			continue
		}
		if source == "" || !strings.HasSuffix(source, ".go") {
			t.Fatalf("%s stands before any file", m[2])
		}
		n++
		function := regexp.MustCompile(`(?m)^func (\([^)]*\) )?` + m[2] + `[\[(]`)
		if !function.MatchString(read(t, filepath.Join(house, source))) {
			t.Errorf("%s has no function %s", source, m[2])
		}
	}
	if n < 30 {
		t.Errorf("found only %d functions", n)
	}
}

func TestDocsDependencies(t *testing.T) {
	readme := documents(t)["README.md"]
	n := 0
	for _, m := range regexp.MustCompile(`(?m)^\t(\S+) v\S+$`).FindAllStringSubmatch(read(t, filepath.Join(house, "go.mod")), -1) {
		if n++; !strings.Contains(readme, "`"+m[1]+"`") {
			t.Errorf("README.md does not say what %s is for", m[1])
		}
	}
	if n < 10 {
		t.Errorf("found only %d direct dependencies", n)
	}
}

// The queries for SREs run on the books as they are, and the state's numbers
// are explained.
func TestDocsQueries(t *testing.T) {
	dir := t.TempDir()
	store, err := sqlite.Open(t.Context(), sqlite.Options{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(dir, sqlite.FileName)+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var failed bytes.Buffer
	n := 0
	for page, text := range documents(t) {
		for _, m := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(text, -1) {
			for query := range strings.SplitSeq(strings.TrimSpace(m[1]), ";") {
				if strings.TrimSpace(query) == "" {
					continue
				}
				n++
				rows, err := db.QueryContext(t.Context(), query)
				if err == nil {
					for rows.Next() {
					}
					err = rows.Err()
					rows.Close()
				}
				if err != nil {
					failed.WriteString(page + ": " + query + ": " + err.Error() + "\n")
				}
			}
		}
	}
	if diff := cmp.Diff("", failed.String()); diff != "" {
		t.Error(diff)
	}
	if n < 5 {
		t.Errorf("found only %d queries", n)
	}
}
