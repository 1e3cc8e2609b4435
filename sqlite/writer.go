package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/mattn/go-sqlite3"
)

// Bounds of a transaction and of what waits for one.
const (
	maxOps     = 64   // operations in one transaction
	maxBatch   = 1024 // records in one transaction
	maxRecords = 8192 // records waiting; then Record blocks
	soon       = 512  // records that are worth a transaction of their own at once
	linger     = 5 * time.Millisecond
	retryAfter = time.Second // between tries to write records that cannot be written
	busyTries  = 2           // each as long as busyTimeout
	closeTries = 3
)

// writer is the one goroutine that changes the database.
type writer struct {
	s  *Store
	db *sql.DB

	// Owned by the goroutine.
	pinned    *sql.Conn
	c         *conn
	nextEvent int64
	kept      map[int64]struct{} // events whose payload is known to be stored
	health    map[int64]unwell   // endpoints whose health is to be written, see txn.health
	stuck     []deliver.Record   // that could not be written yet
	retryAt   time.Time          // when to try stuck again
	spare     []deliver.Record   // room for the next batch

	ops     chan *op
	pulse   chan struct{} // taken between transactions
	kick    chan struct{} // records began to wait, or are worth a transaction
	closing chan struct{}
	done    chan struct{}
	started bool
	lost    int // records given up at Close; read after done

	mu      sync.Mutex
	batches [][]deliver.Record // waiting, oldest first; each up to maxBatch
	waiting int                // records in batches
	space   chan struct{}      // closed and replaced when waiting falls below maxRecords
	closed  bool

	full     atomic.Bool
	onBooked atomic.Pointer[func([]deliver.Record)]
	stats    counters
}

// op is one operation: a function that runs in a savepoint of a transaction,
// perhaps more than once, since a transaction that could not be committed is
// tried again.
type op struct {
	run    func(*txn) error
	caller Caller // who asked for it
	plan   bool   // a plan's, for the failpoints
	err    error
	done   chan struct{}
}

func newWriter(s *Store, db *sql.DB) *writer {
	return &writer{
		s:       s,
		db:      db,
		kept:    make(map[int64]struct{}),
		health:  make(map[int64]unwell),
		ops:     make(chan *op, maxOps),
		pulse:   make(chan struct{}),
		kick:    make(chan struct{}, 1),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
		space:   make(chan struct{}),
		stats:   newCounters(),
	}
}

// pin takes the one connection for good.
func (w *writer) pin(c *sql.Conn) error {
	w.pinned = c
	return c.Raw(func(dc any) error {
		raw, ok := dc.(*sqlite3.SQLiteConn)
		if !ok {
			return fmt.Errorf("unexpected driver %T", dc)
		}
		w.c = newConn(raw)
		return nil
	})
}

// load finds the number of the next event: above every number ever given.
func (w *writer) load() error {
	r := make(row, 1)
	_, err := w.c.one(r, `SELECT max(
		(SELECT ifnull(max(id), 0) FROM events),
		(SELECT ifnull(max(last), 0) FROM key_runs),
		(SELECT ifnull(max(last_event), 0) FROM cursors),
		(SELECT high FROM retention))`)
	w.nextEvent = r.int(0) + 1
	return err
}

func (w *writer) start() {
	w.started = true
	go w.run()
}

// stop lets the goroutine write what waits, and waits for it.
func (w *writer) stop() error {
	if !w.started {
		return nil
	}
	w.mu.Lock()
	w.closed = true
	close(w.space) // who waits for room hears that there will be none
	w.space = make(chan struct{})
	w.mu.Unlock()
	close(w.closing)
	<-w.done
	if w.lost > 0 {
		return fmt.Errorf("%d outcomes could not be written; their deliveries will be sent again", w.lost)
	}
	return nil
}

func (w *writer) closeDB() error {
	var errs []error
	if w.c != nil {
		for _, s := range w.c.stmts {
			errs = append(errs, s.st.Close())
		}
	}
	if w.pinned != nil {
		errs = append(errs, w.pinned.Close())
	}
	return errors.Join(append(errs, w.db.Close())...)
}

// do runs f in the writer and returns when it is durable, or its error when
// nothing of it was done. f may run more than once.
func (w *writer) do(ctx context.Context, f func(*txn) error) error {
	return w.submit(ctx, &op{run: f, caller: callerOf(ctx), done: make(chan struct{})})
}

