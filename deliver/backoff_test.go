package deliver

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestDefaultSchedule(t *testing.T) {
	var got []time.Duration
	var total time.Duration
	for n := 1; n < DefaultPolicy.Attempts; n++ {
		d := DefaultPolicy.Delay(n)
		got = append(got, d)
		total += d
	}
	h := 8 * time.Hour
	want := []time.Duration{
		5 * time.Second, 20 * time.Second, 80 * time.Second, 320 * time.Second,
		1280 * time.Second, 5120 * time.Second, 20480 * time.Second,
		h, h, h, h, h, h, h, h, h,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if total < 79*time.Hour || total > 80*time.Hour {
		t.Errorf("spans %v, want 79 hours and a bit", total)
	}
	if err := DefaultPolicy.Check(); err != nil {
		t.Error(err)
	}
}

func TestDelayProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPolicy(t)
		n := rapid.IntRange(-1, 2*MaxAttempts).Draw(t, "n")
		d, next := p.Delay(n), p.Delay(n+1)
		if d < p.Initial || d > p.MaxInterval || next < d {
			t.Fatalf("delay %d is %v, the next %v, of %+v", n, d, next, p)
		}
		if n <= 1 && d != p.Initial {
			t.Fatalf("first delay %v, want %v", d, p.Initial)
		}
		for _, u := range []float64{0, 0.25, 0.5, 0.999, 1} {
			j := jittered(d, u)
			if j < d*4/5-1 || j > d*6/5+1 {
				t.Fatalf("%v jittered to %v", d, j)
			}
		}
	})
}

func TestPolicyCheck(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Policy)
		want   string // part of the error; "" passes
	}{
		{"default", func(*Policy) {}, ""},
		{"zero", func(p *Policy) { *p = Policy{} }, "initial is 0s, want 100ms to 24h0m0s"},
		{"initial negative", func(p *Policy) { p.Initial = -time.Second }, "initial is -1s"},
		{"initial too small", func(p *Policy) { p.Initial = 99 * time.Millisecond }, "initial is 99ms"},
		{"initial smallest", func(p *Policy) { p.Initial = 100 * time.Millisecond }, ""},
		{"initial too large", func(p *Policy) { p.Initial, p.MaxInterval = 25*time.Hour, 26*time.Hour }, "initial is 25h"},
		{"max below initial", func(p *Policy) { p.MaxInterval = time.Second }, "max_interval is 1s, less than initial, 5s"},
		{"max too large", func(p *Policy) { p.MaxInterval = 25 * time.Hour }, "max_interval is 25h0m0s, want at most 24h0m0s"},
		{"max equals initial", func(p *Policy) { p.MaxInterval = p.Initial }, ""},
		{"multiplier shrinks", func(p *Policy) { p.Multiplier = 0.5 }, "multiplier is 0.5, want 1 to 100"},
		{"multiplier one", func(p *Policy) { p.Multiplier = 1 }, ""},
		{"multiplier NaN", func(p *Policy) { p.Multiplier = math.NaN() }, "multiplier is NaN"},
		{"multiplier infinite", func(p *Policy) { p.Multiplier = math.Inf(1) }, "multiplier is +Inf"},
		{"no attempts", func(p *Policy) { p.Attempts = 0 }, "attempts is 0, want 1 to 100"},
		{"one attempt", func(p *Policy) { p.Attempts = 1 }, ""},
		{"too many attempts", func(p *Policy) { p.Attempts = 101 }, "attempts is 101"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := DefaultPolicy
			tc.change(&p)
			err := p.Check()
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
