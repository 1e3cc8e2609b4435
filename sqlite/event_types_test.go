package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/grapnel-hooks/grapnel/fanout/catalogue"
	"github.com/grapnel-hooks/grapnel/stream"
)

func eventType(name, version, schema string) catalogue.Type {
	return catalogue.Type{Name: name, Version: version, Schema: json.RawMessage(schema)}
}

func TestEventTypes(t *testing.T) {
	c := newClock()
	o := Options{Dir: t.TempDir(), Clock: c.read}
	s := open(t, o)
	ctx := WithCaller(t.Context(), Caller{Actor: "tok_1", Address: "127.0.0.1", Request: "req"})

	paid := catalogue.Type{
		Name: "invoice.paid", Group: "billing", Description: "An invoice was paid.",
		Schema: json.RawMessage(`{"type":"object"}`), Example: json.RawMessage(`{}`),
	}
	made, err := s.AddEventType(ctx, paid)
	if err != nil {
		t.Fatal(err)
	}
	paid.Version = "1"
	want := EventType{Type: paid, Versions: []string{"1"}, CreatedAt: c.read(), UpdatedAt: c.read()}
	if diff := cmp.Diff(want, made); diff != "" {
		t.Error("made: -want +got:\n" + diff)
	}
	if _, err := s.AddEventType(ctx, paid); !errors.Is(err, ErrExists) {
		t.Errorf("the same again: %v, want ErrExists", err)
	}
	var wrong *catalogue.Error
	if _, _, err := s.PutEventType(ctx, eventType("invoice.paid", "2", `{"type":"no"}`)); !errors.As(err, &wrong) || wrong.Field != "schema" {
		t.Errorf("a schema that is none: %v", err)
	}
	two := eventType("invoice.paid", "2", "")
	two.Deprecated = true
	if _, created, err := s.PutEventType(ctx, two); err != nil || !created {
		t.Errorf("another version: created %t, %v", created, err)
	}
	paid.Description = "Paid."
	if got, created, err := s.PutEventType(ctx, paid); err != nil || created || got.Description != "Paid." || !slices.Equal(got.Versions, []string{"1", "2"}) {
		t.Errorf("changed: %+v, created %t, %v", got, created, err)
	}
	if _, created, err := s.PutEventType(ctx, paid); err != nil || created {
		t.Errorf("unchanged: created %t, %v", created, err)
	}
	if n, err := s.ImportEventTypes(ctx, []catalogue.Type{paid, eventType("task.done", "", "true"), eventType("client.made", "7", "")}); n != 2 || err != nil {
		t.Errorf("%d imported, %v; want the two that are new", n, err)
	}
	if _, err := s.ImportEventTypes(ctx, []catalogue.Type{eventType("a", "", ""), eventType("b", "", "7"), eventType("c", "", "7")}); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("two of three wrong: %v", err)
	}

	check := func(when string, names ...string) {
		t.Helper()
		if diff := cmp.Diff(names, s.Catalogue().Names()); diff != "" {
			t.Error(when + ": -want +got:\n" + diff)
		}
		list, err := s.ListEventTypes(ctx, EventTypeFilter{}, "", 100)
		if err != nil {
			t.Fatal(err)
		}
		var listed []string
		for _, e := range list {
			listed = append(listed, e.Name)
		}
		if diff := cmp.Diff(names, listed); diff != "" {
			t.Error(when + ": listed: -want +got:\n" + diff)
		}
	}
	check("added", "client.made", "invoice.paid", "task.done")
	before := s.Catalogue()
	shut(t, s)
	s = open(t, o)
	check("opened again", "client.made", "invoice.paid", "task.done")
	if diff := cmp.Diff(before.Types(), s.Catalogue().Types(), cmpopts.EquateEmpty()); diff != "" {
		t.Error("opened again: -want +got:\n" + diff)
	}
	if got := s.Catalogue().Check(&stream.Event{Type: "invoice.paid", SchemaVersion: "1", Data: []byte("[]")}); got == nil {
		t.Error("the schema was not compiled again")
	}

	if err := s.RemoveEventType(ctx, "invoice.paid", "1"); err != nil {
		t.Error(err)
	}
	if err := s.RemoveEventType(ctx, "task.done", ""); err != nil {
		t.Error(err)
	}
	for _, gone := range [][2]string{{"invoice.paid", "1"}, {"task.done", ""}, {"never", ""}} {
		if err := s.RemoveEventType(ctx, gone[0], gone[1]); !errors.Is(err, ErrNotFound) {
			t.Errorf("removing %v again: %v, want ErrNotFound", gone, err)
		}
		if _, err := s.GetEventType(ctx, gone[0], gone[1]); !errors.Is(err, ErrNotFound) {
			t.Errorf("reading %v: %v, want ErrNotFound", gone, err)
		}
	}
	check("removed", "client.made", "invoice.paid")
	shut(t, s)
	s = open(t, o)
	check("removed and opened again", "client.made", "invoice.paid")

	audit, err := s.ListAudit(ctx, "", 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var entries []string
	for _, e := range slices.Backward(audit) {
		if e.Actor != "tok_1" || e.Request != "req" || e.Address != "127.0.0.1" {
			t.Errorf("%s by %s of %s at %s", e.Action, e.Actor, e.Request, e.Address)
		}
		line := e.Action + " " + e.Target
		for _, name := range []string{"schema_version", "group", "description", "deprecated", "schema", "example"} {
			if v, ok := e.Changes[name]; ok {
				line += fmt.Sprintf(" %s=%v→%v", name, v[0], v[1])
			}
		}
		entries = append(entries, line)
	}
	if diff := cmp.Diff([]string{
		"event_type.put invoice.paid@1 schema_version=<nil>→1 group=→billing description=→An invoice was paid. schema=<nil>→<nil> example=<nil>→<nil>",
		"event_type.put invoice.paid@2 schema_version=<nil>→2 deprecated=false→true",
		"event_type.put invoice.paid@1 description=An invoice was paid.→Paid.",
		"event_type.put task.done@1 schema_version=<nil>→1 schema=<nil>→<nil>",
		"event_type.put client.made@7 schema_version=<nil>→7",
		"event_type.remove invoice.paid@1",
		"event_type.remove task.done@1",
	}, entries); diff != "" {
		t.Error("audit: -want +got:\n" + diff)
	}
}

