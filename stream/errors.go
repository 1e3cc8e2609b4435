package stream

import "errors"

var (
	// ErrNoStream: the stream does not exist on the broker.
	ErrNoStream = errors.New("stream does not exist")
	// ErrUnavailable: the broker does not answer; the same call may succeed later.
	ErrUnavailable = errors.New("broker does not answer")
	// ErrConflict: a subject that the stream should bind belongs to another.
	// ErrDenied: the stream does not allow that messages are taken out.
	ErrDenied   = errors.New("the stream denies deletes")
	ErrConflict = errors.New("subject is taken")
)
