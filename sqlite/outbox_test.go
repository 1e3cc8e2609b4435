package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// announced are the operational events of acme that wait, and empties the outbox.
func announced(t *testing.T, s *Store) []Announcement {
	t.Helper()
	list, err := s.Announcements(t.Context(), "acme", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.OutboxStats().Waiting; n != int64(len(list)) {
		t.Errorf("%d wait, memory counts %d", len(list), n)
	}
	if len(list) > 0 {
		if err := s.RemoveAnnouncements(t.Context(), "acme", list[len(list)-1].ID); err != nil {
			t.Fatal(err)
		}
	}
	if orgs := s.AnnouncingOrgs(); len(orgs) != 0 {
		t.Errorf("after all were removed, %v wait", orgs)
	}
	return list
}

func types(list []Announcement) (types []string) {
	for _, a := range list {
		types = append(types, a.Type)
	}
	return types
}

// listening makes an endpoint that is told of everything.
func listening(t *testing.T, s *Store) deliver.Endpoint {
	t.Helper()
	e, err := s.AddEndpoint(t.Context(), deliver.Endpoint{
		Org: "acme", URL: "https://example.com/ops", EventTypes: []string{"webhook.*"}, Secrets: []deliver.Secret{{Secret: sign.NewSecret()}},
		Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: deliver.DefaultConcurrency,
	}, Start{})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// volatile is what differs from run to run.
var volatile = regexp.MustCompile(`(ep|dlv|evt)_[0-9A-Z]+`)

// Each operational event happens once, with what changed, and has the data that
// docs/operational-events.md promises.
func TestAnnouncements(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Clock: c.read})
	w := newWalker(t, s, "acme", 0)
	listening(t, s)
	e := addEndpoint(t, s, "acme")
	w.endpoints = []int64{e.Row}
	w.refresh()
	ev := w.commit(w.next(3))
	key := func(i int) deliver.Key { return deliver.Key{Event: ev[i].Event, Endpoint: e.Row} }
	must := func(_ deliver.Endpoint, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	steps := []struct {
		name string
		do   func()
		want []string // type and data
	}{
		{"added", func() { addEndpoint(t, s, "acme") }, nil},
		{"disabled by hand", func() { must(s.DisableEndpoint(t.Context(), "acme", e.ID, deliver.DisabledManual)) }, []string{
			`webhook.endpoint.disabled {"endpoint_id":"ep_…","url":"https://example.com/hook","reason":"manual","by":"grapnel"}`}},
		{"disabled again", func() { must(s.DisableEndpoint(t.Context(), "acme", e.ID, deliver.DisabledManual)) }, nil},
		{"enabled", func() { must(s.EnableEndpoint(WithCaller(t.Context(), Caller{Actor: "tok_1"}), "acme", e.ID)) }, []string{
			`webhook.endpoint.enabled {"endpoint_id":"ep_…","url":"https://example.com/hook","reason":"manual","by":"tok_1"}`}},
		{"enabled again", func() { must(s.EnableEndpoint(t.Context(), "acme", e.ID)) }, nil},
		{"secret rotated", func() { must(s.RotateSecret(t.Context(), "acme", e.ID, sign.NewSecret(), time.Hour)) }, []string{
			`webhook.endpoint.secret_rotated {"endpoint_id":"ep_…","url":"https://example.com/hook","by":"grapnel","ending":[{"created_at":"2026-11-01T00:00:00Z","expires_at":"2026-11-01T01:00:06Z"}]}`}},
		{"query of the URL", func() {
			must(s.SetEndpoint(t.Context(), "acme", e.ID, EndpointChange{URL: ptr("https://example.com/hook?key=canary"), Disabled: ptr(true)}))
			must(s.SetEndpoint(t.Context(), "acme", e.ID, EndpointChange{Disabled: ptr(false)}))
		}, []string{
			`webhook.endpoint.disabled {"endpoint_id":"ep_…","url":"https://example.com/hook?…","reason":"manual","by":"grapnel"}`,
			`webhook.endpoint.enabled {"endpoint_id":"ep_…","url":"https://example.com/hook?…","reason":"manual","by":"grapnel"}`}},
		{"delivered", func() { w.record(c.outcome(key(0), 1, deliver.Delivered)) }, nil},
		{"failed", func() { w.record(c.outcome(key(1), 1, deliver.Pending)) }, nil},
		{"dead", func() { w.record(c.outcome(key(1), 2, deliver.Dead)) }, []string{
			`webhook.delivery.dead {"delivery_id":"dlv_…","endpoint_id":"ep_…","event_id":"evt_…","event_type":"invoice.paid","reason":"exhausted","attempts":2,"last_error_class":"http_5xx","last_status_code":500}`}},
		{"dead and booked twice", func() { w.record(c.outcome(key(1), 2, deliver.Dead)) }, nil},
		{"gone", func() {
			r := c.outcome(key(2), 1, deliver.Dead)
			r.Next.Reason, r.Next.Disable, r.Attempt.Status, r.Attempt.Class = deliver.Gone, deliver.DisabledGone, 410, deliver.HTTP4xx
			w.record(r)
		}, []string{
			`webhook.delivery.dead {"delivery_id":"dlv_…","endpoint_id":"ep_…","event_id":"evt_…","event_type":"invoice.paid","reason":"gone","attempts":1,"last_error_class":"http_4xx","last_status_code":410}`,
			`webhook.endpoint.disabled {"endpoint_id":"ep_…","url":"https://example.com/hook?…","reason":"gone","by":"grapnel"}`}},
		{"gaps", func() {
			w.refresh()
			p := w.next(0)
			p.To.Seq += 10
			p.Gaps = []cursor.Gap{{Incarnation: 1, From: p.From.Seq + 1, To: p.From.Seq + 2}, {Incarnation: 1, From: p.From.Seq + 5, To: p.To.Seq}}
			w.commit(p)
		}, []string{`webhook.cursor.gap {"incarnation":1,"from":4,"to":13,"count":8,"reason":"lost"}`}},
		{"skipped", func() {
			pos, err := s.Position(t.Context(), "acme")
			if err != nil {
				t.Fatal(err)
			}
			to := pos
			to.Seq += 5
			if err := s.MoveCursor(t.Context(), "acme", fanout.Move{To: to, Reason: "test", From: pos, Skip: true}); err != nil {
				t.Fatal(err)
			}
			w.refresh()
		}, []string{`webhook.cursor.gap {"incarnation":1,"from":14,"to":18,"count":5,"reason":"skipped"}`}},
		{"removed", func() {
			if err := s.RemoveEndpoint(t.Context(), "acme", e.ID); err != nil {
				t.Fatal(err)
			}
		}, nil},
	}
	seen := map[string]bool{}
	for _, step := range steps {
		c.add(time.Second)
		step.do()
		var got []string
		for _, a := range announced(t, s) {
			got = append(got, a.Type+" "+volatile.ReplaceAllString(string(a.Data), "${1}_…"))
			if seen[a.DedupeKey] || stream.CheckDedupeKey(a.DedupeKey) != nil || !a.At.Equal(c.read()) {
				t.Errorf("%s: dedupe key %q at %v", step.name, a.DedupeKey, a.At)
			}
			seen[a.DedupeKey] = true
			if now := fmt.Sprint(toMillis(c.read())); a.Type == stream.DeliveryDead && !strings.HasSuffix(a.DedupeKey, ":"+now) {
				t.Errorf("%s: the dedupe key %s can be foretold", step.name, a.DedupeKey)
			}
			if !stream.KnownOperational(a.Type) {
				t.Errorf("%s: %s is no known type", step.name, a.Type)
			}
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}

// What comes of attempts at operational events is told to nobody, and dead
// deliveries to nobody if none of the org's enabled endpoints asks for them.
func TestNoChainReaction(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Clock: c.read})
	w := newWalker(t, s, "acme", 1)
	dead := func(typ string, payload bool) {
		t.Helper()
		c.add(time.Second)
		w.refresh()
		p := w.next(1)
		p.Events[0].Type = typ
		ev := w.commit(p)
		r := c.outcome(deliver.Key{Event: ev[0].Event, Endpoint: w.endpoints[0]}, 1, deliver.Dead)
		r.Payload.Type, r.Payload.ID = typ, p.Events[0].ID
		if !payload { // its event is lost
			r.Payload = nil
		}
		r.Next.Disable = deliver.DisabledGone
		w.record(r)
	}
	enable := func() {
		t.Helper()
		list, err := s.ListEndpoints(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			if _, err := s.EnableEndpoint(t.Context(), "acme", e.ID); err != nil {
				t.Fatal(err)
			}
		}
		announced(t, s)
	}
	check := func(when string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, types(announced(t, s))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
		enable()
	}
	dead("invoice.paid", true)
	check("nobody listens", stream.EndpointDisabled)
	listener := listening(t, s)
	dead("invoice.paid", true)
	check("somebody listens", stream.DeliveryDead, stream.EndpointDisabled)
	dead("invoice.paid", false)
	check("the payload is lost", stream.DeliveryDead, stream.EndpointDisabled)
	dead(stream.EndpointDisabled, true)
	check("an operational event")
	dead(stream.EndpointDisabled, false)
	check("an operational event that is lost")
	if _, err := s.DisableEndpoint(t.Context(), "acme", listener.ID, deliver.DisabledManual); err != nil {
		t.Fatal(err)
	}
	announced(t, s)
	dead("invoice.paid", true)
	check("the listener is disabled", stream.EndpointDisabled)
}

// A full outbox keeps the newest dead deliveries and counts the others; it never
// drops another event for one of them.
func TestOutboxIsBounded(t *testing.T) {
	c := newClock()
	s := open(t, Options{Dir: t.TempDir(), Clock: c.read, outbox: 4})
	w := newWalker(t, s, "acme", 1)
	e, err := s.FindEndpointByRow(t.Context(), w.endpoints[0])
	if err != nil {
		t.Fatal(err)
	}
	listening(t, s)
	w.refresh()
	ev := w.commit(w.next(10))
	dead := func(i int) {
		w.record(c.outcome(deliver.Key{Event: ev[i].Event, Endpoint: e.Row}, 1, deliver.Dead))
	}
	flip := func() {
		t.Helper()
		c.add(time.Second)
		if _, err := s.SetEndpoint(t.Context(), "acme", e.ID, EndpointChange{Disabled: ptr(e.Enabled())}); err != nil {
			t.Fatal(err)
		}
		e, err = s.GetEndpoint(t.Context(), "acme", e.ID)
		if err != nil {
			t.Fatal(err)
		}
	}
	content := func() (lines []string) {
		list, err := s.Announcements(t.Context(), "acme", 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			var data struct{ Omitted int }
			if err := json.Unmarshal(a.Data, &data); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, fmt.Sprintf("%s %d", strings.TrimPrefix(a.Type, stream.OperationalPrefix), data.Omitted))
		}
		return lines
	}
	check := func(when string, stats OutboxStats, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, content()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
		if diff := cmp.Diff(stats, s.OutboxStats()); diff != "" {
			t.Errorf("%s: stats (-want +got):\n%s", when, diff)
		}
	}
	for i := range 6 {
		dead(i)
	}
	check("six are dead", OutboxStats{Waiting: 4, Merged: 2}, "delivery.dead 2", "delivery.dead 0", "delivery.dead 0", "delivery.dead 0")
	flip()
	flip()
	check("two others", OutboxStats{Waiting: 4, Merged: 4}, "delivery.dead 4", "delivery.dead 0", "endpoint.disabled 0", "endpoint.enabled 0")
	flip()
	check("one more", OutboxStats{Waiting: 4, Merged: 5}, "delivery.dead 5", "endpoint.disabled 0", "endpoint.enabled 0", "endpoint.disabled 0")
	dead(6)
	check("the last one gives way to its like", OutboxStats{Waiting: 4, Merged: 6}, "endpoint.disabled 0", "endpoint.enabled 0", "endpoint.disabled 0", "delivery.dead 6")
	flip()
	check("nothing is left to count it in", OutboxStats{Waiting: 4, Merged: 6, Dropped: 7}, "endpoint.disabled 0", "endpoint.enabled 0", "endpoint.disabled 0", "endpoint.enabled 0")
	flip()
	dead(7)
	check("full of others", OutboxStats{Waiting: 4, Merged: 6, Dropped: 9}, "endpoint.disabled 0", "endpoint.enabled 0", "endpoint.disabled 0", "endpoint.enabled 0")
}

