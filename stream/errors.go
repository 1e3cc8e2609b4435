package stream

import "errors"

var (
	// ErrNoStream: the stream does not exist on the broker.
	ErrNoStream = errors.New("stream does not exist")
	// ErrUnavailable: the broker does not answer; the same call may succeed later.
	ErrUnavailable = errors.New("broker does not answer")
	// ErrConflict: a subject that the stream should bind belongs to another.
	ErrConflict = errors.New("subject is taken")
)