func TestListEventTypes(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	var all []catalogue.Type
	for i, name := range []string{"a", "b", "c", "d", "e"} {
		one := eventType(name, "9", "")
		one.Group, one.Deprecated = "old", true
		two := eventType(name, "10", "") // newer than 9
		two.Group, two.Deprecated = []string{"even", "odd"}[i%2], name == "c"
		all = append(all, one, two)
	}
	if _, err := s.ImportEventTypes(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	yes, no := true, false
	tests := []struct {
		filter EventTypeFilter
		after  string
		limit  int
		want   []string
	}{
		{EventTypeFilter{}, "", 3, []string{"a", "b", "c"}},
		{EventTypeFilter{}, "c", 3, []string{"d", "e"}},
		{EventTypeFilter{}, "e", 3, nil},
		{EventTypeFilter{Group: "even"}, "a", 10, []string{"c", "e"}},
		{EventTypeFilter{Group: "old"}, "", 10, nil},
		{EventTypeFilter{Deprecated: &yes}, "", 10, []string{"c"}},
		{EventTypeFilter{Group: "even", Deprecated: &no}, "", 1, []string{"a"}},
	}
	for _, tt := range tests {
		list, err := s.ListEventTypes(t.Context(), tt.filter, tt.after, tt.limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range list {
			got = append(got, e.Name)
			if e.Version != "10" || !slices.Equal(e.Versions, []string{"9", "10"}) {
				t.Errorf("%s is shown as version %s of %v, want the newest of two", e.Name, e.Version, e.Versions)
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%+v after %q: -want +got:\n%s", tt.filter, tt.after, diff)
		}
	}
}

// Each change builds on the one before, and none is lost, in memory or in the
// file.
func TestEventTypesChangeOneAfterTheOther(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	s := open(t, o)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 5 {
				if _, _, err := s.PutEventType(context.Background(), eventType(fmt.Sprintf("t%d.%d", i, j), "", "true")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(s.Catalogue().Names()); n != 40 {
		t.Errorf("%d types in memory, want 40", n)
	}
	shut(t, s)
	if n := len(open(t, o).Catalogue().Names()); n != 40 {
		t.Errorf("%d types in the file, want 40", n)
	}
}

// What could not be committed is not in memory either.
func TestEventTypesOfAFullDisk(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), maxPages: 60})
	big := eventType("big", "", `{"description":"`+strings.Repeat("x", 60_000)+`"}`)
	var err error
	n := 0
	for ; err == nil && n < 100; n++ {
		big.Name = fmt.Sprintf("big%d", n)
		_, _, err = s.PutEventType(t.Context(), big)
	}
	if err == nil {
		t.Fatal("the disk did not fill")
	}
	if got := len(s.Catalogue().Names()); got != n-1 {
		t.Errorf("%d types in memory, %d were committed", got, n-1)
	}
}
