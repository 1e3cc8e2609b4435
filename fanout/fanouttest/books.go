package fanouttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
)

var (
	// ErrCrashed: these books belong to a process that is dead.
	ErrCrashed = errors.New("the books were closed by a crash")
	// ErrInjected is what a call fails with when Books.Fault says so.
	ErrInjected = errors.New("injected fault")
)

// Fault is how a call goes wrong.
type Fault int

const (
	NoFault    Fault = iota
	NotApplied       // it fails, and nothing of it happened
	Unreported       // all of it happened, and it is reported as failed
)

// Call names the calls that can fail.
type Call string

const (
	CallCommit Call = "commit"
	CallBook   Call = "book" // the writing of records; they are tried again
	CallRead   Call = "read" // NotApplied only
)

// Broken breaks rules on purpose, to see that it is noticed.
type Broken struct {
	NoUniqueKey    bool // an event that is known already becomes another one
	CursorFirst    bool // the position moves even if the commit fails
	NoVersion      bool // plans of old subscriptions are committed
	LoseOutcomes   int  // every nth record is said to be booked, and is not; 0: none
	ForgetBacklog  bool // Backlogs knows of none
	Revive         bool // a record brings a cancelled delivery back
	PauseInVain    bool // plans made before a pause are committed after it
	SkipInSilence  bool // the cursor moves on over what was never read, and nothing is recorded
	ForgetFurthest bool // once it is moved back, nobody knows how far the stream was read
	ForgetPayloads bool // payloads are not kept
	OpenEarly      bool // a catch-up ends while something is left to read
	OpenLate       bool // its subscription opens one sequence too late
	PlaceFirst     bool // its place moves even if its rows are not written
	ForgetFilters  bool // what is read again is read without filters
	ForgetLines    bool // Lines knows of none
	ForgetHeld     bool // what is held back is not booked
	ForgetHealth   bool // endpoints seem well after each start
	RowsOnly       bool // what a replay makes pending is written without its place
	TellOfTelling  bool // what comes of attempts at operational events is told
}

const (
	defaultRoom = 8192
	bookAgain   = time.Second // after records could not be booked
)

// Books are one process's books. The fields are set before the first call.
type Books struct {
	Now    func() time.Time // nil: time.Now
	Linger time.Duration    // how long a record waits for others before they are booked
	Manual bool             // records wait until Book is called
	Room   int              // records that may wait; then Record blocks. 0: 8,192
	Fault  func(Call) Fault // asked before each call, with a lock held; nil: none
	Broken Broken
	// ParkAfter is how many deliveries of one endpoint may be pending; the commit
	// that goes over it makes the endpoint catch up from there. 0: any number.
	ParkAfter int64

	disk *Disk

	// Guarded by disk.mu.
	crashed   bool
	full      bool
	waiting   []deliver.Record
	scheduled *time.Timer
	room      chan struct{} // closed when records were booked, or never will be
	booked    func([]deliver.Record)
	changed   func(deliver.Endpoint)
	taken     int // records, ever

	bookMu sync.Mutex // one Book at a time; taken before disk.mu
}

var (
	_ fanout.Books        = (*Books)(nil)
	_ fanout.SourceBooks  = (*Books)(nil)
	_ fanout.CatchupBooks = (*Books)(nil)
	_ deliver.Books       = (*Books)(nil)
	_ Store               = (*Books)(nil)
)

// Open makes the books of a new process.
func (d *Disk) Open() *Books { return &Books{disk: d, room: make(chan struct{})} }

// Crash forgets what is not durable. From then on every call fails.
func (b *Books) Crash() {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	b.crashed = true
	b.waiting = nil
	if b.scheduled != nil {
		b.scheduled.Stop()
	}
	close(b.room)
	b.room = make(chan struct{})
}

// SetFull fills the disk, or makes room on it: while it is full nothing can be
// written, and records wait.
func (b *Books) SetFull(full bool) {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	b.full = full
	if !full {
		b.schedule(0)
	}
}