func (w *writer) submit(ctx context.Context, o *op) error {
	select {
	case <-w.closing:
		return ErrClosed
	default:
	}
	select {
	case w.ops <- o:
	case <-w.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	// From here on it may become durable at any moment, so the caller has to
	// hear what became of it.
	select {
	case <-o.done:
		return o.err
	case <-w.done:
		select {
		case <-o.done:
			return o.err
		default:
			return ErrClosed
		}
	}
}

// record queues r, and returns at once unless the disk is full: then it waits
// for room, so that whoever sends starts nothing new (REL-04). See
// [Store.Record].
func (w *writer) record(ctx context.Context, r deliver.Record) error {
	w.mu.Lock()
	for w.waiting >= maxRecords && !w.closed {
		space := w.space
		w.mu.Unlock()
		select {
		case <-space:
		case <-ctx.Done():
			return ctx.Err()
		}
		w.mu.Lock()
	}
	if w.closed {
		w.mu.Unlock()
		return ErrClosed
	}
	last := len(w.batches) - 1
	if last < 0 || len(w.batches[last]) == maxBatch {
		w.batches = append(w.batches, w.spare)
		w.spare = nil
		last++
	}
	w.batches[last] = append(w.batches[last], r)
	w.waiting++
	wake := w.waiting == 1 || w.waiting == soon
	w.mu.Unlock()
	if wake {
		select {
		case w.kick <- struct{}{}:
		default:
		}
	}
	if w.full.Load() {
		w.awaitRoom(ctx)
	}
	return nil
}

// Pulse returns when the writer has come round: its goroutine is between two
// transactions. A full disk does not hold that up, a disk that hangs does. It
// fails when ctx ends or the store is closed first.
func (s *Store) Pulse(ctx context.Context) error {
	select {
	case s.w.pulse <- struct{}{}:
		return nil
	case <-s.w.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitRoom waits until the disk is not full any more.
func (w *writer) awaitRoom(ctx context.Context) {
	for {
		w.mu.Lock()
		space, over := w.space, w.closed || !w.full.Load()
		w.mu.Unlock()
		if over {
			return
		}
		select {
		case <-space:
		case <-ctx.Done():
			return
		}
	}
}

// take returns the oldest batch of records, nil when none wait.
func (w *writer) take() []deliver.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.batches) == 0 {
		return nil
	}
	batch := w.batches[0]
	w.batches = w.batches[1:]
	if w.waiting >= maxRecords {
		close(w.space)
		w.space = make(chan struct{})
	}
	w.waiting -= len(batch)
	return batch
}

func (w *writer) queued() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.waiting
}

// run is the writer: gather what belongs into one transaction, run it, again.
func (w *writer) run() {
	defer close(w.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	ops := make([]*op, 0, maxOps)
	for {
		var open bool
		ops, open = w.gather(ops[:0], timer)
		if !open {
			break
		}
		w.group(ops)
	}
	// Closing: what was queued before is still written.
	for try := 0; ; {
		ops = w.drain(ops[:0])
		if len(ops) == 0 && w.stuck == nil && w.queued() == 0 {
			return
		}
		w.retryAt = time.Time{}
		w.group(ops)
		if w.stuck != nil {
			if try++; try == closeTries {
				w.lost = len(w.stuck) + w.queued()
				return
			}
			time.Sleep(retryAfter)
		}
	}
}

// gather waits until there is something for a transaction. An operation starts
// one at once, and takes the records with it; records alone wait a little for
// company. It returns false when the store is closing.
func (w *writer) gather(ops []*op, timer *time.Timer) ([]*op, bool) {
	lingering := false
	for {
		if w.stuck == nil {
			n := w.queued()
			if n >= soon {
				return w.drain(ops), true
			}
			if n > 0 && !lingering {
				lingering = true
				timer.Reset(linger)
			}
		} else {
			timer.Reset(max(time.Until(w.retryAt), 0))
		}
		select {
		case o := <-w.ops:
			return w.drain(append(ops, o)), true
		case <-w.pulse:
		case <-w.kick:
		case <-timer.C:
			if w.stuck != nil || w.queued() > 0 {
				return w.drain(ops), true
			}
			lingering = false
		case <-w.closing:
			return nil, false
		}
	}
}

// drain adds the operations that wait already.
func (w *writer) drain(ops []*op) []*op {
	for len(ops) < maxOps {
		select {
		case o := <-w.ops:
			ops = append(ops, o)
		default:
			return ops
		}
	}
	return ops
}

// group writes ops and the records that wait. Operations are answered in any
// case; records that cannot be written stay stuck until they can.
func (w *writer) group(ops []*op) {
	records := w.stuck
	switch {
	case records == nil:
		records = w.take()
	case time.Now().Before(w.retryAt):
		records = nil // operations alone may fit, and show that there is room again
	}
	err := w.transact(ops, records)
	switch {
	case err == nil && records == nil && w.stuck != nil:
		w.retryAt = time.Time{} // there may be room again
	case err == nil:
		if w.full.Swap(false) {
			w.mu.Lock()
			close(w.space)
			w.space = make(chan struct{})
			w.mu.Unlock()
		}
		w.stuck = nil
		if records != nil {
			w.booked(records)
		}
	default:
		if faultOf(err) == faultFull && !w.full.Swap(true) {
			w.s.log.Error("the disk is full or cannot be written; outcomes are kept in memory and tried again", "error", err)
		}
		w.stats.failed()
		if records != nil {
			w.stuck = records
			w.retryAt = time.Now().Add(retryAfter)
		}
	}
	for _, o := range ops {
		if err != nil {
			o.err = public(err)
		}
		close(o.done)
	}
}

// booked tells of durable records, and takes their room back.
func (w *writer) booked(records []deliver.Record) {
	w.s.fares.count(records, slotAt(w.s.now()))
	if f := w.onBooked.Load(); f != nil {
		(*f)(records)
	}
	clear(records)
	w.mu.Lock()
	w.spare = records[:0]
	w.mu.Unlock()
}

// transact runs one transaction until it is committed or cannot be.
func (w *writer) transact(ops []*op, records []deliver.Record) error {
	t := &txn{s: w.s, w: w, c: w.c}
	for try := 1; ; try++ {
		err := t.attempt(ops, records)
		if faultOf(err) == faultBusy {
			w.stats.busy.Add(1)
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errCareful):
			t.careful = true
		case faultOf(err) == faultBusy && try < busyTries:
			w.s.log.Warn("another process holds the database's lock", "error", err)
		case faultOf(err) == faultOp && !t.careful:
			w.s.log.Error("writing a group of outcomes failed; trying one by one", "error", err)
			t.careful = true
		default:
			return err
		}
	}
}

// errCareful asks for the transaction to be run again, record by record.
var errCareful = errors.New("not all records are as expected")
