package sqlite

import (
	"math"
	"sync"
	"time"
)

// Pace is how many sequences a second fan-out has moved on by, over the last
// minute, five minutes and hour. As in the load averages of Unix, what was a
// while ago weighs less and less. It is in memory only and begins with 0.
type Pace struct {
	Minute, FiveMinutes, Hour float64
}

var rateWindows = [...]time.Duration{time.Minute, 5 * time.Minute, time.Hour}

// meter measures a Pace.
type meter struct {
	mu    sync.Mutex
	at    time.Time // the latest reading or count
	rates [len(rateWindows)]float64
}

// count counts n more, all at that moment.
func (m *meter) count(now time.Time, n float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fade(now)
	for i, w := range rateWindows {
		m.rates[i] += n / w.Seconds()
	}
}

func (m *meter) read(now time.Time) Pace {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fade(now)
	return Pace{Minute: m.rates[0], FiveMinutes: m.rates[1], Hour: m.rates[2]}
}

// fade lets what was counted weigh less, now that time has passed.
func (m *meter) fade(now time.Time) {
	passed := now.Sub(m.at)
	if passed <= 0 {
		return // or the clock was set back
	}
	for i, w := range rateWindows {
		m.rates[i] *= math.Exp(-passed.Seconds() / w.Seconds())
	}
	m.at = now
}
