package sqlite

import "context"

// Caller is on whose behalf the store changes something. What is written for its
// sake has an audit entry that names it, in the same transaction.
type Caller struct {
	Actor   string // tok_…, or operator
	Address string // where the request came from, "" if from this machine's socket
	Request string // the request's id
	Once    *Once  // nil: no Idempotency-Key was given
}

// itself is the actor of what the daemon does without being asked.
const itself = "grapnel"

type callerKey struct{}

// WithCaller is ctx for the operations that c asks for.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

func callerOf(ctx context.Context) Caller {
	c, ok := ctx.Value(callerKey{}).(Caller)
	if !ok {
		c.Actor = itself
	}
	return c
}
