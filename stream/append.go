package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

const (
	// MaxAppendBatch is how many events AppendBatch takes at once; the server's
	// own limit for an atomic batch.
	MaxAppendBatch = 1000

	maxAppendBytes     = 32 << 20 // of the data of one AppendBatch
	maxBatchesInFlight = 16       // of the 50 that the server allows for a stream
	appendTimeout      = 10 * time.Second
)

// ErrFull: the stream's quota, or the broker's disk, is used up; nothing was
// stored, and the same append can succeed later.
var ErrFull = errors.New("event store is full")

// Append is an event to be appended.
type Append struct {
	Type          string
	Data          json.RawMessage
	DedupeKey     string    // "": every append is its own event
	Workspace     string    // "": an organization-level event
	SchemaVersion string    // "": 1
	Source        string    // the service that wrote it, or ""
	Time          time.Time // when it happened; zero: when it is stored
	TraceParent   string    // W3C trace context; left out when it has another form
	TraceState    string
	// Payload is PayloadData for an organization whose publishers send
	// envelopes, so that this event is not taken for one. "" leaves the header
	// out: messages without any header are cheaper to read.
	Payload Payload
}

// Ack is the stream's word that an event is stored; with the embedded server's
// default, that it is on the disk.
type Ack struct {
	Seq       Seq  // of this event, or of the earlier one with its dedupe key
	Duplicate bool // the stream had its dedupe key already; nothing was stored
}

// BatchError is an error about one event of a batch.
type BatchError struct {
	Index int
	Err   error
}

func (e *BatchError) Error() string { return fmt.Sprintf("event %d: %v", e.Index, e.Err) }

// Unwrap makes errors.Is and errors.As see what is wrong with the event.
func (e *BatchError) Unwrap() error { return e.Err }

// pubAck is the server's answer to a publish.
type pubAck struct {
	Stream    string    `json:"stream"`
	Seq       Seq       `json:"seq"`
	Duplicate bool      `json:"duplicate"`
	Count     int       `json:"count"`
	Error     *apiError `json:"error"`
}

// Append stores one event of the organization. The error is or wraps a
// *Rejected when it cannot be an event, ErrNoStream, ErrFull, or
// ErrUnavailable: then it is not known whether it was stored, and the same
// append with a dedupe key can be repeated.
func (c *Client) Append(ctx context.Context, org string, a Append) (Ack, error) {
	m, err := c.message(org, a)
	if err != nil {
		return Ack{}, fmt.Errorf("append to %s: %w", org, err)
	}
	ack, err := c.publish(ctx, m, c.names.Stream(org))
	if err != nil {
		return Ack{}, fmt.Errorf("append to %s: %w", org, err)
	}
	return Ack{Seq: ack.Seq, Duplicate: ack.Duplicate}, nil
}

// Check says why an event cannot be appended, by a *Rejected, without sending
// anything.
func (c *Client) Check(org string, a Append) error {
	_, err := c.message(org, a)
	return err
}

// AppendBatch stores up to MaxAppendBatch events, of 32 MiB in all, in their order, all or none,
// with few flushes to the disk: the way to append many. Events that the stream has
// already (by dedupe key) are not stored again, and neither is the second of two with one
// key in the batch. Errors are those of Append; those about one event are a
// *BatchError.
func (c *Client) AppendBatch(ctx context.Context, org string, events []Append) ([]Ack, error) {
	acks, err := c.appendBatch(ctx, org, events)
	if err != nil {
		return nil, fmt.Errorf("append %d events to %s: %w", len(events), org, err)
	}
	return acks, nil
}

