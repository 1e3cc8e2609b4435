package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	maxBatch        = 1024    // messages of one read; the server's own limit
	maxBatchBytes   = 1 << 20 // bytes of one read; the server may go over it by one message
	maxReads        = 16      // reads in flight, which bounds what waits in memory
	readTimeout     = 10 * time.Second
	maxTrustedLines = 32 // header lines of a message that the fast path takes
)

// Headers that the server adds to what it returns from a stream. It appends
// them to the publisher's own, so a forged one comes first and only the last
// value of each is the server's.
const (
	headerStream       = "Nats-Stream"
	headerSubject      = "Nats-Subject"
	headerSequence     = "Nats-Sequence"
	headerTime         = "Nats-Time-Stamp"
	headerPending      = "Nats-Num-Pending"
	headerLastSequence = "Nats-Last-Sequence"
	headerStatus       = "Status"
	headerDescription  = "Description"
)

var (
	errNobody = errors.New("nobody answers for the stream")
	errBroken = errors.New("batch is incomplete")
)

// reader reads streams by batches of Direct Get (NATS ADR-31): one request,
// one reply per message and one that ends the batch, on core NATS, which may
// lose any of them. Nothing is kept on the server between two reads.
//
// All reads share one subscription. A read is a token at the end of its reply
// subject; what arrives for a token that is no longer waited for is dropped.
type reader struct {
	nc    *nats.Conn
	api   apiFunc
	inbox string // ends with a dot
	slots chan struct{}

	mu      sync.Mutex
	last    uint64 // token
	waiting map[string]*replies
}

// replies collects what comes for one read. Its fields belong to reader.mu
// until done is closed.
type replies struct {
	msgs []*nats.Msg // the last one is a status, unless err is set
	err  error
	done chan struct{}
}

// apiFunc asks the JetStream API, as Client.api does.
type apiFunc func(ctx context.Context, subject string, in, out any) error

func newReader(api apiFunc) *reader {
	return &reader{
		api:     api,
		inbox:   nats.NewInbox() + ".",
		slots:   make(chan struct{}, maxReads),
		waiting: make(map[string]*replies),
	}
}

// subscribe makes the reader usable on a connection, once.
func (r *reader) subscribe(nc *nats.Conn) error {
	sub, err := nc.Subscribe(r.inbox+"*", r.take)
	if err != nil {
		return fmt.Errorf("subscribe for reads: %w", err)
	}
	// What can wait is bounded by slots; a limit here could only lose replies.
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return fmt.Errorf("subscribe for reads: %w", err)
	}
	r.nc = nc
	return nil
}

// take files one reply under its token.
func (r *reader) take(m *nats.Msg) {
	token := m.Subject[len(r.inbox):]
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.waiting[token]
	if w == nil {
		return
	}
	w.msgs = append(w.msgs, m)
	if isStatus(m) {
		delete(r.waiting, token)
		close(w.done)
	}
}

// fail ends all reads in flight, since their replies will not come any more.
func (r *reader) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for token, w := range r.waiting {
		w.err = err
		delete(r.waiting, token)
		close(w.done)
	}
}

// batch is a verified answer.
type batch struct {
	msgs    []Message
	pending uint64 // messages after the last one, as the server counts
	early   bool   // it ended before it was full although there was more
}

// read asks for up to n messages from seq on and verifies the answer. It
// returns errNobody when no server answers for the stream.
func (r *reader) read(ctx context.Context, name string, seq Seq, n int) (batch, error) {
	got, err := r.ask(ctx, name, seq, n)
	if err != nil {
		return batch{}, err
	}
	b, err := verify(got, seq, n)
	if errors.Is(err, errBroken) && len(b.msgs) == 0 {
		// A reply was lost, or the first message is one whose headers hide those of the
		// server. The stream's leader is asked for it alone, outside of the headers.
		m, err := r.single(ctx, name, seq)
		if err != nil {
			return batch{}, err
		}
		return batch{msgs: []Message{m}}, nil
	}
	if errors.Is(err, errBroken) {
		err = nil // the verified prefix; the rest is read next time
	}
	return b, err
}

// ask sends the request and waits for all replies.
func (r *reader) ask(ctx context.Context, name string, seq Seq, n int) ([]*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, unavailable(ctx)
	}
	defer func() { <-r.slots }()

	body := make([]byte, 0, 64)
	body = append(body, `{"seq":`...)
	body = strconv.AppendUint(body, uint64(seq), 10)
	body = append(body, `,"batch":`...)
	body = strconv.AppendInt(body, int64(n), 10)
	body = append(body, `,"max_bytes":`...)
	body = strconv.AppendInt(body, maxBatchBytes, 10)
	body = append(body, '}')

	w := &replies{done: make(chan struct{}), msgs: make([]*nats.Msg, 0, min(n+1, 257))}
	r.mu.Lock()
	r.last++
	token := strconv.FormatUint(r.last, 36)
	r.waiting[token] = w
	r.mu.Unlock()
	if err := r.nc.PublishRequest("$JS.API.DIRECT.GET."+name, r.inbox+token, body); err != nil {
		r.forget(token)
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	select {
	case <-w.done:
		return w.msgs, w.err
	case <-ctx.Done():
		r.forget(token)
		return nil, unavailable(ctx)
	}
}

