//go:build unix

package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/nats-io/nats.go/jetstream"
)

// TestStreams does to a real NATS server, and to the streams on it, what
// happens to them in the world, beneath a real daemon (REL-09 to REL-20). Each
// time it is noticed, booked and shown, what was appended is delivered once,
// and the books are proven at the end.
func TestStreams(t *testing.T) {
	if testing.Short() {
		t.Skip("starts daemons and NATS servers for half a minute")
	}
	bin, server := buildChaos(t), buildServer(t)
	for _, c := range []struct {
		name string
		run  func(t *testing.T, bin, server string)
	}{
		{"REL-10 killed", testServerKilled},
		{"REL-11 frozen", testServerFrozen},
		{"REL-15 deleted", testStreamDeleted},
		{"REL-16 limits", testStreamLimits},
		{"REL-16 purged", testStreamPurged},
		{"REL-17 made anew", testStreamRecreated},
		{"REL-18 rolled back", testStreamRolledBack},
		{"REL-19 rolled back and overtaken", testStreamOvertaken},
		{"REL-20 holes and duplicates", testStreamHoles},
		{"REL-09 two databases", testTwoDatabases},
		{"REL-09 database lost", testDatabaseLost},
		{"REL-09 policies", testMissingCursorPolicies},
		{"cluster of three", testCluster},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, bin, server)
		})
	}
}

func testServerKilled(t *testing.T, bin, server string) {
	b := newBeach(t, bin, server, nil)
	b.append(keys("before", 1, 20)...)
	b.settle("events before")
	for _, prefix := range []string{"second", "third"} {
		b.s.kill()
		b.degraded(b.v, "broker cannot be used")
		b.state("unreachable")
		b.s.start(b.ctx)
		b.append(keys(prefix, 1, 20)...)
		b.settle("events after the server's death")
	}
	if c := b.read(); c.Incarnation != 1 || c.Gaps != 0 {
		t.Errorf("incarnation %d, %d gaps: nothing has happened to the stream", c.Incarnation, c.Gaps)
	}
	b.end()
}

// A server that stands still is noticed without any word of it. What is in the
// books is sent meanwhile.
func testServerFrozen(t *testing.T, bin, server string) {
	b := newBeach(t, bin, server, nil)
	b.append("one")
	b.settle("the first event")
	b.r.hooks["all"].always = &answer{status: http.StatusServiceUnavailable}
	b.append("waits")
	eventually(b.ctx, t, "a failed attempt", func() bool {
		for _, c := range b.r.calls() {
			if c.status == http.StatusServiceUnavailable {
				return true
			}
		}
		return false
	})
	b.s.freeze()
	b.r.mu.Lock()
	b.r.hooks["all"].always = nil
	b.r.mu.Unlock()
	b.settle("what is in the books, while the server stands still")
	b.degraded(b.v, "broker cannot be used")
	if status, _ := b.v.get(b.ctx, "/healthz"); status != http.StatusOK {
		t.Errorf("healthz: %d", status)
	}
	b.s.thaw()
	b.append(keys("after", 1, 5)...)
	b.settle("events after")
	b.end()
}

// A stream that is gone is not made again, and its cursor keeps its place.
func testStreamDeleted(t *testing.T, bin, server string) {
	b := newBeach(t, bin, server, nil)
	b.append(keys("a", 1, 5)...)
	b.settle("events")
	if err := b.js.DeleteStream(b.ctx, beachStream); err != nil {
		t.Fatal(err)
	}
	if c := b.state("stream-missing"); c.Position != 5 {
		t.Errorf("the cursor is at %d, want 5", c.Position)
	}
	b.metric(`grapnel_streams{state="stream-missing"} 1`)
	if _, err := b.js.Stream(b.ctx, beachStream); err == nil {
		t.Error("the stream was made again by itself")
	}
	if out, code := b.v.command(b.ctx, "cursor", "check"); code != 2 {
		t.Errorf("cursor check: exit status %d, %s", code, out)
	}
	// An operator makes it anew.
	if out, code := b.v.command(b.ctx, "org", "set", "acme", "--subject", ""); code != 0 {
		t.Fatalf("org set: %s", out)
	}
	b.append(keys("b", 1, 5)...)
	b.settle("events of the stream made anew")
	if c := b.read(); c.Incarnation != 2 {
		t.Errorf("incarnation %d, want 2", c.Incarnation)
	}
	b.end()
}