// Waiting is how many records were taken and are not durable.
func (b *Books) Waiting() int {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	return len(b.waiting)
}

// OnBooked implements [deliver.Books].
func (b *Books) OnBooked(f func([]deliver.Record)) {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	b.booked = f
}

// OnEndpointChanged sets the function that is told of each endpoint after it was
// added, disabled, enabled or removed, with no lock held. A removed one comes
// with DisabledReason "removed".
func (b *Books) OnEndpointChanged(f func(deliver.Endpoint)) {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	b.changed = f
}

// Record implements [deliver.Books].
func (b *Books) Record(ctx context.Context, r deliver.Record) error {
	limit := b.Room
	if limit == 0 {
		limit = defaultRoom
	}
	for {
		b.disk.mu.Lock()
		if b.crashed {
			b.disk.mu.Unlock()
			return ErrCrashed
		}
		if len(b.waiting) < limit {
			break
		}
		room := b.room
		b.disk.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer b.disk.mu.Unlock()
	b.waiting = append(b.waiting, r)
	b.schedule(b.Linger)
	return nil
}

// schedule is called with disk.mu held.
func (b *Books) schedule(after time.Duration) {
	if b.Manual || b.crashed || b.scheduled != nil || len(b.waiting) == 0 {
		return
	}
	b.scheduled = time.AfterFunc(after, func() {
		b.disk.mu.Lock()
		b.scheduled = nil
		b.disk.mu.Unlock()
		b.Book()
	})
}

// Book makes the records that wait durable, in one transaction, and reports
// whether it could.
func (b *Books) Book() bool {
	b.bookMu.Lock()
	defer b.bookMu.Unlock()
	rs, changed, ok := b.transaction()
	if !ok {
		return false
	}
	b.tell(changed...)
	if b.booked != nil && len(rs) > 0 {
		b.booked(rs)
	}
	return true
}

func (b *Books) transaction() (booked []deliver.Record, changed []deliver.Endpoint, ok bool) {
	b.disk.mu.Lock()
	defer b.disk.mu.Unlock()
	if b.crashed {
		return nil, nil, false
	}
	fault := b.fault(CallBook)
	if b.full || fault == NotApplied {
		b.schedule(bookAgain)
		return nil, nil, false
	}
	rs := b.waiting
	for _, r := range rs {
		b.taken++
		if n := b.Broken.LoseOutcomes; n > 0 && b.taken%n == 0 {
			continue
		}
		if b.book(r) {
			changed = append(changed, b.disk.endpoint(r.Endpoint).Endpoint)
		}
	}
	if fault == Unreported {
		b.schedule(bookAgain)
		return nil, nil, false
	}
	b.waiting = nil
	close(b.room)
	b.room = make(chan struct{})
	return rs, changed, true
}

func (b *Books) tell(changed ...deliver.Endpoint) {
	if b.changed == nil {
		return
	}
	for _, ep := range changed {
		b.changed(ep)
	}
}

// begin locks the books for a call, or fails.
func (b *Books) begin(call Call, what string, args ...any) error {
	b.disk.mu.Lock()
	var err error
	switch {
	case b.crashed:
		err = ErrCrashed
	case call != CallRead && b.full:
		err = fanout.ErrFull
	case call == CallRead && b.fault(call) != NoFault:
		err = ErrInjected
	default:
		return nil
	}
	b.disk.mu.Unlock()
	return fmt.Errorf("%s: %w", fmt.Sprintf(what, args...), err)
}

func (b *Books) end() { b.disk.mu.Unlock() }

func (b *Books) fault(call Call) Fault {
	if b.Fault == nil {
		return NoFault
	}
	return b.Fault(call)
}

func (b *Books) now() time.Time {
	if b.Now == nil {
		return time.Now()
	}
	return b.Now()
}
