package fanouttest

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/fanout/filter"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Disk is what of some books is durable.
type Disk struct {
	mu        sync.Mutex
	orgs      map[string]*org
	endpoints []*endpoint // by row - 1
	events    []*event    // by number - 1
	outbox    outbox
	replays   []*replay

	onReplayed func(number int, k deliver.Key) // a test's; told what replays make pending
	ticks      int64                           // times, see tick
}

// NewDisk makes an empty Disk.
func NewDisk() *Disk { return &Disk{orgs: make(map[string]*org)} }

type org struct {
	fanout.Org
	pos        cursor.Position
	far        cursor.Position // the furthest
	complete   stream.Seq      // as in fanout.Audited
	version    int64
	spans      []fanout.Span
	ids        map[stream.ID]*event
	exceptions map[place]fanout.Exception // by where they begin
	behind     map[int64]*catchup         // by endpoint
	away       []away                     // between two spans, because they were disabled
	lost       []lost                     // by those that were behind
}

type place struct {
	incarnation int
	seq         stream.Seq
}

func (p place) compare(q place) int {
	return cmp.Or(cmp.Compare(p.incarnation, q.incarnation), cmp.Compare(p.seq, q.seq))
}

type endpoint struct {
	deliver.Endpoint
	removed bool
}

type event struct {
	number     int64
	org        *org
	place      place
	id         stream.ID
	typ        string
	stored     time.Time
	fannedOut  time.Time
	payload    *deliver.Payload // kept from the first failure on
	deliveries []*delivery      // ascending by endpoint
}

type delivery struct {
	deliver.Ticket
	state    deliver.State
	reason   deliver.Reason
	attempts []deliver.Attempt
	line     deliver.Line // in which it stands; zero: in none
	since    int64        // when it was made, or asked for again, as Disk.tick counts
}

func (e *event) find(endpoint int64) *delivery {
	i, ok := slices.BinarySearchFunc(e.deliveries, endpoint, func(d *delivery, row int64) int {
		return cmp.Compare(d.Endpoint, row)
	})
	if !ok {
		return nil
	}
	return e.deliveries[i]
}

// add adds a fresh delivery.
func (e *event) add(endpoint, now int64) {
	d := &delivery{Ticket: deliver.Ticket{Key: deliver.Key{Event: e.number, Endpoint: endpoint}}, since: now}
	i, _ := slices.BinarySearchFunc(e.deliveries, endpoint, func(d *delivery, row int64) int {
		return cmp.Compare(d.Endpoint, row)
	})
	e.deliveries = slices.Insert(e.deliveries, i, d)
}

func (d *Disk) delivery(k deliver.Key) (*event, *delivery) {
	if k.Event < 1 || k.Event > int64(len(d.events)) {
		return nil, nil
	}
	e := d.events[k.Event-1]
	return e, e.find(k.Endpoint)
}

func (d *Disk) endpoint(row int64) *endpoint {
	if row < 1 || row > int64(len(d.endpoints)) {
		return nil
	}
	return d.endpoints[row-1]
}

// open begins a span at the furthest place that the org was read to.
func (o *org) open(ep *endpoint) {
	o.version++
	o.spans = append(o.spans, fanout.Span{Subscription: fanout.Subscription{
		Endpoint:    ep.Row,
		Types:       slices.Clone(ep.EventTypes),
		Workspace:   ep.Workspace,
		Filter:      filter.Hold(ep.Filter),
		Incarnation: o.far.Incarnation,
		From:        o.far.Seq,
	}})
}

// end ends the endpoint's open span there.
func (o *org) end(row int64) {
	o.version++
	for i := range o.spans {
		if s := &o.spans[i]; s.Endpoint == row && !s.Ended {
			s.Ended, s.UntilIncarnation, s.Until = true, o.far.Incarnation, o.far.Seq
		}
	}
}

// tick is a time: it ascends, and no two are the same. mu is held.
func (d *Disk) tick() int64 {
	d.ticks++
	return d.ticks
}
