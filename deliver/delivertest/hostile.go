package delivertest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// Hostile is one way in which a receiver misbehaves, and what an attempt at it
// must come to.
type Hostile struct {
	Name  string
	HTTPS bool
	// HTTP2 ones begin to speak before they have read everything, so they need a
	// network with buffers. A fault of theirs may leave the connection sound.
	HTTP2 bool
	// Serve handles one connection, and returns at the latest when the client
	// has closed it. The caller closes it then.
	Serve func(c net.Conn)
	// Slow ones need seconds, and so virtual time.
	Slow bool

	Class     deliver.Class
	Status    int
	Truncated bool
	// Fault says that the connection must not be used again. So it is when there is
	// no status, or not all of the body.
	Fault bool
}

// HostileHost is the name that the certificates of [Hostiles] are for, except
// where that is the point.
const HostileHost = "receiver.example"

// Hostiles are the misbehaving receivers of REL-24, REL-25, REL-26 and REL-28,
// one per case. The authority signs the certificates of those that are not
// about a stranger's.
func Hostiles(tb testing.TB, ca *Authority) []Hostile {
	tb.Helper()
	bomb := gzipBomb()
	good := ca.Certificate(HostileHost, time.Now().Add(time.Hour))
	return append([]Hostile{
		// REL-24: no answer, or none that ends.
		{Name: "never answers", Slow: true, Class: deliver.Timeout, Serve: func(c net.Conn) {
			takeRequest(c)
			untilGone(c)
		}},
		{Name: "never reads", Slow: true, Class: deliver.Timeout, Serve: func(c net.Conn) {
			time.Sleep(time.Minute)
		}},
		{Name: "headers a byte each second", Slow: true, Class: deliver.Timeout, Serve: func(c net.Conn) {
			takeRequest(c)
			drip(c, "HTTP/1.1 200 OK\r\nX-Slow: "+strings.Repeat("x", 600), time.Second)
		}},
		{Name: "accepts, then resets", Class: deliver.Reset, Serve: func(c net.Conn) { reset(c) }},
		{Name: "takes the request, then resets", Class: deliver.Reset, Serve: func(c net.Conn) {
			takeRequest(c)
			reset(c)
		}},
		{Name: "takes the request, then closes", Class: deliver.Reset, Serve: func(c net.Conn) { takeRequest(c) }},
		{Name: "closes within the headers", Class: deliver.Reset, Serve: says("HTTP/1.1 200 OK\r\nContent-")},
		{Name: "speaks SSH", Class: deliver.Reset, Serve: says("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")},
		{Name: "speaks noise", Class: deliver.Reset, Serve: says(strings.Repeat("\x00\xff\x16\x03", 1000))},
		{Name: "a status that is no number", Class: deliver.Reset, Serve: says("HTTP/1.1 OK 200\r\n\r\n")},
		{Name: "a negative length", Class: deliver.Reset, Serve: says("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n")},
		{Name: "two lengths", Class: deliver.Reset, Serve: says("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")},
		{Name: "speaks HTTP/0.9", Class: deliver.Reset, Serve: says("<html>hello</html>")},
		{Name: "speaks HTTP/2 where nobody asked", Class: deliver.Reset, Serve: says("\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x08\x06\x00\x00\x00\x00\x00")},
		{Name: "a header without a colon", Class: deliver.Reset, Serve: says("HTTP/1.1 200 OK\r\nContent Length 0\r\n\r\n")},
		{Name: "a NUL in a header", Class: deliver.Reset, Serve: says("HTTP/1.1 200 OK\r\nX-Nul: a\x00b\r\n\r\n")},
		{Name: "a coding that nobody asked for", Class: deliver.Reset, Serve: says("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc")},
		{Name: "a hint each second", Slow: true, Class: deliver.Timeout, Serve: func(c net.Conn) {
			takeRequest(c)
			for {
				if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\n"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}},
		{Name: "64 KiB of headers", Class: deliver.Reset, Serve: says("HTTP/1.1 200 OK\r\nX-Filler: " + strings.Repeat("x", 64<<10) + "\r\n\r\n")},
		{Name: "60 KiB of headers", Class: deliver.OK, Status: 204, Serve: says("HTTP/1.1 204 No Content\r\nX-Filler: " + strings.Repeat("x", 60<<10) + "\r\n\r\n")},
		{Name: "1xx without end", Class: deliver.Reset, Serve: func(c net.Conn) {
			takeRequest(c)
			flood(c, "", "HTTP/1.1 103 Early Hints\r\n\r\n", 1<<30)
		}},
		{Name: "11 MB of headers", Class: deliver.Reset, Serve: func(c net.Conn) {
			takeRequest(c)
			flood(c, "HTTP/1.1 200 OK\r\n", "X-Filler: "+strings.Repeat("x", 1000)+"\r\n", 11<<20)
		}},
		{Name: "11 MB in one header", Class: deliver.Reset, Serve: func(c net.Conn) {
			takeRequest(c)
			flood(c, "HTTP/1.1 200 OK\r\nX-Filler: ", strings.Repeat("x", 1000), 11<<20)
		}},

		// REL-25: the status decides, whatever follows.
		{Name: "2xx, body a byte each half second", Slow: true, Class: deliver.OK, Status: 200, Truncated: true, Serve: func(c net.Conn) {
			takeRequest(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n")
			drip(c, strings.Repeat("x", 600), time.Second/2)
		}},
		{Name: "2xx, then silence", Slow: true, Class: deliver.OK, Status: 200, Truncated: true, Serve: func(c net.Conn) {
			takeRequest(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
			untilGone(c)
		}},
		{Name: "2xx, body without end", Class: deliver.OK, Status: 200, Truncated: true, Serve: func(c net.Conn) {
			takeRequest(c)
			flood(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "400\r\n"+strings.Repeat("x", 1024)+"\r\n", 10<<30)
		}},
		{Name: "2xx, 10 GB announced", Class: deliver.OK, Status: 202, Truncated: true, Serve: func(c net.Conn) {
			takeRequest(c)
			flood(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 10737418240\r\n\r\n", strings.Repeat("x", 1024), 10<<30)
		}},
		{Name: "2xx, then resets in the body", Class: deliver.OK, Status: 200, Truncated: true, Serve: func(c net.Conn) {
			takeRequest(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\nabc")
			reset(c)
		}},
		{Name: "2xx, chunks that are none", Class: deliver.OK, Status: 200, Truncated: true, Serve: says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc")},
		{Name: "2xx, a chunk of 16 EiB", Class: deliver.OK, Status: 200, Truncated: true, Serve: says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc")},
		{Name: "2xx, a chunk whose length overflows", Class: deliver.OK, Status: 200, Truncated: true, Serve: says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\nabc")},
		{Name: "2xx, chunks of a byte with long extensions", Class: deliver.OK, Status: 200, Truncated: true, Serve: func(c net.Conn) {
			takeRequest(c)
			flood(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1;"+strings.Repeat("x", 900)+"\r\nx\r\n", 1<<30)
		}},
		{Name: "2xx, trailers without end", Class: deliver.OK, Status: 200, Truncated: true, Serve: func(c net.Conn) {
			takeRequest(c)
			flood(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X-Trailer: x\r\n", 1<<30)
		}},
		{Name: "2xx, more than was announced", Class: deliver.OK, Status: 200, Fault: true, Serve: says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabcdef")},
		{Name: "2xx, and another answer", Class: deliver.OK, Status: 200, Fault: true,
			Serve: says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")},
		{Name: "2xx, then half closed", Class: deliver.OK, Status: 204, Fault: true, Serve: func(c net.Conn) {
			takeRequest(c)
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			if half, ok := c.(interface{ CloseWrite() error }); ok {
				half.CloseWrite()
			} else {
				c.Close()
			}
			untilGone(c)
		}},
		{Name: "2xx, gzip bomb", Class: deliver.OK, Status: 200, Truncated: true, Serve: func(c net.Conn) {
			takeRequest(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n")
			c.Write(bomb)
		}},
		{Name: "5xx, then resets in the body", Class: deliver.HTTP5xx, Status: 503, Truncated: true, Serve: func(c net.Conn) {
			takeRequest(c)
			io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 600\r\n\r\nabc")
			reset(c)
		}},

		// REL-26: only 200 to 299 is success.
		{Name: "moved permanently", Class: deliver.Redirect, Status: 301, Serve: says("HTTP/1.1 301 Moved\r\nLocation: https://receiver.example/elsewhere\r\nContent-Length: 0\r\n\r\n")},
		{Name: "temporary redirect", Class: deliver.Redirect, Status: 307, Serve: says("HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n")},
		{Name: "not modified", Class: deliver.Redirect, Status: 304, Serve: says("HTTP/1.1 304 Not Modified\r\n\r\n")},
		{Name: "switches protocols", Class: deliver.HTTP5xx, Status: 101, Truncated: true, Serve: func(c net.Conn) {
			takeRequest(c)
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
			untilGone(c)
		}},
		{Name: "a status beyond 599", Class: deliver.HTTP5xx, Status: 999, Serve: says("HTTP/1.1 999 Request Denied\r\nContent-Length: 0\r\n\r\n")},
		{Name: "a hint, then success", Class: deliver.OK, Status: 204, Serve: says("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")},

		// REL-28: TLS.
		{Name: "certificate expired", HTTPS: true, Class: deliver.TLS, Serve: speaksTLS(&tls.Config{
			Certificates: []tls.Certificate{ca.Certificate(HostileHost, time.Now().Add(-time.Hour))}})},
		{Name: "certificate for another name", HTTPS: true, Class: deliver.TLS, Serve: speaksTLS(&tls.Config{
			Certificates: []tls.Certificate{ca.Certificate("other.example", time.Now().Add(time.Hour))}})},
		{Name: "certificate of an unknown authority", HTTPS: true, Class: deliver.TLS, Serve: speaksTLS(&tls.Config{
			Certificates: []tls.Certificate{NewAuthority(tb).Certificate(HostileHost, time.Now().Add(time.Hour))}})},
		{Name: "TLS 1.1", HTTPS: true, Class: deliver.TLS, Serve: speaksTLS(&tls.Config{
			Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})},
		{Name: "TLS handshake hangs", HTTPS: true, Slow: true, Class: deliver.TLS, Serve: untilGone},
		{Name: "TLS handshake reset", HTTPS: true, Class: deliver.TLS, Serve: func(c net.Conn) {
			io.ReadFull(c, make([]byte, 16))
			reset(c)
		}},
		{Name: "HTTP where TLS is spoken", HTTPS: true, Class: deliver.TLS, Serve: func(c net.Conn) {
			io.ReadFull(c, make([]byte, 16))
			io.WriteString(c, "HTTP/1.0 400 Bad Request\r\n\r\n")
		}},
		{Name: "TLS 1.2", HTTPS: true, Class: deliver.OK, Status: 204, Serve: speaksTLS(&tls.Config{
			Certificates: []tls.Certificate{good}, MaxVersion: tls.VersionTLS12})},
		{Name: "TLS 1.3", HTTPS: true, Class: deliver.OK, Status: 204, Serve: speaksTLS(&tls.Config{
			Certificates: []tls.Certificate{good}, NextProtos: []string{"http/1.1"}})},
		{Name: "TLS warnings without end", HTTPS: true, Class: deliver.TLS, Serve: func(c net.Conn) {
			io.ReadFull(c, make([]byte, 16))
			go untilGone(c)
			flood(c, "", "\x15\x03\x03\x00\x02\x01\x5a", 1<<30) // user_canceled, of TLS 1.2
		}},
		{Name: "TLS records of nothing without end", HTTPS: true, Class: deliver.TLS, Serve: func(c net.Conn) {
			io.ReadFull(c, make([]byte, 16))
			go untilGone(c)
			flood(c, "", "\x16\x03\x03\x00\x00", 1<<30)
		}},
	}, hostileHTTP2(&tls.Config{Certificates: []tls.Certificate{good}})...)
}

// takeRequest reads one whole request, and reports whether there was one.
func takeRequest(c net.Conn) bool {
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err == nil {
		_, err = io.Copy(io.Discard, req.Body)
	}
	return err == nil
}

// untilGone returns when the client has closed its end.
func untilGone(c net.Conn) { io.Copy(io.Discard, c) }

func says(answer string) func(net.Conn) {
	return func(c net.Conn) {
		takeRequest(c)
		io.WriteString(c, answer)
	}
}

// drip writes s a byte at a time.
func drip(c net.Conn, s string, each time.Duration) {
	for i := range len(s) {
		if _, err := io.WriteString(c, s[i:i+1]); err != nil {
			return
		}
		time.Sleep(each)
	}
}

// flood writes head, and then chunk over and over, until limit bytes are
// written or the client is gone.
func flood(c net.Conn, head, chunk string, limit int64) {
	many := []byte(strings.Repeat(chunk, 1+8<<10/len(chunk)))
	_, err := io.WriteString(c, head)
	for n := int64(0); err == nil && n < limit; n += int64(len(many)) {
		_, err = c.Write(many)
	}
}

// speaksTLS answers 204 over TLS as config says.
func speaksTLS(config *tls.Config) func(net.Conn) {
	return func(raw net.Conn) {
		c := tls.Server(raw, config)
		defer c.Close()
		if c.Handshake() != nil {
			return
		}
		for takeRequest(c) {
			io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	}
}

// gzipBomb is 50 MiB of zeros, in some 50 kB.
var gzipBomb = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	zeros := make([]byte, 1<<20)
	for range 50 {
		z.Write(zeros) // to memory: never fails
	}
	z.Close()
	return b.Bytes()
})
