package sqlite

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"pgregory.net/rapid"
)

// Timings and address are read as they were written; what a success on an idle
// connection says beside its duration takes no room.
func TestTimings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		part := func(name string) time.Duration {
			return time.Duration(rapid.Int64Range(0, 30e6).Draw(t, name)) * time.Microsecond
		}
		in := deliver.Attempt{Outcome: deliver.Outcome{
			Class:   deliver.Class(rapid.IntRange(0, int(deliver.Ours)).Draw(t, "class")),
			Timings: deliver.Timings{DNS: part("dns"), Connect: part("connect"), TLS: part("tls"), FirstByte: part("first byte"), Reused: rapid.Bool().Draw(t, "reused")},
			Address: rapid.SampledFrom([]string{"", "203.0.113.7:443", "[2001:db8::7]:8443"}).Draw(t, "address"),
		}}
		want := deliver.Attempt{Outcome: deliver.Outcome{Timings: in.Timings, Address: in.Address}}
		stored, _ := timingsOf(&in).([]byte)
		if in.Timings.Reused && in.Class == deliver.OK {
			if stored != nil {
				t.Fatal("a success on an idle connection takes room")
			}
			return
		}
		var got deliver.Attempt
		if err := readTimings(stored, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func FuzzReadTimings(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4})
	f.Add([]byte{1, 1, 2, 3, 4, 203, 0, 113, 7, 187, 1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var a deliver.Attempt
		if readTimings(b, &a) != nil || b == nil {
			return
		}
		if len(b) < 5 {
			t.Errorf("%x was taken for timings", b)
		}
	})
}

// An attempt tells the settings that its request was made by, whatever the
// endpoint has now; and nothing of them is secret.
func TestRequestSettings(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Clock: c.read})
	newWalker(t, s, "acme", 0)
	e, err := s.AddEndpoint(t.Context(), deliver.Endpoint{
		Org: "acme", URL: "https://example.com/1?key=canary", EventTypes: []string{"*"}, Secrets: []deliver.Secret{{Secret: sign.NewSecret()}},
		Headers: []deliver.Header{{Name: "X-Password", Value: deliver.NewHeaderValue("canary")}},
		Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: 1,
	}, Start{})
	if err != nil {
		t.Fatal(err)
	}
	change := func(ch EndpointChange) {
		t.Helper()
		c.add(time.Hour)
		if _, err := s.SetEndpoint(t.Context(), "acme", e.ID, ch); err != nil {
			t.Fatal(err)
		}
	}
	change(EndpointChange{Description: ptr("nothing that a request shows")})
	change(EndpointChange{URL: ptr("https://example.com/3")})
	change(EndpointChange{Options: func(o *deliver.Options) { o.Redact = []deliver.Redaction{{Path: "/data/x"}} }})
	first := deliver.RequestSettings{URL: "https://example.com/1?key=[redacted]", Headers: []string{"X-Password"}}
	third := deliver.RequestSettings{URL: "https://example.com/3", Headers: []string{"X-Password"}}
	fourth := third
	fourth.Redact = []deliver.Redaction{{Path: "/data/x"}}
	at := func() (list []string) {
		t.Helper()
		settings, err := s.GetRequestSettings(t.Context(), "acme", e.Row)
		if err != nil {
			t.Fatal(err)
		}
		for revision := range int64(6) {
			got, ok := settings.At(revision)
			list = append(list, fmt.Sprint(ok, got))
		}
		return list
	}
	say := func(ok bool, s deliver.RequestSettings) string { return fmt.Sprint(ok, s) }
	none := say(false, deliver.RequestSettings{})
	want := []string{none, say(true, first), say(true, first), say(true, third), say(true, fourth), say(true, fourth)}
	if diff := cmp.Diff(want, at()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	// Retention takes what ended before its time, never what holds now.
	retain := func(before time.Time) {
		t.Helper()
		if _, err := s.Retain(t.Context(), RetainOptions{FinishedBefore: before, DeadBefore: before}); err != nil {
			t.Fatal(err)
		}
	}
	retain(c.read())
	want = []string{none, none, none, say(true, third), say(true, fourth), say(true, fourth)}
	if diff := cmp.Diff(want, at()); diff != "" {
		t.Errorf("after retention (-want +got):\n%s", diff)
	}
	c.add(100 * day)
	retain(c.read())
	if got := at(); got[3] != none || got[4] != say(true, fourth) {
		t.Errorf("after retention: %v", got)
	}

	// Another organization does not see them.
	newWalker(t, s, "b", 0)
	if settings, err := s.GetRequestSettings(t.Context(), "b", e.Row); err != nil || len(settings.ofs) > 0 {
		t.Errorf("of another organization: %v, %v", settings, err)
	}

	// However often somebody changes an endpoint, the table is bounded.
	for i := range 2 * maxRevisions {
		change(EndpointChange{URL: ptr(fmt.Sprintf("https://example.com/n/%d", i))})
	}
	if rows, err := s.column("SELECT count(*) FROM endpoint_revisions WHERE endpoint=?", e.Row); err != nil || rows[0] != maxRevisions {
		t.Errorf("%v revisions are kept, %v", rows, err)
	}

	// Of a removed one they stay as long as its attempts may.
	if err := s.RemoveEndpoint(t.Context(), "acme", e.ID); err != nil {
		t.Fatal(err)
	}
	if settings, err := s.GetRequestSettings(t.Context(), "acme", e.Row); err != nil || len(settings.ofs) == 0 {
		t.Errorf("of a removed endpoint: %v, %v", settings, err)
	}
	c.add(100 * day)
	retain(c.read())
	if rows, err := s.column("SELECT count(*) FROM endpoint_revisions"); err != nil || rows[0] != 0 {
		t.Errorf("%v are left, %v", rows, err)
	}
}
