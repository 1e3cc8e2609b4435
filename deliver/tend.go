package deliver

import (
	"context"
	"slices"
	"time"
)

const (
	judgeEvery   = time.Minute // how often endpoints are warned and disabled that nothing is sent to
	tendAgain    = time.Second // after the books could not be written
	tendTogether = 500         // endpoints that are released together
)

// tendTo has what the endpoint holds released.
func (l *Lanes) tendTo(row int64) {
	l.tendMu.Lock()
	l.releasing = append(l.releasing, row)
	l.tendMu.Unlock()
	select {
	case l.tendWake <- struct{}{}:
	default:
	}
}

// tend is the one goroutine that looks after endpoints that have failed: it
// releases what is held when they recover, and disables them when they do not.
// It ends with ctx.
func (l *Lanes) tend(ctx context.Context) {
	judge, again := time.NewTicker(judgeEvery), time.NewTimer(tendAgain)
	defer judge.Stop()
	defer again.Stop()
	var notes []HealthNote // that the books do not have yet
	for {
		select {
		case <-l.tendWake:
		case <-again.C:
		case <-judge.C:
			notes = append(notes, l.judge()...)
		case <-ctx.Done():
			return
		}
		more, err := l.releaseSome(ctx)
		notes = append(notes, more...)
		if err == nil && len(notes) > 0 {
			if err = l.o.Books.NoteHealth(ctx, notes); err == nil {
				notes = nil
			}
		}
		if err != nil && ctx.Err() == nil {
			if leftOut, ok := l.noHealth.tell(l.now()); ok {
				l.o.Log.Warn("the health of endpoints cannot be kept now; trying again", "left_out", leftOut, "error", err)
			}
			again.Reset(tendAgain)
		}
	}
}

// releaseSome makes due what the endpoints hold that have recovered, and lets
// their lanes go on.
func (l *Lanes) releaseSome(ctx context.Context) (notes []HealthNote, err error) {
	for {
		l.tendMu.Lock()
		n := min(len(l.releasing), tendTogether)
		rows := slices.Clone(l.releasing[:n])
		l.tendMu.Unlock()
		if n == 0 {
			return notes, nil
		}
		slices.Sort(rows)
		rows = slices.Compact(rows)
		if err := l.o.Books.Release(ctx, rows, millis(l.now())); err != nil {
			return notes, err
		}
		// Crash here, or until the notes are booked: they are released again at the start.
		l.tendMu.Lock()
		l.releasing = slices.Delete(l.releasing, 0, n)
		l.tendMu.Unlock()
		for _, row := range rows {
			if n := l.lane(row); n != nil {
				if h := n.released(); h != nil {
					notes = append(notes, HealthNote{Endpoint: row, Health: *h})
				}
			}
		}
	}
}

// judge warns and disables the endpoints whose time has come.
func (l *Lanes) judge() (notes []HealthNote) {
	now := l.now()
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, n := range l.lanes {
		if note, ok := n.judge(now); ok {
			notes = append(notes, note)
		}
	}
	return notes
}

// tell logs a turn of an endpoint's health.
func (l *Lanes) tell(ep *Endpoint, turn Turn, h Health) {
	log := l.o.Log.With("org", ep.Org, "endpoint", ep.ID)
	switch turn {
	case Opened:
		log.Warn("endpoint fails; its deliveries wait for a probe to succeed", "failures", h.Failures, "probe_at", h.ProbeAt)
	case Warned:
		log.Warn("endpoint has been failing for long; it will be disabled", "failing_since", h.FailingSince, "disables_at", h.DisablesAt(ep.DisableAfter))
	case Recovered:
		log.Info("endpoint has recovered; what was held for it is sent")
	}
}
