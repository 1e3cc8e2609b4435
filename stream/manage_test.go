package stream_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/grapnel-hooks/grapnel/stream"
)

func configOf(t testing.TB, js jetstream.JetStream, name string) jetstream.StreamConfig {
	t.Helper()
	s, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().Config
}

func TestCreate(t *testing.T) {
	b := newBroker(t)
	_, js := b.raw(t)
	st := b.create(t, "acme", "webhook.>")
	want := stream.State{Name: "EVENTS_acme", Created: st.Created, First: 1, Subjects: []string{"events.acme.>", "webhook.>"}}
	if diff := cmp.Diff(want, st); diff != "" {
		t.Error(diff)
	}
	if st.Created.IsZero() {
		t.Error("no creation time")
	}

	c := configOf(t, js, "EVENTS_acme")
	for name, ok := range map[string]bool{
		"allow direct":     c.AllowDirect,
		"erasable":         !c.DenyDelete,
		"deny purge":       c.DenyPurge,
		"discard new":      c.Discard == jetstream.DiscardNew,
		"quota":            c.MaxBytes == 4<<30,
		"max age":          c.MaxAge == 30*24*time.Hour,
		"duplicates":       c.Duplicates == 10*time.Minute,
		"atomic batches":   c.AllowAtomicPublish,
		"no roll-up":       !c.AllowRollup,
		"no TTL":           !c.AllowMsgTTL,
		"no schedules":     !c.AllowMsgSchedules,
		"no compression":   c.Compression == jetstream.NoCompression,
		"on the disk":      c.Storage == jetstream.FileStorage,
		"wakes by headers": c.RePublish != nil && c.RePublish.HeadersOnly,
		"wakes for all":    c.RePublish != nil && c.RePublish.Source == ">",
	} {
		if !ok {
			t.Errorf("%s: not so in %+v", name, c)
		}
	}

	b.append(t, "acme", event("x"))
	again := b.create(t, "acme", "webhook.>")
	if !again.Created.Equal(st.Created) || again.Last != 1 || again.LastTime.IsZero() {
		t.Errorf("created again: %+v", again)
	}
	if strings.Contains(b.logs.String(), "adopted") {
		t.Error("nothing was to be changed, yet the stream was updated")
	}
}

func TestCreateRefuses(t *testing.T) {
	b := newBroker(t)
	_, js := b.raw(t)
	b.create(t, "acme", "webhook.>")
	for _, c := range []jetstream.StreamConfig{
		{Name: "LEGACY", Subjects: []string{"events.taken.*"}},
		{Name: "EVENTS_work", Subjects: []string{"events.work.>"}, Retention: jetstream.WorkQueuePolicy},
		{Name: "EVENTS_mirror", Mirror: &jetstream.StreamSource{Name: "LEGACY"}},
	} {
		if _, err := js.CreateStream(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		name string
		s    stream.OrgStream
		want []string
	}{
		{"the org's subjects belong to another stream", stream.OrgStream{Org: "taken"}, []string{"events.taken.>", "LEGACY", "choose another"}},
		{"an extra subject belongs to another org", stream.OrgStream{Org: "other", Subjects: []string{"webhook.invoice.>"}}, []string{"webhook.invoice.>", "EVENTS_acme"}},
		{"a bad org", stream.OrgStream{Org: "a b"}, []string{"organization id"}},
		{"a bad subject", stream.OrgStream{Org: "other", Subjects: []string{">"}}, []string{"subject"}},
		{"a work queue", stream.OrgStream{Org: "work"}, []string{"EVENTS_work", "retention"}},
		{"a mirror", stream.OrgStream{Org: "mirror"}, []string{"mirror"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := b.Create(t.Context(), c.s)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q does not say %q", err, w)
				}
			}
		})
	}
}

// A stream that somebody else made with the right name is taken over, with its
// limits and its events.
func TestCreateAdopts(t *testing.T) {
	b := newBroker(t)
	_, js := b.raw(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "EVENTS_acme", Description: "ours since 2019", Subjects: []string{"events.acme.*"},
		MaxMsgs: 100, MaxAge: time.Hour, Metadata: map[string]string{"team": "crm"},
	}); err != nil {
		t.Fatal(err)
	}
	b.append(t, "acme", event("before"))

	st := b.create(t, "acme", "webhook.>")
	if st.Last != 1 {
		t.Errorf("last %d, want 1", st.Last)
	}
	c := configOf(t, js, "EVENTS_acme")
	if diff := cmp.Diff([]string{"events.acme.>", "webhook.>"}, c.Subjects); diff != "" {
		t.Error(diff)
	}
	if !c.AllowDirect || !c.AllowAtomicPublish || c.RePublish == nil || c.RePublish.Destination != "wake.acme.>" {
		t.Errorf("not adopted: %+v", c)
	}
	if c.MaxMsgs != 100 || c.MaxAge != time.Hour || c.Discard != jetstream.DiscardOld || c.DenyDelete || c.Description != "ours since 2019" || c.Metadata["team"] != "crm" {
		t.Errorf("changed what was not ours: %+v", c)
	}
	if !strings.Contains(b.logs.String(), "drops its oldest") {
		t.Error("no word about events that can be lost")
	}
	if n := len(all(t, b.Client, "EVENTS_acme")); n != 1 {
		t.Errorf("read %d", n)
	}

	wakes := make(chan stream.Wake, 1)
	if err := b.OnWake(func(w stream.Wake) { wakes <- w }); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "webhook.paid", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if w := within(t, "wake-up", wakes); w.Org != "acme" || w.Seq != 2 {
		t.Errorf("wake-up %+v", w)
	}
}

