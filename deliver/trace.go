package deliver

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// stage is how far the dial of an exchange has come, for the words about a
// deadline that passes meanwhile, and to tell whose fault that is.
type stage = atomic.Int32

const (
	stageDial   int32 = iota // resolving, connecting, shaking hands
	stageProxy               // reaching the egress proxy
	stageToken               // waiting for a token
	stageAnswer              // there is a connection
)

// stageKey is where the stage stands in the context of a dial.
type stageKey struct{}

// enter notes the stage of a dial. Its exchange may be over, and used by another
// attempt already: nothing more than the words about a timeout depends on it.
func enter(ctx context.Context, to int32) {
	if s, ok := ctx.Value(stageKey{}).(*stage); ok {
		s.Store(to)
	}
}

// trace is what an exchange hears from net/http about its connection.
type trace struct {
	stage stage
	idle  atomic.Bool // the connection was put back

	// Of the goroutine that sends:
	conn   *conn
	reused bool
	began  time.Time // when there was a connection

	firstByte atomic.Int64 // ns after began
}

// context adds the hooks to ctx.
func (t *trace) context(ctx context.Context) context.Context {
	ctx = context.WithValue(ctx, stageKey{}, &t.stage)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              t.gotConn,
		GotFirstResponseByte: t.gotFirstByte,
		PutIdleConn: func(err error) { // never called for HTTP/2
			if err == nil {
				t.idle.Store(true)
			}
		},
	})
}

// reset makes it ready for the next request.
func (t *trace) reset() {
	t.stage.Store(stageDial)
	t.idle.Store(false)
	t.conn, t.reused = nil, false
	t.firstByte.Store(0)
}

func (t *trace) gotConn(info httptrace.GotConnInfo) {
	t.began = time.Now()
	t.reused = info.Reused
	t.stage.Store(stageAnswer)
	c := info.Conn
	if over, ok := c.(*tls.Conn); ok {
		c = over.NetConn()
	}
	if t.conn, _ = c.(*conn); t.conn != nil {
		t.conn.allow()
	}
}

func (t *trace) gotFirstByte() { t.firstByte.Store(int64(time.Since(t.began))) }

// report writes what it heard into an outcome. err is why there was no answer.
func (t *trace) report(o *Outcome, err error) {
	if c := t.conn; c != nil {
		if o.Address = c.address; !t.reused {
			o.Timings = c.took
		}
	} else if err != nil {
		dialed(o, err)
	}
	o.Timings.Reused = t.reused
	o.Timings.FirstByte = time.Duration(t.firstByte.Load())
}

// dialed writes what is known of a connection that did not come about.
func dialed(o *Outcome, err error) {
	var d *dialError
	if errors.As(err, &d) {
		o.Address, o.Timings = d.address, d.took
	}
}

// conn is a connection to a receiver, and what it took to make it.
type conn struct {
	net.Conn
	address string // of the receiver; "" behind an egress proxy
	took    Timings

	// limited connections speak HTTP/2, where a receiver can send as much as it
	// likes beside the answers. left is how many bytes it may still send.
	limited bool
	left    atomic.Int64
}

// Allowances of a connection that speaks HTTP/2, in bytes: for its beginning, and
// for the headers, body and frames of each answer, which may be saved up.
const (
	allowAtFirst = 64 << 10
	allowEach    = maxResponseHeader + streamWindow + 16<<10
	allowSaved   = MaxConcurrency * allowEach
)

var errFlood = errors.New("the receiver sends more than its answers")

// limit bounds what may be read. It is called before the connection is used.
func (c *conn) limit() {
	c.limited = true
	c.left.Store(allowAtFirst)
}

// allow lets one more answer come.
func (c *conn) allow() {
	if c.limited && c.left.Add(allowEach) > allowSaved {
		c.left.Store(allowSaved)
	}
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.limited && c.left.Add(int64(-n)) < 0 {
		return 0, errFlood
	}
	return n, err
}
