package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/stream"
)

// SEC-28: however large the events are, a page and what is kept in memory to make
// it are not, and the pages are the whole stream nevertheless.
func TestPagesOfLargeEvents(t *testing.T) {
	d := live(t, t.TempDir())
	ctx := t.Context()
	if _, err := d.AddOrg(ctx, httpapi.Org{ID: "acme", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	const size, total = 200 << 10, 120
	large := json.RawMessage(`"` + strings.Repeat("x", size) + `"`)
	var want []stream.Seq
	for i := range total {
		e := httpapi.NewEvent{Type: "large", Data: large}
		if i%20 < 5 {
			e = httpapi.NewEvent{Type: "small", Data: json.RawMessage(`1`)}
		}
		if _, err := d.Append(ctx, "acme", []httpapi.NewEvent{e}); err != nil {
			t.Fatal(err)
		}
		want = append([]stream.Seq{stream.Seq(i + 1)}, want...)
	}

	var got []stream.Seq
	for before := stream.Seq(0); ; {
		page, next, err := d.Events(ctx, "acme", httpapi.EventFilter{}, before, 250)
		if err != nil {
			t.Fatal(err)
		}
		bytes := 0
		for _, ev := range page {
			got = append(got, ev.Seq)
			bytes += len(ev.Data)
		}
		if bytes > eventsPageBytes+2*size {
			t.Errorf("a page has %d bytes of data", bytes)
		}
		if before = next; next == 0 {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pages (-want +got):\n%s", diff)
	}

	dec, err := d.decoding(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	evs, from, _, err := d.window(ctx, dec, 1, total+1)
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	for _, ev := range evs {
		kept += len(ev.Data)
	}
	if kept > eventsWindowBytes+2*size || evs[0].Seq != from || evs[len(evs)-1].Seq != total {
		t.Errorf("%d bytes are kept at once, of %d to %d, read again from %d", kept, evs[0].Seq, evs[len(evs)-1].Seq, from)
	}

	known, err := d.EventAt(ctx, "acme", 3)
	if err != nil {
		t.Fatal(err)
	}
	if ev, err := d.Event(ctx, "acme", known.ID); err != nil || ev.Seq != 3 {
		t.Errorf("the event at 3 by its id: at %d, %v", ev.Seq, err)
	}
	if _, err := d.Event(ctx, "acme", stream.KeyID("acme", "nobody's")); !errors.Is(err, httpapi.ErrNotFound) {
		t.Errorf("nobody's event: %v, want %v", err, httpapi.ErrNotFound)
	}
}
