package config

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of the documentation")

const page = "../../../docs/configuration.md"

// rows are the table of the documentation, made from the settings.
func rows() (flags, keys string) {
	var b strings.Builder
	b.WriteString("| setting | takes | default | reload | |\n| --- | --- | --- | --- | --- |\n")
	for _, s := range settings {
		takes, initial := s.want, "none"
		if s.boolean {
			takes = "true or false"
		}
		if s.many {
			takes += "; several"
		}
		if s.initial != "" {
			initial = "`" + s.initial + "`"
		}
		initial = cmp.Or(s.absent, initial)
		what := strings.TrimSuffix(strings.ReplaceAll(strings.ReplaceAll(s.usage, "`", ""), "|", `\|`), " (repeatable)")
		if s.hide != nil {
			what += ". Secret: `" + s.env() + fileSuffix + "` may name a file"
		}
		fmt.Fprintf(&b, "| `--%s` `%s` | %s | %s | %s | %s |\n", s.flag, s.env(), takes, initial, word(s.reload), what+more(s.see))
	}
	flags = b.String()
	b.Reset()
	b.WriteString("| key | holds | without it | reload | |\n| --- | --- | --- | --- | --- |\n")
	for _, s := range sections {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", s.key, s.want, s.absent, word(s.reload), s.usage+more(s.see))
	}
	return flags, b.String()
}

func word(reload bool) string {
	if reload {
		return "yes"
	}
	return "restart"
}

func more(see string) string {
	if see == "" {
		return ""
	}
	return " ([more](" + see + "))"
}

// OPS-07: the tables of the documentation are those of the program.
func TestDocsTables(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	flags, keys := rows()
	got := string(text)
	for name, table := range map[string]string{"settings": flags, "sections": keys} {
		between := regexp.MustCompile(`(?s)(<!-- ` + name + `: [^\n]*-->\n).*?(<!-- end -->)`)
		if !between.MatchString(got) {
			t.Fatalf("%s has no place for the table of %s", page, name)
		}
		got = between.ReplaceAllString(got, "${1}"+strings.ReplaceAll(table, "$", "$$")+"${2}")
	}
	if got == string(text) {
		return
	}
	if !*update {
		t.Fatalf("the tables of %s are not those of the program: -update writes them", page)
	}
	if err := os.WriteFile(page, []byte(got), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Every setting says what it takes, and one that can be reloaded has a value to go
// back to when it is said no longer.
func TestSettingsAreWhole(t *testing.T) {
	for _, s := range settings {
		if s.want == "" && !s.boolean {
			t.Errorf("--%s does not say what it takes", s.flag)
		}
		if s.reload && s.initial == "" && !s.many {
			t.Errorf("--%s can be reloaded, and has no default to go back to", s.flag)
		}
	}
	for _, s := range sections {
		if s.want == "" || s.absent == "" || s.take == nil || s.show == nil {
			t.Errorf("section %s lacks something", s.key)
		}
	}
}

// The whole file of the documentation is read as it stands, has every key, and where
// it shows a default, that is the default.
func TestDocsFile(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, example, ok := strings.Cut(string(text), "```yaml\n")
	example, _, closed := strings.Cut(example, "```")
	if !ok || !closed {
		t.Fatalf("%s has no file", page)
	}
	c, err := load(t, nil, nil, example)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range c.Effective() {
		commented := regexp.MustCompile(`(?m)^# ` + v.Key + `: \S`).MatchString(example)
		if (v.Source == File) == commented {
			t.Errorf("%s is not in the file, or twice", v.Key)
		}
		i := slices.IndexFunc(settings, func(s setting) bool { return s.key() == v.Key })
		if i < 0 || v.Source != File || settings[i].initial == "" {
			continue
		}
		if got := strings.Join(v.Values, ","); got != settings[i].initial {
			t.Errorf("%s is %s in the file, and %s by default", v.Key, got, settings[i].initial)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^# ([a-z0-9_]+): (.*)$`).FindAllStringSubmatch(example, -1) {
		name := filepath.Join(t.TempDir(), "one.yaml")
		if err := os.WriteFile(name, []byte(m[1]+": "+m[2]+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readFile(name); err != nil {
			t.Errorf("what is commented out: %v", err)
		}
	}
}
