package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
)

func TestEventTypeCommands(t *testing.T) {
	dir := pretend(t, httpapitest.New())
	file := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file("types.yaml", `event_types:
  - name: invoice.paid
    group: billing
    description: An invoice was paid in full.
    schema: {type: object, required: [amount]}
    example: {amount: 1}
  - {name: task.done, group: projects, deprecated: true}
`)
	file("wrong.yaml", "event_types:\n  - name: a\n    schema: {type: text}\n  - name: a..b\n")
	file("schema.json", `{"type":"object"}`)
	golden(t, "commands/event-type.txt", transcript(t, dir,
		"event-type list",
		"event-type import "+dir+"/types.yaml",
		"event-type import "+dir+"/types.yaml",
		"event-type import "+dir+"/wrong.yaml",
		"event-type import "+dir+"/none.yaml",
		"event-type list",
		"event-type list --group billing --json",
		"event-type list --current",
		"event-type list --current --deprecated",
		"event-type show invoice.paid",
		"event-type set invoice.paid --version 2 --schema @"+dir+"/schema.json --example '{\"amount\":2}'",
		"event-type set invoice.paid --version 2 --deprecated --json",
		"event-type set invoice.paid --schema '{'",
		"event-type set invoice.paid --example '{}'",
		"event-type show invoice.paid --version 1 --json",
		"event-type show invoice.void",
		"event-type export",
		"event-type remove invoice.paid --version 1",
		"event-type remove invoice.paid --json",
		"event-type remove invoice.paid",
		`event-type import - << {"event_types":[{"name":"task.done","group":"projects"}]}`,
		"event-type",
	))
}
