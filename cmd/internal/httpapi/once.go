package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/danielgtaylor/huma/v2"
)

// Once is a request with an Idempotency-Key, as the Service sees it.
type Once struct {
	Org     string // in which the key counts; "": the installation
	Key     string
	Request [sha256.Size]byte // of method, path and body
	// Answer is the body of the answer to the request, made of what the method
	// of the Service returns.
	Answer func(made any) ([]byte, error)
}

// Answered is what a request with an Idempotency-Key was answered.
type Answered struct {
	Request [sha256.Size]byte
	Body    []byte // nil: it was begun, and perhaps it took effect
}

// ErrAnswered is what a Service answers with when a request of the same
// Idempotency-Key has taken effect already: Recall has its answer.
var ErrAnswered = errors.New("answered already")

// Memory is the part of a Service that answers a repeated request as the
// first time. Each method that makes something, called with a context that has a
// [Once], stores its answer together with its effect.
type Memory interface {
	// Recall finds the answer to the request with that key in the org ("": of
	// the installation), within a day.
	Recall(ctx context.Context, org, key string) (a Answered, found bool, err error)
}

type onceKey struct{}

// OnceOf is the Once of the request of that context, nil if it has no
// Idempotency-Key.
func OnceOf(ctx context.Context) *Once {
	o, _ := ctx.Value(onceKey{}).(*Once)
	return o
}

// created is the answer to a request that makes something.
type created[T any] struct {
	Replayed string `header:"Idempotent-Replayed" doc:"true: this is the answer of the first request with this Idempotency-Key"`
	ETag     string `header:"ETag"`
	Body     T
}

// revised is a body that knows the ETag of what it shows.
type revised interface{ etag() string }

// handleNew adds an operation that makes something: once for each
// Idempotency-Key. do makes it, shape is the body of the answer.
func handleNew[I, T, B any](a *api, r route, do func(context.Context, *I) (T, error), shape func(T) B) {
	r.creates = true
	handle(a, r, func(ctx context.Context, in *I) (*created[B], error) {
		return makeOnce(ctx, a, func(ctx context.Context) (T, error) { return do(ctx, in) }, shape)
	})
}

// makeOnce calls do and answers with the shape of what it made; or, when a request
// with the same Idempotency-Key came before, as that one was answered.
func makeOnce[T, B any](ctx context.Context, a *api, do func(context.Context) (T, error), shape func(T) B) (*created[B], error) {
	if once := OnceOf(ctx); once != nil {
		if again, err := recall[B](ctx, a, once); again != nil || err != nil {
			return again, err
		}
		with := *once
		with.Answer = func(made any) ([]byte, error) {
			m, ok := made.(T)
			if !ok {
				return nil, fmt.Errorf("made a %T in place of a %T", made, m)
			}
			return json.Marshal(shape(m))
		}
		ctx = context.WithValue(ctx, onceKey{}, &with)
	}
	made, err := do(ctx)
	if errors.Is(err, ErrAnswered) { // by another request at the same moment
		if again, err := recall[B](ctx, a, OnceOf(ctx)); again != nil || err != nil {
			return again, err
		}
	}
	if err != nil {
		return nil, err
	}
	return answerWith(shape(made), ""), nil
}

func answerWith[B any](body B, replayed string) *created[B] {
	out := &created[B]{Replayed: replayed, Body: body}
	if r, ok := any(body).(revised); ok {
		out.ETag = r.etag()
	}
	return out
}

// recall is the answer to an earlier request with the key, nil if there is
// none. Another request with the same key is refused.
func recall[B any](ctx context.Context, a *api, once *Once) (*created[B], error) {
	was, found, err := a.svc.Recall(ctx, once.Org, once.Key)
	switch {
	case err != nil || !found:
		return nil, err
	case was.Request != once.Request:
		return nil, badOnce("was used for another request: take a new key")
	case was.Body == nil:
		return nil, nil
	}
	var body B
	if err := json.Unmarshal(was.Body, &body); err != nil {
		return nil, fmt.Errorf("answer of an earlier request: %w", err)
	}
	return answerWith(body, "true"), nil
}

// describeOnce adds the header to an operation's description.
func describeOnce(op *huma.Operation) {
	most := maxOnceKey
	op.Parameters = append(op.Parameters, &huma.Param{
		Name: "Idempotency-Key", In: "header", Schema: &huma.Schema{Type: huma.TypeString, MaxLength: &most},
		Description: "Makes the request take effect once: for a day, a repeated request gets the first one's answer",
	})
}
