package stream_test

import (
	"fmt"
	"testing"

	"github.com/grapnel-hooks/grapnel/stream"
)

// Each event that is stored wakes, whoever stores it and by whatever subject; a
// duplicate does not.
func TestWake(t *testing.T) {
	b := newBroker(t)
	_, js := b.raw(t)
	wakes := make(chan stream.Wake, 1024)
	if err := b.OnWake(func(w stream.Wake) { wakes <- w }); err != nil {
		t.Fatal(err)
	}
	b.create(t, "acme")
	b.create(t, "other", "webhook.>")

	next := func(org string, seq stream.Seq) {
		t.Helper()
		w := within(t, "wake-up", wakes)
		if w.Org != org || w.Seq != seq || w.Time.IsZero() {
			t.Fatalf("wake-up %+v, want %s %d", w, org, seq)
		}
		msgs, _, err := b.Read(t.Context(), (stream.Names{}).Stream(org), seq, 1)
		if err != nil || len(msgs) != 1 || !msgs[0].Time.Equal(w.Time) {
			t.Fatalf("woken for %+v, but read %v, %v", w, msgs, err)
		}
	}
	b.append(t, "acme", event("a.deep.type"))
	next("acme", 1)
	b.append(t, "acme", stream.Append{Type: "x", Data: []byte("1"), DedupeKey: "k"})
	next("acme", 2)
	if ack := b.append(t, "acme", stream.Append{Type: "x", Data: []byte("1"), DedupeKey: "k"}); !ack.Duplicate {
		t.Fatalf("ack %+v", ack)
	}
	if _, err := js.Publish(t.Context(), "webhook.invoice.paid", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	next("other", 1) // and none before it for the duplicate
	b.publishRaw(t, "events.acme.x", "NATS/1.0\r\nNats-Sequence: 999\r\n\r\n", "{}")
	next("acme", 3)
	batch := make([]stream.Append, 100)
	for i := range batch {
		batch[i] = stream.Append{Type: "x", Data: fmt.Append(nil, i)}
	}
	if _, err := b.AppendBatch(t.Context(), "acme", batch); err != nil {
		t.Fatal(err)
	}
	for i := range batch {
		next("acme", stream.Seq(4+i))
	}
}

// A callback that is too slow loses wake-ups, and is told to look at everything.
func TestWakeTooMany(t *testing.T) {
	b := newBroker(t)
	b.create(t, "acme")
	states := make(chan bool, 1024)
	b.OnState(func(up bool) { states <- up })
	within(t, "state", states)
	blocked, release := make(chan struct{}, 1), make(chan struct{})
	if err := b.OnWake(func(stream.Wake) {
		select {
		case blocked <- struct{}{}:
		default:
		}
		<-release
	}); err != nil {
		t.Fatal(err)
	}
	defer close(release)
	nc, _ := b.raw(t)
	for range 1<<16 + 1000 {
		if err := nc.Publish("wake.acme.x", nil); err != nil {
			t.Fatal(err)
		}
	}
	within(t, "wake-up", blocked)
	if !within(t, "the call to look at everything", states) {
		t.Error("the broker is away")
	}
	// Everything else goes on.
	b.append(t, "acme", event("x"))
	if n := len(all(t, b.Client, "EVENTS_acme")); n != 1 {
		t.Errorf("read %d", n)
	}
}

func TestOnStream(t *testing.T) {
	b := newBroker(t)
	_, js := b.raw(t)
	type change struct {
		org     string
		created bool
	}
	changes := make(chan change, 16)
	if err := b.OnStream(func(org string, created bool) { changes <- change{org, created} }); err != nil {
		t.Fatal(err)
	}
	plain(t, js, "EVENTS_acme")
	if got := within(t, "creation", changes); got != (change{"acme", true}) {
		t.Errorf("%+v", got)
	}
	if err := js.DeleteStream(t.Context(), "EVENTS_acme"); err != nil {
		t.Fatal(err)
	}
	if got := within(t, "deletion", changes); got != (change{"acme", false}) {
		t.Errorf("%+v", got)
	}
}
