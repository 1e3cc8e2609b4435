package delivertest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// Frame types and flags of HTTP/2 (RFC 9113, section 6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	framePing         = 0x6
	frameGoAway       = 0x7
	frameContinuation = 0x9

	flagAck        = 0x1
	flagEndStream  = 0x1
	flagEndHeaders = 0x4
)

// A setting and error codes (RFC 9113, sections 6.5.2 and 7).
const (
	settingInitialWindow = 0x4

	codeInternal = 0x2
	codeRefused  = 0x7
	codeHTTP11   = 0xd
)

// HTTP2Conn is the server's end of a connection that speaks HTTP/2, frame by
// frame.
type HTTP2Conn struct {
	c net.Conn
	r *bufio.Reader
}

// HTTP2 does the handshake, and begins with the given settings, pairs of an
// identifier and a value. config offers HTTP/2.
func HTTP2(raw net.Conn, config *tls.Config, settings ...uint32) (*HTTP2Conn, error) {
	config = config.Clone()
	config.NextProtos = []string{"h2"}
	c := tls.Server(raw, config)
	h := &HTTP2Conn{c: c, r: bufio.NewReader(c)}
	preface := make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	if _, err := io.ReadFull(h.r, preface); err != nil {
		return nil, err
	}
	var payload []byte
	for i := 0; i+1 < len(settings); i += 2 {
		payload = binary.BigEndian.AppendUint16(payload, uint16(settings[i]))
		payload = binary.BigEndian.AppendUint32(payload, settings[i+1])
	}
	return h, h.write(frameSettings, 0, 0, payload)
}

