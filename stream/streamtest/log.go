// Package streamtest is a stream broker in memory, and the suite that it and
// the real one both pass.
//
// [Log] holds streams as JetStream does, as far as a reader can tell: sequences
// from 1, interior deletes, purges, streams deleted and made anew, and streams
// rolled back by a power cut, which keep their creation time. Time is what Now
// says, but each stamp of one Log is later than the one before, as on a machine
// whose clock is right.
package streamtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/grapnel-hooks/grapnel/stream"
)

// Log is a stream broker in memory. The zero Log is ready. Its methods are safe
// for concurrent use; its fields are set before the first call.
type Log struct {
	// Now is the broker's clock; nil is time.Now.
	Now func() time.Time
	// OnAppend hears of each message that was stored: the wake-up. No lock is
	// held, so messages appended at the same time can come in any order.
	OnAppend func(name string, seq stream.Seq, at time.Time)
	// WakeEarly makes wake-ups come before their messages can be read, as a
	// replica does that lags behind: what was appended since the last Read is
	// hidden from the next one. State knows of it.
	WakeEarly bool

	mu      sync.Mutex
	down    bool
	last    time.Time // the newest stamp given
	streams map[string]*memory
}

// memory is one stream.
type memory struct {
	created  time.Time
	subjects []string
	stored   []time.Time      // of every message ever stored; the one at Seq 1 is first
	messages []stream.Message // those that are there, ascending
	bytes    uint64           // of messages
	mark     string           // the installation that it is read for
	hidden   stream.Seq       // the next Read does not see messages from here on; 0: it sees all
}

// Create makes a stream, which must not exist. Without subjects it binds what
// [stream.Names] with the default prefix says for a name such as EVENTS_acme.
func (l *Log) Create(name string, subjects ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.streams[name] != nil {
		panic("streamtest: stream " + name + " exists")
	}
	if len(subjects) == 0 {
		org, ok := stream.Names{}.Org(name)
		if !ok {
			panic("streamtest: name the subjects of stream " + name)
		}
		subjects = stream.Names{}.Subjects(org)
	}
	if l.streams == nil {
		l.streams = make(map[string]*memory)
	}
	l.streams[name] = &memory{created: l.stamp(), subjects: subjects}
}

// Delete removes a stream and all that it holds. Create makes it anew, with
// another creation time.
func (l *Log) Delete(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.streams, name)
}

// Append stores a message in the stream that binds the subject and returns its
// sequence: the acknowledgement. It is 0 when nothing was stored: no stream
// binds the subject, or the broker is down. Data is not copied. There is no
// duplicate window: a Nats-Msg-Id can be stored twice.
func (l *Log) Append(subject string, header stream.Header, data []byte) stream.Seq {
	l.mu.Lock()
	name, s := l.bound(subject)
	if s == nil || l.down {
		l.mu.Unlock()
		return 0
	}
	at := l.stamp()
	s.stored = append(s.stored, at)
	seq := s.last()
	s.messages = append(s.messages, stream.Message{Subject: subject, Seq: seq, Time: at, Header: publishers(header), Data: data})
	s.bytes += size(s.messages[len(s.messages)-1])
	if l.WakeEarly && s.hidden == 0 {
		s.hidden = seq
	}
	l.mu.Unlock()
	if l.OnAppend != nil {
		l.OnAppend(name, seq, at)
	}
	return seq
}

// DeleteMessage removes one message and reports whether it was there. The hole
// stays; sequences are not used again.
func (l *Log) DeleteMessage(name string, seq stream.Seq) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stream(name)
	i := s.index(seq)
	if i == len(s.messages) || s.messages[i].Seq != seq {
		return false
	}
	s.drop(i, i+1)
	return true
}

// PurgeTo removes all messages before seq, as retention does.
func (l *Log) PurgeTo(name string, seq stream.Seq) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stream(name)
	s.drop(0, s.index(seq))
}

// Mark says for which installation the stream is read.
func (l *Log) Mark(name, installation string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stream(name).mark = installation
}

// Rollback takes the stream back to when seq was its newest message, as a power
// cut does to a broker that acknowledged before its disk had the messages. The
// creation time stays; sequences after seq are given out again.
func (l *Log) Rollback(name string, seq stream.Seq) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stream(name)
	if seq >= s.last() {
		return
	}
	s.drop(s.index(seq+1), len(s.messages))
	s.stored, s.hidden = s.stored[:seq], 0
}

// SetDown makes every call that needs the broker fail with
// [stream.ErrUnavailable], until it is set back. What is stored stays.
func (l *Log) SetDown(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
}

