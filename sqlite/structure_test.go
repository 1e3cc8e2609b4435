package sqlite

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
)

// Each claim is found broken by as many rows as break it; what leads nowhere is taken
// out, audited once, and nothing else is touched.
func TestStructure(t *testing.T) {
	for _, c := range []struct {
		name   string
		breaks string // SQL
		want   []Broken
		left   []Broken // after mending
	}{
		{"attempts", "DELETE FROM deliveries WHERE event=2 AND endpoint=1", []Broken{{"an attempt has no delivery", 1, 2, true}}, nil},
		{"attempts of an event that is gone", "DELETE FROM deliveries WHERE event=3; DELETE FROM events WHERE id=3; DELETE FROM payloads WHERE event=3",
			[]Broken{{"an attempt has no delivery", 2, 3, true}}, nil},
		{"payloads", "DELETE FROM deliveries WHERE event=3; DELETE FROM events WHERE id=3; DELETE FROM attempts WHERE event=3",
			[]Broken{{"a payload has no event", 1, 3, true}}, nil},
		{"events", "DELETE FROM events WHERE id=3",
			[]Broken{{"a delivery has no event", 2, 3, false}}, []Broken{{"a delivery has no event", 2, 3, false}}},
		{"endpoints", "DELETE FROM endpoints WHERE id=2",
			[]Broken{{"a delivery has no endpoint", 6, 1, false}}, []Broken{{"a delivery has no endpoint", 6, 1, false}}},
		{"organizations", "UPDATE deliveries SET org=7 WHERE event=4 AND endpoint=1",
			[]Broken{{"a delivery is another organization's than its event", 1, 4, false}, {"a delivery has no endpoint", 1, 4, false}},
			[]Broken{{"a delivery is another organization's than its event", 1, 4, false}, {"a delivery has no endpoint", 1, 4, false}}},
		{"places", "UPDATE events SET seq=100 WHERE id=5",
			[]Broken{{"an event lies after its organization's cursor", 1, 5, false}}, []Broken{{"an event lies after its organization's cursor", 1, 5, false}}},
		{"cursors", "DELETE FROM cursors",
			[]Broken{{"an event's organization has no cursor", 6, 1, false}}, []Broken{{"an event's organization has no cursor", 6, 1, false}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := newClock()
			s := open(t, Options{Dir: t.TempDir(), Clock: clock.read, Synchronous: "NORMAL", moment: 1})
			w := newWalker(t, s, "acme", 2)
			ev := w.commit(w.next(6))
			for _, e := range ev[:4] {
				for _, endpoint := range w.endpoints {
					r := clock.outcome(deliver.Key{Event: e.Event, Endpoint: endpoint}, 1, deliver.Pending)
					w.record(r)
				}
			}
			structure := func() []Broken {
				t.Helper()
				got, err := s.Structure(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return got
			}
			if got := structure(); got != nil {
				t.Fatalf("before: %+v", got)
			}
			db := openDB(s.path, "rw", 1, nil)
			defer db.Close()
			if _, err := db.ExecContext(t.Context(), c.breaks); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, structure()); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
			rows := func() int64 {
				n, err := s.column("SELECT (SELECT count(*) FROM deliveries)+(SELECT count(*) FROM attempts)+(SELECT count(*) FROM payloads)+(SELECT count(*) FROM events)")
				if err != nil {
					t.Fatal(err)
				}
				return n[0]
			}
			before := rows()
			var strays []Broken
			var gone int64
			for _, b := range c.want {
				if b.Stray {
					strays, gone = append(strays, b), gone+b.Rows
				}
			}
			for i, want := range [][]Broken{strays, nil} {
				got, err := s.Mend(t.Context(), "a test")
				if diff := cmp.Diff(want, got); err != nil || diff != "" {
					t.Errorf("mended, time %d: %v (-want +got):\n%s", i, err, diff)
				}
			}
			if diff := cmp.Diff(c.left, structure()); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			if is := rows(); before-is != gone {
				t.Errorf("%d rows are gone, want %d", before-is, gone)
			}
			if n, err := s.column("SELECT count(*) FROM audit WHERE action='books.mend'"); err != nil || n[0] != int64(len(strays)) {
				t.Errorf("%v entries of the audit, %v; want %d", n, err, len(strays))
			}
		})
	}
}