// What happened and what is told of it are one: of a change that was undone,
// nobody is told, and after a crash each is there or not together with its event.
func TestAnnouncedWithTheChange(t *testing.T) {
	dir := t.TempDir()
	var copies []string
	c := newClock()
	s := open(t, Options{Dir: dir, Clock: c.read, Failpoint: func(name string) {
		if name != "record.before" && name != "record.after" {
			return
		}
		to := t.TempDir()
		copyStore(t, dir, to)
		copies = append(copies, to)
	}})
	w := newWalker(t, s, "acme", 1)
	listening(t, s)
	w.refresh()
	ev := w.commit(w.next(5))
	undone := errors.New("undone")
	err := s.w.do(t.Context(), func(x *txn) error {
		o, _ := s.find("acme")
		e, err := x.endpoint(o, "p.id = ?", w.endpoints[0])
		if err != nil {
			return err
		}
		if err := x.disableByHand(o, &e, deliver.DisabledManual); err != nil {
			return err
		}
		return undone
	})
	if !errors.Is(err, undone) || s.OutboxStats().Waiting != 0 {
		t.Errorf("%v, %+v", err, s.OutboxStats())
	}
	for i := range ev {
		r := c.outcome(deliver.Key{Event: ev[i].Event, Endpoint: w.endpoints[0]}, 1, deliver.Dead)
		if i == 3 {
			r.Next.Disable = deliver.DisabledGone
		}
		w.record(r)
	}
	if len(copies) != 10 {
		t.Fatalf("%d copies", len(copies))
	}
	for i, dir := range copies {
		s := open(t, Options{Dir: dir, Clock: c.read})
		dead, err := s.column("SELECT count(*) FROM deliveries WHERE state=2")
		if err != nil {
			t.Fatal(err)
		}
		disabled, err := s.column("SELECT count(*) FROM endpoints WHERE disabled_reason<>''")
		if err != nil {
			t.Fatal(err)
		}
		got := types(announced(t, s))
		told := map[string]int64{}
		for _, typ := range got {
			told[typ]++
		}
		if told[stream.DeliveryDead] != dead[0] || told[stream.EndpointDisabled] != disabled[0] {
			t.Errorf("copy %d: %d dead, %d disabled, told %v", i, dead[0], disabled[0], told)
		}
	}
}

// The outbox of an organization goes with it.
func TestOutboxOfARemovedOrg(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	newWalker(t, s, "acme", 0)
	e := addEndpoint(t, s, "acme")
	if _, err := s.DisableEndpoint(t.Context(), "acme", e.ID, deliver.DisabledManual); err != nil {
		t.Fatal(err)
	}
	if orgs := s.AnnouncingOrgs(); !slices.Equal(orgs, []string{"acme"}) {
		t.Fatalf("%v", orgs)
	}
	if err := errors.Join(s.RemoveEndpoint(t.Context(), "acme", e.ID), s.RemoveOrg(t.Context(), "acme")); err != nil {
		t.Fatal(err)
	}
	left, err := s.column("SELECT count(*) FROM outbox")
	if err != nil || left[0] != 0 || s.OutboxStats().Waiting != 0 || len(s.AnnouncingOrgs()) != 0 {
		t.Errorf("%v rows left, %+v, %v", left, s.OutboxStats(), err)
	}
}
