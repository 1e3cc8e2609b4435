//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// inquest compares stream, books, the receiver's ledger and what the publisher
// was promised, once the daemon has stopped.
type inquest struct {
	t     *testing.T
	v     *victim
	r     *receiver
	sent  []publication
	fuzzy map[string]bool // hooks whose subscription changed: only the books know what they get

	// again: an event may be booked at a later message of the same key, since nobody
	// had room for the first one when the cursor came.
	again bool

	calls  map[pair][]call
	booked map[pair]booked
	bodies map[string]string // by webhook-id
	found  int
}

// pair names a delivery as its receiver does.
type pair struct{ hook, id string }

type booked struct {
	deliver.Delivery
	attempts []deliver.Attempt
}

func (q *inquest) wrong(format string, args ...any) {
	q.t.Helper()
	if q.found++; q.found <= 30 {
		q.t.Errorf(format, args...)
	}
}

// find checks everything. The daemon has stopped in peace, after everything
// had drained; what broker says is how to reach the streams.
func (q *inquest) find(ctx context.Context, broker daemonOptions) {
	q.t.Helper()
	broker.Data, broker.Held, broker.AllowHTTP, broker.Allow = q.v.dir, true, true, loopback
	broker.NATSListen, broker.Log = "off", slog.New(slog.DiscardHandler)
	d, err := openDaemon(ctx, broker)
	if err != nil {
		q.t.Fatal(err)
	}
	defer d.close()
	q.gather()
	orgs, err := d.Orgs(ctx, "", 100)
	if err != nil {
		q.t.Fatal(err)
	}
	for _, o := range orgs {
		q.check(ctx, d, o.ID)
		q.read(ctx, d, o.ID)
	}
	for p, calls := range q.calls {
		q.requests(p, calls)
	}
	for p, b := range q.booked {
		q.delivery(p, b)
	}
	q.forgotten()
	for i := range q.sent {
		q.promise(&q.sent[i])
	}
	q.logs()
	if q.found > 0 {
		q.t.Logf("%d things are wrong", q.found)
	}
}

// gather sorts the ledger.
func (q *inquest) gather() {
	q.calls, q.booked, q.bodies = map[pair][]call{}, map[pair]booked{}, map[string]string{}
	for _, c := range q.r.calls() {
		p := pair{c.hook.name, c.id}
		q.calls[p] = append(q.calls[p], c)
		if c.wrong != "" {
			q.wrong("%v, attempt %d: %s", p, c.attempt, c.wrong)
		}
		if body, ok := q.bodies[c.id]; ok && body != c.body {
			q.wrong("%s has two bodies:\n%s\n%s", c.id, body, c.body)
		}
		q.bodies[c.id] = c.body
	}
}

// check is the checker of "grapnel fsck", with the receiver's ledger.
func (q *inquest) check(ctx context.Context, d *daemon, org string) {
	books, err := d.store.Audit(ctx, org)
	if err != nil {
		q.t.Fatal(err)
	}
	defer books.Close()
	dec, err := d.decoding(ctx, org)
	if err != nil {
		q.t.Fatal(err)
	}
	rows := map[string]int64{} // by hook
	for _, h := range q.r.hooks {
		if h.org != org {
			continue
		}
		ep, err := d.Endpoint(ctx, org, h.id)
		if err != nil {
			q.wrong("endpoint %s of hook %s was acknowledged: %v", h.id, h.name, err)
		}
		rows[h.name] = ep.Row
	}
	ledger := fanout.Ledger{Seen: map[fanout.Receipt]fanout.Tally{}}
	for p, calls := range q.calls {
		row, ours := rows[p.hook]
		if !ours {
			continue
		}
		id, err := stream.ParseID(p.id)
		if err != nil {
			q.wrong("webhook-id %q: %v", p.id, err)
			continue
		}
		tally := fanout.Tally{Requests: len(calls), Interrupted: len(q.deaths(calls))}
		for _, c := range calls {
			if c.status/100 == 2 {
				tally.Succeeded++
			}
		}
		ledger.Seen[fanout.Receipt{Endpoint: row, ID: id}] = tally
	}
	report, err := fanout.Check(ctx, d.broker, dec, books, &ledger)
	if err != nil {
		q.t.Fatal(err)
	}
	if !report.Compared {
		q.wrong("%s: the books could not be compared with the stream", org)
	}
	for _, p := range report.Problems {
		q.wrong("%s: %s", org, p)
	}
	var bad, certain uint64
	for _, pub := range q.sent {
		if pub.org == org && !pub.event {
			bad++
			if pub.acked {
				certain++
			}
		}
	}
	if report.Rejected < certain || report.Rejected > bad {
		q.wrong("%s: %d messages are rejected, want %d to %d", org, report.Rejected, certain, bad)
	}
	q.t.Logf("%s: %d messages, %d deliveries delivered, %d dead, %d pending, %d attempts, %d duplicates, %d rejected",
		org, report.Messages, report.Delivered, report.Dead, report.Pending, report.Attempts, report.Duplicates, report.Rejected)
}

