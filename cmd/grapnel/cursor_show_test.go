package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

func TestFingerprint(t *testing.T) {
	stored := time.Date(2026, 11, 21, 18, 0, 55, 0, time.UTC)
	moment := func(minutes int) *time.Time {
		at := stored.Add(time.Duration(minutes) * time.Minute)
		return &at
	}
	of := func(verified, moved *time.Time) httpapi.CursorBody {
		return httpapi.CursorBody{Position: 4, PositionAt: &stored, PositionHash: "ed49", VerifiedAt: verified, UpdatedAt: moved}
	}
	const message = "message 4 was stored 2026-11-21T18:00:55.000000000Z, hash ed49"
	for name, c := range map[string]struct {
		body    httpapi.CursorBody
		offline bool
		want    string
	}{
		"compared after it was read":          {of(moment(9), moment(1)), false, message + "; found so 2026-11-21T18:09:55Z"},
		"moved there after the last compared": {of(moment(-1), moment(2)), false, message + "; found so 2026-11-21T18:02:55Z"},
		"not compared":                        {of(nil, moment(1)), false, message + "; not compared since the daemon's start"},
		"without a daemon":                    {of(nil, moment(1)), true, message},
		"no message":                          {httpapi.CursorBody{}, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fingerprint(c.body, c.offline); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// What the broker did not say is not shown as the number 0.
func TestCursorShowWithoutTheBroker(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out}
	a.printCursor(cursorDetail{CursorBody: httpapi.CursorBody{Org: "acme", State: "unreachable", Position: 2, LastSeq: 2}}, false)
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "first ") {
			t.Errorf("shown: %q", line)
		}
	}
}