// Names lists the streams, sorted.
func (l *Log) Names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.streams))
}

// State asks the stream about itself.
func (l *Log) State(ctx context.Context, name string) (stream.State, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, err := l.ask(ctx, "state of", name)
	if err != nil {
		return stream.State{}, err
	}
	st := stream.State{
		Name: name, Created: s.created, First: s.last() + 1, Last: s.last(),
		Messages: uint64(len(s.messages)), Bytes: s.bytes, Subjects: slices.Clone(s.subjects),
		Installation: s.mark,
	}
	if len(s.stored) > 0 {
		st.LastTime = s.stored[len(s.stored)-1]
	}
	if len(s.messages) > 0 {
		st.First = s.messages[0].Seq
	}
	return st, nil
}

// Read returns up to max messages with a sequence of from or more, ascending.
func (l *Log) Read(ctx context.Context, name string, from stream.Seq, max int) ([]stream.Message, stream.Seq, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, err := l.ask(ctx, "read", name)
	if err != nil {
		return nil, 0, err
	}
	readable, last := s.messages, s.last()
	if s.hidden > 0 {
		readable, last = readable[:s.index(s.hidden)], s.hidden-1
		s.hidden = 0
	}
	i := sort.Search(len(readable), func(i int) bool { return readable[i].Seq >= from })
	readable = readable[i:min(len(readable), i+max)]
	if len(readable) == 0 {
		return nil, 0, nil
	}
	return slices.Clone(readable), last, nil
}

func (l *Log) ask(ctx context.Context, doing, name string) (*memory, error) {
	switch err := ctx.Err(); {
	case err != nil:
		return nil, fmt.Errorf("%s %s: %w", doing, name, err)
	case l.down:
		return nil, fmt.Errorf("%s %s: %w", doing, name, stream.ErrUnavailable)
	case l.streams[name] == nil:
		return nil, fmt.Errorf("%s %s: %w", doing, name, stream.ErrNoStream)
	}
	return l.streams[name], nil
}

// stream is one that the test made.
func (l *Log) stream(name string) *memory {
	s := l.streams[name]
	if s == nil {
		panic("streamtest: no stream " + name)
	}
	return s
}

// bound is the stream that binds the subject.
func (l *Log) bound(subject string) (string, *memory) {
	covered := func(s *memory) bool {
		return slices.ContainsFunc(s.subjects, func(b string) bool { return covers(b, subject) })
	}
	if words := strings.SplitN(subject, ".", 3); len(words) == 3 { // the usual name, without a search
		name := stream.Names{Prefix: words[0]}.Stream(words[1])
		if s := l.streams[name]; s != nil && covered(s) {
			return name, s
		}
	}
	for name, s := range l.streams {
		if covered(s) {
			return name, s
		}
	}
	return "", nil
}

// serverHeaders are those that a server adds to what it returns. A reader takes
// them away, also where a publisher forged them.
var serverHeaders = map[string]bool{
	"Nats-Stream": true, "Nats-Subject": true, "Nats-Sequence": true, "Nats-Time-Stamp": true,
	"Nats-Num-Pending": true, "Nats-Last-Sequence": true,
}

func publishers(h stream.Header) stream.Header {
	h = maps.Clone(h)
	maps.DeleteFunc(h, func(k string, _ []string) bool { return serverHeaders[k] })
	return h
}

// covers reports whether the subject filter matches the subject.
func covers(filter, subject string) bool {
	f, s := strings.Split(filter, "."), strings.Split(subject, ".")
	for i, w := range f {
		if i == len(s) || w != s[i] && w != "*" && w != ">" {
			return false
		}
		if w == ">" {
			return true
		}
	}
	return len(f) == len(s)
}

// stamp is now, or a nanosecond after the last stamp if that is later.
func (l *Log) stamp() time.Time {
	now := l.Now
	if now == nil {
		now = time.Now
	}
	at := now().UTC().Round(0)
	if !at.After(l.last) {
		at = l.last.Add(1)
	}
	l.last = at
	return at
}

// index is where the first message with seq or more stands.
func (s *memory) index(seq stream.Seq) int {
	return sort.Search(len(s.messages), func(i int) bool { return s.messages[i].Seq >= seq })
}

// drop removes messages[i:j].
func (s *memory) drop(i, j int) {
	for _, m := range s.messages[i:j] {
		s.bytes -= size(m)
	}
	s.messages = slices.Delete(s.messages, i, j)
}

func size(m stream.Message) uint64 { return uint64(len(m.Subject) + len(m.Data)) }

func (s *memory) last() stream.Seq { return stream.Seq(len(s.stored)) }