// read takes the org's deliveries out of the books.
func (q *inquest) read(ctx context.Context, d *daemon, org string) {
	names := map[string]string{} // ep_… to hook
	for _, h := range q.r.hooks {
		names[h.id] = h.name
	}
	var after deliver.Key
	for {
		page, next, err := d.Deliveries(ctx, org, httpapi.DeliveryFilter{}, after, 250)
		if err != nil {
			q.t.Fatal(err)
		}
		for _, one := range page {
			full, attempts, err := d.Delivery(ctx, org, one.Key)
			if err != nil {
				q.t.Fatal(err)
			}
			p := pair{names[full.Endpoint], full.EventID.String()}
			if _, twice := q.booked[p]; twice {
				q.wrong("%v has two deliveries", p)
			}
			q.booked[p] = booked{full, attempts}
		}
		if next == (deliver.Key{}) {
			return
		}
		after = next
	}
}

// requests holds what one receiver saw of one event against the attempts that
// are booked. A request that is not booked is one that was in flight, or not
// yet booked, when the daemon was killed: at most one for each such death, and
// it is made again under its old number.
func (q *inquest) requests(p pair, calls []call) {
	b, ok := q.booked[p]
	if !ok {
		q.wrong("%v: %d requests and no delivery", p, len(calls))
		return
	}
	byNumber := map[int][]call{}
	for _, c := range calls {
		byNumber[c.attempt] = append(byNumber[c.attempt], c)
		if want := b.ID(b.Stored); c.delivery != want {
			q.wrong("%v: request of delivery %s, booked is %s", p, c.delivery, want)
		}
	}
	for number, same := range byNumber {
		if number < 1 || number > len(b.attempts) {
			q.wrong("%v: a request says that it is attempt %d, %d are booked", p, number, len(b.attempts))
			continue
		}
		for i, c := range same[:len(same)-1] {
			if !q.v.lives[c.life-1].crashed() || same[i+1].life == c.life {
				q.wrong("%v: attempt %d was sent in life %d and again in life %d without a crash between", p, number, c.life, same[i+1].life)
			}
		}
		last, a := same[len(same)-1], b.attempts[number-1]
		if a.Status != 0 && a.Status != last.status {
			q.wrong("%v: attempt %d is booked as answered with %d, the receiver answered %d", p, number, a.Status, last.status)
		}
	}
}

// forgotten finds outcomes that were lost long before the crash that could
// excuse it: they are booked in the order in which they come, so a request whose
// successor is booked must be so, too.
func (q *inquest) forgotten() {
	const slack = time.Second   // for a pause at a failpoint, and a machine that is busy
	last := map[int]time.Time{} // by life: the latest answer of a request that is booked
	var lost []call
	for p, calls := range q.calls {
		for i, c := range calls {
			again := slices.ContainsFunc(calls[i+1:], func(d call) bool { return d.attempt == c.attempt })
			switch {
			case again || c.attempt > len(q.booked[p].attempts):
				lost = append(lost, c)
			case c.done.After(last[c.life]):
				last[c.life] = c.done
			}
		}
	}
	for _, c := range lost {
		if age := last[c.life].Sub(c.done); age > slack {
			q.wrong("%s %s: attempt %d was lost in life %d, a request answered %v later is booked", c.hook.name, c.id, c.attempt, c.life, age)
		}
	}
	q.t.Logf("%d requests were repeated after a crash", len(lost))
}

// deaths are the lives with one of these requests that ended in a crash.
func (q *inquest) deaths(calls []call) map[int]bool {
	lives := map[int]bool{}
	for _, c := range calls {
		if q.v.lives[c.life-1].crashed() {
			lives[c.life] = true
		}
	}
	return lives
}

