package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// benchReceiver is the receiver of the benchmarks: it finds the length of the
// body, skips it and answers 204, so that the measured side is the sender. Paths
// that begin with /hang are never answered.
//
// It is a raw reader of HTTP/1.1 on purpose, and good for nothing else.
type benchReceiver struct {
	ln     net.Listener
	count  atomic.Int64
	record atomic.Bool

	mu       sync.Mutex
	arrivals map[int64]int64 // event number (see benchEvent) → unix nanoseconds of its first arrival
}

var (
	answer204     = []byte("HTTP/1.1 204 No Content\r\n\r\n")
	contentLength = []byte("Content-Length: ")
	endOfHeaders  = []byte("\r\n\r\n")
	numberField   = []byte(`"data":{"n":`)
)

func newBenchReceiver() (*benchReceiver, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("bench receiver: %w", err)
	}
	r := &benchReceiver{ln: ln, arrivals: map[int64]int64{}}
	go r.serve()
	return r, nil
}

func (r *benchReceiver) serve() {
	for {
		c, err := r.ln.Accept()
		if err != nil {
			return
		}
		go r.connection(c)
	}
}

func (r *benchReceiver) connection(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 0, 4<<10)
	for {
		head := bytes.Index(buf, endOfHeaders)
		for head < 0 {
			var err error
			if buf, err = readMore(c, buf); err != nil {
				return
			}
			head = bytes.Index(buf, endOfHeaders)
		}
		if bytes.HasPrefix(buf, []byte("POST /hang")) {
			_, _ = io.Copy(io.Discard, c) // until the sender gives up
			return
		}
		at := bytes.Index(buf[:head], contentLength)
		if at < 0 {
			return
		}
		at += len(contentLength)
		end := bytes.IndexByte(buf[at:], '\r')
		n, err := strconv.Atoi(string(buf[at : at+end]))
		if err != nil {
			return
		}
		need := head + len(endOfHeaders) + n
		for len(buf) < need {
			if buf, err = readMore(c, buf); err != nil {
				return
			}
		}
		if r.record.Load() {
			r.arrived(buf[head:need])
		}
		r.count.Add(1)
		if _, err := c.Write(answer204); err != nil {
			return
		}
		buf = append(buf[:0], buf[need:]...)
	}
}

func readMore(c net.Conn, buf []byte) ([]byte, error) {
	if len(buf) == cap(buf) {
		buf = append(buf, 0)[:len(buf)]
	}
	n, err := c.Read(buf[len(buf):cap(buf)])
	return buf[:len(buf)+n], err
}

func (r *benchReceiver) arrived(body []byte) {
	now := time.Now().UnixNano()
	at := bytes.Index(body, numberField)
	if at < 0 {
		return
	}
	at += len(numberField)
	end := at
	for end < len(body) && body[end] >= '0' && body[end] <= '9' {
		end++
	}
	n, err := strconv.ParseInt(string(body[at:end]), 10, 64)
	if err != nil {
		return
	}
	r.mu.Lock()
	if _, ok := r.arrivals[n]; !ok {
		r.arrivals[n] = now
	}
	r.mu.Unlock()
}

// runBenchReceiver is the process "grapnel bench receiver": it prints its
// address, then answers each line of its input with a line of JSON.
func runBenchReceiver(in io.Reader, out io.Writer) error {
	r, err := newBenchReceiver()
	if err != nil {
		return err
	}
	defer r.ln.Close()
	fmt.Fprintf(out, "%q\n", r.ln.Addr().String())
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var answer any
		switch lines.Text() {
		case "count":
			answer = r.count.Load()
		case "record":
			r.record.Store(true)
			answer = true
		case "arrivals":
			r.mu.Lock()
			answer = r.arrivals
			r.arrivals = map[int64]int64{}
			r.mu.Unlock()
			r.record.Store(false)
		default:
			return fmt.Errorf("bench receiver: unknown request %q", lines.Text())
		}
		if err := json.NewEncoder(out).Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}
