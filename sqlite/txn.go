package sqlite

import (
	"errors"
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// txn is one transaction in the making. What it does to the memory of the
// store is collected and done after the commit only.
type txn struct {
	s *Store
	w *writer
	c *conn

	// careful means record by record, each in its own savepoint.
	careful bool

	// Of the present attempt.
	now    time.Time
	next   int64             // number of the next event
	after  []func()          // once durable
	counts map[int64]change  // by endpoint
	plain  []*deliver.Record // successes at the first attempt, for one statement
	rows   int64             // deliveries and records written
	plans  bool
	// Operational events written, by org. Of an operation that was undone they stay: it
	// is a bound.
	announced map[int64]int64

	// Of the operations before the present one, by endpoint.
	earlier map[int64]change

	// Of the present operation.
	caller Caller
	made   any // what it made, for the answer to repeat (see Once)
}

// change is how many more deliveries of an endpoint are pending and dead.
type change struct{ pending, dead int64 }

func (t *txn) tally(endpoint int64, pending, dead int64) {
	c := t.counts[endpoint]
	c.pending += pending
	c.dead += dead
	t.counts[endpoint] = c
}

// attempt runs the transaction once. On an error nothing of it is left, in the
// database or in memory.
func (t *txn) attempt(ops []*op, records []deliver.Record) (err error) {
	began := time.Now()
	t.now, t.next, t.after, t.rows, t.plans = t.s.now(), t.w.nextEvent, nil, 0, false
	t.caller, t.made = Caller{Actor: itself}, nil
	t.counts, t.plain = make(map[int64]change), t.plain[:0]
	t.announced = make(map[int64]int64)
	for _, o := range ops {
		o.err = nil
	}
	if _, err := t.c.exec("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() {
		if err != nil && !t.c.c.AutoCommit() { // some errors have rolled back already
			_, rollback := t.c.exec("ROLLBACK")
			err = errors.Join(err, rollback)
		}
	}()
	if err := t.book(records); err != nil {
		return fmt.Errorf("book outcomes: %w", err)
	}
	for _, o := range ops {
		if err := t.operation(o); err != nil {
			return err
		}
	}
	failpoint := t.s.o.Failpoint
	if t.plans {
		failpoint("commit.before")
	}
	if len(records) > 0 {
		failpoint("record.before")
	}
	// Crash here: nothing of the group happened. Plans are made again from the
	// stream, and requests whose outcomes are lost are sent again.
	if _, err := t.c.exec("COMMIT"); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	// Crash here: all of it happened. New deliveries are paged in at the next
	// start, and no booked request is sent again.
	if t.plans {
		failpoint("commit.after")
	}
	if len(records) > 0 {
		failpoint("record.after")
	}
	t.w.nextEvent = t.next
	t.s.addCounts(t.counts)
	for _, f := range t.after {
		f()
	}
	t.w.stats.committed(time.Since(began), t.rows, len(ops))
	return nil
}

// operation runs one operation in a savepoint. It returns an error only when
// the whole transaction cannot go on; the operation's own is in o.err.
func (t *txn) operation(o *op) error {
	if _, err := t.c.exec("SAVEPOINT op"); err != nil {
		return fmt.Errorf("savepoint: %w", err)
	}
	next, after, rows, counts := t.next, len(t.after), t.rows, t.counts
	t.earlier, t.counts = counts, make(map[int64]change)
	t.caller, t.made = o.caller, nil
	err := o.run(t)
	if err == nil {
		err = t.answered()
	}
	switch faultOf(err) {
	case faultFull, faultBusy, faultCorrupt:
		return err
	}
	if err != nil {
		o.err = err
		t.next, t.after, t.rows, t.counts = next, t.after[:after], rows, counts
		if _, err := t.c.exec("ROLLBACK TO op"); err != nil {
			return fmt.Errorf("roll back to savepoint: %w", err)
		}
	} else {
		t.plans = t.plans || o.plan
		for endpoint, c := range t.counts {
			own := counts[endpoint]
			counts[endpoint] = change{own.pending + c.pending, own.dead + c.dead}
		}
		t.counts = counts
	}
	if _, err := t.c.exec("RELEASE op"); err != nil {
		return fmt.Errorf("release savepoint: %w", err)
	}
	return nil
}
