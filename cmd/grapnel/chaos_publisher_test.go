//go:build unix

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// publication is one message that the publisher appended, or tried to.
type publication struct {
	org, typ, workspace string
	key                 string // dedupe key, "" for none
	data                string
	event               bool       // not one of those that are to be rejected
	acked               bool       // without an ack it may be in the stream or not
	seq                 stream.Seq // of the ack
}

// publisher appends events with a real NATS client, through all that happens
// to the broker.
type publisher struct {
	js    jetstream.JetStream
	rnd   *rand.Rand
	every time.Duration
	orgs  []string
	n     int // messages so far

	mu   sync.Mutex
	made []publication
}

// ackWithin is when a message is appended again. An ack that was on its way
// when the broker died never comes.
const ackWithin = 300 * time.Millisecond

// connect never gives up: the daemon's broker dies with it.
func connect(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url,
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond),
		nats.ReconnectJitter(0, 0), nats.ReconnectBufSize(-1), nats.Timeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// publish appends until stop ends, then returns. Each event with a key is
// repeated until it is acknowledged, as long as ctx allows.
func (p *publisher) publish(ctx, stop context.Context) {
	for ; stop.Err() == nil; p.n++ {
		pub := p.next(p.n)
		m := p.message(pub)
		if pub.key == "" {
			p.try(ctx, &pub, m) // once: repeated, it would be another event
		} else {
			for !p.try(ctx, &pub, m) && ctx.Err() == nil {
				elapse(ctx, 20*time.Millisecond)
			}
		}
		p.note(pub)
		if pub.acked && pub.event && pub.key != "" && p.rnd.IntN(10) == 0 {
			p.again(ctx, pub)
		}
		elapse(stop, p.every)
	}
}

// next makes a message: most are events with a key, some events without one,
// some no events.
func (p *publisher) next(n int) publication {
	types := []string{"invoice.paid", "invoice.voided", "invoice.line.added", "user.created", "crm.deal_won"}
	workspaces := []string{"", "", "berlin", "oslo"}
	pub := publication{
		org: p.orgs[p.rnd.IntN(len(p.orgs))], typ: types[p.rnd.IntN(len(types))],
		workspace: workspaces[p.rnd.IntN(len(workspaces))],
		event:     true,
		data:      fmt.Sprintf(`{"n":%d,"pad":%q}`, n, strings.Repeat("x", p.rnd.IntN(2000))),
	}
	switch draw := p.rnd.IntN(20); {
	case draw == 0:
		pub.event = false
		pub.data = fmt.Sprintf("%d is no JSON {", n)
		pub.key = fmt.Sprintf("bad-%d", n)
	case draw > 1:
		pub.key = fmt.Sprintf("key-%d", n)
	}
	return pub
}

func (p *publisher) message(pub publication) *nats.Msg {
	m := nats.NewMsg("events." + pub.org + "." + pub.typ)
	m.Data = []byte(pub.data)
	if pub.key != "" {
		m.Header.Set(jetstream.MsgIDHeader, pub.key)
	}
	if pub.workspace != "" {
		m.Header.Set("Grapnel-Workspace", pub.workspace)
	}
	return m
}

// again appends an event a second time: with the same message id, or past the
// stream's own notice, which is then for the books to see.
func (p *publisher) again(ctx context.Context, pub publication) {
	m := p.message(pub)
	if p.rnd.IntN(2) == 0 {
		m.Header.Del(jetstream.MsgIDHeader)
		m.Header.Set("ce-specversion", "1.0")
		m.Header.Set("ce-id", pub.key)
		m.Header.Set("ce-source", "chaos")
		m.Header.Set("ce-type", pub.typ)
	}
	p.try(ctx, &publication{}, m)
}

// try appends once, and reports whether that was acknowledged.
func (p *publisher) try(ctx context.Context, pub *publication, m *nats.Msg) bool {
	ctx, cancel := context.WithTimeout(ctx, ackWithin)
	defer cancel()
	ack, err := p.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0))
	if err != nil {
		return false
	}
	pub.acked, pub.seq = true, stream.Seq(ack.Sequence)
	return true
}

func (p *publisher) note(pub publication) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made = append(p.made, pub)
}

// publications is all that was appended so far.
func (p *publisher) publications() []publication {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]publication{}, p.made...)
}

// newest is the highest sequence of the org that was acknowledged.
func (p *publisher) newest(org string) (seq stream.Seq) {
	for _, pub := range p.publications() {
		if pub.org == org {
			seq = max(seq, pub.seq)
		}
	}
	return seq
}

// acked counts what the stream has for certain.
func (p *publisher) acked() (n int) {
	if p == nil {
		return 0
	}
	for _, pub := range p.publications() {
		if pub.acked {
			n++
		}
	}
	return n
}
