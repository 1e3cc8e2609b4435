package logging

import (
	"bytes"
	"io"
	"regexp"
	"sync"
)

// Bounds of what is kept of a log.
const (
	KeptLines   = 1000
	maxKeptLine = 8 << 10 // bytes; of a longer line the beginning is kept
)

// Recent is a writer of a log that keeps its last [KeptLines] lines, as they were
// written: nothing is in it that is not in the log.
type Recent struct {
	to io.Writer

	mu    sync.Mutex
	lines [][]byte // a ring, next is the oldest once it is full
	next  int
}

// NewRecent writes to w what is written to it.
func NewRecent(w io.Writer) *Recent { return &Recent{to: w} }

// Write implements io.Writer: p is one line, as slog's handlers write.
func (r *Recent) Write(p []byte) (int, error) {
	r.keep(p)
	return r.to.Write(p)
}

func (r *Recent) keep(p []byte) {
	end := []byte("\n")
	if len(p) > maxKeptLine {
		p, end = p[:maxKeptLine], []byte("…\n")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) < KeptLines {
		r.lines = append(r.lines, nil)
		r.next = len(r.lines) - 1
	}
	// The room of the line that goes is used again.
	r.lines[r.next] = append(append(r.lines[r.next][:0], bytes.TrimSuffix(p, []byte("\n"))...), end...)
	r.next = (r.next + 1) % KeptLines
}

// colours are what a terminal takes for colours (ECMA-48, SGR).
var colours = regexp.MustCompile("\x1b\\[[0-9;]*m")

// Lines are the lines that are kept, the oldest first, without colours. Of a nil
// Recent there are none.
func (r *Recent) Lines() []byte {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []byte
	first := r.next
	if len(r.lines) < KeptLines {
		first = 0
	}
	for i := range r.lines {
		all = append(all, r.lines[(first+i)%len(r.lines)]...)
	}
	return colours.ReplaceAll(all, nil)
}
