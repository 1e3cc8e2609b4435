package fanout

import (
	"encoding/binary"
	"iter"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// delivery checks a booked delivery by itself, and against its receipt.
func (c *checker) delivery(e *BookedEvent, d *BookedDelivery) {
	at := e.at()
	if d.Org != e.Org {
		c.problem(ProblemForeign, at, e.Event, d.Endpoint, "the delivery belongs to %q, its event to %q", d.Org, e.Org)
	}
	if !c.known[d.Endpoint] {
		c.problem(ProblemForeign, at, e.Event, d.Endpoint, "the endpoint never was one of %q", e.Org)
	}

	n := len(d.Attempts)
	c.report.Attempts += uint64(n)
	var newest BookedAttempt
	for i, a := range d.Attempts {
		if a.Number != i+1 {
			c.problem(ProblemAttempts, at, e.Event, d.Endpoint, "attempt %d has number %d", i+1, a.Number)
		}
		newest = a
	}
	if d.Made != n {
		c.problem(ProblemAttempts, at, e.Event, d.Endpoint, "counts %d attempts, has %d", d.Made, n)
	}

	switch d.State {
	case deliver.Pending:
		c.report.Pending++
		if d.Due == 0 && n > 0 {
			c.problem(ProblemDue, at, e.Event, d.Endpoint, "attempted, pending and never due")
		}
		ownFault := newest.Class == deliver.OK || newest.Class == deliver.Ours
		if n > 0 && d.Trigger == deliver.Retry && !ownFault && !e.Kept {
			c.problem(ProblemPayload, at, e.Event, d.Endpoint, "waits for attempt %d, and its payload is not kept", n+1)
		}
	case deliver.Delivered:
		c.report.Delivered++
		if n == 0 || newest.Class != deliver.OK {
			c.problem(ProblemAttempts, at, e.Event, d.Endpoint, "delivered, but the last of %d attempts was no success", n)
		}
	case deliver.Dead:
		c.report.Dead++
	case deliver.Cancelled:
		c.report.Cancelled++
	}
	if d.State != deliver.Pending && d.Due != 0 {
		c.problem(ProblemDue, at, e.Event, d.Endpoint, "%s, and due", d.State)
	}
	c.receipt(e, d)
}

// receipt holds the attempts of a delivery against what its receiver saw. A
// request is without an attempt only when a crash came between the two; an
// attempt is without a request only when none was answered.
func (c *checker) receipt(e *BookedEvent, d *BookedDelivery) {
	if c.ledger == nil {
		return
	}
	key := Receipt{d.Endpoint, e.ID}
	c.expected[key] = true
	saw := c.ledger.Seen[key]
	var answered, succeeded int
	for _, a := range d.Attempts {
		switch a.Class {
		case deliver.OK:
			succeeded++
			answered++
		case deliver.HTTP4xx, deliver.HTTP5xx, deliver.Redirect:
			answered++
		}
	}
	crashes := c.ledger.Crashes + saw.Interrupted
	if saw.Requests > len(d.Attempts)+crashes {
		c.problem(ProblemReceipt, e.at(), e.Event, d.Endpoint, "the receiver saw %d requests, with %d attempts and %d crashes",
			saw.Requests, len(d.Attempts), crashes)
	}
	if answered > saw.Requests {
		c.problem(ProblemReceipt, e.at(), e.Event, d.Endpoint, "%d attempts were answered, the receiver saw %d requests", answered, saw.Requests)
	}
	if succeeded > saw.Succeeded {
		c.problem(ProblemReceipt, e.at(), e.Event, d.Endpoint, "%d attempts succeeded, the receiver accepted %d", succeeded, saw.Succeeded)
	}
}

// strays finds requests for which there is no delivery.
func (c *checker) strays() {
	if c.ledger == nil {
		return
	}
	for key, saw := range c.ledger.Seen {
		if !c.expected[key] {
			c.problem(ProblemReceipt, place{}, 0, key.Endpoint, "the receiver saw %d requests with %s, and there is no such delivery", saw.Requests, key.ID)
		}
	}
}

// front is an iterator with one element of look-ahead.
type front[T any] struct {
	next func() (T, error, bool)
	stop func()
	head T
	err  error
	ok   bool
	full bool // head, err and ok are the next element
}

func newFront[T any](seq iter.Seq2[T, error]) *front[T] {
	next, stop := iter.Pull2(seq)
	return &front[T]{next: next, stop: stop}
}

// peek returns the first element that was not advanced over.
func (f *front[T]) peek() (T, bool, error) {
	if !f.full {
		f.head, f.err, f.ok = f.next()
		f.full = true
	}
	return f.head, f.ok, f.err
}

func (f *front[T]) advance() { f.full = false }

// idFilter remembers IDs: the first ones exactly, and the others in a Bloom
// filter, for which it may take new ones to be known. IDs are hashes, so their
// own bytes choose the bits.
type idFilter struct {
	exact map[stream.ID]struct{}
	bits  []uint64
}

// filterBits has one wrong answer in a million at a million IDs, and one in two
// hundred at ten million.
const filterBits = 1 << 27

// has reports whether id may have been added.
func (f *idFilter) has(id stream.ID) bool {
	if _, known := f.exact[id]; known || f.bits == nil {
		return known
	}
	for i := range 4 {
		bit := binary.LittleEndian.Uint32(id[4*i:]) % filterBits
		if f.bits[bit/64]&(1<<(bit%64)) == 0 {
			return false
		}
	}
	return true
}

// add adds id and reports whether it may have been there before.
func (f *idFilter) add(id stream.ID) bool {
	if _, known := f.exact[id]; known {
		return true
	}
	if len(f.exact) < maxSuspects {
		if f.exact == nil {
			f.exact = make(map[stream.ID]struct{})
		}
		f.exact[id] = struct{}{}
		return false
	}
	if f.bits == nil {
		f.bits = make([]uint64, filterBits/64)
	}
	known := true
	for i := range 4 {
		bit := binary.LittleEndian.Uint32(id[4*i:]) % filterBits
		if f.bits[bit/64]&(1<<(bit%64)) == 0 {
			known = false
			f.bits[bit/64] |= 1 << (bit % 64)
		}
	}
	return known
}
