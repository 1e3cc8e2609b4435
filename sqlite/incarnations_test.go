package sqlite

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/stream"
)

// REL-17, REL-18: what was found in place of the stream is in the books, and
// still there after a restart.
func TestIncarnations(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	s := open(t, o)
	w := newWalker(t, s, "acme", 1)
	w.commit(w.next(10))
	for _, change := range []cursor.Change{cursor.Recreated, cursor.Regressed} {
		p := w.next(0)
		p.Change, p.To.Incarnation = change, p.From.Incarnation+1
		if change == cursor.Regressed {
			p.To.Seq, p.Began = 4, 4
		} else {
			p.To.Seq, p.To.Created = 6, p.From.Created.Add(time.Hour)
		}
		w.commit(p)
		w.refresh()
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, o)
	got, err := s.Incarnations(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	want := []Incarnation{
		{Number: 3, Change: cursor.Regressed, Left: 6, Began: 4},
		{Number: 2, Change: cursor.Recreated, Left: 10, Began: 0},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Incarnation{}, "At", "Created")); diff != "" {
		t.Errorf("incarnations (-want +got):\n%s", diff)
	}
	if !got[0].Created.Equal(got[1].Created) || got[1].At.IsZero() {
		t.Errorf("%+v", got)
	}
	c, err := s.Cursor(t.Context(), "acme")
	if err != nil || c.Change != cursor.Regressed || !c.ChangedAt.Equal(got[0].At) {
		t.Errorf("cursor %+v, %v", c, err)
	}
	st, err := s.StreamStats()
	if diff := cmp.Diff(StreamStats{Recreated: 1, Regressed: 1}, st); diff != "" || err != nil {
		t.Errorf("stats (-want +got): %v\n%s", err, diff)
	}
}

// The hash of the message at the position is kept with it.
func TestPositionKeepsItsHash(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	s := open(t, o)
	w := newWalker(t, s, "acme", 1)
	p := w.next(3)
	p.To.Hash = cursor.Hash(stream.Message{Subject: "events.acme.a"}) | 1<<63
	w.commit(p)
	s.Close()
	s = open(t, o)
	pos, err := s.Position(t.Context(), "acme")
	if err != nil || pos.Hash != p.To.Hash {
		t.Errorf("position %+v, %v; want the hash %x", pos, err, p.To.Hash)
	}
	far, err := s.Furthest(t.Context(), "acme")
	if err != nil || far.Hash != p.To.Hash {
		t.Errorf("furthest %+v, %v; want the hash %x", far, err, p.To.Hash)
	}
}

// REL-09: the books keep their id for ever, and others have another one.
func TestInstallation(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	s := open(t, o)
	id := s.Installation()
	s.Close()
	if got := open(t, o).Installation(); got != id || id == "" {
		t.Errorf("installation %q, before %q", got, id)
	}
	if other := open(t, Options{Dir: t.TempDir()}).Installation(); other == id {
		t.Errorf("two books are both %q", id)
	}
}
