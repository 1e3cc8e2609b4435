package stream_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/grapnel-hooks/grapnel/stream"
)

// installation is another client of the same server, for books of that id.
func (b *broker) installation(t *testing.T, id string) *stream.Client {
	t.Helper()
	return connect(t, stream.Options{Server: b.server, Installation: id, Log: b.logs.logger()})
}

// whose says for which installation the org's stream is read.
func whose(t *testing.T, c *stream.Client) string {
	t.Helper()
	st, err := c.State(t.Context(), "EVENTS_acme")
	if err != nil {
		t.Fatal(err)
	}
	return st.Installation
}

// REL-09: a stream is marked when it is made, and nobody else touches it.
func TestMark(t *testing.T) {
	b := newBroker(t)
	first, second := b.installation(t, "first"), b.installation(t, "second")
	acme := stream.OrgStream{Org: "acme"}
	if st, err := first.Create(t.Context(), acme); err != nil || st.Installation != "first" {
		t.Fatalf("made: %+v, %v", st, err)
	}
	if st, err := first.Create(t.Context(), acme); err != nil || st.Installation != "first" {
		t.Errorf("made again: %+v, %v", st, err)
	}
	var foreign *stream.ForeignError
	for name, err := range map[string]error{
		"create": failure(second.Create(t.Context(), stream.OrgStream{Org: "acme", Subjects: []string{"webhook.>"}})),
		"mark":   second.Mark(t.Context(), "acme"),
		"remove": second.Remove(t.Context(), "acme"),
	} {
		if !errors.As(err, &foreign) || foreign.Installation != "first" {
			t.Errorf("%s by the second: %v, want first's", name, err)
		}
	}
	if st, err := first.State(t.Context(), "EVENTS_acme"); err != nil || st.Installation != "first" || len(st.Subjects) != 1 {
		t.Errorf("afterwards: %+v, %v", st, err)
	}
	for st, err := range second.Find(t.Context()) {
		if err != nil || st.Installation != "first" {
			t.Errorf("found: %+v, %v", st, err)
		}
	}
	if err := second.Claim(t.Context(), "acme"); err != nil || whose(t, first) != "second" {
		t.Errorf("claimed: %v, it is %s's", err, whose(t, first))
	}
	if err := first.Remove(t.Context(), "acme"); !errors.As(err, &foreign) {
		t.Errorf("remove by the first: %v", err)
	}
}

func failure(_ stream.State, err error) error { return err }

// A stream of before gets the mark, and keeps what else is in its metadata.
func TestMarkAdopts(t *testing.T) {
	for _, c := range []struct {
		name string
		mark func(c *stream.Client, t *testing.T) error
	}{
		{"created", func(c *stream.Client, t *testing.T) error {
			return failure(c.Create(t.Context(), stream.OrgStream{Org: "acme"}))
		}},
		{"marked", func(c *stream.Client, t *testing.T) error { return c.Mark(t.Context(), "acme") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBroker(t)
			_, js := b.raw(t)
			if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
				Name: "EVENTS_acme", Subjects: []string{"events.acme.>"}, MaxMsgs: 7, Metadata: map[string]string{"team": "crm"},
			}); err != nil {
				t.Fatal(err)
			}
			ours := b.installation(t, "ours")
			if err := errors.Join(c.mark(ours, t), c.mark(ours, t)); err != nil {
				t.Fatal(err)
			}
			config := configOf(t, js, "EVENTS_acme")
			got := map[string]string{"team": config.Metadata["team"], "grapnel-installation": config.Metadata["grapnel-installation"]}
			if diff := cmp.Diff(map[string]string{"team": "crm", "grapnel-installation": "ours"}, got); diff != "" || config.MaxMsgs != 7 {
				t.Errorf("metadata (-want +got), %d messages at most:\n%s", config.MaxMsgs, diff)
			}
		})
	}
}

// Without an installation nothing is marked, and no mark is minded.
func TestNoInstallation(t *testing.T) {
	b := newBroker(t)
	b.create(t, "acme")
	if got := whose(t, b.Client); got != "" {
		t.Errorf("marked as %s's", got)
	}
	if err := b.installation(t, "theirs").Mark(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	b.create(t, "acme", "webhook.>")
	if err := b.Remove(t.Context(), "acme"); err != nil {
		t.Error(err)
	}
}

// A stream is adopted and marked at the same time: neither takes back what the other
// has changed.
func TestMarkBesideAdopting(t *testing.T) {
	b := newBroker(t)
	_, js := b.raw(t)
	ours := b.installation(t, "ours")
	for i := range 50 {
		org := fmt.Sprintf("org%d", i)
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "EVENTS_" + org, Subjects: []string{"events." + org + ".>"}}); err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		both.Go(func() {
			if _, err := ours.Create(t.Context(), stream.OrgStream{Org: org}); err != nil {
				t.Error(err)
			}
		})
		both.Go(func() {
			if err := ours.Mark(t.Context(), org); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		if c := configOf(t, js, "EVENTS_"+org); !c.AllowDirect || c.Metadata["grapnel-installation"] != "ours" {
			t.Fatalf("%s: direct reads %t, marked as %q", org, c.AllowDirect, c.Metadata["grapnel-installation"])
		}
	}
}

// A mark that changes is an event of the stream, so that whoever loses it knows
// soon.
func TestMarkIsHeardOf(t *testing.T) {
	b := newBroker(t)
	b.create(t, "acme")
	heard := make(chan string, 4)
	if err := b.OnStream(func(org string, created bool) {
		if !created {
			heard <- org
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := b.installation(t, "theirs").Mark(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	select {
	case org := <-heard:
		if org != "acme" {
			t.Errorf("heard of %s", org)
		}
	case <-t.Context().Done():
		t.Error("nobody said so")
	}
	var foreign *stream.ForeignError
	err := stream.State{Name: "EVENTS_acme", Installation: "theirs"}.Foreign("ours")
	if !errors.As(err, &foreign) || !strings.Contains(err.Error(), "grapnel cursor claim") {
		t.Errorf("the error does not say what to do: %v", err)
	}
}