func (c *Client) appendBatch(ctx context.Context, org string, events []Append) ([]Ack, error) {
	if len(events) > MaxAppendBatch {
		return nil, fmt.Errorf("at most %d at once", MaxAppendBatch)
	}
	acks := make([]Ack, len(events))
	msgs := make([]*nats.Msg, len(events))
	first := make(map[string]int, len(events)) // dedupe key → the first event that has it
	var fresh []int                            // what is to be stored
	size := 0
	for i, a := range events {
		if size += len(a.Data); size > maxAppendBytes {
			return nil, reject(CodeTooLarge, "at most %d bytes of data at once", maxAppendBytes)
		}
		m, err := c.message(org, a)
		if err != nil {
			return nil, &BatchError{Index: i, Err: err}
		}
		msgs[i] = m
		if a.DedupeKey != "" {
			if _, ok := first[a.DedupeKey]; ok {
				continue
			}
			first[a.DedupeKey] = i
		}
		fresh = append(fresh, i)
	}
	select {
	case c.batches <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-c.batches }()

	name := c.names.Stream(org)
	for range 3 { // a duplicate can come between finding them and storing the rest
		err := c.commit(ctx, name, msgs, fresh, acks)
		var ae *apiError
		if errors.As(err, &ae) && ae.ErrCode == codeBatchDuplicate {
			if fresh, err = c.sift(ctx, name, msgs, fresh, acks); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		for i, a := range events {
			if f, ok := first[a.DedupeKey]; ok && f != i {
				acks[i] = Ack{Seq: acks[f].Seq, Duplicate: true}
			}
		}
		return acks, nil
	}
	return nil, fmt.Errorf("%w: others append the same dedupe keys at this moment", ErrUnavailable)
}

// commit stores the messages as one atomic batch (NATS ADR-50).
func (c *Client) commit(ctx context.Context, name string, msgs []*nats.Msg, fresh []int, acks []Ack) error {
	switch len(fresh) {
	case 0:
		return nil
	case 1:
		ack, err := c.publish(ctx, msgs[fresh[0]], name)
		acks[fresh[0]] = Ack{Seq: ack.Seq, Duplicate: ack.Duplicate}
		return err
	}
	id := nuid.Next()
	for n, i := range fresh {
		m := msgs[i]
		m.Header["Nats-Batch-Id"] = []string{id}
		m.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(n + 1)}
		switch n {
		case 0: // wait for its answer: an error would come only here
			if _, err := c.publish(ctx, m, name); err != nil {
				return err
			}
		case len(fresh) - 1:
			m.Header["Nats-Batch-Commit"] = []string{"1"}
			ack, err := c.publish(ctx, m, name)
			if err != nil {
				return err
			}
			if ack.Count != len(fresh) {
				return fmt.Errorf("%w: %d of %d were acknowledged", ErrUnavailable, ack.Count, len(fresh))
			}
			for k, j := range fresh {
				acks[j] = Ack{Seq: ack.Seq - Seq(len(fresh)-1-k)}
			}
		default:
			if err := c.nc.PublishMsg(m); err != nil {
				return fmt.Errorf("%w: %w", ErrUnavailable, err)
			}
		}
	}
	return nil
}

// sift finds which of the messages the stream has already, without storing
// any: the server looks for duplicates before it compares the last key with the
// one that it is told to expect. It returns the others.
func (c *Client) sift(ctx context.Context, name string, msgs []*nats.Msg, fresh []int, acks []Ack) ([]int, error) {
	nobody := nuid.Next() // the key of no message
	var rest []int
	for _, i := range fresh {
		key := msgs[i].Header[HeaderMsgID]
		if len(key) == 0 {
			rest = append(rest, i)
			continue
		}
		probe := nats.NewMsg(msgs[i].Subject)
		probe.Header[HeaderMsgID] = key
		probe.Header[nats.ExpectedLastMsgIdHdr] = []string{nobody}
		ack, err := c.publish(ctx, probe, name)
		var ae *apiError
		switch {
		case errors.As(err, &ae) && ae.ErrCode == codeLastKey:
			rest = append(rest, i)
		case err != nil:
			return nil, err
		default:
			acks[i] = Ack{Seq: ack.Seq, Duplicate: true}
		}
	}
	for _, i := range rest {
		clearBatch(msgs[i])
	}
	return rest, nil
}

