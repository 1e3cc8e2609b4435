package fanouttest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/grapnel-hooks/grapnel/stream/streamtest"
)

// simPolicy gives up within a minute or so.
var simPolicy = deliver.Policy{Initial: time.Second, Multiplier: 2, MaxInterval: 20 * time.Second, Attempts: 6}

const (
	// simDrain is how long everything may take to drain once the faults have
	// ceased: the longest backoff, a sweep, and a few timeouts.
	simDrain = 4 * time.Minute
	simStep  = 5 * time.Second
)

// sim is one run: the world around the daemon.
type sim struct {
	t      *testing.T
	ctx    context.Context
	seed   uint64
	mutant mutant
	dice   *rand.Rand   // of the script; the daemon's goroutines roll their own
	logger *slog.Logger // of the daemon; nil: silent

	log   *streamtest.Log
	disk  *Disk
	admin *Books // by which the checks read: never fails
	lives []*daemon
	orgs  []string
	keys  int // dedupe keys given
	down  bool

	rolledBack map[string]int // the incarnation that a stream had before

	// Chances in percent, read by all goroutines.
	crashing atomic.Int64 // at a failpoint
	faulty   atomic.Int64 // of a call to the books
	meddling atomic.Int64 // of a change between a plan and its commit

	// What the checks remember.
	positions map[string]cursor.Position
	held      map[string]bool // paused: their positions stay
	ended     map[deliver.Key]deliver.State
	replays   []*simReplay        // by number
	cancelled map[deliver.Key]int // by hand, and the requests that came since; guarded by mu

	mu        sync.Mutex
	alive     *daemon // nil: down
	receivers map[int64]*receiver
	tells     map[string]stream.ID // by which event receivers were told, by its key
	ledger    map[fanout.Receipt]fanout.Tally
	pulses    map[int64]*pulse               // of this life
	epochs    int                            // of pulses, given
	durable   map[int64]deliver.Health       // the newest that is
	open      map[deliver.Key]fanout.Receipt // requested, and the outcome is not durable
	broken    string
	keyed     map[int64]bool         // endpoints that are ordered by a key
	passed    map[deliver.Key]string // that others of their line were sent before, and how
}

type receiver struct {
	org  string
	mood mood
}

func newSim(t *testing.T, seed uint64, m mutant) *sim {
	s := &sim{
		t: t, ctx: t.Context(), seed: seed, mutant: m,
		log: &streamtest.Log{}, disk: NewDisk(),
		positions: map[string]cursor.Position{}, held: map[string]bool{}, rolledBack: map[string]int{}, ended: map[deliver.Key]deliver.State{}, cancelled: map[deliver.Key]int{},
		tells:     map[string]stream.ID{},
		receivers: map[int64]*receiver{}, passed: map[deliver.Key]string{}, keyed: map[int64]bool{},
		ledger: map[fanout.Receipt]fanout.Tally{}, open: map[deliver.Key]fanout.Receipt{},
	}
	s.dice = s.roll("script")
	s.durable = map[int64]deliver.Health{}
	if *simTell {
		s.logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	s.log.OnAppend = s.wake
	s.admin = s.disk.Open()
	return s
}

// roll makes dice that fall as the seed and the parts say, whichever goroutine
// asks, and whenever.
func (s *sim) roll(parts ...any) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, parts...)
	return rand.New(rand.NewPCG(s.seed, h.Sum64()))
}

// chance comes true in percent of the cases.
func (s *sim) chance(what string, life int, call uint64, percent int64) bool {
	return percent > 0 && s.roll(what, life, call).Int64N(100) < percent
}

func (s *sim) tracef(format string, args ...any) {
	if *simTell {
		s.t.Logf("%s %s", time.Now().Format("15:04:05.000"), fmt.Sprintf(format, args...))
	}
}

func (s *sim) must(err error) {
	if err != nil && !errors.Is(err, ErrCrashed) {
		panic(err)
	}
}

func (s *sim) violated(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.violatedLocked(format, args...)
}

func (s *sim) violatedLocked(format string, args ...any) {
	if s.broken == "" {
		s.broken = fmt.Sprintf(format, args...)
	}
}

func (s *sim) ok() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken == ""
}

