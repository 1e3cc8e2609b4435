package logging

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Level is what is logged: what the configuration says, or for a while what
// somebody asked for since. It implements [slog.Leveler]; all methods may be called
// by any goroutine.
type Level struct {
	now atomic.Int64 // a slog.Level

	mu         sync.Mutex
	configured slog.Level
	asked      bool        // now is what somebody asked for
	until      time.Time   // zero: until it is told otherwise
	asks       int         // how often somebody did
	back       *time.Timer // nil: not set
}

// NewLevel makes a Level that the configuration says.
func NewLevel(configured slog.Level) *Level {
	l := &Level{configured: configured}
	l.now.Store(int64(configured))
	return l
}

// Level implements [slog.Leveler].
func (l *Level) Level() slog.Level { return slog.Level(l.now.Load()) }

// Configure says what the configuration says now. A level that somebody asked for
// stays until its time is over.
func (l *Level) Configure(configured slog.Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.configured = configured
	if !l.asked {
		l.now.Store(int64(configured))
	}
}

// Ask sets the level for so long; 0 means until it is told otherwise, or the
// process ends.
func (l *Level) Ask(level slog.Level, atMost time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leave()
	l.asked = true
	l.asks++
	l.now.Store(int64(level))
	if atMost > 0 {
		l.until = time.Now().Add(atMost)
		ask := l.asks
		l.back = time.AfterFunc(atMost, func() { l.over(ask) })
	}
}

// Return goes back to what the configuration says.
func (l *Level) Return() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leave()
}

// Toggle changes between debug and what the configuration says.
func (l *Level) Toggle() {
	l.mu.Lock()
	debug := l.Level() == slog.LevelDebug && l.asked
	l.mu.Unlock()
	if debug {
		l.Return()
		return
	}
	l.Ask(slog.LevelDebug, 0)
}

// over ends what was asked for by that ask, unless something else was since.
func (l *Level) over(ask int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked && l.asks == ask {
		l.leave()
	}
}

// leave is called with mu held.
func (l *Level) leave() {
	if l.back != nil {
		l.back.Stop()
	}
	l.asked, l.until, l.back = false, time.Time{}, nil
	l.now.Store(int64(l.configured))
}

// Levels is how a Level stands.
type Levels struct {
	Now        slog.Level
	Configured slog.Level
	Until      time.Time // when Now ends; zero: by itself never
}

// Levels returns how it stands.
func (l *Level) Levels() Levels {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Levels{l.Level(), l.configured, l.until}
}
