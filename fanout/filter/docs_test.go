package filter_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/stream"
)

var fenced = regexp.MustCompile("(?s)```(json|text)\n(.*?)```")

// What docs/filters.md says of its event is so.
func TestDocsExamples(t *testing.T) {
	page, err := os.ReadFile("../../docs/filters.md")
	if err != nil {
		t.Fatal(err)
	}
	var ev *stream.Event
	n := 0
	for _, m := range fenced.FindAllSubmatch(page, -1) {
		if string(m[1]) == "json" {
			var e struct {
				Type, Workspace, Source string
				SchemaVersion           string `json:"schema_version"`
				Time                    time.Time
				Data                    json.RawMessage
			}
			if err := json.Unmarshal(m[2], &e); err != nil {
				t.Fatal(err)
			}
			ev = &stream.Event{Type: e.Type, Workspace: e.Workspace, Source: e.Source, SchemaVersion: e.SchemaVersion, Time: e.Time, Data: e.Data}
			continue
		}
		for line := range strings.Lines(string(m[2])) {
			want, text, _ := strings.Cut(strings.TrimSpace(line), " ")
			got, why := mustCompile(t, strings.TrimSpace(text)).Match(ev)
			if n++; got != (want == "yes") || want != "yes" && want != "no" {
				t.Errorf("%s: %v (%s)", line, got, why)
			}
		}
	}
	if n < 20 {
		t.Errorf("found only %d examples", n)
	}
}
