package cursor_test

import (
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/grapnel-hooks/grapnel/stream/streamtest"
	"pgregory.net/rapid"
)

// fate is what became of one appended message.
type fate int

const (
	kept    fate = iota // the stream has it
	deleted             // by itself: a hole
	purged              // must be read or lie in a gap
	lost                // with the stream, or with its tail: nobody can read it
)

// model says what must have been read. A message is known by when it was
// stored, which no two share.
type model struct {
	t   *rapid.T
	log *streamtest.Log
	now time.Time
	at  cursor.Position

	last     stream.Seq
	messages map[time.Time]*message
	replaced bool // recreated or rolled back, and the cursor has not been verified since
}

type message struct {
	seq     stream.Seq
	stored  time.Time
	fate    fate
	reads   map[int]int // how often, by incarnation
	gap     bool        // lies in a recorded gap
	excused bool        // met its fate where no cursor had been, or before a replacement was noticed
}

func (m *model) append() {
	if seq := m.log.Append("events.acme.a", nil, nil); seq > 0 {
		m.last = seq
		msgs, _, _ := m.log.Read(m.t.Context(), name, seq, 1)
		m.messages[msgs[0].Time] = &message{seq: seq, stored: msgs[0].Time, reads: map[int]int{}}
	}
}

// doom gives the fate to messages that are still there; what is lost is lost
// also if it was purged before.
func (m *model) doom(f fate, touch func(*message) bool) {
	for _, x := range m.messages {
		if touch(x) && (x.fate == kept || f == lost) {
			x.fate = f
			x.excused = x.excused || m.replaced || m.at.Created.IsZero()
		}
	}
}

func (m *model) next(verify bool) cursor.Batch {
	b, err := cursor.Next(m.t.Context(), m.log, m.at, cursor.Options{Max: rapid.IntRange(1, 5).Draw(m.t, "max"), Verify: verify})
	if err != nil {
		m.t.Fatalf("Next at %+v: %v", m.at, err)
	}
	switch {
	case b.Change == cursor.Same && m.at.Incarnation > 0 && b.To.Incarnation != m.at.Incarnation,
		b.Change != cursor.Same && b.To.Incarnation != m.at.Incarnation+1:
		m.t.Fatalf("change %v from incarnation %d to %d", b.Change, m.at.Incarnation, b.To.Incarnation)
	case b.Change == cursor.Same && b.To.Seq < m.at.Seq:
		m.t.Fatalf("the position went back from %d to %d", m.at.Seq, b.To.Seq)
	case b.Change != cursor.Same && !m.replaced:
		m.t.Fatalf("change %v of a stream that is the same", b.Change)
	}
	m.replaced = m.replaced && !verify && b.Change == cursor.Same
	for _, g := range b.Gaps {
		for _, x := range m.messages {
			if x.seq < g.From || x.seq > g.To || x.fate == lost {
				continue
			}
			if x.fate == kept {
				m.t.Fatalf("gap %+v, but message %d is there", g, x.seq)
			}
			x.gap = true
		}
	}
	after := stream.Seq(0)
	for _, got := range b.Messages {
		if got.Seq <= after {
			m.t.Fatalf("message %d after %d", got.Seq, after)
		}
		after = got.Seq
		x := m.messages[got.Time]
		if x == nil || x.seq != got.Seq || x.fate != kept {
			m.t.Fatalf("read %+v, which is not there", got)
		}
		if x.reads[b.To.Incarnation]++; x.reads[b.To.Incarnation] > 1 {
			m.t.Fatalf("message %d read twice in incarnation %d", x.seq, b.To.Incarnation)
		}
	}
	m.at = b.To
	return b
}

// Whatever happens to a stream, everything that can be read is read, once in
// each incarnation, and what cannot be read any more lies in a gap.
func TestNextModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{t: t, now: time.Unix(1763719200, 0), messages: map[time.Time]*message{}}
		step := rapid.SampledFrom([]time.Duration{time.Second, cursor.Overlap / 3, 3 * cursor.Overlap}).Draw(t, "step")
		m.log = &streamtest.Log{Now: func() time.Time { m.now = m.now.Add(step); return m.now }}
		m.log.Create(name)
		m.at = cursor.Position{Org: "acme", Stream: name}

		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				for range rapid.IntRange(1, 6).Draw(t, "n") {
					m.append()
				}
			},
			"delete": func(t *rapid.T) {
				seq := stream.Seq(rapid.Uint64Range(1, uint64(m.last)+1).Draw(t, "seq"))
				if m.replaced && seq == m.at.Seq {
					t.Skip("would hide the replacement for ever")
				}
				if m.log.DeleteMessage(name, seq) {
					m.doom(deleted, func(x *message) bool { return x.seq == seq })
				}
			},
			"purge": func(t *rapid.T) {
				seq := stream.Seq(rapid.Uint64Range(1, uint64(m.last)+1).Draw(t, "seq"))
				if m.replaced && seq > m.at.Seq {
					t.Skip("would hide the replacement for ever")
				}
				m.log.PurgeTo(name, seq)
				m.doom(purged, func(x *message) bool { return x.seq < seq })
			},
			"recreate": func(t *rapid.T) {
				m.log.Delete(name)
				m.log.Create(name)
				m.doom(lost, func(x *message) bool { return true })
				m.last, m.replaced = 0, true
			},
			"rollback": func(t *rapid.T) {
				seq := stream.Seq(rapid.Uint64Range(0, uint64(m.last)).Draw(t, "seq"))
				m.log.Rollback(name, seq)
				m.doom(lost, func(x *message) bool { return x.seq > seq })
				m.last, m.replaced = seq, true
			},
			"read": func(t *rapid.T) {
				m.t = t
				if m.replaced {
					t.Skip("after a reconnect the caller verifies")
				}
				m.next(false)
			},
			"verify": func(t *rapid.T) {
				m.t = t
				m.next(true)
			},
		})

		m.t = t
		for m.next(true).More {
		}
		for _, x := range m.messages {
			if len(x.reads) > 0 || x.gap || x.excused {
				continue
			}
			if x.fate == kept || x.fate == purged {
				t.Errorf("message %d, stored %v, fate %d: neither read nor in a gap", x.seq, x.stored, x.fate)
			}
		}
	})
}
