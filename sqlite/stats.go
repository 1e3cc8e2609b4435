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
	Rows          int64         // new deliveries and outcomes written by them
	Operations    int64         // plans and changes by people
	Failures      int64         // transactions that failed as a whole
	Waiting       int           // outcomes not yet durable
	DatabaseBytes int64
	WALBytes      int64
	Full          bool // the disk is full or cannot be written
}

// counters are the writer's, written by its goroutine only.
type counters struct {
	commits, nanos, last, longest, rows, ops, failures atomic.Int64
}

func (c *counters) committed(took time.Duration, rows int64, ops int) {
	c.commits.Add(1)
	c.nanos.Add(int64(took))
	c.last.Store(int64(took))
	for was := c.longest.Load(); int64(took) > was && !c.longest.CompareAndSwap(was, int64(took)); was = c.longest.Load() {
	}
	c.rows.Add(rows)
	c.ops.Add(int64(ops))
}

func (c *counters) failed() { c.failures.Add(1) }

// Stats reads the counters; it costs two system calls.
func (s *Store) Stats() Stats {
	c := &s.w.stats
	return Stats{
		Commits:       c.commits.Load(),
		CommitTime:    time.Duration(c.nanos.Load()),
		LastCommit:    time.Duration(c.last.Load()),
		Rows:          c.rows.Load(),
		Operations:    c.ops.Load(),
		Failures:      c.failures.Load(),
		Waiting:       s.w.queued(),
		DatabaseBytes: size(s.path),
		WALBytes:      size(s.path + "-wal"),
		Full:          s.Full(),
	}
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
