package fanouttest

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// relay appends operational events, as the daemon does: by their dedupe keys,
// and again after a crash before the books know that the stream has them.
func (d *daemon) relay(ctx context.Context) error {
	for ctx.Err() == nil {
		t, waiting := d.books.ToTell()
		if waiting == 0 || d.s.tellTo(t) == 0 {
			pass(50 * time.Millisecond)
			continue
		}
		if d.s.crashing.Load() > 0 && d.s.chance("appended", d.life, d.calls.Add(1), 10) {
			d.s.tracef("life %d crashes before it knows that %s was appended", d.life, t.Key)
			d.crash()
		}
		if d.dead.Load() || d.books.Relayed(t) != nil {
			return nil
		}
	}
	return nil
}

// tellTo appends the event to the stream, of which the data names the key.
func (s *sim) tellTo(t Told) stream.Seq {
	h := stream.Header{"Nats-Msg-Id": []string{t.Key}}
	if s.mutant.tellsTwice {
		h = stream.Header{}
	}
	data, _ := json.Marshal(map[string]string{"key": t.Key})
	s.tracef("told: %+v", t)
	return s.log.Append(stream.Names{}.Subject(t.Org, t.Type), h, data)
}

// heard checks what a receiver is told: by something that it asked for, and of
// each transition by one event. s.mu is held.
func (s *sim) heard(p *deliver.Payload, k deliver.Key) {
	if !stream.Operational(p.Type) {
		return
	}
	var body struct {
		Data struct{ Key string }
	}
	if err := json.Unmarshal(p.Body, &body); err != nil {
		s.violatedLocked("operational event %v: %v", p.ID, err)
		return
	}
	if first, ok := s.tells[body.Data.Key]; ok && first != p.ID {
		s.violatedLocked("endpoint %d was told of %s by two events", k.Endpoint, body.Data.Key)
	}
	s.tells[body.Data.Key] = p.ID
}

// untold says what was not told yet.
func (s *sim) untold() string {
	if t, waiting := s.admin.ToTell(); waiting > 0 {
		return "an operational event waits for its stream: " + t.Key
	}
	return ""
}

// checkTold checks that nothing is told of being told, and nobody of what he did
// not ask for.
func (s *sim) checkTold() {
	for _, t := range s.admin.Told() {
		if stream.Operational(t.Cause) {
			s.violated("%s was told because of an attempt at %s", t.Key, t.Cause)
		}
	}
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	for _, e := range s.disk.events {
		if !stream.Operational(e.typ) {
			continue
		}
		for _, d := range e.deliveries {
			if types := strings.Join(s.disk.endpoint(d.Endpoint).EventTypes, " "); !strings.Contains(types, stream.OperationalPrefix) {
				s.violated("endpoint %d wants %s and got %s", d.Endpoint, types, e.typ)
			}
		}
	}
}
