package fanout

import (
	"testing"
	"time"
)

func TestStoppedSince(t *testing.T) {
	then := time.Date(2026, 11, 21, 3, 0, 0, 0, time.UTC)
	now := then.Add(time.Hour)
	for _, c := range []struct {
		name          string
		before, after Status
		want          time.Time
	}{
		{"nothing stops it", Status{}, Status{}, time.Time{}},
		{"it begins to fail", Status{}, Status{Err: "timeout"}, now},
		{"it fails still, in other words", Status{Err: "timeout", StoppedAt: then}, Status{Err: "refused"}, then},
		{"it goes on", Status{Err: "timeout", StoppedAt: then}, Status{}, time.Time{}},
		{"it fails, and then its stream is gone", Status{Err: "timeout", StoppedAt: then}, Status{Missing: true, Err: "no stream"}, now},
		{"its stream is gone still", Status{Missing: true, Err: "no stream", StoppedAt: then}, Status{Missing: true, Err: "no stream"}, then},
		{"another one's, and then yet another one's", Status{Unclaimed: "01A", Err: "01A", StoppedAt: then}, Status{Unclaimed: "01B", Err: "01B"}, now},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.after.stoppedSince(c.before, now); !got.Equal(c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
