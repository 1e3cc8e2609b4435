package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// asked is a Log with one stream that counts what it is asked.
type asked struct {
	state         stream.State
	err           error
	states, reads int
}

func (a *asked) State(context.Context, string) (stream.State, error) {
	a.states++
	return a.state, a.err
}

func (a *asked) Read(_ context.Context, _ string, from stream.Seq, _ int) ([]stream.Message, stream.Seq, error) {
	a.reads++
	return []stream.Message{{Seq: from, Time: time.Now().Add(-time.Minute)}}, a.state.Last, nil
}

// A list asks a stream again only when its news is old, and the news of fan-out's
// own checks count.
func TestSeenStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, log := t.Context(), &asked{state: stream.State{First: 1, Last: 10, Messages: 10}}
		var away error
		s := &seenStreams{Log: log, of: map[string]seenStream{}, connected: func() error { return away }}
		look := func(kept time.Duration) (seenStream, error) { return s.state(ctx, "EVENTS_acme", kept) }

		for range 3 {
			if seen, err := look(stateKept); err != nil || seen.Last != 10 || !seen.at.Equal(time.Now()) {
				t.Fatalf("%+v, %v", seen, err)
			}
		}
		if log.states != 1 {
			t.Errorf("asked %d times, want once", log.states)
		}
		time.Sleep(stateKept - time.Second)
		look(stateKept)
		look(0) // one cursor is always asked
		if log.states != 2 {
			t.Errorf("asked %d times, want 2", log.states)
		}
		time.Sleep(stateKept - time.Second)
		s.State(ctx, "EVENTS_acme") // fan-out checks it
		time.Sleep(2 * time.Second)
		look(stateKept)
		if log.states != 3 {
			t.Errorf("asked %d times, want 3", log.states)
		}
		time.Sleep(stateKept)
		look(stateKept)
		if log.states != 4 {
			t.Errorf("asked %d times, want 4", log.states)
		}

		log.err = stream.ErrNoStream
		s.State(ctx, "EVENTS_acme")
		if _, err := look(stateKept); !errors.Is(err, stream.ErrNoStream) || log.states != 5 {
			t.Errorf("%v after %d questions, of a stream that is gone", err, log.states)
		}
		log.err = nil
		look(0)
		away = stream.ErrUnavailable
		if seen, err := look(0); !errors.Is(err, away) || seen.Last != 10 || log.states != 6 {
			t.Errorf("%+v, %v after %d questions, while the broker is away", seen, err, log.states)
		}
		s.forget("EVENTS_acme")
		if seen, _ := look(stateKept); !seen.at.IsZero() {
			t.Errorf("%+v of a stream that was forgotten", seen)
		}
	})
}

// The age of the oldest unread event is read once for each place of the cursor.
func TestSeenAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, log := t.Context(), &asked{}
		s := &seenStreams{Log: log, of: map[string]seenStream{}}
		at := cursor.Position{Org: "acme", Incarnation: 1, Seq: 7}
		for range 3 {
			if age := s.age(ctx, at, "EVENTS_acme"); age != time.Minute {
				t.Errorf("age %v", age)
			}
		}
		time.Sleep(time.Minute)
		if age := s.age(ctx, at, "EVENTS_acme"); age != 2*time.Minute || log.reads != 1 {
			t.Errorf("age %v after %d reads", age, log.reads)
		}
		at.Seq++
		if age := s.age(ctx, at, "EVENTS_acme"); age != time.Minute || log.reads != 2 {
			t.Errorf("age %v after %d reads", age, log.reads)
		}
	})
}

func TestSeenUpTo(t *testing.T) {
	seen := seenStream{State: stream.State{First: 5, Last: 10, Messages: 6}}
	if st := seen.upTo(fanout.Status{Last: 14}); st.Last != 14 || st.Messages != 10 || st.First != 5 {
		t.Errorf("%+v after fan-out read on", st)
	}
	if st := seen.upTo(fanout.Status{Last: 3}); st.Last != 10 || st.Messages != 6 {
		t.Errorf("%+v when fan-out is behind", st)
	}
}
