package deliver

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var t0 = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

func in(d time.Duration) time.Time { return t0.Add(d) }

func TestHealthAfter(t *testing.T) {
	fails := Outcome{Class: HTTP5xx, Status: 500}
	succeeds := Outcome{Class: OK, Status: 200}
	open := Health{FailingSince: in(-time.Hour), Failures: 5, Class: HTTP5xx, Status: 500, OpenedAt: in(-time.Hour), ProbeAt: in(0), Step: 7}
	change := func(h Health, f func(*Health)) Health { f(&h); return h }
	probe := Kind{Probe: true}
	for name, c := range map[string]struct {
		before Health
		kind   Kind
		o      Outcome
		want   Health
	}{
		"well, success":   {Health{Step: 3}, Kind{}, succeeds, Health{Step: 3}},
		"well, our fault": {Health{}, Kind{}, Outcome{Class: Ours}, Health{}},
		"the first failure": {Health{Step: 3}, Kind{}, fails,
			Health{FailingSince: in(0), Failures: 1, Class: HTTP5xx, Status: 500, Step: 4}},
		"one that is not counted": {Health{}, Kind{Uncounted: true}, fails,
			Health{FailingSince: in(0), Class: HTTP5xx, Status: 500, Step: 1}},
		"a success ends the row": {Health{FailingSince: in(-1), Failures: 4, Step: 4}, Kind{}, succeeds, Health{Step: 5}},
		"the fifth in a row opens": {Health{FailingSince: in(-time.Minute), Failures: 4}, Kind{}, Outcome{Class: Timeout},
			Health{FailingSince: in(-time.Minute), Failures: 5, Class: Timeout, OpenedAt: in(0), ProbeAt: in(5 * time.Second), Step: 1}},
		"a probe fails": {open, probe, fails, change(open, func(h *Health) {
			h.Failures, h.Probes, h.ProbeAt, h.Step = 6, 1, in(20*time.Second), 8
		})},
		"the tenth probe fails: an hour at most": {change(open, func(h *Health) { h.Probes = 9 }), probe, fails, change(open, func(h *Health) {
			h.Failures, h.Probes, h.ProbeAt, h.Step = 6, 10, in(time.Hour), 8
		})},
		"one that was under way fails": {open, Kind{}, fails, change(open, func(h *Health) { h.Failures, h.Step = 6, 8 })},
		"a probe fails by our fault": {open, probe, Outcome{Class: Ours}, change(open, func(h *Health) {
			h.ProbeAt, h.Step = in(3*time.Second), 8
		})},
		"a probe succeeds": {open, probe, succeeds, Health{Successes: 1, Released: true, Releasing: true, Step: 8}},
		"one that was under way succeeds": {change(open, func(h *Health) { h.Probes = 3 }), Kind{}, succeeds,
			Health{Probes: 3, Successes: 1, Released: true, Releasing: true, Step: 8}},
		"a probe succeeds, and all was released a moment ago": {change(open, func(h *Health) { h.Probes, h.Released = 3, true }), probe, succeeds,
			Health{Probes: 3, Successes: 1, Released: true, Step: 8}},
		"the fifth success proves it": {Health{Probes: 3, Successes: 4, Released: true, Step: 8}, Kind{}, succeeds, Health{Step: 9}},
		"failures soon after open it as before": {Health{Probes: 3, Successes: 2, Released: true, FailingSince: in(-1), Failures: 4}, Kind{}, fails,
			Health{Probes: 3, Successes: 2, Released: true, FailingSince: in(-1), Failures: 5, Class: HTTP5xx, Status: 500,
				OpenedAt: in(0), ProbeAt: in(320 * time.Second), Step: 1}},
		"429 with Retry-After": {Health{}, Kind{}, Outcome{Class: HTTP4xx, Status: 429, RetryAfter: time.Hour},
			Health{FailingSince: in(0), Failures: 1, Class: HTTP4xx, Status: 429, HeldUntil: in(time.Hour), Step: 1}},
		"429 without": {Health{}, Kind{}, Outcome{Class: HTTP4xx, Status: 429},
			Health{FailingSince: in(0), Failures: 1, Class: HTTP4xx, Status: 429, HeldUntil: in(5 * time.Second), Step: 1}},
		"503 without": {Health{}, Kind{}, Outcome{Class: HTTP5xx, Status: 503},
			Health{FailingSince: in(0), Failures: 1, Class: HTTP5xx, Status: 503, Step: 1}},
		"503 with Retry-After, less than what was asked for": {Health{HeldUntil: in(time.Hour)}, Kind{}, Outcome{Class: HTTP5xx, Status: 503, RetryAfter: time.Second},
			Health{FailingSince: in(0), Failures: 1, Class: HTTP5xx, Status: 503, HeldUntil: in(time.Hour), Step: 1}},
		"Retry-After of another answer": {Health{}, Kind{}, Outcome{Class: HTTP5xx, Status: 500, RetryAfter: time.Hour},
			Health{FailingSince: in(0), Failures: 1, Class: HTTP5xx, Status: 500, Step: 1}},
		"Retry-After of a year": {Health{}, Kind{}, Outcome{Class: HTTP4xx, Status: http.StatusTooManyRequests, RetryAfter: 365 * 24 * time.Hour},
			Health{FailingSince: in(0), Failures: 1, Class: HTTP4xx, Status: 429, HeldUntil: in(24 * time.Hour), Step: 1}},
		"a success does not end a hold":    {Health{HeldUntil: in(time.Hour), FailingSince: in(-1), Failures: 1}, Kind{}, succeeds, Health{HeldUntil: in(time.Hour), Step: 1}},
		"a hold that is over is forgotten": {Health{HeldUntil: in(-1)}, Kind{}, succeeds, Health{Step: 1}},
		"a failure a day before it is disabled warns": {change(open, func(h *Health) { h.FailingSince = in(-4 * 24 * time.Hour) }), probe, fails, change(open, func(h *Health) {
			h.FailingSince, h.Failures, h.Probes, h.ProbeAt, h.Warned, h.Step = in(-4*24*time.Hour), 6, 1, in(20*time.Second), true, 8
		})},
	} {
		ep := &Endpoint{Retry: DefaultPolicy}
		got := c.before.After(ep, &c.o, c.kind, t0, 0.5)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestJudge(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name     string
		since    time.Duration // before now
		after    time.Duration // the endpoint's DisableAfter
		closed   bool
		warns    bool
		disables bool
	}{
		{name: "4 days", since: 4*day - 1},
		{name: "a day before", since: 4 * day, warns: true},
		{name: "5 days", since: 5 * day, warns: true, disables: true},
		{name: "its circuit is closed", since: 50 * day, closed: true},
		{name: "never", since: 50 * day, after: NeverDisable},
		{name: "a span of its own", since: 9 * day, after: 10 * day, warns: true},
		{name: "a short span, before its half", since: 29 * time.Minute, after: time.Hour},
		{name: "a short span, from its half", since: 30 * time.Minute, after: time.Hour, warns: true},
		{name: "a short span is over", since: time.Hour, after: time.Hour, warns: true, disables: true},
	} {
		h := Health{FailingSince: t0, Failures: 5, OpenedAt: t0}
		if c.closed {
			h.OpenedAt = time.Time{}
		}
		next, disables := h.Judge(c.after, in(c.since))
		if next.Warned != c.warns || disables != c.disables {
			t.Errorf("%s: warned %v, disabled %v, want %v, %v", c.name, next.Warned, disables, c.warns, c.disables)
		}
		if turn := Turned(h, next); (turn == Warned) != c.warns {
			t.Errorf("%s: turn %d", c.name, turn)
		}
	}
}

// A naive model: it keeps the whole history and derives from it what Health
// must say.
func TestHealthAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ep := &Endpoint{Retry: Policy{Initial: time.Second, Multiplier: 2, MaxInterval: 4 * time.Hour, Attempts: 10}}
		now, h := t0, Health{}
		row, open, probed := 0, false, 0 // failures in a row; the circuit; failed probes since proven
		proof := -1                      // successes since the circuit closed; -1: it has not been open
		since, held := time.Time{}, time.Time{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(3*time.Hour)).Draw(t, "wait"))).Truncate(time.Millisecond)
			o := rapid.SampledFrom([]Outcome{
				{Class: OK, Status: 200}, {Class: HTTP5xx, Status: 500}, {Class: HTTP5xx, Status: 500}, {Class: Timeout}, {Class: Ours},
				{Class: HTTP4xx, Status: 429, RetryAfter: 90 * time.Minute},
			}).Draw(t, "outcome")
			k := Kind{Probe: open && rapid.IntRange(0, 4).Draw(t, "probe") > 0}
			u := rapid.Float64Range(0, 0.999).Draw(t, "jitter")
			before := h
			h = h.After(ep, &o, k, now, u)
			if h != before && h.Step != before.Step+1 {
				t.Fatalf("step %d after %d", h.Step, before.Step)
			}
			switch {
			case o.Class == Ours:
			case o.Class == OK:
				if open {
					open, proof = false, 0
				}
				row, since = 0, time.Time{}
				if proof >= 0 {
					if proof++; proof == successesToProve {
						proof, probed = -1, 0
					}
				}
			default:
				if row++; since.IsZero() {
					since = now
				}
				if open && k.Probe {
					probed++
				}
				opens := !open && row >= FailuresToOpen
				open = open || opens
				if opens || open && k.Probe {
					base := min(ep.Retry.Delay(probed+1), time.Hour)
					wait := h.ProbeAt.Sub(now)
					if wait < base*8/10-time.Millisecond || wait > base*12/10 {
						t.Fatalf("after %d probes the next comes in %v, want %v ±20 %%", probed, wait, base)
					}
				}
				if o.Status == 429 && now.Add(o.RetryAfter).After(held) {
					held = now.Add(o.RetryAfter)
				}
			}
			got := fmt.Sprint(h.Open(), h.Failures, h.FailingSince, h.Probes)
			if want := fmt.Sprint(open, row, since, probed); got != want {
				t.Fatalf("after %v: %s, want %s", o.Class, got, want)
			}
			if held.After(now) && !h.HeldUntil.Equal(held) {
				t.Fatalf("held until %v, want %v", h.HeldUntil, held)
			}
			if h.Open() && h.Wait().Before(h.ProbeAt) || h.Wait().Before(h.HeldUntil) {
				t.Fatalf("waits until %v: %+v", h.Wait(), h)
			}
		}
	})
}