func clearBatch(m *nats.Msg) {
	delete(m.Header, "Nats-Batch-Id")
	delete(m.Header, "Nats-Batch-Sequence")
	delete(m.Header, "Nats-Batch-Commit")
}

// message is the event as it goes to the stream. What would not be decoded
// again is refused here, before anything is sent.
func (c *Client) message(org string, a Append) (*nats.Msg, error) {
	if err := CheckOrg(org); err != nil {
		return nil, err
	}
	m := nats.NewMsg(c.names.Subject(org, a.Type))
	m.Data = a.Data
	set := func(name, value string) {
		if value != "" {
			m.Header[name] = []string{value}
		}
	}
	if a.DedupeKey != "" {
		if err := CheckDedupeKey(a.DedupeKey); err != nil {
			return nil, reject(CodeBadHeader, "%v", err)
		}
		set(HeaderMsgID, a.DedupeKey)
	}
	set(HeaderPayload, string(a.Payload))
	set(HeaderWorkspace, a.Workspace)
	set(HeaderSchemaVersion, a.SchemaVersion)
	set(HeaderSource, a.Source)
	if !a.Time.IsZero() {
		set(HeaderTime, a.Time.UTC().Format(time.RFC3339Nano))
	}
	if validTraceParent(a.TraceParent) {
		set(HeaderTraceParent, a.TraceParent)
		if printableASCII(a.TraceState) {
			set(HeaderTraceState, a.TraceState)
		}
	}
	if a.Payload == PayloadEnvelope {
		return nil, reject(CodeBadEnvelope, "append the data of the envelope, not the envelope")
	}
	d := Decoding{Org: org, Names: c.names, MaxData: int(c.maxData.Load())}
	if _, err := d.Decode(Message{Subject: m.Subject, Seq: 1, Time: time.Unix(0, 0), Header: Header(m.Header), Data: m.Data}); err != nil {
		return nil, err
	}
	return m, nil
}

// publish sends one message and waits for the stream's answer.
func (c *Client) publish(ctx context.Context, m *nats.Msg, name string) (pubAck, error) {
	var ack pubAck
	if !c.nc.IsConnected() {
		return ack, errAway
	}
	waiting, cancel := c.bounded(ctx, appendTimeout)
	defer cancel()
	r, err := c.nc.RequestMsgWithContext(waiting, m)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		if _, err := c.info(ctx, name, false); err != nil {
			return ack, err
		}
		return ack, fmt.Errorf("%w: the stream %s does not take %s", ErrUnavailable, name, m.Subject)
	case errors.Is(err, nats.ErrMaxPayload):
		return ack, reject(CodeTooLarge, "the server takes at most %d bytes, headers included", c.nc.MaxPayload())
	case err != nil:
		return ack, requestFailure(waiting, err)
	}
	if len(r.Data) == 0 {
		return ack, nil // a message of a batch, taken
	}
	if err := json.Unmarshal(r.Data, &ack); err != nil {
		return ack, fmt.Errorf("%w: answer: %w", ErrUnavailable, err)
	}
	if ack.Error != nil {
		return ack, appendFailure(ack.Error)
	}
	if ack.Stream != name {
		return ack, fmt.Errorf("subject %s belongs to stream %s, not %s", m.Subject, ack.Stream, name)
	}
	return ack, nil
}

func appendFailure(err *apiError) error {
	switch err.ErrCode {
	case codeStoreFailed, codeNoResources, codeAccountLimit, codeNoStorage:
		return fmt.Errorf("%w: %w", ErrFull, err)
	case codeTooLarge:
		return reject(CodeTooLarge, "the stream takes no message of this size")
	case codeBatchIncomplete:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case codeBatchDisabled:
		return fmt.Errorf("the stream takes no atomic batches: make it the organization's with `grapnel org add`: %w", err)
	}
	return apiFailure(err)
}