// delivery checks one row of the books.
func (q *inquest) delivery(p pair, b booked) {
	accepted := slices.ContainsFunc(q.calls[p], func(c call) bool { return c.status/100 == 2 })
	counted := 0
	for i, a := range b.attempts {
		if a.Number != i+1 {
			q.wrong("%v: attempt %d has number %d", p, i+1, a.Number)
		}
		if a.Class != deliver.Ours {
			counted++
		}
		if a.Status != 0 && !slices.ContainsFunc(q.calls[p], func(c call) bool { return c.attempt == a.Number }) {
			q.wrong("%v: attempt %d is booked with status %d, the receiver never saw it", p, a.Number, a.Status)
		}
	}
	switch b.State {
	case deliver.Delivered:
		if !accepted {
			q.wrong("%v is delivered, but was never accepted", p)
		}
	case deliver.Dead:
		// Asked for by hand after it was dead, it has a fresh budget.
		asked := slices.ContainsFunc(b.attempts, func(a deliver.Attempt) bool { return a.Trigger == deliver.Manual })
		if h := q.r.hooks[p.hook]; b.Reason == deliver.Exhausted && counted != h.attempts && !(asked && counted > h.attempts) {
			q.wrong("%v is dead after %d attempts that count, want %d", p, counted, h.attempts)
		}
	default:
		q.wrong("%v is %s, everything should have drained", p, b.State)
	}
}

// promise checks that an acknowledged event is booked for everybody who
// subscribed to it.
func (q *inquest) promise(pub *publication) {
	if !pub.acked || !pub.event {
		return
	}
	for _, h := range q.r.hooks {
		if h.org != pub.org || q.fuzzy[h.name] || !h.wants(pub) {
			continue
		}
		id := q.identity(pub)
		b, ok := q.booked[pair{h.name, id}]
		if !ok {
			q.wrong("sequence %d of %s (%s, key %q) was acknowledged, and %s has no delivery of it", pub.seq, pub.org, pub.typ, pub.key, h.name)
			continue
		}
		if b.Seq != pub.seq && !(q.again && b.Seq > pub.seq) {
			q.wrong("%s: acknowledged as sequence %d, booked as %d", id, pub.seq, b.Seq)
		}
	}
	q.body(pub)
}

// identity is the webhook-id that a publication must have. One without a key
// is known by its place only.
func (q *inquest) identity(pub *publication) string {
	if pub.key != "" {
		return stream.KeyID(pub.org, pub.key).String()
	}
	for p, b := range q.booked {
		if b.Org == pub.org && b.Seq == pub.seq {
			return p.id
		}
	}
	return ""
}

// body checks what the receivers got.
func (q *inquest) body(pub *publication) {
	id := q.identity(pub)
	text, ok := q.bodies[id]
	if !ok {
		return
	}
	var got struct {
		ID, Type     string
		Organization string `json:"organization_id"`
		Workspace    string `json:"workspace_id"`
		Key          string `json:"dedupe_key"`
		Data         json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		q.wrong("%s: body: %v", id, err)
		return
	}
	if got.ID != id || got.Type != pub.typ || got.Organization != pub.org || got.Workspace != pub.workspace ||
		got.Key != pub.key || string(got.Data) != pub.data {
		q.wrong("%s: sent %.200s, received %.200s", id, fmt.Sprintf("%+v", *pub), text)
	}
}

// wants is the contract's matching (section 3), written a second time.
func (h *hook) wants(pub *publication) bool {
	if h.workspace != "" && h.workspace != pub.workspace {
		return false
	}
	return slices.ContainsFunc(h.types, func(pattern string) bool {
		prefix, wild := strings.CutSuffix(pattern, "*")
		return pattern == pub.typ || wild && strings.HasPrefix(pub.typ, prefix)
	})
}

// logs must have no secret, and no crash but ours.
func (q *inquest) logs() {
	text := q.v.logs()
	for _, h := range q.r.hooks {
		if _, key, _ := strings.Cut(h.secret, "_"); key != "" && strings.Contains(text, key) {
			q.wrong("the secret of %s is in the log", h.name)
		}
	}
	for _, bad := range []string{"whsec_", "panic", "DATA RACE", "fatal error"} {
		if at := strings.Index(text, bad); at >= 0 {
			q.wrong("%q is in the log: %s", bad, text[max(at-100, 0):min(at+2000, len(text))])
		}
	}
}