// The clock may have been a day ahead when the books were written (REL-22).
func TestHealthOfAClockThatWasAhead(t *testing.T) {
	ahead := in(24 * time.Hour)
	h := Health{FailingSince: ahead, OpenedAt: ahead, ProbeAt: ahead.Add(time.Hour), HeldUntil: ahead.Add(24 * time.Hour)}.Sane(t0)
	want := Health{FailingSince: t0, OpenedAt: t0, ProbeAt: in(72 * time.Minute), HeldUntil: in(24 * time.Hour)}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCondition(t *testing.T) {
	failing := Health{OpenedAt: t0}
	for want, ep := range map[Condition]Endpoint{
		Healthy:  {Health: Health{Failures: 4, FailingSince: t0}},
		Failing:  {Health: failing},
		Paused:   {Health: failing, Options: Options{Paused: true}},
		Disabled: {Health: failing, Options: Options{Paused: true}, DisabledReason: DisabledManual},
	} {
		if got := ep.Condition(); got != want {
			t.Errorf("%+v is %s, want %s", ep, got, want)
		}
	}
}

// In no second more requests begin than the limit, rounded up, and over a long
// time about as many as it allows, however late timers are.
func TestPace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.SampledFrom([]float64{0.05, 0.5, 1, 1.5, 2, 7.3, 10, 100, 999.9, 10_000}).Draw(t, "limit")
		late := rapid.Int64Range(0, int64(8*time.Millisecond)).Draw(t, "late")
		dice := rapid.Uint64().Draw(t, "dice")
		var p pace
		var began []time.Time
		now, first := t0, 0
		count := min(int(limit*5)+5, 20_000)
		for range count {
			dice = dice*6364136223846793005 + 1442695040888963407
			if at := p.next(); at.After(now) {
				now = at.Add(time.Duration(int64(dice>>33) % (late + 1)))
			}
			p.begun(now, limit)
			began = append(began, now)
			for now.Sub(began[first]) >= time.Second {
				first++
			}
			if n, most := len(began)-first, int(limit+0.999999); n > max(most, 1) {
				t.Fatalf("%d began within a second, under a limit of %v", n, limit)
			}
		}
		took := now.Sub(t0)
		if ideal := time.Duration(float64(count-1) / limit * float64(time.Second)); took > ideal*102/100+50*time.Millisecond {
			t.Fatalf("%d requests took %v, want about %v", count, took, ideal)
		}
	})
}
