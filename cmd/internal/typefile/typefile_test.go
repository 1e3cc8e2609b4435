package typefile

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/fanout/catalogue"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/grapnel-hooks/grapnel/testdata"
)

func TestParse(t *testing.T) {
	yaml := `# types
event_types:
  - name: invoice.paid
    group: billing
    description: >-
      Paid,
      in full.
    schema:
      type: object
      required: [amount]
      properties:
        amount: {type: integer, maximum: 12345678901234567890}
        rate: {type: number, multipleOf: 0.10}
        "on": {const: true}
        3: {const: null}
    example: {amount: 1, "on": true, text: "2026", sum: 1.5e+3}
  - {name: task.done, schema_version: "2", deprecated: true}
`
	want := []catalogue.Type{
		{
			Name: "invoice.paid", Version: "1", Group: "billing", Description: "Paid, in full.",
			Schema:  json.RawMessage(`{"type":"object","required":["amount"],"properties":{"amount":{"type":"integer","maximum":12345678901234567890},"rate":{"type":"number","multipleOf":0.10},"on":{"const":true},"3":{"const":null}}}`),
			Example: json.RawMessage(`{"amount":1,"on":true,"text":"2026","sum":1.5e+3}`),
		},
		{Name: "task.done", Version: "2", Deprecated: true},
	}
	got, err := Parse("types.yaml", []byte(yaml))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("YAML: -want +got:\n" + diff)
	}
	text, err := json.MarshalIndent(map[string]any{"event_types": got}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("types.json", text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, again); diff != "" {
		t.Error("JSON: -want +got:\n" + diff)
	}
}

func TestParseSaysWhere(t *testing.T) {
	tests := []struct{ name, file, want string }{
		{"empty", "", "f: want one YAML document"},
		{"not YAML", "event_types: [", "f:1: "},
		{"not JSON", "{\n\"event_types\": [}", "f:2: invalid character"},
		{"another key", "event_types: []\nplans: {}", `f:2: unknown key "plans"`},
		{"another key in JSON", `{"event_types":[],"more":1}`, "f: want one key"},
		{"no list", "event_types: {}", "f:1: want a list"},
		{"no list in JSON", "{\"event_types\":\n7}", "f:2: want a list"},
		{"no type", "event_types:\n- name: a\n- 7", "f:3: want an event type"},
		{"a field", "event_types:\n  - name: a\n    sheme: {}", `f:2: unknown field "sheme": known are`},
		{"a number for a text", "event_types:\n  - name: a\n    schema_version: 2", "f:2: schema_version must be a text: put it into quotes"},
		{"a text for yes or no", "event_types:\n  - name: a\n    deprecated: maybe", "f:2: deprecated must be a truth value"},
		{"a name", "event_types:\n  - name: a\n\n  - name: a..b", "f:4: event type a..b: name: "},
		{"a schema", "event_types:\n  - name: a\n    schema: {type: text}", "f:2: event type a: schema: /type fits none"},
		{"an example in JSON", "{\"event_types\":[\n{\"name\":\"a\"},\n{\"name\":\"b\",\"schema\":false,\"example\":1}]}", "f:3: event type b: example: "},
		{"twice", "event_types:\n- name: a\n- name: a\n  schema_version: '1'", "f:3: event type a: is there twice"},
		{"an anchor", "event_types:\n- name: a\n  schema: &x {}", "f:3: anchors and aliases"},
		{"a bomb", "event_types:\n- name: a\n  example: [&a [x,x], *a]", "f:3: anchors and aliases"},
		{"infinity", "event_types:\n- name: a\n  example: .inf", "f:3: JSON has no such number"},
		{"hexadecimal", "event_types:\n- name: a\n  example: 0x10", "f:3: 0x10 is no number of JSON"},
		{"a key twice", "event_types:\n- name: a\n  example: {b: 1, b: 2}", "f:3: "},
		{"depth", "event_types:\n- name: a\n  example: " + strings.Repeat("[", 70) + strings.Repeat("]", 70), "f:3: is more than 64 levels deep"},
	}
	for _, tt := range tests {
		_, err := Parse("f", []byte(tt.file))
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	_, err := Read(filepath.Join(t.TempDir(), "none.yaml"))
	if err == nil || !strings.HasSuffix(err.Error(), "none.yaml: no such file or directory") {
		t.Errorf("no file: %v", err)
	}
}

// The catalogues of the platforms: each type compiles, each example fits, each
// has what people need, and the sample events keep to them.
func TestPlatformCatalogues(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "testdata", "catalogues")
	names := map[string][]string{
		"tenantx": {"organization.registered", "invitation.accepted", "subscription.updated", "inventory.low", "patient.admitted"},
		"crm": {
			"chat.channel.created", "chat.message.sent", "chat.message.updated", "chat.message.deleted", "chat.message.recalled",
			"chat.participant.added", "chat.participant.removed", "blog_post.created", "blog_post.updated", "blog_post.deleted",
			"blog_category.created", "page.updated", "page_category.deleted", "sms_template.deleted", "crm.company.types_changed",
		},
		"manufacturing": nil,
		"devsphere": {
			"lead_won", "lead_lost", "proposal_accepted", "meeting.booked", "invoice.paid", "payment_failed", "project.completed",
			"task.completed", "client.created", "billing.suspended", "survey.submitted",
		},
		"vexyl": {"ticket.updated"},
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != len(names) {
		t.Fatalf("%d files, %v; want %d", len(files), err, len(names))
	}
	events, err := testdata.Events()
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for platform, wanted := range names {
		types, err := Read(filepath.Join(dir, platform+".yaml"))
		if err != nil {
			t.Error(err)
			continue
		}
		c, err := catalogue.Compile(types)
		if err != nil {
			t.Error(err)
			continue
		}
		if unknown := c.CheckSubscription(wanted); len(unknown) > 0 {
			t.Errorf("%s lacks %v", platform, unknown)
		}
		for _, typ := range types {
			if typ.Group == "" || typ.Description == "" || len(typ.Schema) == 0 || len(typ.Example) == 0 {
				t.Errorf("%s: %s lacks a group, a description, a schema or an example", platform, typ.Name)
			}
		}
		for _, e := range events {
			if _, _, ok := c.Get(e.Type, ""); !ok {
				continue
			}
			checked++
			if why := c.Check(&stream.Event{Type: e.Type, SchemaVersion: "1", Data: e.Data}); why != nil {
				t.Errorf("%s: %v", e.File, why)
			}
		}
	}
	if checked != len(events) {
		t.Errorf("%d of %d sample events are of a type that a platform has", checked, len(events))
	}
}

// Whatever the file, reading it ends, and what it gives can be written as JSON
// and read again.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob(filepath.Join("..", "..", "..", "testdata", "catalogues", "*.yaml"))
	for _, name := range files {
		if b, err := os.ReadFile(name); err == nil {
			f.Add(b[:min(len(b), 1500)])
		}
	}
	f.Add([]byte("event_types: [{name: a, schema: {const: [1, null, \"x\"]}, example: [1, null, x]}]"))
	f.Add([]byte(`{"event_types":[{"name":"a","example":{}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		types, err := Parse("f", data)
		if err != nil {
			return
		}
		text, err := json.Marshal(map[string]any{"event_types": types})
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("f", text)
		if err != nil || len(again) != len(types) {
			t.Errorf("%d types, read again %d: %v", len(types), len(again), err)
		}
	})
}
