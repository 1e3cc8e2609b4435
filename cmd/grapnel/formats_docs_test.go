package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/grapnel-hooks/grapnel/cmd/internal/config"
	"github.com/grapnel-hooks/grapnel/deliver"
)

// block is the first block of docs/formats.md in that language.
func block(t *testing.T, language string) string {
	t.Helper()
	m := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindStringSubmatch(read(t, filepath.Join(house, "docs", "formats.md")))
	if m == nil {
		t.Fatalf("docs/formats.md has no block of %s", language)
	}
	return m[1]
}

// The page's examples are the golden requests, it names every format that is built
// in, and the formats of its configuration can be used.
func TestDocsFormats(t *testing.T) {
	page := read(t, filepath.Join(house, "docs", "formats.md"))
	examples := regexp.MustCompile("(?s)```http\n(.*?)\n```").FindAllStringSubmatch(page, -1)
	goldens, err := filepath.Glob(filepath.Join(house, "testdata", "requests", "*.http"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, g := range goldens {
		known[strings.ReplaceAll(read(t, g), "\r\n", "\n")] = true
	}
	for i, e := range examples {
		if !known[e[1]] {
			t.Errorf("example %d is no golden request:\n%s", i+1, e[1])
		}
	}
	for _, f := range deliver.BuiltInFormats() {
		if !strings.Contains(page, "| `"+f.Name+"` |") {
			t.Errorf("the table has no %s", f.Name)
		}
	}
	file := filepath.Join(t.TempDir(), "grapnel.yaml")
	if err := os.WriteFile(file, []byte(block(t, "yaml")), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := config.Formats(file); err != nil || len(all) != 2 {
		t.Errorf("%d formats: %v", len(all), err)
	}
}

// The page's code accepts what is genuine and refuses what is not.
func TestDocsVerifiers(t *testing.T) {
	if testing.Short() {
		t.Skip("starts interpreters")
	}
	requests := filepath.Join(house, "testdata", "requests")
	golden := func(name, header string) (value, body string) {
		head, body, _ := strings.Cut(read(t, filepath.Join(requests, name)), "\r\n\r\n")
		for line := range strings.Lines(head) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), header+": "); ok {
				return v, body
			}
		}
		t.Fatalf("%s has no %s", name, header)
		return "", ""
	}
	var secrets struct{ Requests map[string][]string }
	if err := json.Unmarshal([]byte(read(t, filepath.Join(requests, "secrets.json"))), &secrets); err != nil {
		t.Fatal(err)
	}
	quote := func(s string) string { // a text that JSON, Python and JavaScript read the same
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	encoded := func(s string) string { return "base64_decode('" + base64.StdEncoding.EncodeToString([]byte(s)) + "')" }
	const at = 1795255205
	type call struct {
		what string
		args []string // texts; of the body and the time other than the rest
		want bool
	}
	var calls []call
	hexed, hexBody := golden("vexyl.http", "X-Webhook-Signature")
	stamped, stampedBody := golden("acme-timestamped.http", "Acme-Signature")
	vexyl, acme := secrets.Requests["vexyl.http"][0], secrets.Requests["acme-timestamped.http"]
	for _, c := range []struct {
		secret, header, body string
		want                 bool
	}{
		{vexyl, hexed, hexBody, true}, {vexyl, hexed, hexBody + " ", false}, {acme[1], hexed, hexBody, false},
		{vexyl, hexed[:len(hexed)-1], hexBody, false}, {vexyl, "sha256=", hexBody, false}, {vexyl, "", hexBody, false},
	} {
		calls = append(calls, call{"sha256-hex", []string{c.secret, c.header, c.body}, c.want})
	}
	for _, c := range []struct {
		secret, header, body string
		now                  int64
		want                 bool
	}{
		{acme[0], stamped, stampedBody, at, true}, {acme[1], stamped, stampedBody, at, true}, {acme[1], stamped, stampedBody, at + 299, true},
		{acme[0], stamped, stampedBody, at + 301, false}, {acme[0], stamped, stampedBody, at - 301, false}, {vexyl + "x", stamped, stampedBody, at, false},
		{acme[0], stamped, stampedBody + " ", at, false}, {acme[0], strings.Replace(stamped, "t=", "t=1", 1), stampedBody, at, false},
		{acme[0], stamped[:strings.Index(stamped, ",v1=")], stampedBody, at, false}, {acme[0], stamped[:strings.Index(stamped, ",v1=")] + ",v1=", stampedBody, at, false},
		{acme[0], "", stampedBody, at, false}, {acme[0], "t=,v1=", stampedBody, at, false},
	} {
		calls = append(calls, call{"timestamped", []string{c.secret, c.header, c.body, fmt.Sprint(c.now)}, c.want})
	}
	keyed, keyedBody := golden("acme-ed25519.http", "webhook-signature")
	id, _ := golden("acme-ed25519.http", "webhook-id")
	public := secrets.Requests["acme-ed25519.http"][0]
	for _, c := range []struct {
		id, header, body string
		now              int64
		want             bool
	}{
		{id, keyed, keyedBody, at, true}, {id, "v1,x " + keyed, keyedBody, at, true}, {id + "x", keyed, keyedBody, at, false},
		{id, keyed, keyedBody + " ", at, false}, {id, keyed[:20], keyedBody, at, false}, {id, "v1a,", keyedBody, at, false}, {id, keyed, keyedBody, at + 301, false},
	} {
		calls = append(calls, call{"ed25519", []string{public, c.id, fmt.Sprint(at), c.header, c.body, fmt.Sprint(c.now)}, c.want})
	}
	for _, l := range []struct {
		tool, language string
		flags          []string
		names          map[string]string
		text, body     func(string) string // as it is written in the language
		line           func(call, args string) string
	}{
		{"python3", "python", []string{"-"}, map[string]string{"sha256-hex": "verify_sha256_hex", "timestamped": "verify_timestamped"},
			quote, func(s string) string { return quote(s) + ".encode()" },
			func(name, args string) string { return "print('yes' if " + name + "(" + args + ") else 'no')" }},
		{"node", "javascript", []string{"-"}, map[string]string{"sha256-hex": "verifySHA256Hex", "timestamped": "verifyTimestamped", "ed25519": "verifyEd25519"},
			quote, func(s string) string { return "Buffer.from(" + quote(s) + ")" },
			func(name, args string) string { return "console.log(" + name + "(" + args + ") ? 'yes' : 'no');" }},
		{"php", "php", nil, map[string]string{"sha256-hex": "verify_sha256_hex", "timestamped": "verify_timestamped"},
			encoded, encoded,
			func(name, args string) string { return "echo " + name + "(" + args + ") ? \"yes\\n\" : \"no\\n\";" }},
	} {
		t.Run(l.language, func(t *testing.T) {
			if _, err := exec.LookPath(l.tool); err != nil {
				t.Skip(err)
			}
			program := block(t, l.language)
			if l.language == "php" {
				program = "<?php\n" + program
			}
			var want []string
			for _, c := range calls {
				name := l.names[c.what]
				if name == "" {
					continue
				}
				want = append(want, map[bool]string{true: "yes", false: "no"}[c.want])
				var args []string
				body := map[string]int{"sha256-hex": 2, "timestamped": 2, "ed25519": 4}[c.what]
				for i, a := range c.args {
					switch {
					case i == body:
						args = append(args, l.body(a))
					case i == body+1:
						args = append(args, a) // a number
					default:
						args = append(args, l.text(a))
					}
				}
				program += "\n" + l.line(name, strings.Join(args, ", "))
			}
			run := exec.CommandContext(t.Context(), l.tool, l.flags...)
			run.Stdin = strings.NewReader(program + "\n")
			out, err := run.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if got := strings.Fields(string(out)); strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		})
	}
}
