package sqlite

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// walker makes and commits plans for one org, as fan-out would.
type walker struct {
	t         testing.TB
	s         *Store
	org       string
	endpoints []int64
	pos       cursor.Position
	version   int64
	made      int64 // IDs
}

func newWalker(t testing.TB, s *Store, org string, endpoints int) *walker {
	t.Helper()
	w := &walker{t: t, s: s, org: org}
	if _, err := s.AddOrg(t.Context(), Org{ID: org}); err != nil {
		t.Fatal(err)
	}
	for range endpoints {
		w.endpoints = append(w.endpoints, addEndpoint(t, s, org).Row)
	}
	w.refresh()
	return w
}

func addEndpoint(t testing.TB, s *Store, org string) deliver.Endpoint {
	t.Helper()
	e, err := s.AddEndpoint(t.Context(), deliver.Endpoint{
		Org: org, URL: "https://example.com/hook", EventTypes: []string{"*"}, Secrets: []deliver.Secret{{Secret: sign.NewSecret()}},
		Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: deliver.DefaultConcurrency,
	}, Start{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// refresh reads position and subscriptions again.
func (w *walker) refresh() {
	w.t.Helper()
	var err error
	if w.pos, err = w.s.Position(w.t.Context(), w.org); err != nil {
		w.t.Fatal(err)
	}
	set, err := w.s.Subscriptions(w.t.Context(), w.org)
	if err != nil {
		w.t.Fatal(err)
	}
	w.version = set.Version()
}

// next plans n new events for all endpoints of the walker.
func (w *walker) next(n int) fanout.Plan {
	p := fanout.Plan{Org: w.org, From: w.pos, To: w.pos, Version: w.version}
	p.To.Incarnation = max(p.To.Incarnation, 1)
	for range n {
		p.To.Seq++
		w.made++
		ev := stream.Event{Org: w.org, Seq: p.To.Seq, Type: "invoice.paid", Stored: w.s.now().UTC()}
		ev.ID = w.id(w.made)
		p.Events = append(p.Events, fanout.Planned{Event: ev, Endpoints: w.endpoints})
	}
	return p
}

// id is the nth ID of the org: as good as random, and quick to make.
func (w *walker) id(n int64) stream.ID {
	var id stream.ID
	h := uint64(n)*0x9e3779b97f4a7c15 ^ uint64(len(w.org))<<32 ^ uint64(w.org[len(w.org)-1])
	for i := range 2 {
		h ^= h >> 30
		h *= 0xbf58476d1ce4e5b9
		h ^= h >> 27
		h *= 0x94d049bb133111eb
		h ^= h >> 31
		binary.BigEndian.PutUint64(id[8*i:], h)
		h += 0x9e3779b97f4a7c15
	}
	return id
}

func (w *walker) commit(p fanout.Plan) []fanout.Written {
	w.t.Helper()
	written, err := w.s.Commit(w.t.Context(), p)
	if err != nil {
		w.t.Fatal(err)
	}
	w.pos = p.To
	return written
}

// delivered is the record of a first attempt that succeeded.
func delivered(k deliver.Key) deliver.Record {
	return deliver.Record{
		Key: k,
		Attempt: deliver.Attempt{Number: 1, Started: time.Now(),
			Outcome: deliver.Outcome{Class: deliver.OK, Status: 204, Duration: 1234 * time.Microsecond}},
		Next: deliver.Transition{State: deliver.Delivered, Spent: 1},
	}
}

// deliverAll books a success for all that was written.
func (w *walker) deliverAll(written []fanout.Written) (n int) {
	w.t.Helper()
	for _, ev := range written {
		for _, endpoint := range ev.Endpoints {
			if err := w.s.Record(w.t.Context(), delivered(deliver.Key{Event: ev.Event, Endpoint: endpoint})); err != nil {
				w.t.Fatal(err)
			}
			n++
		}
	}
	return n
}

// flush waits until all records are durable.
func (w *walker) flush() {
	w.t.Helper()
	for w.s.w.queued() > 0 {
		if err := w.s.w.do(w.t.Context(), func(*txn) error { return nil }); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.s.w.do(w.t.Context(), func(*txn) error { return nil }); err != nil {
		w.t.Fatal(err)
	}
}

// BenchmarkWalk commits plans of 256 events and books a success for each
// delivery: the store's part of the way of success. Operations are deliveries.
func BenchmarkWalk(b *testing.B) {
	for _, finished := range []int{0, 2_000_000} {
		for _, endpoints := range []int{1, 10} {
			b.Run(fmt.Sprintf("finished=%d/endpoints=%d", finished, endpoints), func(b *testing.B) {
				s := open(b, Options{Dir: b.TempDir()})
				fill := newWalker(b, s, "full", 10)
				for done := 0; done < finished; {
					done += fill.deliverAll(fill.commit(fill.next(100)))
				}
				fill.flush()
				w := newWalker(b, s, "acme", endpoints)
				before := s.Stats()
				b.ReportAllocs()
				b.ResetTimer()
				n := 0
				for n < b.N {
					n += w.deliverAll(w.commit(w.next(256)))
				}
				w.flush()
				b.StopTimer()
				after := s.Stats()
				b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "deliveries/s")
				b.ReportMetric(float64(after.Rows-before.Rows)/float64(after.Commits-before.Commits), "rows/commit")
				b.ReportMetric(float64((after.CommitTime-before.CommitTime).Microseconds())/float64(n), "µs-writer/delivery")
				if finished == 0 {
					shut(b, s) // folds the log in
					info, err := os.Stat(filepath.Join(s.o.Dir, FileName))
					if err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(float64(info.Size())/float64(n), "disk-B/delivery")
				}
			})
		}
	}
}

// BenchmarkLookup looks for IDs that the books do not have, among 80 runs of
// keys, as each new event does.
func BenchmarkLookup(b *testing.B) {
	s := open(b, Options{Dir: b.TempDir()})
	w := newWalker(b, s, "acme", 1)
	for n := range int64(80) {
		f := newFilter(defaultRunSize)
		for i := range int64(defaultRunSize) {
			f.add(w.id(n*defaultRunSize + i))
		}
		s.keys.filters.add(n+1, f.bytes())
		s.keys.runs = append(s.keys.runs, &run{id: n + 1, fences: []int64{math.MinInt64}})
	}
	b.ReportAllocs()
	b.ResetTimer()
	var found []int64
	for i := range b.N {
		var err error
		if found, err = s.keys.lookup(s.readDB, w.id(1<<40+int64(i)), found[:0]); err != nil {
			b.Fatal(err)
		}
	}
}
