package deliver

import (
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestNext(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	in := func(d time.Duration) time.Time { return now.Add(d) }
	const (
		lowest  = 0.0
		middle  = 0.5 // no jitter
		highest = 1 - 1e-12
	)
	status := func(c Class, code int) Outcome { return Outcome{Class: c, Status: code} }
	asks := func(code int, d time.Duration) Outcome {
		return Outcome{Class: HTTP5xx, Status: code, RetryAfter: d}
	}
	for _, tc := range []struct {
		name  string
		spent int
		o     Outcome
		u     float64
		want  Transition
	}{
		{"200", 0, status(OK, 200), middle, Transition{State: Delivered, Spent: 1}},
		{"204 at the last attempt", 16, status(OK, 204), middle, Transition{State: Delivered, Spent: 17}},
		{"299", 3, status(OK, 299), middle, Transition{State: Delivered, Spent: 4}},

		{"500, the first failure", 0, status(HTTP5xx, 500), middle, Transition{Due: in(5 * time.Second), Spent: 1}},
		{"500, least jitter", 0, status(HTTP5xx, 500), lowest, Transition{Due: in(4 * time.Second), Spent: 1}},
		{"500, most jitter", 0, status(HTTP5xx, 500), highest, Transition{Due: in(6*time.Second - 1), Spent: 1}},
		{"404, the second failure", 1, status(HTTP4xx, 404), middle, Transition{Due: in(20 * time.Second), Spent: 2}},
		{"301, the third", 2, status(Redirect, 301), middle, Transition{Due: in(80 * time.Second), Spent: 3}},
		{"304", 2, status(Redirect, 304), middle, Transition{Due: in(80 * time.Second), Spent: 3}},
		{"413", 2, status(HTTP4xx, 413), middle, Transition{Due: in(80 * time.Second), Spent: 3}},
		{"timeout, the eighth", 7, Outcome{Class: Timeout}, middle, Transition{Due: in(8 * time.Hour), Spent: 8}},
		{"connection refused", 0, Outcome{Class: Connect}, middle, Transition{Due: in(5 * time.Second), Spent: 1}},
		{"no such name", 0, Outcome{Class: DNS}, middle, Transition{Due: in(5 * time.Second), Spent: 1}},
		{"bad certificate", 0, Outcome{Class: TLS}, middle, Transition{Due: in(5 * time.Second), Spent: 1}},
		{"reset", 15, Outcome{Class: Reset}, middle, Transition{Due: in(8 * time.Hour), Spent: 16}},
		{"the last attempt fails", 16, status(HTTP5xx, 502), middle, Transition{State: Dead, Reason: Exhausted, Spent: 17}},
		{"the last attempt, 503 with Retry-After", 16, asks(503, time.Minute), middle, Transition{State: Dead, Reason: Exhausted, Spent: 17}},
		{"beyond the last, after attempts were lowered", 20, Outcome{Class: Timeout}, middle, Transition{State: Dead, Reason: Exhausted, Spent: 21}},

		{"429, Retry-After later", 0, asks(429, time.Minute), middle, Transition{Due: in(time.Minute), Spent: 1}},
		{"503, Retry-After later", 0, asks(503, time.Minute), highest, Transition{Due: in(time.Minute), Spent: 1}},
		{"429, backoff later", 3, asks(429, time.Minute), middle, Transition{Due: in(320 * time.Second), Spent: 4}},
		{"429, Retry-After beyond a day", 0, asks(429, 50*time.Hour), middle, Transition{Due: in(24 * time.Hour), Spent: 1}},
		{"500 has no say in it", 0, asks(500, time.Minute), middle, Transition{Due: in(5 * time.Second), Spent: 1}},

		{"410", 0, status(HTTP4xx, 410), middle, Transition{State: Dead, Reason: Gone, Spent: 1, Disable: "gone"}},
		{"410 at the last attempt", 16, status(HTTP4xx, 410), middle, Transition{State: Dead, Reason: Gone, Spent: 17, Disable: "gone"}},

		{"our own fault, soonest", 4, Outcome{Class: Ours}, lowest, Transition{Due: in(time.Second), Spent: 4}},
		{"our own fault, latest", 4, Outcome{Class: Ours}, highest, Transition{Due: in(5*time.Second - 1), Spent: 4}},
		{"our own fault with nothing left", 17, Outcome{Class: Ours}, middle, Transition{Due: in(3 * time.Second), Spent: 17}},

		{"SEC-09 blocked, first", 0, Outcome{Class: BlockedAddress}, middle, Transition{Due: in(5 * time.Second), Spent: 1}},
		{"SEC-09 blocked, second", 1, Outcome{Class: BlockedAddress}, middle, Transition{Due: in(20 * time.Second), Spent: 2}},
		{"SEC-09 blocked, third", 2, Outcome{Class: BlockedAddress}, middle, Transition{State: Dead, Reason: Blocked, Spent: 3}},
		{"SEC-09 blocked after other failures", 9, Outcome{Class: BlockedAddress}, middle, Transition{State: Dead, Reason: Blocked, Spent: 10}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ticket := Ticket{Attempts: tc.spent + 2, Spent: tc.spent}
			got := Next(DefaultPolicy, ticket, tc.o, now, tc.u)
			got.Due = got.Due.Round(time.Microsecond)
			tc.want.Due = tc.want.Due.Round(time.Microsecond)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestNextWithOneAttempt(t *testing.T) {
	p := Policy{Initial: time.Second, Multiplier: 2, MaxInterval: time.Minute, Attempts: 1}
	if got := Next(p, Ticket{}, Outcome{Class: BlockedAddress}, time.Now(), 0); got.State != Dead || got.Reason != Blocked {
		t.Errorf("blocked: %+v", got)
	}
	if got := Next(p, Ticket{}, Outcome{Class: Timeout}, time.Now(), 0); got.State != Dead || got.Reason != Exhausted {
		t.Errorf("timeout: %+v", got)
	}
}

func anyPolicy(t *rapid.T) Policy {
	initial := time.Duration(rapid.Int64Range(int64(MinInitial), int64(MaxInterval)).Draw(t, "initial"))
	return Policy{
		Initial:     initial,
		Multiplier:  rapid.Float64Range(1, MaxMultiplier).Draw(t, "multiplier"),
		MaxInterval: time.Duration(rapid.Int64Range(int64(initial), int64(MaxInterval)).Draw(t, "max")),
		Attempts:    rapid.IntRange(1, MaxAttempts).Draw(t, "attempts"),
	}
}

func anyOutcome(t *rapid.T) Outcome {
	o := Outcome{
		Class:      Class(rapid.IntRange(int(OK), int(Ours)).Draw(t, "class")),
		RetryAfter: time.Duration(rapid.Int64().Draw(t, "retry after")),
	}
	switch o.Class {
	case OK:
		o.Status = rapid.IntRange(200, 299).Draw(t, "status")
	case Redirect, HTTP4xx, HTTP5xx:
		o.Status = rapid.IntRange(300, 599).Draw(t, "status")
	}
	return o
}

func TestNextProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, o := anyPolicy(t), anyOutcome(t)
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		ticket := Ticket{Spent: rapid.IntRange(0, 2*MaxAttempts).Draw(t, "spent")}
		now := time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "now"), 0)
		u := rapid.Float64Range(0, 1).Draw(t, "u")
		if u == 1 {
			u = math.Nextafter(1, 0)
		}
		got := Next(p, ticket, o, now, u)
		wait := got.Due.Sub(now)

		if diff := cmp.Diff(got, Next(p, ticket, o, now, u)); diff != "" {
			t.Fatalf("not pure: %s", diff)
		}
		if (got.Disable != "") != (got.Reason == Gone) {
			t.Fatalf("disables without 410, or 410 without: %+v", got)
		}
		if o.Class == Ours {
			if got.State != Pending || got.Spent != ticket.Spent || wait < time.Second || wait >= 5*time.Second {
				t.Fatalf("our own fault: %+v, wait %v", got, wait)
			}
			return
		}
		if got.Spent != ticket.Spent+1 {
			t.Fatalf("spent %d after %d", got.Spent, ticket.Spent)
		}
		switch got.State {
		case Pending:
			if got.Spent >= p.Attempts || o.Class == OK || o.Status == http.StatusGone {
				t.Fatalf("pending: %+v after %+v of %d", got, o, p.Attempts)
			}
			if got.Reason != NoReason {
				t.Fatalf("pending with a reason: %+v", got)
			}
			low, high := p.Initial*4/5-1, max(p.MaxInterval*6/5, MaxRetryAfter)
			if wait < low || wait > high {
				t.Fatalf("wait %v, want %v to %v", wait, low, high)
			}
			if o.Status != 429 && o.Status != 503 && wait > p.MaxInterval*6/5 {
				t.Fatalf("wait %v without Retry-After, of at most %v", wait, p.MaxInterval)
			}
		case Dead:
			if !got.Due.IsZero() || got.Reason == NoReason {
				t.Fatalf("dead: %+v", got)
			}
			if got.Reason == Exhausted && got.Spent < p.Attempts {
				t.Fatalf("exhausted after %d of %d", got.Spent, p.Attempts)
			}
		case Delivered:
			if !got.Due.IsZero() || got.Reason != NoReason || o.Class != OK {
				t.Fatalf("delivered: %+v", got)
			}
		default:
			t.Fatalf("state %v", got.State)
		}
	})
}

// However it fails, a delivery ends after at most as many attempts as its
// policy has, our own faults apart.
func TestEveryDeliveryEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPolicy(t)
		ticket, now, ours := Ticket{}, time.Unix(0, 0), 0
		for made := 1; ; made++ {
			o := anyOutcome(t)
			if o.Class == Ours {
				ours++
			}
			got := Next(p, ticket, o, now, 0.5)
			if got.State != Pending {
				return
			}
			if made-ours >= p.Attempts {
				t.Fatalf("still pending after %d attempts of %d", made-ours, p.Attempts)
			}
			if got.Due.Before(now) {
				t.Fatal("due in the past")
			}
			ticket.Spent, now = got.Spent, got.Due
			ticket.Attempts++
		}
	})
}
