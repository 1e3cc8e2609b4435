package deliver

import (
	"fmt"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

// Bounds of an endpoint's secrets (SEC-14).
const (
	MaxSecrets     = 5 // that sign at one time
	DefaultOverlap = 24 * time.Hour
	MaxOverlap     = 7 * 24 * time.Hour
)

// Secret is a signing secret of an endpoint, and the span in which it signs. It
// prints as [redacted].
type Secret struct {
	sign.Secret
	Row       int64 // its number in the books
	CreatedAt time.Time
	// ExpiresAt is from when on it does not sign any more; zero: it signs until
	// it is replaced.
	ExpiresAt time.Time
}

// Live reports whether the secret signs at now.
func (s Secret) Live(now time.Time) bool { return s.ExpiresAt.IsZero() || now.Before(s.ExpiresAt) }

// SecretsError: the endpoint has as many secrets as may sign at one time.
type SecretsError struct {
	Live  int       // secrets that sign
	First time.Time // when the first of them ends
}

func (e *SecretsError) Error() string {
	return fmt.Sprintf("%d secrets sign already, and the first of them ends at %s; wait until then, or give an overlap of 0s, which ends all of them now",
		e.Live, e.First.UTC().Format(time.RFC3339))
}

// RotateSecrets is what an endpoint's secrets become when fresh takes over at
// now: fresh first, then those that still sign, which end after the overlap, or
// earlier if they were to end earlier. An overlap of 0 ends them at once, as
// after a leak. Secrets that have ended are left out. If fresh was one of them
// already, it moves to the front: repeating a rotation changes nothing else.
//
// It fails when the overlap is not from 0 to [MaxOverlap], and with a
// [*SecretsError] when more than [MaxSecrets] would sign.
func RotateSecrets(secrets []Secret, fresh sign.Secret, now time.Time, overlap time.Duration) ([]Secret, error) {
	if fresh.IsZero() {
		return nil, sign.ErrSecret
	}
	if overlap < 0 || overlap > MaxOverlap {
		return nil, fmt.Errorf("overlap is %v, want 0 to %v", overlap, MaxOverlap)
	}
	next := []Secret{{Secret: fresh, CreatedAt: now}}
	end := now.Add(overlap)
	var first time.Time // that ends
	for _, s := range secrets {
		if !s.Live(now) || s.Equal(fresh) {
			continue
		}
		if !s.ExpiresAt.IsZero() && (first.IsZero() || s.ExpiresAt.Before(first)) {
			first = s.ExpiresAt
		}
		if s.ExpiresAt.IsZero() || end.Before(s.ExpiresAt) {
			s.ExpiresAt = end
		}
		if s.Live(now) {
			next = append(next, s)
		}
	}
	if len(next) > MaxSecrets {
		return nil, &SecretsError{Live: len(next) - 1, First: first}
	}
	return next, nil
}