func (r *reader) forget(token string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, token)
}

// unavailable is the error of a context that ended while waiting for the broker.
func unavailable(ctx context.Context) error {
	err := context.Cause(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// verify makes messages of the replies to a read of n from seq. It proves that
// none is missing: each names its predecessor in the batch, and the end names
// the last. With errBroken, the messages before the break are good.
func verify(got []*nats.Msg, seq Seq, n int) (batch, error) {
	end := got[len(got)-1]
	got = got[:len(got)-1]
	b := batch{msgs: make([]Message, 0, len(got))}
	var last Seq
	size := 0
	for _, m := range got {
		msg, before, err := event(m)
		if err != nil || before != last || msg.Seq < seq || msg.Seq <= last {
			return b, errBroken
		}
		last = msg.Seq
		size += m.Size()
		b.msgs = append(b.msgs, msg)
	}
	switch status := end.Header.Get(headerStatus); {
	case status == "204":
		closing, err := number(end.Header, headerLastSequence)
		if err != nil || Seq(closing) != last {
			return b, errBroken
		}
		if b.pending, err = number(end.Header, headerPending); err != nil {
			return b, errBroken
		}
		b.early = b.pending > 0 && len(b.msgs) < n && size < maxBatchBytes
		return b, nil
	case status == "404" && len(b.msgs) == 0:
		return b, nil
	case status == "503" && len(b.msgs) == 0:
		return b, errNobody
	case len(b.msgs) > 0:
		return b, errBroken
	default:
		return b, fmt.Errorf("%w: status %s %s", ErrUnavailable, status, end.Header.Get(headerDescription))
	}
}

// event makes a Message of one reply and returns the sequence that the server
// names as its predecessor in the batch.
func event(m *nats.Msg) (msg Message, before Seq, err error) {
	if !trusted(m) {
		return msg, 0, errBroken
	}
	seq, err := number(m.Header, headerSequence)
	if err != nil {
		return msg, 0, err
	}
	prev, err := number(m.Header, headerLastSequence)
	if err != nil {
		return msg, 0, err
	}
	stored, err := time.Parse(time.RFC3339Nano, last(m.Header, headerTime))
	if err != nil {
		return msg, 0, fmt.Errorf("header %s: %w", headerTime, err)
	}
	msg = Message{Subject: last(m.Header, headerSubject), Seq: Seq(seq), Time: stored.UTC(), Data: m.Data}
	msg.Header = publishers(Header(m.Header))
	return msg, Seq(prev), nil
}

// publishers takes the server's headers away, forged ones with them.
func publishers(h Header) Header {
	delete(h, headerStream)
	delete(h, headerSubject)
	delete(h, headerSequence)
	delete(h, headerTime)
	delete(h, headerPending)
	delete(h, headerLastSequence)
	if len(h) == 0 {
		return nil
	}
	return h
}

// trusted reports whether the last value of each server header is the server's.
//
// A header block ends at its first empty line. A publisher that sends one with
// an empty line inside hides the headers that the server appended, and
// can put its own in their place: to skip events of its organization for ever, or to stall
// it. What was hidden (more than 130 bytes) makes the block longer than its parsed lines, so
// such a message is told by its size. The size of a line is known up to the
// space after the colon and the carriage return; with few lines that is less
// than what the server appends.
func trusted(m *nats.Msg) bool {
	if len(m.Header[headerStream]) == 0 {
		return false
	}
	size, lines := len("NATS/1.0\r\n\r\n"), 0
	for k, values := range m.Header {
		for _, v := range values {
			size += len(k) + len(v) + len(": \r\n")
			lines++
		}
	}
	return lines <= maxTrustedLines && headerSize(m) <= size
}

// isStatus reports whether m is the server's own word and no message of the
// stream. Only the size tells surely: a publisher can send any header and an
// empty body, but what the server appends to a message makes it longer.
func isStatus(m *nats.Msg) bool {
	h := m.Header
	if len(m.Data) > 0 || len(h[headerStatus]) != 1 {
		return false
	}
	size := len("NATS/1.0 \r\n\r\n") + len(h[headerStatus][0])
	for k, values := range h {
		switch {
		case k == headerStatus:
		case len(values) != 1:
			return false
		case k == headerDescription:
			size += len(" ") + len(values[0])
		case k == headerPending, k == headerLastSequence, k == headerSubject:
			size += len(k) + len(values[0]) + len(": \r\n")
		default:
			return false
		}
	}
	return headerSize(m) <= size
}

// headerSize is how many bytes m's header block had on the wire.
func headerSize(m *nats.Msg) int {
	return m.Size() - len(m.Subject) - len(m.Reply) - len(m.Data)
}

// last is the last value of a header, or "".
func last(h nats.Header, name string) string {
	v := h[name]
	if len(v) == 0 {
		return ""
	}
	return v[len(v)-1]
}

func number(h nats.Header, name string) (uint64, error) {
	n, err := strconv.ParseUint(last(h, name), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("header %s: %w", name, err)
	}
	return n, nil
}

// single reads the first message at or after seq through the API of the
// stream's leader, which tells sequence, subject and time apart from the
// publisher's headers. It costs four times a message of a batch.
func (r *reader) single(ctx context.Context, name string, seq Seq) (Message, error) {
	var out struct {
		Message struct {
			Subject string    `json:"subject"`
			Seq     Seq       `json:"seq"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	in := struct {
		Seq     Seq    `json:"seq"`
		NextFor string `json:"next_by_subj"`
	}{seq, ">"}
	if err := r.api(ctx, "STREAM.MSG.GET."+name, in, &out); err != nil {
		return Message{}, apiFailure(err)
	}
	m := out.Message
	if m.Seq < seq {
		return Message{}, fmt.Errorf("%w: asked for %d or later and got %d", ErrUnavailable, seq, m.Seq)
	}
	return Message{Subject: m.Subject, Seq: m.Seq, Time: m.Time.UTC(), Header: publishers(lenientHeader(m.Header)), Data: m.Data}, nil
}

// lenientHeader reads what can be read of a header block that nats.go refuses
// or mistakes: the lines up to the first empty one that have a colon.
func lenientHeader(block []byte) Header {
	h := Header{}
	_, rest, _ := strings.Cut(string(block), "\n") // NATS/1.0
	for line := range strings.Lines(rest) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		if k, v, ok := strings.Cut(line, ":"); ok && k != "" {
			h[k] = append(h[k], strings.TrimLeft(v, " \t"))
		}
	}
	return h
}

// Read returns up to limit messages of the stream with a sequence of from or
// more, ascending and complete (see cursor.Log). One call returns at most 1,024
// messages, or about 1 MiB.
func (c *Client) Read(ctx context.Context, name string, from Seq, limit int) ([]Message, Seq, error) {
	from = max(from, 1)
	msgs, newest, err := c.readBatch(ctx, name, from, min(max(limit, 1), maxBatch))
	if err != nil {
		return nil, 0, fmt.Errorf("read %s from %d: %w", name, from, err)
	}
	return msgs, newest, nil
}

func (c *Client) readBatch(ctx context.Context, name string, from Seq, n int) ([]Message, Seq, error) {
	if !c.nc.IsConnected() {
		return nil, 0, errAway
	}
	b, err := c.reader.read(ctx, name, from, n)
	if errors.Is(err, errNobody) {
		return nil, 0, c.whyNobody(ctx, name)
	}
	if err != nil {
		return nil, 0, err
	}
	if len(b.msgs) > 0 {
		newest := b.msgs[len(b.msgs)-1].Seq + Seq(b.pending)
		if b.early {
			c.log.Warn("stream answered with less than it has", "stream", name,
				"after", b.msgs[len(b.msgs)-1].Seq, "pending", b.pending)
		}
		c.heard(name, newest)
		return b.msgs, newest, nil
	}
	if c.heardOf(name) < from {
		return nil, 0, nil // the usual end of a stream
	}
	return c.missing(ctx, name, from, n)
}

// whyNobody finds out why no server answers a Direct Get of the stream.
func (c *Client) whyNobody(ctx context.Context, name string) error {
	info, err := c.info(ctx, name, false)
	switch {
	case err != nil:
		return err
	case !info.Config.AllowDirect:
		return fmt.Errorf("%w: the stream does not allow direct reads (allow_direct): make it the organization's with `grapnel org add`", ErrUnavailable)
	}
	return fmt.Errorf("%w: the stream has no leader", ErrUnavailable)
}

// missing looks into a read that found nothing although the stream was heard to have a message
// there: it was deleted or rolled back since, or it cannot be seen yet (a
// replica lags), or it cannot be read at all (a damaged file).
func (c *Client) missing(ctx context.Context, name string, from Seq, n int) ([]Message, Seq, error) {
	for wait := 5 * time.Millisecond; ; wait *= 2 {
		info, err := c.info(ctx, name, true)
		if err != nil {
			return nil, 0, err
		}
		if info.State.countFrom(from) == 0 {
			c.forgetNewest(name)
			return nil, info.State.LastSeq, nil
		}
		b, err := c.reader.read(ctx, name, from, n)
		if err != nil {
			return nil, 0, err
		}
		if len(b.msgs) > 0 {
			return b.msgs, b.msgs[len(b.msgs)-1].Seq + Seq(b.pending), nil
		}
		if wait > 100*time.Millisecond {
			return nil, 0, fmt.Errorf("%w: the stream says that it holds messages up to %d, but does not return them; "+
				"if this lasts, its file is damaged", ErrUnavailable, info.State.LastSeq)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, 0, unavailable(ctx)
		}
	}
}
