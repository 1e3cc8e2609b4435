package streamtest

import (
	"context"
	"testing"

	"github.com/grapnel-hooks/grapnel/stream"
)

// Reader is what a cursor reads: the same methods as cursor.Log.
type Reader interface {
	State(ctx context.Context, name string) (stream.State, error)
	Read(ctx context.Context, name string, from stream.Seq, max int) ([]stream.Message, stream.Seq, error)
}

// Fixture is a broker under test and what publishers and operators do to it.
// The functions fail the test themselves when they cannot do it.
type Fixture struct {
	Log Reader

	Create        func(t testing.TB, name string)                                                  // a stream, named as [stream.Names] says
	Delete        func(t testing.TB, name string)                                                  // the stream with all it holds
	Append        func(t testing.TB, subject string, header stream.Header, data []byte) stream.Seq // acknowledged
	DeleteMessage func(t testing.TB, name string, seq stream.Seq)                                  // leaves a hole
	PurgeTo       func(t testing.TB, name string, seq stream.Seq)                                  // removes all messages before seq
}

// TestLog is the suite that every implementation of cursor.Log passes. Each
// call of open gives an empty broker of its own.
func TestLog(t *testing.T, open func(t *testing.T) Fixture) {}