// run is the whole story: a safety phase full of faults, then a liveness phase
// without any.
func (s *sim) run() string {
	for _, org := range []string{"acme", "globex"}[:1+s.dice.IntN(2)] {
		s.addOrg(org)
	}
	s.crashing.Store([...]int64{0, 0, 1, 3}[s.dice.IntN(4)])
	s.faulty.Store([...]int64{0, 0, 2, 15}[s.dice.IntN(4)])
	s.meddling.Store([...]int64{0, 0, 10}[s.dice.IntN(3)])
	s.log.WakeEarly = s.dice.IntN(4) == 0
	script := s.script()
	s.begin()
	for range 20 + s.dice.IntN(40) {
		time.Sleep(time.Duration(s.dice.Int64N(int64(simStep))))
		if s.life().dead.Load() {
			s.life().done.Wait()
			s.tracef("life %d begins", len(s.lives)+1)
			s.begin()
		}
		script[s.dice.IntN(len(script))]()
		s.carryReplays()
		s.inspect()
		if !s.ok() {
			break
		}
	}
	s.calm()
	if s.ok() {
		s.drained()
	}
	s.life().drain()
	if s.ok() {
		s.audit()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

func (s *sim) life() *daemon { return s.lives[len(s.lives)-1] }

// script is what can happen in this run, as often as it should.
func (s *sim) script() []func() {
	kinds := []struct {
		weight int
		what   []func()
	}{
		{10, []func(){s.append}},
		{2, []func(){s.addEndpoint, s.change, s.change, s.retry, s.retry, s.cancel}},
		{1, []func(){s.remove, s.gate}},
		{3, []func(){s.changeMood}},
		{1, []func(){s.kill}},
		{1, []func(){s.restart}},
		{2, []func(){s.toggleBroker}},
		{1, []func(){s.toggleDisk}},
		{1, []func(){s.deleteMessage, s.purge}},
		{1, []func(){s.pause, s.pauseSoon, s.pauseSoon, s.resume, s.resume, s.resume, s.resume}},
		{2, []func(){s.move}},
		{1, []func(){s.recreate}},
		{2, []func(){s.refilter}},
		{1, []func(){s.reorder}},
		{1, []func(){s.rollback}},
		{1, []func(){s.outage, s.hold, s.hold}},
		{1, []func(){s.backfill, s.quiet}},
		{2, []func(){s.startReplay, s.startReplay, s.setReplay}},
	}
	var all []func()
	for i, k := range kinds {
		if i > 0 && s.dice.IntN(3) == 0 {
			continue // not in this run
		}
		for range k.weight {
			all = append(all, k.what...)
		}
	}
	return all
}

func (s *sim) org() string { return s.orgs[s.dice.IntN(len(s.orgs))] }

func streamOf(org string) string { return stream.Names{}.Stream(org) }

func (s *sim) addOrg(org string) {
	s.orgs = append(s.orgs, org)
	s.log.Create(streamOf(org))
	s.must(s.admin.AddOrg(s.ctx, fanout.Org{ID: org, Payload: stream.PayloadData}))
	for range 1 + s.dice.IntN(3) {
		s.newEndpoint(s.admin, org)
	}
}

func (s *sim) newEndpoint(b *Books, org string) { s.newEndpointFrom(b, org, nil) }

func (s *sim) newEndpointFrom(b *Books, org string, after *stream.Seq) {
	types := [][]string{{"*"}, {"*"}, {"a.*"}, {"a.x"}, {"b.*", "a.x"}, {"c"}, {"webhook.*"}, {"a.*", "webhook.*"}}
	workspaces := []string{"", "", "w1", "w2"}
	secret := sign.NewSecret()
	row := int64(len(s.disk.endpoints)) + 1
	options := s.someOrder(row)
	options.Filter, options.RateLimit = s.someFilter(), [...]float64{0, 0, 0, 20}[s.dice.IntN(4)]
	s.mu.Lock()
	s.receivers[row] = &receiver{org: org}
	s.mu.Unlock()
	_, err := b.addEndpoint(deliver.Endpoint{
		Org: org, URL: "https://example.com", Secrets: []deliver.Secret{{Secret: secret}}, Retry: simPolicy,
		EventTypes:  types[s.dice.IntN(len(types))],
		Workspace:   workspaces[s.dice.IntN(len(workspaces))],
		Concurrency: 1 + s.dice.IntN(4),
		Options:     options,
	}, after)
	s.refused(err)
}

// refused forgives what an operator would be told.
func (s *sim) refused(err error) {
	if err != nil && !errors.Is(err, fanout.ErrFull) {
		s.must(err)
	}
}

func (s *sim) append() {
	org := s.org()
	types := []string{"a.x", "a.y", "b.x.y", "c", "a"}
	n := 1 + s.dice.IntN(15)
	for range n {
		h := stream.Header{}
		if s.dice.IntN(5) < 2 {
			h["Grapnel-Workspace"] = []string{[]string{"w1", "w2"}[s.dice.IntN(2)]}
		}
		switch s.dice.IntN(10) {
		case 0, 1: // again
			h["Nats-Msg-Id"] = []string{fmt.Sprint(s.dice.IntN(s.keys + 1))}
		case 2, 3, 4:
			s.keys++
			h["Nats-Msg-Id"] = []string{fmt.Sprint(s.keys)}
		}
		data := s.someData()
		if s.dice.IntN(20) == 0 {
			data = `{`
		}
		s.log.Append(stream.Names{}.Subject(org, types[s.dice.IntN(len(types))]), h, []byte(data))
	}
	s.tracef("%d messages for %s", n, org)
}

// some picks an endpoint that was not removed.
func (s *sim) some(dice *rand.Rand) (deliver.Endpoint, bool) {
	all, err := s.admin.AllEndpoints(s.ctx)
	s.must(err)
	if len(all) == 0 {
		return deliver.Endpoint{}, false
	}
	return all[dice.IntN(len(all))], true
}

func (s *sim) addEndpoint() {
	if len(s.disk.endpoints) < 8 {
		s.newEndpoint(s.life().books, s.org())
	}
}

func (s *sim) change() { s.toggle(s.life().books, s.dice) }

// toggle disables an endpoint, or enables it.
func (s *sim) toggle(b *Books, dice *rand.Rand) {
	ep, ok := s.some(dice)
	if !ok {
		return
	}
	s.tracef("endpoint %d is enabled: %v", ep.Row, !ep.Enabled())
	var err error
	if ep.Enabled() {
		_, err = b.DisableEndpoint(s.ctx, ep.Org, ep.ID, "manual")
	} else {
		_, err = b.EnableEndpoint(s.ctx, ep.Org, ep.ID)
	}
	s.refused(err)
}

func (s *sim) remove() {
	if ep, ok := s.some(s.dice); ok {
		s.tracef("endpoint %d is removed", ep.Row)
		s.refused(s.life().books.RemoveEndpoint(s.ctx, ep.Org, ep.ID))
	}
}

func (s *sim) gate() {
	org := s.org()
	s.refused(s.life().books.SetGated(s.ctx, org, s.dice.IntN(2) == 0))
}

func (s *sim) pause() { s.pauseOne(s.org()) }

// pauseSoon pauses cursors whose plans are, with some luck, about to be committed.
func (s *sim) pauseSoon() {
	for range 3 {
		s.append()
	}
	time.Sleep(time.Duration(s.dice.IntN(40)) * time.Millisecond)
	for _, org := range s.orgs {
		s.pauseOne(org)
	}
}

func (s *sim) pauseOne(org string) {
	s.tracef("the cursor of %s is paused", org)
	err := s.life().books.PauseCursor(s.ctx, org)
	s.refused(err)
	if err == nil {
		s.held[org] = true
		pos, err := s.admin.Position(s.ctx, org)
		s.must(err)
		s.positions[org] = pos
	}
}

func (s *sim) resume() {
	org, d := s.org(), s.life()
	s.tracef("the cursor of %s is resumed", org)
	delete(s.held, org)
	s.refused(d.books.ResumeCursor(s.ctx, org))
	d.loop.Reload(org)
}

// move moves a cursor to anywhere in its stream.
func (s *sim) move() {
	org, d := s.org(), s.life()
	pos, err := s.admin.Position(s.ctx, org)
	s.must(err)
	st, err := s.log.State(s.ctx, streamOf(org))
	if err != nil || pos.Incarnation == 0 || !st.Created.Equal(pos.Created) || st.Last < pos.Seq || pos.Incarnation == s.rolledBack[org] {
		return // who asks is told to wait until that is noticed
	}
	to := pos
	to.Seq, to.Anchor, to.Hash = stream.Seq(s.dice.Uint64N(uint64(st.Last)+1)), time.Time{}, 0
	if msgs, _, err := s.log.Read(s.ctx, streamOf(org), to.Seq, 1); err == nil && len(msgs) > 0 && msgs[0].Seq == to.Seq {
		to.StandAt(msgs[0])
	}
	far, err := s.admin.Furthest(s.ctx, org)
	s.must(err)
	if far.Seq > st.Last {
		return
	}
	err = d.books.MoveCursor(s.ctx, org, fanout.Move{From: pos, To: to, Skip: s.dice.IntN(3) == 0})
	var skip *fanout.SkipError
	if errors.Is(err, fanout.ErrMoved) || errors.As(err, &skip) {
		return
	}
	s.refused(err)
	if err == nil {
		s.tracef("the cursor of %s is moved from %d to %d", org, pos.Seq, to.Seq)
		s.positions[org] = to
		d.loop.Reload(org)
	}
}

func (s *sim) changeMood() {
	s.mu.Lock()
	defer s.mu.Unlock()
	row := 1 + s.dice.Int64N(int64(len(s.receivers)))
	s.receivers[row].mood = mood(s.dice.IntN(int(moods)))
	s.tracef("receiver %d is in mood %d", row, s.receivers[row].mood)
}

func (s *sim) kill() {
	s.tracef("life %d is killed", len(s.lives))
	s.life().crash()
}

func (s *sim) restart() {
	if s.full() {
		return // it could not end: an outcome may not be lost
	}
	s.tracef("life %d is stopped", len(s.lives))
	s.life().drain()
}

func (s *sim) full() bool {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	return s.life().books.full
}

func (s *sim) toggleBroker() { s.setDown(!s.down) }

func (s *sim) setDown(down bool) {
	s.down = down
	s.tracef("broker down: %v", down)
	s.log.SetDown(down)
	if !down {
		s.life().loop.SweepAll() // as after a reconnect
	}
}

func (s *sim) toggleDisk() {
	full := !s.full()
	s.tracef("disk full: %v", full)
	s.life().books.SetFull(full)
}

// state is that of a stream that may lose messages. While a roll-back has not
// been noticed, it must not also lose the one message that would tell.
func (s *sim) state(org string) (stream.State, bool) {
	pos, err := s.admin.Position(s.ctx, org)
	s.must(err)
	st, err := s.log.State(s.ctx, streamOf(org))
	return st, err == nil && st.Messages > 0 && pos.Incarnation != s.rolledBack[org]
}

func (s *sim) deleteMessage() {
	org := s.org()
	if st, ok := s.state(org); ok {
		seq := st.First + stream.Seq(s.dice.Uint64N(uint64(st.Last-st.First)+1))
		s.tracef("message %d of %s is deleted", seq, org)
		s.log.DeleteMessage(streamOf(org), seq)
	}
}

func (s *sim) purge() {
	org := s.org()
	if st, ok := s.state(org); ok {
		seq := st.First + 1 + stream.Seq(s.dice.Uint64N(uint64(st.Last-st.First)+1))
		s.tracef("the stream of %s is purged up to %d", org, seq)
		s.log.PurgeTo(streamOf(org), seq)
	}
}

// recreate deletes a stream and makes it anew, of which the broker tells.
func (s *sim) recreate() {
	org := s.org()
	s.tracef("the stream of %s is made anew", org)
	s.log.Delete(streamOf(org))
	time.Sleep(time.Duration(s.dice.IntN(100)) * time.Millisecond)
	s.log.Create(streamOf(org))
	s.life().loop.Reload(org)
}

// rollback is what a power cut does to the broker. Whether it happened cannot be
// told while the newest messages cannot be read.
func (s *sim) rollback() {
	org := s.org()
	if s.log.WakeEarly {
		return
	}
	st, ok := s.state(org)
	if !ok {
		return
	}
	seq := st.First + stream.Seq(s.dice.Uint64N(uint64(st.Last-st.First)+1))
	s.tracef("the stream of %s is rolled back from %d to %d", org, st.Last, seq)
	s.setDown(true)
	pos, err := s.admin.Position(s.ctx, org)
	s.must(err)
	far, err := s.admin.Furthest(s.ctx, org)
	s.must(err)
	if seq < far.Seq {
		s.rolledBack[org] = pos.Incarnation
	}
	s.log.Rollback(streamOf(org), seq)
	time.Sleep(time.Duration(s.dice.IntN(100)) * time.Millisecond)
	s.setDown(false)
}

// calm ends all faults.
func (s *sim) calm() {
	s.crashing.Store(0)
	s.faulty.Store(0)
	s.meddling.Store(0)
	s.mu.Lock()
	for _, r := range s.receivers {
		r.mood = healthy
	}
	s.mu.Unlock()
	synctest.Wait() // whoever was on the way to a crash
	s.life().books.SetFull(false)
	if s.life().dead.Load() {
		s.life().done.Wait()
		s.begin()
	}
	s.setDown(false)
	s.goOn()
	for _, org := range s.orgs {
		delete(s.held, org)
		s.refused(s.admin.ResumeCursor(s.ctx, org))
		s.life().loop.Reload(org)
	}
	// A message deleted while it was the newest looks like one that cannot be
	// read yet, until another one comes.
	for _, org := range s.orgs {
		s.log.Append(stream.Names{}.Subject(org, "a.x"), nil, []byte("{}"))
	}
	s.tracef("all is calm")
}

// pass lets virtual time pass: all of the simulation runs in a synctest bubble.
func pass(d time.Duration) { time.Sleep(d) }
