package deliver

import (
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// Bounds of a Policy's fields.
const (
	MinInitial    = 100 * time.Millisecond
	MaxInterval   = 24 * time.Hour
	MaxMultiplier = 100
	MaxAttempts   = 100
)

// jitterFraction is how far a delay is moved at most, either way, so that
// deliveries that failed together do not come back together.
const jitterFraction = 0.2

// Check reports the first field that is out of bounds: Initial from 100 ms,
// MaxInterval from Initial to 24 h, Multiplier from 1 to 100, Attempts from 1 to
// 100.
func (p Policy) Check() error {
	switch {
	case p.Initial < MinInitial || p.Initial > MaxInterval:
		return fmt.Errorf("retry: initial is %v, want %v to %v", p.Initial, MinInitial, MaxInterval)
	case !(p.Multiplier >= 1 && p.Multiplier <= MaxMultiplier): // so that NaN fails too
		return fmt.Errorf("retry: multiplier is %v, want 1 to %d", p.Multiplier, MaxMultiplier)
	case p.MaxInterval < p.Initial:
		return fmt.Errorf("retry: max_interval is %v, less than initial, %v", p.MaxInterval, p.Initial)
	case p.MaxInterval > MaxInterval:
		return fmt.Errorf("retry: max_interval is %v, want at most %v", p.MaxInterval, MaxInterval)
	case p.Attempts < 1 || p.Attempts > MaxAttempts:
		return fmt.Errorf("retry: attempts is %d, want 1 to %d", p.Attempts, MaxAttempts)
	}
	return nil
}

// Delay is how long to wait after the n-th failed attempt, n from 1, before
// jitter: Initial, then Multiplier times as long each time, at most
// MaxInterval. For a Policy that passes Check it is positive and never shrinks
// as n grows.
func (p Policy) Delay(n int) time.Duration {
	b := backoff.ExponentialBackOff{
		InitialInterval: min(p.Initial, p.MaxInterval),
		Multiplier:      p.Multiplier,
		MaxInterval:     p.MaxInterval,
		Clock:           noClock{}, // MaxElapsedTime 0: elapsed time plays no part
	}
	b.Reset()
	d := b.NextBackOff()
	// After MaxAttempts steps nothing that passes Check needs another.
	for range min(n, MaxAttempts) - 1 {
		d = b.NextBackOff()
	}
	return d
}

type noClock struct{}

func (noClock) Now() time.Time { return time.Time{} }

// jittered moves d by up to a fifth either way, as u goes from 0 to 1.
func jittered(d time.Duration, u float64) time.Duration {
	u = min(max(u, 0), 1)
	return time.Duration(float64(d) * (1 + jitterFraction*(2*u-1)))
}