// Request reads until a request has ended, and returns its stream.
func (h *HTTP2Conn) Request() (stream uint32, err error) {
	for {
		kind, flags, stream, payload, err := h.read()
		switch {
		case err != nil:
			return 0, err
		case kind == frameSettings && flags&flagAck == 0:
			err = h.write(frameSettings, flagAck, 0, nil)
		case kind == framePing && flags&flagAck == 0:
			err = h.write(framePing, flagAck, 0, payload)
		case (kind == frameHeaders || kind == frameData) && flags&flagEndStream != 0:
			return stream, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// Answer answers with a status and nothing else.
func (h *HTTP2Conn) Answer(stream uint32, status string) error {
	return h.write(frameHeaders, flagEndHeaders|flagEndStream, stream, statusField(status))
}

// Refuse says that the request was not looked at (RFC 9113, section 8.7).
func (h *HTTP2Conn) Refuse(stream uint32) error { return h.reset(stream, codeRefused) }

// GoAway says that no request on the connection was looked at, and that it ends.
func (h *HTTP2Conn) GoAway() error { return h.write(frameGoAway, 0, 0, make([]byte, 8)) }

// Close ends the connection.
func (h *HTTP2Conn) Close() error { return h.c.Close() }

func (h *HTTP2Conn) reset(stream, code uint32) error {
	return h.write(frameReset, 0, stream, binary.BigEndian.AppendUint32(nil, code))
}

func (h *HTTP2Conn) write(kind, flags byte, stream uint32, payload []byte) error {
	_, err := h.c.Write(frame(kind, flags, stream, payload))
	return err
}

func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	head = binary.BigEndian.AppendUint32(append(head, flags), stream)
	return append(head, payload...)
}

func (h *HTTP2Conn) read() (kind, flags byte, stream uint32, payload []byte, err error) {
	var head [9]byte
	if _, err := io.ReadFull(h.r, head[:]); err != nil {
		return 0, 0, 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:]) >> 8
	if n > 1<<20 {
		return 0, 0, 0, nil, errors.New("a frame of the client is too large")
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(h.r, payload)
	return head[3], head[4], binary.BigEndian.Uint32(head[5:]), payload, err
}

// drain reads what the client says, and answers nothing.
func (h *HTTP2Conn) drain() { io.Copy(io.Discard, h.r) }

// flood writes the frame over and over, until the client is gone.
func (h *HTTP2Conn) flood(kind, flags byte, stream uint32, payload []byte) {
	go h.drain()
	flood(h.c, "", string(frame(kind, flags, stream, payload)), 1<<30)
}

// statusField is :status as HPACK has it: a literal with the name of the static
// table's 8th entry (RFC 7541, section 6.2.2).
func statusField(status string) []byte {
	return append([]byte{0x08, byte(len(status))}, status...)
}

// literals are n header fields with values of 100 bytes, not to be remembered.
func literals(n int) []byte {
	return bytes.Repeat(append([]byte{0x00, 1, 'x', 100}, strings.Repeat("x", 100)...), n)
}

// hostileHTTP2 are the misbehaving receivers that speak HTTP/2.
func hostileHTTP2(good *tls.Config) []Hostile {
	// speaks calls do with each request.
	speaks := func(do func(h *HTTP2Conn, stream uint32), settings ...uint32) func(net.Conn) {
		return func(raw net.Conn) {
			h, err := HTTP2(raw, good, settings...)
			if err != nil {
				return
			}
			defer h.Close()
			for {
				stream, err := h.Request()
				if err != nil {
					return
				}
				do(h, stream)
			}
		}
	}
	// after answers 200 first.
	after := func(do func(h *HTTP2Conn, stream uint32)) func(net.Conn) {
		return speaks(func(h *HTTP2Conn, stream uint32) {
			if h.write(frameHeaders, flagEndHeaders, stream, statusField("200")) == nil {
				do(h, stream)
			}
		})
	}
	cases := []Hostile{
		{Name: "answers", Class: deliver.OK, Status: 204, Serve: speaks(func(h *HTTP2Conn, stream uint32) { h.Answer(stream, "204") })},
		{Name: "redirects", Class: deliver.Redirect, Status: 308, Serve: speaks(func(h *HTTP2Conn, stream uint32) { h.Answer(stream, "308") })},
		{Name: "a status that is no number", Class: deliver.Reset, Serve: speaks(func(h *HTTP2Conn, stream uint32) { h.Answer(stream, "yes") })},
		{Name: "no status", Class: deliver.Reset, Serve: speaks(func(h *HTTP2Conn, stream uint32) {
			h.write(frameHeaders, flagEndHeaders|flagEndStream, stream, literals(1))
		})},
		{Name: "refuses the request", Class: deliver.Reset, Serve: speaks(func(h *HTTP2Conn, stream uint32) { h.Refuse(stream) })},
		{Name: "resets the request", Class: deliver.Reset, Serve: speaks(func(h *HTTP2Conn, stream uint32) { h.reset(stream, codeInternal) })},
		{Name: "wants HTTP/1.1 after all", Class: deliver.Reset, Serve: speaks(func(h *HTTP2Conn, stream uint32) { h.reset(stream, codeHTTP11) })},
		{Name: "goes away", Class: deliver.Reset, Serve: speaks(func(h *HTTP2Conn, _ uint32) { h.GoAway(); h.Close() })},
		{Name: "closes", Class: deliver.Reset, Serve: speaks(func(h *HTTP2Conn, _ uint32) { h.Close() })},
		{Name: "speaks noise", Class: deliver.Reset, Serve: speaks(func(h *HTTP2Conn, _ uint32) { h.c.Write(bytes.Repeat([]byte{0xff}, 4096)) })},
		{Name: "a frame of 16 MB", Class: deliver.Reset, Serve: speaks(func(h *HTTP2Conn, stream uint32) {
			flood(h.c, "\xff\xff\xff\x00\x00\x00\x00\x00\x01", strings.Repeat("x", 1<<10), 16<<20)
		})},
		{Name: "a body before the headers", Class: deliver.Reset, Serve: speaks(func(h *HTTP2Conn, stream uint32) { h.write(frameData, flagEndStream, stream, []byte("x")) })},
		{Name: "headers without end", Class: deliver.Reset, Serve: speaks(func(h *HTTP2Conn, stream uint32) {
			if h.write(frameHeaders, 0, stream, statusField("200")) == nil {
				h.flood(frameContinuation, 0, stream, literals(100))
			}
		})},
		{Name: "many empty continuations", Class: deliver.Reset, Serve: speaks(func(h *HTTP2Conn, stream uint32) {
			if h.write(frameHeaders, 0, stream, statusField("200")) == nil {
				h.flood(frameContinuation, 0, stream, nil)
			}
		})},
		// A field of 3,000 bytes is remembered, and then named again in a byte each.
		{Name: "headers that unpack to 40 MB", Class: deliver.Reset, Serve: speaks(func(h *HTTP2Conn, stream uint32) {
			block := append(statusField("200"), 0x40, 1, 'x', 0x7f, 0x99, 0x16) // 127 + 25 + 22*128 = 2968 bytes follow
			block = append(block, strings.Repeat("x", 2968)...)
			block = append(block, bytes.Repeat([]byte{0xbe}, 13_000)...)
			h.write(frameHeaders, flagEndHeaders|flagEndStream, stream, block)
		})},
		{Name: "1xx without end", Class: deliver.Reset, Serve: speaks(func(h *HTTP2Conn, stream uint32) {
			h.flood(frameHeaders, flagEndHeaders, stream, append(statusField("103"), literals(10)...))
		})},
		{Name: "pings without end", Class: deliver.Reset, Serve: speaks(func(h *HTTP2Conn, _ uint32) { h.flood(framePing, 0, 0, make([]byte, 8)) })},
		{Name: "settings without end", Class: deliver.Reset, Serve: speaks(func(h *HTTP2Conn, _ uint32) { h.flood(frameSettings, 0, 0, nil) })},
		{Name: "resets of nothing without end", Class: deliver.Reset, Serve: speaks(func(h *HTTP2Conn, stream uint32) { h.flood(frameReset, 0, stream+2, make([]byte, 4)) })},

		{Name: "never answers", Slow: true, Class: deliver.Timeout, Serve: speaks(func(*HTTP2Conn, uint32) {})},
		{Name: "never answers, nor pings", Slow: true, Class: deliver.Timeout, Serve: speaks(func(h *HTTP2Conn, _ uint32) { h.drain() })},
		{Name: "takes no body", Slow: true, Class: deliver.Timeout, Serve: speaks(func(*HTTP2Conn, uint32) {}, settingInitialWindow, 0)},
		{Name: "after the handshake silence", Slow: true, Class: deliver.Timeout, Serve: func(raw net.Conn) {
			config := good.Clone()
			config.NextProtos = []string{"h2"}
			c := tls.Server(raw, config)
			defer c.Close()
			io.Copy(io.Discard, c)
		}},

		{Name: "2xx, then silence", Slow: true, Class: deliver.OK, Status: 200, Truncated: true, Serve: after(func(h *HTTP2Conn, _ uint32) { h.drain() })},
		{Name: "2xx, then resets", Class: deliver.OK, Status: 200, Truncated: true, Serve: after(func(h *HTTP2Conn, stream uint32) { h.reset(stream, codeInternal) })},
		{Name: "2xx, then closes", Class: deliver.OK, Status: 200, Truncated: true, Serve: after(func(h *HTTP2Conn, _ uint32) { h.Close() })},
		{Name: "2xx, body without end", Class: deliver.OK, Status: 200, Truncated: true, Serve: after(func(h *HTTP2Conn, stream uint32) {
			h.flood(frameData, 0, stream, make([]byte, 16<<10)) // beyond what the window allows
		})},
		{Name: "2xx, empty frames without end", Class: deliver.OK, Status: 200, Truncated: true, Serve: after(func(h *HTTP2Conn, stream uint32) {
			h.flood(frameData, 0, stream, nil)
		})},
		{Name: "2xx, trailers without end", Class: deliver.OK, Status: 200, Truncated: true, Serve: after(func(h *HTTP2Conn, stream uint32) {
			if h.write(frameHeaders, flagEndStream, stream, literals(1)) == nil {
				h.flood(frameContinuation, 0, stream, literals(100))
			}
		})},
	}
	for i := range cases {
		cases[i].Name = "HTTP/2: " + cases[i].Name
		cases[i].HTTPS, cases[i].HTTP2 = true, true
	}
	return cases
}
