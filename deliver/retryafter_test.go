package deliver

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		value string
		want  time.Duration
	}{
		{"", 0},
		{"0", 0},
		{"1", time.Second},
		{" 120 ", 2 * time.Minute},
		{"007", 7 * time.Second},
		{"86400", 24 * time.Hour},
		{"86401", 24 * time.Hour},
		{"99999999999999999999999999", 24 * time.Hour},
		{"-5", 0},
		{"+5", 0},
		{"1.5", 0},
		{"5s", 0},
		{"soon", 0},
		{"٣", 0},
		{"Sat, 21 Nov 2026 10:01:00 GMT", time.Minute},
		{"Saturday, 21-Nov-26 10:01:00 GMT", time.Minute},
		{"Sat Nov 21 10:01:00 2026", time.Minute},
		{"Sat, 21 Nov 2026 09:59:59 GMT", 0},
		{"Wed, 21 Oct 2015 07:28:00 GMT", 0},
		{"Sat, 21 Nov 2099 10:01:00 GMT", 24 * time.Hour},
		{"Sat, 21 Nov 2026 10:01:00", 0},
		{"2026-11-21T10:01:00Z", 0},
	} {
		if got := retryAfter(tc.value, now); got != tc.want {
			t.Errorf("%q: %v, want %v", tc.value, got, tc.want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"1", "86400", "-1", "99999999999999999999", "Sat, 21 Nov 2026 10:01:00 GMT", strings.Repeat("9", 1000)} {
		f.Add(s, int64(1795255200))
	}
	f.Fuzz(func(t *testing.T, v string, now int64) {
		at := time.Unix(now%(1<<40), 0)
		d := retryAfter(v, at)
		if d < 0 || d > MaxRetryAfter {
			t.Fatalf("%q: %v", v, d)
		}
		if date, err := http.ParseTime(v); err == nil && date.After(at) && d == 0 {
			t.Fatalf("%q is after %v, and ignored", v, at)
		}
	})
}
