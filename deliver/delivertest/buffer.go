package delivertest

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// room is how many bytes wait in a buffered connection, in each direction.
const room = 64 << 10

// buffered is one end of a pipe that takes bytes before they are read, as a socket
// does: protocols in which both sides begin to speak need that.
type buffered struct {
	net.Conn
	peer *buffered
	gone atomic.Bool // closed

	mu      sync.Mutex
	changed *sync.Cond
	waiting []byte
	closed  bool
	err     error // of the pipe
}

// bufferedPipe is net.Pipe with room at both ends.
func bufferedPipe() (net.Conn, net.Conn) {
	var ends [2]*buffered
	for i, c := range pair(net.Pipe()) {
		ends[i] = &buffered{Conn: c}
		ends[i].changed = sync.NewCond(&ends[i].mu)
	}
	ends[0].peer, ends[1].peer = ends[1], ends[0]
	go ends[0].carry()
	go ends[1].carry()
	return ends[0], ends[1]
}

func pair(a, b net.Conn) [2]net.Conn { return [2]net.Conn{a, b} }

// Write implements net.Conn.
func (b *buffered) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.waiting) > room && !b.closed && b.err == nil {
		b.changed.Wait()
	}
	switch {
	case b.closed:
		return 0, net.ErrClosed
	case b.err != nil:
		return 0, b.err
	}
	b.waiting = append(b.waiting, p...)
	b.changed.Broadcast()
	return len(p), nil
}

// Close implements net.Conn. What was written before is still read, if somebody
// does so within a second.
func (b *buffered) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		b.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		b.Conn.SetReadDeadline(time.Unix(1, 0)) // nobody waits for more
		b.changed.Broadcast()
	}
	if b.gone.Store(true); b.peer.gone.Load() { // nobody reads any more
		b.Conn.Close()
		b.peer.Conn.Close()
	}
	return nil
}

// carry brings what was written to the pipe.
func (b *buffered) carry() {
	defer b.Conn.Close()
	for {
		b.mu.Lock()
		for len(b.waiting) == 0 && !b.closed {
			b.changed.Wait()
		}
		chunk := b.waiting
		b.waiting = nil
		b.changed.Broadcast()
		b.mu.Unlock()
		if len(chunk) == 0 {
			return
		}
		if _, err := b.Conn.Write(chunk); err != nil {
			b.mu.Lock()
			b.err = err
			b.changed.Broadcast()
			b.mu.Unlock()
			return
		}
	}
}

// SetDeadline implements net.Conn, for reads.
func (b *buffered) SetDeadline(t time.Time) error { return b.Conn.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn. Writes wait for room only, until the end is
// closed.
func (b *buffered) SetWriteDeadline(time.Time) error { return nil }
