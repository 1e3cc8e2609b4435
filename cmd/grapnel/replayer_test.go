package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnel-hooks/grapnel/sqlite"
)

// pretendReplays are books in which the nth replay has so many deliveries left.
type pretendReplays struct {
	left  map[string]int
	rates map[string]int
	errs  []error // of the next steps
	began time.Time
	steps map[string][]int // how many each step made
	at    map[string][]time.Duration
}

func newPretendReplays() *pretendReplays {
	return &pretendReplays{left: map[string]int{}, rates: map[string]int{}, steps: map[string][]int{}, at: map[string][]time.Duration{}, began: time.Now()}
}

func (p *pretendReplays) RunningReplays(context.Context) ([]sqlite.Replay, error) {
	var list []sqlite.Replay
	for id, left := range p.left {
		if left > 0 {
			list = append(list, sqlite.Replay{ID: id, Rate: p.rates[id]})
		}
	}
	return list, nil
}

func (p *pretendReplays) StepReplay(_ context.Context, r sqlite.Replay, n int) (sqlite.Replay, error) {
	if len(p.errs) > 0 {
		err := p.errs[0]
		p.errs = p.errs[1:]
		return r, err
	}
	made := min(n, p.left[r.ID])
	p.left[r.ID] -= made
	p.steps[r.ID] = append(p.steps[r.ID], made)
	p.at[r.ID] = append(p.at[r.ID], time.Since(p.began))
	if r.Replayed += int64(made); p.left[r.ID] == 0 {
		r.State = sqlite.ReplayDone
	}
	return r, nil
}

// carried runs a replayer for so long.
func carried(t *testing.T, books *pretendReplays, room func() int, during time.Duration) (told int) {
	t.Helper()
	p := &replayer{
		running: books.RunningReplays, step: books.StepReplay, log: slog.New(slog.DiscardHandler), wake: make(chan struct{}, 1), next: map[string]time.Time{}, counts: map[string]sqlite.Ahead{}, count: countNothing,
		room: func(context.Context, sqlite.Replay) (int, string) { return room(), "" },
		made: func(int64) { told++ },
	}
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	if err := p.Run(ctx); err != nil {
		t.Error(err)
	}
	return told
}

func countNothing(_ context.Context, _ sqlite.Replay, a sqlite.Ahead) (sqlite.Ahead, error) {
	return a, nil
}

func lots() int { return replayPending }

func sum(list []int) (n int) {
	for _, v := range list {
		n += v
	}
	return n
}

func TestReplaysKeepTheirRate(t *testing.T) {
	for _, rate := range []int{1, 3, 7, 100, 999, 1000} {
		synctest.Test(t, func(t *testing.T) {
			books := newPretendReplays()
			books.left["a"], books.rates["a"] = 1_000_000, rate
			books.left["b"], books.rates["b"] = 5, 1000
			const during = 20 * time.Second
			told := carried(t, books, lots, during)
			steps := books.steps["a"]
			if got, want := sum(steps), rate*int(during/time.Second); got < want*95/100 || got > want+1+rate/5 {
				t.Errorf("rate %d: %d in 20 s", rate, got)
			}
			if slices.Max(steps) > 1+rate/5 {
				t.Errorf("rate %d: a step of %d", rate, slices.Max(steps))
			}
			if told != len(steps)+1 || sum(books.steps["b"]) != 5 {
				t.Errorf("lanes were told %d times of %d steps; the other replay made %v", told, len(steps), books.steps["b"])
			}
		})
	}
}

// No step is larger than what the endpoint has room for; without room there is
// none.
func TestReplaysWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		books := newPretendReplays()
		books.left["a"], books.rates["a"] = 1_000_000, 1000
		rooms := []int{0, 0, 7, 0, 1}
		carried(t, books, func() int {
			if len(rooms) == 0 {
				return 0
			}
			n := rooms[0]
			rooms = rooms[1:]
			return n
		}, 10*time.Second)
		if want := []int{7, 1}; !slices.Equal(books.steps["a"], want) {
			t.Errorf("steps %v, want %v", books.steps["a"], want)
		}
	})
}

func TestReplaysGoOnAfterErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		books := newPretendReplays()
		books.left["a"], books.rates["a"] = 10, 100
		books.errs = []error{errors.New("the disk is full"), errors.New("the disk is full")}
		carried(t, books, lots, time.Minute)
		if at := books.at["a"]; len(at) == 0 || at[0] < 2*replayBackoff || at[0] > 2*replayBackoff+time.Second || sum(books.steps["a"]) != 10 {
			t.Errorf("steps of %v at %v", books.steps["a"], at)
		}
	})
}

// A replayer without replays sleeps until it is told that there is one.
func TestReplayerSleeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		books := newPretendReplays()
		looked := 0
		p := &replayer{
			running: counted{books, &looked}.RunningReplays, step: books.StepReplay, log: slog.New(slog.DiscardHandler), wake: make(chan struct{}, 1), next: map[string]time.Time{}, counts: map[string]sqlite.Ahead{}, count: countNothing,
			room: func(context.Context, sqlite.Replay) (int, string) { return lots(), "" },
			made: func(int64) {},
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.Run(ctx) }()
		time.Sleep(time.Hour) // of the bubble
		synctest.Wait()
		if looked != 1 {
			t.Errorf("looked %d times", looked)
		}
		books.left["a"], books.rates["a"] = 1, 100
		p.again()
		synctest.Wait()
		if sum(books.steps["a"]) != 1 {
			t.Error("the replay was not carried on")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

type counted struct {
	*pretendReplays
	n *int
}

func (c counted) RunningReplays(ctx context.Context) ([]sqlite.Replay, error) {
	*c.n++
	return c.pretendReplays.RunningReplays(ctx)
}