func testStreamLimits(t *testing.T, bin, server string) {
	b := newBeach(t, bin, server, &jetstream.StreamConfig{MaxMsgs: 10})
	b.append(keys("a", 1, 5)...)
	b.settle("events")
	b.hold(func() { b.append(keys("b", 1, 25)...) })
	b.forget(keys("b", 1, 15)...)
	b.settle("what the stream still has")
	b.gap(6, 20)
	b.end()
}

func testStreamPurged(t *testing.T, bin, server string) {
	b := newBeach(t, bin, server, &jetstream.StreamConfig{})
	b.append(keys("a", 1, 5)...)
	b.settle("events")
	b.hold(func() {
		b.append(keys("b", 1, 25)...)
		s, err := b.js.Stream(b.ctx, beachStream)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Purge(b.ctx); err != nil {
			t.Fatal(err)
		}
	})
	b.forget(keys("b", 1, 25)...)
	b.append(keys("c", 1, 5)...)
	b.settle("events after the purge")
	b.gap(6, 30)
	b.end()
}

// hold does something while the cursor is paused.
func (b *beach) hold(do func()) {
	b.t.Helper()
	for _, step := range []func(){
		func() { b.command("cursor", "pause", "acme", "--reason", "test") }, do,
		func() { b.command("cursor", "resume", "acme") },
	} {
		step()
	}
}

func (b *beach) command(args ...string) string {
	b.t.Helper()
	out, code := b.v.command(b.ctx, args...)
	if code != 0 {
		b.t.Fatalf("grapnel %s: exit status %d, %s", strings.Join(args, " "), code, out)
	}
	return out
}

// gap checks that the only one is booked, shown and counted.
func (b *beach) gap(from, to uint64) {
	b.t.Helper()
	b.state("gap")
	page, err := b.v.client.Gaps(b.ctx, "acme", client.Page{})
	if err != nil || len(page.Data) != 1 || page.Data[0].From != from || page.Data[0].To != to {
		b.t.Errorf("gaps %+v (%v), want %d to %d", page.Data, err, from, to)
	}
	b.metric(`grapnel_streams{state="gap"} 1`)
	if c := b.read(); c.Incarnation != 1 {
		b.t.Errorf("incarnation %d, want 1", c.Incarnation)
	}
}

// Sequences that are given out a second time are not taken for read.
func testStreamRecreated(t *testing.T, bin, server string) {
	b := newBeach(t, bin, server, nil)
	b.append(keys("a", 1, 10)...)
	b.settle("events")
	if err := b.js.DeleteStream(b.ctx, beachStream); err != nil {
		t.Fatal(err)
	}
	if _, err := b.js.CreateStream(b.ctx, jetstream.StreamConfig{Name: beachStream, Subjects: []string{"events.acme.>"}}); err != nil {
		t.Fatal(err)
	}
	b.append(keys("b", 1, 10)...)
	b.settle("events with the same sequences")
	if c := b.read(); c.Incarnation != 2 || c.Position != 10 {
		t.Errorf("the cursor is at %d.%d, want 2.10", c.Incarnation, c.Position)
	}
	b.append("a-1") // known, though the new stream does not know it
	b.read()
	b.settle("no event twice")
	b.end()
}

// roll stops the server, puts back what it had stored then, and does something
// before it is there again for the daemon.
func (b *beach) roll(saved string) {
	b.t.Helper()
	b.s.kill()
	b.s.restore(saved)
	b.s.start(b.ctx)
}

// saved stops the server for a moment and copies what it has.
func (b *beach) saved() string {
	b.t.Helper()
	b.s.kill()
	defer b.s.start(b.ctx)
	return b.s.save()
}

