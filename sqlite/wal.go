package sqlite

import (
	"context"
	"fmt"
	"time"
)

// SQLite writes commits into a log beside the database, and from time to time a
// checkpoint folds the log into it, after which the log begins anew. Usually the writer's
// commits do that, each thousand pages.
//
// A program that copies the log away as it grows, such as Litestream, must be the
// one that decides when: a log that began anew before it was copied costs a new copy of
// the whole database. With [Options.Replicated] the store leaves it to that program, and neither
// folds nor shortens the log. Nobody may ever come, though, and a log that is never folded fills
// the disk: so the store looks how far it is folded, and does it by itself, with a
// warning, when the log has grown too long or nobody has folded anything for too long.

const (
	logLook    = 10 * time.Second // between two looks
	logTooOld  = 10 * time.Minute // without progress, while there is something to fold
	logTooLong = 1 << 30          // bytes that are not folded, or cannot begin anew
	logFrame   = 24               // bytes before each page in the log
)

// logPragmas say when the log is folded and cut.
func (o *Options) logPragmas() []string {
	if o.Replicated {
		return []string{"PRAGMA wal_autocheckpoint = 0", "PRAGMA journal_size_limit = -1"}
	}
	return []string{"PRAGMA wal_autocheckpoint = 1000", "PRAGMA journal_size_limit = 67108864"}
}

// logState is how much of the log is folded.
type logState struct {
	pages, folded int64 // in the log; of them, in the database
	pageSize      int64
}

func (l logState) bytes() int64 { return l.pages * (l.pageSize + logFrame) }

// logWatch remembers when the log was folded last.
type logWatch struct {
	before logState
	moved  time.Time // when somebody folded something, or there was nothing to do
}

// due decides whether the store folds the log by itself, and says why; "": it does not.
func (w *logWatch) due(now time.Time, l logState) string {
	if l.pages == l.folded || l.folded != w.before.folded || l.pages < w.before.pages || w.moved.IsZero() {
		w.moved = now
	}
	w.before = l
	switch {
	case l.pages == l.folded:
		return ""
	case l.bytes() > logTooLong:
		return "it is longer than 1 GiB"
	case now.Sub(w.moved) >= logTooOld:
		return "nobody has for 10 minutes"
	}
	return ""
}

// watchLog folds the log when the one who should does not.
func (s *Store) watchLog() {
	tick := time.NewTicker(logLook)
	defer tick.Stop()
	var w logWatch
	var warned time.Time
	for {
		select {
		case <-tick.C:
		case <-s.stopped.Done():
			return
		}
		l, why, err := s.lookAtLog(s.stopped, &w)
		switch {
		case s.stopped.Err() != nil:
			return
		case err != nil:
			s.log.Warn("the database's log could not be looked at", "error", err)
		case why != "" && time.Since(warned) >= logTooOld:
			warned = time.Now()
			s.log.Warn("grapnel folded the database's log by itself: is the replicating program running?", "because", why, "log_bytes", l.bytes())
		}
	}
}

// lookAtLog looks once, through a connection of its own: a checkpoint is no transaction,
// and keeps the writer waiting no longer than any reader does.
func (s *Store) lookAtLog(ctx context.Context, w *logWatch) (l logState, why string, err error) {
	db := openDB(s.path, "rw", 1, []string{"PRAGMA wal_autocheckpoint = 0", "PRAGMA synchronous = FULL"})
	defer db.Close()
	if err := db.QueryRowContext(ctx, "PRAGMA page_size").Scan(&l.pageSize); err != nil {
		return l, "", err
	}
	checkpoint := func(mode string) error {
		var busy int
		if err := db.QueryRowContext(ctx, "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &l.pages, &l.folded); err != nil {
			return fmt.Errorf("checkpoint (%s): %w", mode, err)
		}
		return nil
	}
	if err := checkpoint("NOOP"); err != nil {
		return l, "", err
	}
	if why = w.due(s.now(), l); why == "" {
		return l, "", nil
	}
	before, began := l, time.Now()
	err = checkpoint("PASSIVE")
	s.w.stats.checkpointed(time.Since(began))
	return before, why, err
}
