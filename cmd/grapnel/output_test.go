package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
)

func TestTable(t *testing.T) {
	tb := &table{columns: []string{"ORG", ">LAG", "STATE"}}
	tb.add("müller", 7, "live")
	tb.add("b", 12345, "")
	var plain, coloured bytes.Buffer
	tb.print(&plain, false)
	if diff := cmp.Diff("ORG       LAG  STATE\nmüller      7  live\nb       12345  -\n", plain.String()); diff != "" {
		t.Errorf("plain (-want +got):\n%s", diff)
	}
	tb.print(&coloured, true)
	if !strings.Contains(coloured.String(), "müller      7  \x1b[32mlive\x1b[0m\n") {
		t.Errorf("coloured: %q", coloured.String())
	}
}

func TestExpiry(t *testing.T) {
	now := httpapitest.Epoch
	for text, want := range map[string]time.Time{
		"12h": now.Add(12 * time.Hour), "30d": now.AddDate(0, 0, 30), "2027-01-01T00:00:00Z": time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		if got, err := expiry(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: got %v, %v, want %v", text, got, err, want)
		}
	}
	if got, err := expiry("", now); got != nil || err != nil {
		t.Errorf("nothing: got %v, %v", got, err)
	}
}

func TestAround(t *testing.T) {
	now := httpapitest.Epoch
	for d, want := range map[time.Duration]string{
		90*24*time.Hour - time.Second: "in 89 days", 47 * time.Hour: "in 47h00m", 90 * time.Second: "in 1m30s",
		0: "0s ago", -5 * time.Minute: "5m00s ago", -72 * time.Hour: "3 days ago",
	} {
		if got := around(now.Add(d), now); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
}

func TestChanged(t *testing.T) {
	got := changed(map[string]httpapi.ChangeBody{
		"url":    {Old: "https://a.example", New: "https://b.example/" + strings.Repeat("x", 100)},
		"types":  {Old: nil, New: []any{"a", "b"}},
		"secret": {},
	})
	want := "secret; types: - → [\"a\",\"b\"]; url: https://a.example → https://b.example/xxxxxxxxxxxxxxxxxxxxx…"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// What tenants wrote cannot move an operator's cursor or break a table.
func TestOneLine(t *testing.T) {
	if got, want := oneLine("a\x1b[2Jb\nc\u009bd"), "a�[2Jb c�d"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m01s", 3*time.Hour + 5*time.Minute: "3h05m", 50 * time.Hour: "2d02h",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %s, want %s", d, got, want)
		}
	}
}