func TestFind(t *testing.T) {
	b := newBroker(t)
	_, js := b.raw(t)
	want := createMany(t, b.Client, 1000)
	for _, name := range []string{"LEGACY", "EVENTS_not a name", "OTHER_acme"} {
		js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name + ".x"}})
	}
	b.append(t, "org-7", event("x"))
	want["org-7"] = 1

	got := make(map[string]stream.Seq)
	for st, err := range b.Find(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		org, _ := stream.Names{}.Org(st.Name)
		got[org] = st.Last
		if st.Created.IsZero() {
			t.Errorf("state %+v", st)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("found %d streams, want %d; %s", len(got), len(want), cmp.Diff(want, got))
	}
	n := 0
	for range b.Find(t.Context()) {
		if n++; n == 300 {
			break
		}
	}
}

func TestFindNothing(t *testing.T) {
	b := newBroker(t)
	for st, err := range b.Find(t.Context()) {
		t.Errorf("found %v, %v", st, err)
	}
	b.server.Close()
	eventually(t, "loss of the broker", func() bool { return !b.Connected() })
	for _, err := range b.Find(t.Context()) {
		if !errors.Is(err, stream.ErrUnavailable) {
			t.Errorf("error %v", err)
		}
	}
}

// createMany makes n streams, eight at a time, and returns their orgs.
func createMany(t testing.TB, c *stream.Client, n int) map[string]stream.Seq {
	t.Helper()
	orgs := make(map[string]stream.Seq, n)
	next := make(chan string)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for org := range next {
				if _, err := c.Create(t.Context(), stream.OrgStream{Org: org}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range n {
		org := fmt.Sprintf("org-%d", i)
		orgs[org] = 0
		next <- org
	}
	close(next)
	wg.Wait()
	return orgs
}

func BenchmarkFind10k(b *testing.B) {
	br := newBroker(b)
	createMany(b, br.Client, 10_000)
	for b.Loop() {
		n := 0
		for _, err := range br.Find(b.Context()) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 10_000 {
			b.Fatalf("found %d", n)
		}
	}
}

// Start and stop with 10,000 streams; recovery is most of it.
func BenchmarkStartServer10k(b *testing.B) {
	dir := b.TempDir()
	s := serve(b, stream.ServerOptions{Dir: dir})
	createMany(b, connect(b, stream.Options{Server: s}), 10_000)
	s.Close()
	var health time.Duration
	for b.Loop() {
		s, err := stream.StartServer(b.Context(), stream.ServerOptions{Dir: dir, Listen: "off", Progress: func(r stream.Recovery) {
			b.Logf("restored %d of %d after %s", r.Restored, r.Streams, r.Elapsed)
		}})
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		if err := s.Health(); err != nil {
			b.Error(err)
		}
		health += time.Since(began)
		s.Close()
	}
	b.ReportMetric(float64(health.Milliseconds())/float64(b.N), "ms/health")
}

// Erasing takes one message out of the stream and of the files that it is kept in.
func TestErase(t *testing.T) {
	const content = "CANARY-of-a-message-48a24b70"
	l := &logs{}
	o := stream.ServerOptions{Listen: "127.0.0.1:0", Dir: t.TempDir()}
	server := serve(t, o)
	b := &broker{Client: connect(t, stream.Options{Server: server, Log: l.logger()}), server: server, logs: l}
	b.create(t, "acme")
	_, js := b.raw(t)
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "EVENTS_old", Subjects: []string{"events.old.>"}, DenyDelete: true, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	for _, org := range []string{"acme", "old"} {
		for _, data := range []string{"before", content + org, "after"} {
			b.append(t, org, stream.Append{Type: "a.b", Data: []byte(`"` + data + `"`)})
		}
	}
	ctx := t.Context()
	for _, c := range []struct {
		org  string
		seq  stream.Seq
		want error
	}{
		{"acme", 2, nil},
		{"acme", 2, nil}, // gone already
		{"acme", 9, nil}, // was never there
		{"old", 2, stream.ErrDenied},
		{"nobody", 1, stream.ErrNoStream},
	} {
		if err := b.Erase(ctx, c.org, c.seq); !errors.Is(err, c.want) {
			t.Errorf("erase %d of %s: %v, want %v", c.seq, c.org, err, c.want)
		}
	}
	for org, want := range map[string][]stream.Seq{"acme": {1, 3}, "old": {1, 2, 3}} {
		msgs, _, err := b.Read(ctx, "EVENTS_"+org, 1, 10)
		var got []stream.Seq
		for _, m := range msgs {
			got = append(got, m.Seq)
		}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("left in %s: %v (-want +got):\n%s", org, err, diff)
		}
	}
	b.Close()
	server.Close()
	err := filepath.WalkDir(o.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(content+"acme")) {
			t.Errorf("the content is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