func testStreamRolledBack(t *testing.T, bin, server string) {
	b := newBeach(t, bin, server, nil)
	b.append(keys("a", 1, 100)...)
	b.settle("a hundred events")
	saved := b.saved()
	b.append(keys("b", 1, 50)...)
	b.settle("fifty more")
	created := b.read().StreamCreated

	b.roll(saved)
	b.append(keys("c", 1, 30)...)
	b.settle("thirty with sequences that were read before")
	c := b.state("regressed")
	if c.Incarnation != 2 || !c.StreamCreated.Equal(*created) {
		t.Errorf("incarnation %d of the stream made at %v, want 2 of the one made at %v", c.Incarnation, c.StreamCreated, created)
	}
	if got := b.read().Position; got != 130 {
		t.Errorf("the cursor is at %d, want 130", got)
	}
	b.metric(`grapnel_streams{state="regressed"} 1`)
	if !strings.Contains(b.v.logs(), "rolled back") {
		t.Error("the log does not say it")
	}
	c, err := b.v.client.Cursor(b.ctx, "acme")
	if err != nil || len(c.Incarnations) != 1 || c.Incarnations[0].Change != "regressed" || c.Incarnations[0].ReadBefore != 150 || c.PositionHash == "" {
		t.Errorf("the cursor says of its incarnations %+v (%v)", c.Incarnations, err)
	}

	// It is in the books: also the next daemon shows it, and reads on.
	b.v.last().kill()
	b.r.settle(b.ctx, t)
	b.v.run(b.ctx)
	b.state("regressed")
	b.append("d-1")
	b.settle("an event after a restart")
	if c := b.read(); c.Incarnation != 2 {
		t.Errorf("incarnation %d, want 2 still", c.Incarnation)
	}
	b.end()
}

// The end of the stream lies after the cursor again when the daemon comes: only
// the message at the cursor tells.
func testStreamOvertaken(t *testing.T, bin, server string) {
	b := newBeach(t, bin, server, nil)
	b.append(keys("a", 1, 40)...)
	b.settle("events")
	saved := b.saved()
	b.append(keys("b", 1, 20)...)
	b.settle("twenty more")

	b.v.last().kill()
	b.r.settle(b.ctx, t)
	b.roll(saved)
	b.append(keys("c", 1, 60)...)
	b.v.run(b.ctx)
	b.settle("sixty, of which twenty have sequences that were read before")
	if c := b.state("regressed"); c.Incarnation != 2 || b.read().Position != 100 {
		t.Errorf("the cursor is at %d.%d, want 2.100", c.Incarnation, c.Position)
	}
	b.end()
}

