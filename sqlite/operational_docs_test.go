package sqlite

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/grapnel-hooks/grapnel/stream"
)

// The page for users shows the data of every type, as they are written.
func TestOperationalEventsAreDocumented(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "docs", "operational-events.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, page, _ := strings.Cut(string(raw), "## Their data")
	data := map[string]func() any{
		stream.CursorGap:    func() any { return new(cursorGap) },
		stream.DeliveryDead: func() any { return new(deadDelivery) },
	}
	shown := map[string]bool{}
	typ, before := "", ""
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "`"+stream.OperationalPrefix); ok {
			name, _, _ := strings.Cut(rest, "`")
			typ = stream.OperationalPrefix + name
		}
		example := before == "```json"
		if before = line; !example {
			continue
		}
		shown[typ] = true
		v := any(new(endpointEvent))
		if data[typ] != nil {
			v = data[typ]()
		}
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(v); err != nil {
			t.Errorf("%s: %v", typ, err)
			continue
		}
		again, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if string(again) != line {
			t.Errorf("%s: is written as\n%s\nnot as\n%s", typ, again, line)
		}
	}
	for _, typ := range stream.OperationalTypes {
		if !shown[typ] {
			t.Errorf("%s has no example", typ)
		}
		if !strings.Contains(string(raw), "| `"+typ+"` |") {
			t.Errorf("%s is not in the table", typ)
		}
	}
	for typ := range shown {
		if !slices.Contains(stream.OperationalTypes, typ) {
			t.Errorf("%q is no type", typ)
		}
	}
}
