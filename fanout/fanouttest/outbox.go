package fanouttest

import (
	"fmt"
	"slices"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Told is an operational event: written with what it tells of, and appended to
// the stream of its organization by a relay.
type Told struct {
	Org, Type string
	Key       string // dedupe key
	Cause     string // type of the event whose attempt caused it; "": somebody's hand
}

// outbox is what the books were to tell, in its order. What was relayed stays
// for the checks.
type outbox struct {
	told    []Told
	relayed int // so many of them have been appended
}

// announce is called with disk.mu held, when the rest of the transaction is sure.
func (b *Books) announce(e *endpoint, typ, cause string) {
	if stream.Operational(cause) && !b.Broken.TellOfTelling {
		return
	}
	box := &b.disk.outbox
	box.told = append(box.told, Told{Org: e.Org, Type: typ, Key: fmt.Sprintf("%s:%s:%d", typ, e.ID, len(box.told)), Cause: cause})
}

// announceDead tells of a dead delivery, if an enabled endpoint of the org listens.
// disk.mu is held.
func (b *Books) announceDead(e *endpoint, cause string) {
	listens := func(l *endpoint) bool {
		return l.Org == e.Org && l.Enabled() && slices.ContainsFunc(l.EventTypes, func(p string) bool { return fanout.MatchType(p, stream.DeliveryDead) })
	}
	if slices.ContainsFunc(b.disk.endpoints, listens) {
		b.announce(e, stream.DeliveryDead, cause)
	}
}

// ToTell is the oldest operational event that waits, and how many wait.
func (b *Books) ToTell() (next Told, waiting int) {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	box := &b.disk.outbox
	if waiting = len(box.told) - box.relayed; waiting > 0 {
		next = box.told[box.relayed]
	}
	return next, waiting
}

// Relayed notes that the stream has the event. It fails with [ErrCrashed] and has
// no effect after a crash.
func (b *Books) Relayed(t Told) error {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	if b.crashed {
		return ErrCrashed
	}
	if box := &b.disk.outbox; box.relayed < len(box.told) && box.told[box.relayed] == t {
		box.relayed++
	}
	return nil
}

// Told are all operational events since ever.
func (b *Books) Told() []Told {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	return slices.Clone(b.disk.outbox.told)
}

// dies reports whether a record makes its delivery dead.
func dies(d *delivery, r *deliver.Record) bool {
	return d.state == deliver.Pending && r.Next.State == deliver.Dead
}