// Holes between messages that are there are no gap, and one event is one
// delivery however often it is appended.
func testStreamHoles(t *testing.T, bin, server string) {
	b := newBeach(t, bin, server, &jetstream.StreamConfig{MaxMsgsPerSubject: 3, AllowMsgTTL: true, Duplicates: 100 * time.Millisecond})
	b.publish("events.acme.first.of_all", "first")
	b.settle("the first event")
	b.hold(func() {
		b.publish("events.acme.stays", "stays-1")
		for _, key := range keys("per-subject", 1, 10) {
			b.publish("events.acme.many", key)
		}
		b.forget(keys("per-subject", 1, 7)...)
		s, err := b.js.Stream(b.ctx, beachStream)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys("deleted", 1, 9) {
			b.publish("events.acme.any."+key, key)
			if b.sent[key]%3 == 0 {
				b.forget(key)
				if err := s.DeleteMsg(b.ctx, uint64(b.sent[key])); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := b.js.Publish(b.ctx, "events.acme.short", []byte(`{}`), jetstream.WithMsgTTL(time.Second), jetstream.WithMsgID("short")); err != nil {
			t.Fatal(err)
		}
		eventually(b.ctx, t, "the message to expire", func() bool {
			info, err := s.Info(b.ctx)
			return err == nil && info.State.NumDeleted >= 1+7+3
		})
		for range 3 { // past the stream's own notice
			b.publish("events.acme.stays", "stays-1")
			elapse(b.ctx, 150*time.Millisecond)
		}
		b.publish("events.acme.stays", "stays-2")
	})
	b.settle("what is there")
	if c := b.read(); c.Gaps != 0 || c.State != "live" || c.Incarnation != 1 {
		t.Errorf("%d gaps, state %s, incarnation %d: holes are normal", c.Gaps, c.State, c.Incarnation)
	}
	b.end()
}

// second is another daemon with a database of its own on the same server.
func (b *beach) second(bin string, flags ...string) (*victim, *receiver) {
	b.t.Helper()
	v := newVictim(b.t, bin, append([]string{"--nats-url", b.s.url()}, flags...)...)
	r := newReceiver(b.t, v, 2)
	v.run(b.ctx)
	eventually(b.ctx, b.t, "the second daemon to find the stream", func() bool {
		_, err := v.client.Org(b.ctx, "acme")
		return err == nil
	})
	return v, r
}

// all is an endpoint that gets whatever the stream still has.
func (b *beach) all(v *victim, r *receiver) {
	b.t.Helper()
	if err := addHook(b.ctx, v, r, &hook{name: "all", org: "acme", types: []string{"*"}, attempts: 50, start: "beginning"}); err != nil {
		b.t.Fatal(err)
	}
}

// Two daemons with two databases on one server: the second reads nothing until
// it claims the stream, and then the first stops.
func testTwoDatabases(t *testing.T, bin, server string) {
	b := newBeach(t, bin, server, nil)
	b.append(keys("a", 1, 10)...)
	b.settle("events")
	v, r := b.second(bin)
	if err := v.client.RemoveOrg(b.ctx, "acme"); err == nil || !strings.Contains(err.Error(), "another database") {
		t.Errorf("remove another database's organization: %v", err)
	}
	b.all(v, r)
	unclaimed := func(c httpapi.CursorBody) bool { return c.State == "unclaimed" }
	b.cursorOf(v.client, "the second to stand aside", unclaimed)
	b.degraded(v, "another database")
	b.append(keys("b", 1, 10)...)
	b.settle("events to the first")
	if n := r.seen(); n != 0 {
		t.Errorf("the second has sent %d requests", n)
	}

	// It is claimed on purpose: from here on the events are the second's.
	if out, code := v.command(b.ctx, "cursor", "claim", "acme", "--from", "position", "--reason", "test"); code != 1 || out != "" {
		t.Errorf("claimed at a position that there is not: %d, %s", code, out)
	}
	if out, code := v.command(b.ctx, "cursor", "claim", "acme", "--from", "end", "--reason", "test"); code != 0 || !strings.Contains(out, "goes on after 20") {
		t.Errorf("claim: exit status %d, %s", code, out)
	}
	b.cursor("the first to stand aside", unclaimed)
	b.append(keys("c", 1, 10)...)
	b.forget(keys("c", 1, 10)...)
	eventually(b.ctx, t, "events to the second", func() bool { return r.seen() >= 10 })
	b.settle("nothing more to the first")
	if first, second := len(b.delivered()), r.pairs(); first != 20 || second != 10 {
		t.Errorf("the first has sent %d events and the second %d, want 20 and 10", first, second)
	}

	// And back.
	b.command("cursor", "claim", "acme", "--from", "position", "--reason", "test")
	b.lost = map[string]bool{}
	b.settle("the first to go on where it was")
	b.cursorOf(v.client, "the second to stand aside again", unclaimed)
	fsck(b.ctx, t, v)
	v.stop(b.ctx, v.last())
	b.end()
}

// The database alone is lost, the streams of the embedded broker are there:
// nothing is sent again by itself.
func testDatabaseLost(t *testing.T, bin, _ string) {
	v := newVictim(t, bin)
	v.flags = append(v.flags, "--nats-listen", v.nats)
	b := &beach{t: t, ctx: t.Context(), v: v, sent: map[string]stream.Seq{}, lost: map[string]bool{}}
	b.r = newReceiver(t, v, 1)
	b.v.run(b.ctx)
	subscribe(b.ctx, t, v, b.r, []*hook{b.hook()})
	b.js = connect(t, "nats://"+v.nats)
	b.append(keys("a", 1, 10)...)
	b.settle("events")
	copied := filepath.Join(t.TempDir(), "copy.db")
	b.command("backup", copied)
	b.append(keys("b", 1, 10)...)
	b.settle("events after the backup")
	v.last().kill()
	b.r.settle(b.ctx, t)
	b.loseDatabase()
	v.run(b.ctx)
	b.state("unclaimed")
	if err := addHook(b.ctx, v, b.r, &hook{name: "again", org: "acme", types: []string{"*"}, attempts: 50, start: "beginning"}); err != nil {
		t.Fatal(err)
	}
	b.append("c-1")
	b.state("unclaimed")
	if n := b.r.seen(); n != 20 {
		t.Errorf("%d requests, want the 20 of before", n)
	}
	v.stop(b.ctx, v.last())

	// The backup is of the same installation: with it, reading goes on.
	b.loseDatabase()
	b.command("restore", copied)
	v.run(b.ctx)
	b.command("resume", "--confirm")
	eventually(b.ctx, t, "the event after the loss", func() bool {
		return b.r.accepted() == 21
	})
	b.read()
	fsck(b.ctx, t, v)
	v.stop(b.ctx, v.last())
}

// loseDatabase removes the database of a daemon that does not run.
func (b *beach) loseDatabase() {
	b.t.Helper()
	for _, name := range []string{"grapnel.db", "grapnel.db-wal", "grapnel.db-shm", "home.json"} {
		if err := os.Remove(filepath.Join(b.v.dir, name)); err != nil && !os.IsNotExist(err) {
			b.t.Fatal(err)
		}
	}
}

// --on-missing-cursor says beforehand where a new database begins.
func testMissingCursorPolicies(t *testing.T, bin, server string) {
	b := newBeach(t, bin, server, nil)
	b.append(keys("a", 1, 10)...)
	b.settle("events")
	b.v.stop(b.ctx, b.v.last())
	for _, policy := range []string{"new", "all"} {
		v, r := b.second(bin, "--on-missing-cursor", policy)
		b.all(v, r)
		c := b.cursorOf(v.client, "policy "+policy, func(c httpapi.CursorBody) bool { return c.State == "live" && c.Position >= 10 && c.Lag == 0 })
		gaps, err := v.client.Gaps(b.ctx, "acme", client.Page{})
		if skipped := policy == "new"; err != nil || (len(gaps.Data) == 1) != skipped {
			t.Errorf("policy %s: cursor %+v, skipped %+v (%v)", policy, c, gaps.Data, err)
		}
		fsck(b.ctx, t, v)
		v.stop(b.ctx, v.last())
	}
}

// A stream with three replicas loses its leader while events are appended and
// fanned out.
func testCluster(t *testing.T, bin, server string) {
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	var servers []*natsServer
	var urls, routes []string
	for range 3 {
		s := newNATSServer(t, server)
		servers, urls, routes = append(servers, s), append(urls, s.url()), append(routes, freeAddress(t))
	}
	for i, s := range servers {
		s.extra = fmt.Sprintf("server_name: s%d\ncluster { name: three, listen: %q, routes: [\"nats://%s\"] }\n",
			i, routes[i], strings.Join(routes, `", "nats://`))
		s.start(ctx)
	}
	b := &beach{t: t, ctx: ctx, sent: map[string]stream.Seq{}, lost: map[string]bool{}}
	b.js = connect(t, strings.Join(urls, ","))
	eventually(ctx, t, "a stream with three replicas", func() bool {
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := b.js.CreateStream(short, jetstream.StreamConfig{Name: beachStream, Subjects: []string{"events.acme.>"}, Replicas: 3})
		return err == nil
	})
	b.v = newVictim(t, bin, "--nats-url", strings.Join(urls, ","))
	b.r = newReceiver(t, b.v, 1)
	b.v.run(ctx)
	eventually(ctx, t, "the stream to be adopted", func() bool {
		_, err := b.v.client.Org(ctx, "acme")
		return err == nil
	})
	if err := addHook(ctx, b.v, b.r, b.hook()); err != nil {
		t.Fatal(err)
	}
	b.append(keys("a", 1, 100)...)
	s, err := b.js.Stream(ctx, beachStream)
	if err != nil {
		t.Fatal(err)
	}
	leader := s.CachedInfo().Cluster.Leader
	for i, server := range servers {
		if leader == fmt.Sprintf("s%d", i) {
			server.kill() // while its last events are fanned out
			defer server.start(ctx)
		}
	}
	began := time.Now()
	b.append(keys("b", 1, 100)...)
	b.settle("all events, without the leader")
	t.Logf("the leader %s was killed; a hundred more were appended and delivered within %v", leader, time.Since(began).Round(time.Millisecond))
	if c := b.read(); c.Incarnation != 1 || c.Gaps != 0 {
		t.Errorf("incarnation %d, %d gaps: nothing has happened to the stream", c.Incarnation, c.Gaps)
	}
	b.end()
}
