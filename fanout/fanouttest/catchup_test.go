package fanouttest

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// noLanes takes nothing: all waits in the books.
type noLanes struct{}

func (noLanes) Offer([]deliver.Ticket)                       {}
func (noLanes) Wait(context.Context, []int64, time.Duration) {}
func (noLanes) Recheck(int64)                                {}

// A stream that loses its oldest messages is watched also for an endpoint that has
// no room: there is one warning, and what is lost is recorded, at most once an hour.
func TestCatchupLoopWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSuite(t, func(t *testing.T) (Store, func() Store) {
			b := NewDisk().Open()
			return b, func() Store { return b }
		})
		var log bytes.Buffer
		room := int64(0)
		loop := fanout.NewCatchupLoop(fanout.CatchupOptions{
			Books: s.Store, Log: s.log, Lanes: noLanes{}, Below: func(int64) int64 { return room },
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		for range 100 {
			s.append("a")
		}
		s.walk()
		ep := s.from(20, "*")
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- loop.Run(ctx) }()
		after := func(d time.Duration, purge stream.Seq) fanout.Catchup {
			t.Helper()
			s.log.PurgeTo(acmeStream, purge)
			time.Sleep(d)
			synctest.Wait()
			return s.mustBehind(ep)
		}
		if c := after(time.Minute, 1); c.AtRisk || c.First != 1 || c.Seq != 20 {
			t.Errorf("in peace: %+v", c)
		}
		if c := after(time.Minute, 5); c.AtRisk {
			t.Errorf("far away: %+v", c)
		}
		for range 3 {
			if c := after(time.Minute, 15); !c.AtRisk || c.Lost != 0 || c.Seq != 20 {
				t.Errorf("near: %+v", c)
			}
		}
		if c := after(time.Minute, 31); !c.AtRisk || c.Lost != 10 || c.Seq != 30 {
			t.Errorf("too late: %+v", c)
		}
		if c := after(time.Minute, 41); c.Lost != 10 {
			t.Errorf("a minute later: %+v", c)
		}
		if c := after(time.Hour, 51); c.Lost != 30 || c.Seq != 50 {
			t.Errorf("an hour later: %+v", c)
		}
		if n := strings.Count(log.String(), "about to lose"); n != 1 {
			t.Errorf("%d warnings, want one:\n%s", n, &log)
		}
		room = 1000
		s.log.PurgeTo(acmeStream, 61)
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, ok := s.behind(ep); ok {
			t.Error("it is still behind")
		}
		seqs := s.got(ep)
		if len(seqs) != 40 || seqs[0] != 61 {
			t.Errorf("it got %d, from %d on; want 40 from 61 on", len(seqs), seqs[0])
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// slowBooks have endpoints that are behind for ever, and steps that take a while.
type slowBooks struct {
	Store
	behind []fanout.Catchup
	steps  map[int64]int // by endpoint
}

func (b *slowBooks) Catchups(context.Context) ([]fanout.Catchup, error) { return b.behind, nil }
func (b *slowBooks) PendingOf(int64) int64                              { return 0 }
func (b *slowBooks) Furthest(ctx context.Context, _ string) (cursor.Position, error) {
	return b.Store.Furthest(ctx, "acme")
}

func (b *slowBooks) CatchUp(_ context.Context, c fanout.Catchup, _ int, _ fanout.CatchupRead) (fanout.CaughtUp, error) {
	time.Sleep(30 * time.Millisecond)
	b.steps[c.Endpoint]++
	return fanout.CaughtUp{Catchup: c}, nil
}

// However many endpoints of an organization are behind, that of another one gets its
// turns, and they get theirs one after the other.
func TestCatchupLoopIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSuite(t, func(t *testing.T) (Store, func() Store) {
			b := NewDisk().Open()
			return b, func() Store { return b }
		})
		b := &slowBooks{Store: s.Store, steps: map[int64]int{}}
		const many = 200
		for row := range int64(many) {
			b.behind = append(b.behind, fanout.Catchup{Org: "many", Endpoint: row + 1, Enabled: true})
		}
		b.behind = append(b.behind, fanout.Catchup{Org: "one", Endpoint: 1000, Enabled: true})
		loop := fanout.NewCatchupLoop(fanout.CatchupOptions{Books: b, Log: s.log, Lanes: noLanes{}, Below: func(int64) int64 { return 10 }})
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if err := loop.Run(ctx); err != nil {
			t.Fatal(err)
		}
		least, all := b.steps[1], 0
		for row := range int64(many) {
			least = min(least, b.steps[row+1])
			all += b.steps[row+1]
		}
		if one := b.steps[1000]; one < all/2 || least == 0 {
			t.Errorf("%d steps of one organization, %d of another, at least %d for each endpoint of that", one, all, least)
		}
	})
}
