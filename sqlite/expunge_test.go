package sqlite

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// content is in everything that is to be expunged.
var content = []byte("CANARY-5d41402abc4b")

// findContent looks into the bytes of the database and its log.
func findContent(t *testing.T, s *Store) (found []string) {
	t.Helper()
	for _, name := range []string{FileName, FileName + "-wal"} {
		b, err := os.ReadFile(filepath.Join(s.o.Dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if bytes.Contains(b, content) {
			found = append(found, name)
		}
	}
	return found
}

func TestExpunge(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Clock: c.read, Synchronous: "NORMAL"})
	w := newWalker(t, s, "acme", 3)
	p := w.next(3)
	rejected := rejectedAt(2)
	rejected.Data, rejected.Detail = content, "not JSON: "+string(content)
	p.Rejected, p.Events = []fanout.Rejected{rejected}, append(p.Events[:1:1], p.Events[2:]...)
	ev := w.commit(p)
	k := func(i, endpoint int) deliver.Key {
		return deliver.Key{Event: ev[i].Event, Endpoint: w.endpoints[endpoint]}
	}
	answered := func(k deliver.Key, number int, next deliver.State) deliver.Record {
		r := c.outcome(k, number, next)
		r.Attempt.Header, r.Attempt.Body = http.Header{"X-Echo": {string(content)}}, bytes.Repeat(content, 30)
		if r.Payload != nil {
			r.Payload.Body = bytes.Repeat(content, 1000)
		}
		return r
	}
	w.record(answered(k(0, 0), 1, deliver.Dead), answered(k(0, 1), 1, deliver.Pending), c.outcome(k(1, 0), 1, deliver.Pending))

	ctx := t.Context()
	target := Expunge{Event: ev[0].Event, Place: Place{Incarnation: 1, Seq: 1}, Reason: "case 1"}
	want := Expunged{Payloads: 1, Answers: 2, Cancelled: []deliver.Key{k(0, 1), k(0, 2)}}
	got, err := s.Expunge(ctx, "acme", "evt_x", target)
	if err != nil || len(findContent(t, s)) == 0 {
		t.Fatalf("%v, the content is in %v", err, findContent(t, s))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the plan (-want +got):\n%s", diff)
	}
	target.Execute = true
	if got, err = s.Expunge(ctx, "acme", "evt_x", target); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("done (-want +got):\n%s", diff)
	}
	message := Expunge{Place: Place{Incarnation: 1, Seq: 2}, Reason: "case 1", Execute: true}
	if got, err = s.Expunge(ctx, "acme", "2", message); err != nil || got.Rejected != 1 {
		t.Errorf("a rejected message: %+v, %v", got, err)
	}
	// The outcome of a request that was under way brings nothing back.
	w.record(answered(k(0, 2), 1, deliver.Dead))

	if folded, err := s.FoldLog(ctx); err != nil || !folded {
		t.Errorf("the log is folded: %v, %v", folded, err)
	}
	if found := findContent(t, s); found != nil {
		t.Errorf("the content is still in %v", found)
	}
	for i, want := range []deliver.State{deliver.Dead, deliver.Cancelled, deliver.Cancelled} {
		if d, _, err := s.GetDelivery(ctx, "acme", k(0, i)); err != nil || d.State != want {
			t.Errorf("delivery %d is %v, %v; want %v", i, d.State, err, want)
		}
	}

	// It is never sent again, whatever the stream still has.
	if _, err := s.RetryDelivery(ctx, "acme", k(0, 0)); !errors.Is(err, ErrState) {
		t.Errorf("a retry: %v", err)
	}
	if _, err := s.ReplayEvent(ctx, "acme", w.id(1), ""); !errors.Is(err, ErrState) {
		t.Errorf("a replay: %v", err)
	}
	places, err := s.EventPlaces(ctx, []int64{ev[0].Event, ev[1].Event})
	if err != nil || len(places) != 2 {
		t.Fatal(places, err)
	}
	for _, p := range places {
		if want := map[int64]stream.Seq{ev[0].Event: 0, ev[1].Event: 3}[p.Event]; p.Seq != want {
			t.Errorf("event %d lies at %d, want %d", p.Event, p.Seq, want)
		}
	}
	if _, err := s.RetryDelivery(ctx, "acme", k(1, 0)); err != nil {
		t.Errorf("a retry of another event: %v", err)
	}

	// Again changes nothing, and is audited once.
	if got, err = s.Expunge(ctx, "acme", "evt_x", target); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Expunged{Before: true}, got); diff != "" {
		t.Errorf("again (-want +got):\n%s", diff)
	}
	if event, was, err := s.ExpungedAt(ctx, "acme", target.Place); err != nil || !was || event != target.Event {
		t.Errorf("expunged at its place: %d, %v, %v", event, was, err)
	}
	entries, err := s.column("SELECT count(*) FROM audit WHERE action='event.expunge'")
	if err != nil || entries[0] != 2 {
		t.Errorf("%v entries of the audit, %v; want 2", entries, err)
	}
	told, err := s.column("SELECT count(*) FROM audit WHERE target='2' AND changes LIKE '%\"rejected\":[1,0]%'")
	if err != nil || told[0] != 1 {
		t.Errorf("%v entries tell of the rejected message, %v; want 1", told, err)
	}
}
