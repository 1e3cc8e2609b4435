package sqlite

import (
	"os"
	"sync/atomic"
	"time"
)

// Stats is what the store says of itself, for metrics. Counts are since the
// start.
type Stats struct {
	Commits       int64         // transactions
	CommitTime    time.Duration // spent in them, from BEGIN to the end of COMMIT
	LastCommit    time.Duration // the latest one's
	CommitSeconds Histogram     // of them
	BatchRows     Histogram     // new deliveries and outcomes in one transaction
	Rows          int64         // new deliveries and outcomes written by them
	Operations    int64         // plans and changes by people
	Failures      int64         // transactions that failed as a whole
	Busy          int64         // tries of a transaction that ended because another process held the lock
	Checkpoints   Histogram     // seconds; those that the writer made by itself
	Waiting       int           // outcomes not yet durable
	DatabaseBytes int64
	WALBytes      int64
	Full          bool // the disk is full or cannot be written
	Schema        int  // the number of the last migration
}

// Fanned is what came of the messages that fan-out has read, since the start.
// What is read again counts only as far as it changed the books.
type Fanned struct {
	Matched    int64     // events that got deliveries
	Unmatched  int64     // events that nobody was subscribed to
	Duplicates int64     // events that were known by their key
	Rejected   int64     // messages that are no events
	Gated      int64     // events of organizations whose plan has no outgoing webhooks
	Gap        int64     // sequences that the stream no longer had
	GapAt      time.Time // when such were found last, since ever; zero: never
}

// counters are the writer's, written by its goroutine only.
type counters struct {
	commits, nanos, last, longest, rows, ops, failures, busy       atomic.Int64
	matched, unmatched, duplicates, rejected, gated, gapped, gapAt atomic.Int64
	commitSeconds, batchRows, checkpoints                          *histogram
}

// newCounters has a bound at what is too slow for a commit, 250 ms, so that the
// share of those can be told exactly.
func newCounters() counters {
	seconds := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	return counters{
		commitSeconds: newHistogram(seconds...),
		batchRows:     newHistogram(0, 1, 4, 16, 64, 256, 1024, 4096, 16384),
		checkpoints:   newHistogram(seconds...),
	}
}

func (c *counters) committed(took time.Duration, rows int64, ops int) {
	c.commits.Add(1)
	c.nanos.Add(int64(took))
	c.last.Store(int64(took))
	for was := c.longest.Load(); int64(took) > was && !c.longest.CompareAndSwap(was, int64(took)); was = c.longest.Load() {
	}
	c.rows.Add(rows)
	c.ops.Add(int64(ops))
	c.commitSeconds.add(took.Seconds())
	c.batchRows.add(float64(rows))
}

func (c *counters) failed() { c.failures.Add(1) }

// checkpointed is told of each checkpoint that the writer made by itself.
func (c *counters) checkpointed(took time.Duration) { c.checkpoints.add(took.Seconds()) }

// Stats reads the counters; it costs two system calls.
func (s *Store) Stats() Stats {
	c := &s.w.stats
	return Stats{
		Commits:       c.commits.Load(),
		CommitTime:    time.Duration(c.nanos.Load()),
		LastCommit:    time.Duration(c.last.Load()),
		CommitSeconds: c.commitSeconds.read(),
		BatchRows:     c.batchRows.read(),
		Rows:          c.rows.Load(),
		Operations:    c.ops.Load(),
		Failures:      c.failures.Load(),
		Busy:          c.busy.Load(),
		Checkpoints:   c.checkpoints.read(),
		Waiting:       s.w.queued(),
		DatabaseBytes: size(s.path),
		WALBytes:      size(s.path + "-wal"),
		Full:          s.Full(),
		Schema:        s.schema,
	}
}

// Fanned reads what fan-out has come to; it touches no disk.
func (s *Store) Fanned() Fanned {
	c := &s.w.stats
	return Fanned{
		Matched: c.matched.Load(), Unmatched: c.unmatched.Load(), Duplicates: c.duplicates.Load(),
		Rejected: c.rejected.Load(), Gated: c.gated.Load(), Gap: c.gapped.Load(), GapAt: fromMillis(c.gapAt.Load()),
	}
}

// loadGapAt finds when a stream was seen last to have lost something. What somebody
// skipped by hand is no loss.
func (s *Store) loadGapAt() error {
	r := make(row, 1)
	if _, err := s.w.c.one(r, "SELECT ifnull(max(at), 0) FROM gaps WHERE skipped=0"); err != nil {
		return err
	}
	s.w.stats.gapAt.Store(r.int(0))
	return nil
}

// Standing is how many deliveries are pending and dead, in all organizations.
// It touches no disk.
func (s *Store) Standing() (pending, dead int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, o := range s.orgs {
		pending += o.pending.Load()
		dead += o.dead.Load()
	}
	return pending, dead
}

// LongestCommit is how long the longest transaction took, from BEGIN to the end of
// COMMIT, since it was asked for last: for so long nobody else could write.
func (s *Store) LongestCommit() time.Duration { return time.Duration(s.w.stats.longest.Swap(0)) }

// Full reports that the last transaction found the disk full or not writable.
// The store tries again by itself.
func (s *Store) Full() bool { return s.w.full.Load() }

func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
