package fanouttest

import (
	"context"
	"fmt"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// ReplayState is how a replay stands.
type ReplayState int

const (
	ReplayRunning ReplayState = iota
	ReplayPaused
	ReplayDone
	ReplayCancelled
)

// replay sends again what is dead of one endpoint, as a job: what a step makes
// pending and how far the replay has come are committed together.
type replay struct {
	endpoint    int64
	state       ReplayState
	place, last int64 // events looked at, and to be looked at
}

// StartReplay makes a replay of what is dead of an endpoint now, and returns its
// number, from 0. What is fanned out later is not part of it.
func (b *Books) StartReplay(ctx context.Context, endpoint int64) (int, error) {
	if err := b.begin(callAdmin, "replay endpoint %d", endpoint); err != nil {
		return 0, err
	}
	defer b.end()
	b.disk.replays = append(b.disk.replays, &replay{endpoint: endpoint, last: int64(len(b.disk.events))})
	return len(b.disk.replays) - 1, nil
}

// SetReplay pauses a replay, lets it go on, or cancels it; a finished one stays
// as it is.
func (b *Books) SetReplay(ctx context.Context, number int, to ReplayState) error {
	if err := b.begin(callAdmin, "set replay %d", number); err != nil {
		return err
	}
	defer b.end()
	if r := b.disk.replays[number]; r.state < ReplayDone {
		r.state = to
	}
	return nil
}

// StepReplay makes up to n deliveries pending and moves the replay's place, in one
// transaction. It returns the state then; a replay that does not run stays as it
// is.
func (b *Books) StepReplay(ctx context.Context, number, n int) (ReplayState, error) {
	if err := b.begin(CallCommit, "step of replay %d", number); err != nil {
		return 0, err
	}
	defer b.end()
	r := b.disk.replays[number]
	fault := b.fault(CallCommit)
	if r.state != ReplayRunning {
		return r.state, nil
	}
	if fault == NotApplied {
		return r.state, fmt.Errorf("step of replay %d: %w", number, ErrInjected)
	}
	place, most := r.place, n
	for ; place < r.last && n > 0; place++ {
		if d := b.disk.events[place].find(r.endpoint); d != nil && d.state == deliver.Dead {
			b.again(d, deliver.Replay)
			b.disk.replayed(number, d.Key)
			n--
		}
	}
	if !b.Broken.RowsOnly || n == most {
		r.place = place
	}
	if r.place == r.last || b.disk.endpoint(r.endpoint).removed {
		r.state = ReplayDone
	}
	if fault == Unreported {
		return r.state, fmt.Errorf("step of replay %d: %w", number, ErrInjected)
	}
	return r.state, nil
}

// replayed tells who watches what a replay has made pending, while the books are
// locked.
func (d *Disk) replayed(number int, k deliver.Key) {
	if d.onReplayed != nil {
		d.onReplayed(number, k)
	}
}
