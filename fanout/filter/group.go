package filter

import (
	"sync"

	"github.com/grapnel-hooks/grapnel/stream"
)

// Group is filters that are asked about the same events. It is immutable and
// safe for concurrent use.
type Group struct {
	filters []*Filter
	slots   [][]int32 // of each filter: for each of its paths, the node of the tree
	tree    tree
	pool    sync.Pool // of *Reading
}

// NewGroup puts filters together. None may be nil.
func NewGroup(filters []*Filter) *Group {
	g := &Group{filters: filters, slots: make([][]int32, len(filters))}
	g.tree.nodes = make([]treeNode, 1)
	for i, f := range filters {
		g.slots[i] = make([]int32, len(f.paths))
		for j, p := range f.paths {
			g.slots[i][j] = g.tree.add(p)
		}
	}
	g.pool.New = func() any {
		return &Reading{group: g, places: make([]places, len(g.tree.nodes)), answers: make([]answer, len(g.filters))}
	}
	return g
}

// Reading is one event as the filters of a group see it. It belongs to one
// goroutine.
type Reading struct {
	group  *Group
	event  *stream.Event
	places []places // of each node of the tree
	found  []found
	// Places and answers are those of this event when they carry its number, so
	// that nothing needs to be cleared.
	number  uint64
	object  uint64   // number of the object whose members are read
	answers []answer // of each filter
	passed  bool     // the data were passed over

	// Of the filter that is asked.
	left  int  // work
	over  bool // it would take more
	slots []int32
	buf   []byte // scratch
	plain []byte // the string at plainOf, without escapes
	// plainOf is where that string begins, and paidFor the one that this
	// filter has paid for; -1: none.
	plainOf, paidFor int32
}

// answer is what a filter said of an event.
type answer struct {
	number uint64 // of the event
	match  bool
}

// places are those of the values that are at one node of the tree.
type places struct {
	number      uint64 // of the event
	object      uint64 // the one in which the node's member was met
	first, last int32  // of found
	count       int32
}

// found is a value's place in the data. Those of one node are chained.
type found struct {
	from, to int32
	next     int32 // -1: the last
}

// Read begins with ev, whose data must be sound JSON. Nothing of the data is looked at
// before a filter asks for it. Close ends it.
func (g *Group) Read(ev *stream.Event) *Reading {
	r := g.pool.Get().(*Reading)
	r.event, r.passed, r.plainOf = ev, false, -1
	r.found = r.found[:0]
	r.number++
	return r
}

// Close gives the reading back. It must not be used any more.
func (r *Reading) Close() {
	r.event = nil
	r.group.pool.Put(r)
}

// Match reports whether the event fulfils the filter with number i of the
// group, see [Filter.Match]. Asking again costs nothing.
func (r *Reading) Match(i int) bool {
	a := &r.answers[i]
	if a.number != r.number {
		a.number, a.match = r.number, r.judge(i)
	}
	return a.match
}

// judge asks the filter. A panic, which would be a fault of ours, lets the event
// through, so that it can stop nobody's walk.
func (r *Reading) judge(i int) (match bool) {
	f := r.group.filters[i]
	r.over = false
	if f.err != nil {
		return true
	}
	defer func() {
		if recover() != nil {
			r.over, match = true, true
		}
	}()
	if !r.passed && len(f.paths) > 0 {
		r.pass()
	}
	r.slots, r.left, r.paidFor = r.group.slots[i], MaxWork, -1
	return r.holds(f.root) || r.over
}
