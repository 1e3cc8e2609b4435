package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// pipes is a listener whose connections are pipes, so that a test's clock is the
// only one.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.accept <- server
	return client
}

// Who dawdles is cut off: while sending the header, the body, between requests,
// or while reading the answer. (SEC-28)
func TestDawdlersAreCutOff(t *testing.T) {
	head := func(more string) string { return "POST /api/v1/orgs HTTP/1.1\r\nHost: grapnel\r\n" + more }
	const large = "GET /large HTTP/1.1\r\nHost: grapnel\r\n\r\n"
	for _, c := range []struct {
		name   string
		sends  string
		reads  bool // the answers
		within time.Duration
		answer string // what it begins with, "" for none
	}{
		{"nothing at all", "", true, 5 * time.Second, ""},
		{"half a header", head("X-Slow: 1"), true, 5 * time.Second, ""},
		{"half a body", head("Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"), true, 30 * time.Second, "HTTP/1.1 408 "},
		{"half a body, with a key", head("Idempotency-Key: k\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"), true, 30 * time.Second, "HTTP/1.1 408 "},
		{"no second request", "GET /healthz HTTP/1.1\r\nHost: grapnel\r\n\r\n", true, 2 * time.Minute, "HTTP/1.1 200 "},
		{"an answer that nobody reads", large, false, 60 * time.Second, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &pipes{make(chan net.Conn), make(chan struct{})}
				api := operator(world(t))
				h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/large" {
						io.Copy(w, io.LimitReader(zeros{}, 1<<30))
						return
					}
					api.ServeHTTP(w, r)
				})
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- httpapi.Serve(ctx, l, h, slog.New(slog.DiscardHandler)) }()
				conn := l.dial()
				began := time.Now()
				if _, err := io.WriteString(conn, c.sends); err != nil {
					t.Fatal(err)
				}
				if !c.reads {
					time.Sleep(c.within + time.Second)
				}
				got, err := io.ReadAll(bufio.NewReader(conn))
				if took := time.Since(began); took > c.within+time.Second || c.reads && took < c.within-time.Second {
					t.Errorf("cut off after %s, want %s (%v)", took, c.within, err)
				}
				if !strings.HasPrefix(string(got), c.answer) || c.answer == "" && c.reads && len(got) > 0 && !strings.HasPrefix(string(got), "HTTP/1.1 4") {
					t.Errorf("answered %.200s, want %s", got, c.answer)
				}
				conn.Close()
				stop()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// Stopping has an end, too: who does not finish is cut off.
func TestStopHasAnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{make(chan net.Conn), make(chan struct{})}
		entered := make(chan struct{})
		h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done() // when its connection is closed
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- httpapi.Serve(ctx, l, h, slog.New(slog.DiscardHandler)) }()
		conn := l.dial()
		defer conn.Close()
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: grapnel\r\n\r\n")
		<-entered
		began := time.Now()
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}
