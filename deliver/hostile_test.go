package deliver_test

import (
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
)

// maxAlloc is what one attempt at a hostile receiver may allocate in all, the
// receiver's own share included; maxAllocHTTP2 is the same by HTTP/2, where a flood of
// frames costs more than its bytes, however soon they are dropped.
const (
	maxAlloc      = 1 << 20
	maxAllocHTTP2 = 8 << 20
)

// Each hostile receiver on a network in memory, under virtual time.
func TestHostileReceivers(t *testing.T) {
	for i, h := range delivertest.Hostiles(t, delivertest.NewAuthority(t)) {
		t.Run(h.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := delivertest.NewAuthority(t) // its certificates are valid in the bubble's year
				h := delivertest.Hostiles(t, ca)[i]
				n := delivertest.NewNetwork()
				if h.HTTP2 {
					n.Buffer()
				}
				n.Name(delivertest.HostileHost, "93.184.215.14")
				ln := n.Listen("93.184.215.14:443")
				defer ln.Close()
				go serve(ln, h)
				options := inMemory(n)
				options.RootCAs = ca.Pool()
				limit := 10 * time.Second // the attempt's deadline
				switch h.Class {
				case deliver.OK:
					limit = 2 * time.Second // for the body
				case deliver.TLS:
					limit = 5 * time.Second // for the handshake
				}
				s, to := attack(t, h, options, delivertest.HostileHost+":443", limit)
				synctest.Wait() // until what came beside the answer was noticed
				again := send(t, s, to, 2)
				if slowly := h.HTTP2 && h.Slow; !slowly && (again.Class != h.Class || again.Status != h.Status) {
					t.Errorf("the second time %+v", again)
				}
				if fault := h.Fault || h.Truncated || h.Status == 0; fault && again.Timings.Reused && !h.HTTP2 {
					t.Error("the connection is used again")
				}
				s.Close()
				time.Sleep(2 * time.Minute) // of the bubble's: until the receiver has noticed
			})
		})
	}
}

// Those that need no waiting once more over TCP, where a reset is a RST.
func TestHostileReceiversOverTCP(t *testing.T) {
	ca := delivertest.NewAuthority(t)
	for _, h := range delivertest.Hostiles(t, ca) {
		if h.Slow || h.HTTPS {
			continue
		}
		t.Run(h.Name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			go serve(ln, h)
			attack(t, h, loopback(), ln.Addr().String(), 10*time.Second)
		})
	}
}

func serve(ln net.Listener, h delivertest.Hostile) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			h.Serve(c)
			c.Close()
		}()
	}
}

func attack(t *testing.T, h delivertest.Hostile, options deliver.SenderOptions, address string, limit time.Duration) (*deliver.Sender, *deliver.Target) {
	scheme := "http://"
	if h.HTTPS {
		scheme = "https://"
	}
	s := newSender(t, options)
	to := target(t, scheme+address+"/hook")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	o := send(t, s, to, 1)
	runtime.ReadMemStats(&after)

	if o.Class != h.Class || o.Status != h.Status || o.Truncated != h.Truncated {
		t.Errorf("class %v, status %d, truncated %v; want %v, %d, %v (%s)", o.Class, o.Status, o.Truncated, h.Class, h.Status, h.Truncated, o.Error)
	}
	most := uint64(maxAlloc)
	if h.HTTP2 {
		most = maxAllocHTTP2
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > most {
		t.Errorf("allocated %d bytes", got)
	}
	if o.Duration > limit {
		t.Errorf("took %v", o.Duration)
	}
	if len(o.Body) > deliver.KeptBody {
		t.Errorf("kept %d bytes", len(o.Body))
	}
	if (o.Error == "") != (o.Status != 0) {
		t.Errorf("text %q with status %d", o.Error, o.Status)
	}
	for _, leak := range []string{"93.184", "127.0.0.1", delivertest.HostileHost, "SSH", "xxx", "whsec"} {
		if strings.Contains(o.Error, leak) {
			t.Errorf("text %q holds %q", o.Error, leak)
		}
	}
	return s, to
}
