package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Codes of the JetStream API's errors (nats-server, server/errors.json).
const (
	codeAccountLimit         = 10002
	codeNoResources          = 10023
	codeNoMessage            = 10037
	codeNotEnabledForAccount = 10039
	codeNoStorage            = 10047
	codeTooLarge             = 10054
	codeDeleteFailed         = 10057
	codeNameInUse            = 10058
	codeStreamNotFound       = 10059
	codeSubjectOverlap       = 10065
	codeLastKey              = 10070
	codeNotEnabled           = 10076
	codeStoreFailed          = 10077
	codeBatchDisabled        = 10174
	codeBatchIncomplete      = 10176
	codeBatchDuplicate       = 10201
)

// apiError is an error as the JetStream API answers it.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string { return fmt.Sprintf("%s (%d)", e.Description, e.ErrCode) }

// api asks the JetStream API. in and out are JSON; out may be nil. The error
// is an *apiError, nats.ErrNoResponders, or wraps ErrUnavailable.
func (c *Client) api(ctx context.Context, subject string, in, out any) error {
	if !c.nc.IsConnected() {
		return errAway
	}
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("JetStream API %s: %w", subject, err)
		}
	}
	ctx, cancel := c.bounded(ctx, requestTimeout)
	defer cancel()
	m, err := c.nc.RequestWithContext(ctx, "$JS.API."+subject, body)
	if err != nil {
		return requestFailure(ctx, err)
	}
	var failed struct {
		Error *apiError `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &failed); err != nil {
		return fmt.Errorf("JetStream API %s: answer: %w", subject, err)
	}
	if failed.Error != nil {
		return failed.Error
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(m.Data, out); err != nil {
		return fmt.Errorf("JetStream API %s: answer: %w", subject, err)
	}
	return nil
}

// requestFailure is the error of a request that got no answer.
func requestFailure(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return err
	case ctx.Err() != nil:
		return unavailable(ctx)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// apiFailure maps an error of the API to those that callers know.
func apiFailure(err error) error {
	var ae *apiError
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w: JetStream does not answer", ErrUnavailable)
	case !errors.As(err, &ae):
		return err
	case ae.ErrCode == codeStreamNotFound:
		return ErrNoStream
	case ae.Code == 503, ae.Code == 429, ae.ErrCode == codeNoMessage:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// streamInfo is the API's answer about one stream, as far as we need it.
type streamInfo struct {
	Config  streamConfig `json:"config"`
	Created time.Time    `json:"created"`
	State   streamState  `json:"state"`
}

type streamConfig struct {
	Name        string            `json:"name"`
	Subjects    []string          `json:"subjects"`
	AllowDirect bool              `json:"allow_direct"`
	Metadata    map[string]string `json:"metadata"`
}

type streamState struct {
	Messages uint64    `json:"messages"`
	Bytes    uint64    `json:"bytes"`
	FirstSeq Seq       `json:"first_seq"`
	LastSeq  Seq       `json:"last_seq"`
	LastTime time.Time `json:"last_ts"`
	Deleted  []Seq     `json:"deleted"` // only when asked for
}

// countFrom is how many messages there are at from or later. Deleted must have
// been asked for.
func (s streamState) countFrom(from Seq) uint64 {
	from = max(from, s.FirstSeq)
	if s.Messages == 0 || s.LastSeq < from {
		return 0
	}
	n := uint64(s.LastSeq-from) + 1
	for _, d := range s.Deleted {
		if d >= from {
			n--
		}
	}
	return n
}

func (i streamInfo) state() State {
	s := State{
		Name:     i.Config.Name,
		Created:  i.Created.UTC(),
		First:    i.State.FirstSeq,
		Last:     i.State.LastSeq,
		Messages: i.State.Messages,
		Bytes:    i.State.Bytes,
		Subjects: i.Config.Subjects,

		Installation: i.Config.Metadata[markKey],
	}
	if s.Messages == 0 {
		s.First = s.Last + 1
	}
	if !i.State.LastTime.IsZero() && s.Last > 0 {
		s.LastTime = i.State.LastTime.UTC()
	}
	return s
}

func (c *Client) info(ctx context.Context, name string, deleted bool) (streamInfo, error) {
	var in any
	if deleted {
		in = map[string]bool{"deleted_details": true}
	}
	var out streamInfo
	if err := c.api(ctx, "STREAM.INFO."+name, in, &out); err != nil {
		return out, apiFailure(err)
	}
	return out, nil
}

// State asks the stream about itself (see cursor.Log).
func (c *Client) State(ctx context.Context, name string) (State, error) {
	i, err := c.info(ctx, name, false)
	if err != nil {
		return State{}, fmt.Errorf("state of %s: %w", name, err)
	}
	c.heard(name, i.State.LastSeq)
	return i.state(), nil
}

// heard notes that the stream was said to have a message seq.
func (c *Client) heard(name string, seq Seq) {
	v, ok := c.newest.Load(name)
	if !ok {
		v, _ = c.newest.LoadOrStore(name, new(atomic.Uint64))
	}
	n := v.(*atomic.Uint64)
	for old := n.Load(); old < uint64(seq) && !n.CompareAndSwap(old, uint64(seq)); old = n.Load() {
	}
}

func (c *Client) heardOf(name string) Seq {
	if v, ok := c.newest.Load(name); ok {
		return Seq(v.(*atomic.Uint64).Load())
	}
	return 0
}

func (c *Client) forgetNewest(name string) { c.newest.Delete(name) }

// OrgStream is the stream an organization is to have.
type OrgStream struct {
	Org      string
	Subjects []string // extra subjects beside events.<org>.>, such as webhook.>
	MaxBytes int64    // quota; 0: as in Options
}

// Create makes the organization's stream, or adopts the one that has its name:
// then only what Grapnel cannot do without is added (direct reads, wake-ups,
// atomic batches, missing subjects, our mark), and its limits are left alone.
// Doing it again changes nothing. A subject that another stream binds is an
// error that names that stream; a stream that carries another installation's
// mark is left alone, with a *[ForeignError].
func (c *Client) Create(ctx context.Context, s OrgStream) (State, error) {
	name := c.names.Stream(s.Org)
	fail := func(err error) (State, error) {
		return State{}, fmt.Errorf("create stream %s: %w", name, err)
	}
	if err := CheckOrg(s.Org); err != nil {
		return fail(err)
	}
	for _, b := range s.Subjects {
		if err := c.names.CheckBinding(b); err != nil {
			return fail(err)
		}
	}
	_, err := c.info(ctx, name, false)
	if errors.Is(err, ErrNoStream) {
		var i streamInfo
		err = c.api(ctx, "STREAM.CREATE."+name, c.config(s), &i)
		var ae *apiError
		switch {
		case err == nil:
			c.log.Info("stream created", "org", s.Org, "stream", name)
			return i.state(), nil
		case errors.As(err, &ae) && ae.ErrCode == codeNameInUse: // somebody else was quicker
		default:
			return fail(c.explain(ctx, err, name, c.subjects(s)))
		}
	} else if err != nil {
		return fail(err)
	}
	st, err := c.adopt(ctx, s)
	if err != nil {
		return fail(c.explain(ctx, err, name, c.subjects(s)))
	}
	return st, nil
}

func (c *Client) subjects(s OrgStream) []string {
	return append(c.names.Subjects(s.Org), s.Subjects...)
}

// config is the stream of an organization as we make it. A full stream is the
// publisher's visible error and never a silent gap (DiscardNew); what was
// acknowledged cannot be taken out by the way (DenyPurge), but message by message, since
// people may demand that (see Erase), and a stream that denies it does so for ever; nothing
// that would let a publisher do so is on (roll-up, per-message TTL, schedules).
func (c *Client) config(s OrgStream) jetstream.StreamConfig {
	quota := s.MaxBytes
	if quota == 0 {
		quota = c.options.MaxBytes
	}
	return jetstream.StreamConfig{
		Name:               c.names.Stream(s.Org),
		Description:        "Events of " + s.Org,
		Subjects:           c.subjects(s),
		Storage:            jetstream.FileStorage,
		Retention:          jetstream.LimitsPolicy,
		Discard:            jetstream.DiscardNew,
		MaxBytes:           quota,
		MaxAge:             c.options.MaxAge,
		MaxMsgs:            -1,
		MaxConsumers:       -1,
		MaxMsgsPerSubject:  -1,
		MaxMsgSize:         -1,
		Duplicates:         min(c.options.Duplicates, c.options.MaxAge),
		Replicas:           c.options.Replicas,
		DenyPurge:          true,
		AllowDirect:        true,
		AllowAtomicPublish: true,
		RePublish:          c.republish(s.Org, s.Subjects),
		Metadata:           c.marked(nil),
	}
}

func (c *Client) republish(org string, extra []string) *jetstream.RePublish {
	return &jetstream.RePublish{
		Source:      c.names.WakeSource(org, extra),
		Destination: c.names.WakeSubject(org),
		HeadersOnly: true,
	}
}

// change lets nobody else of this process change the stream until it is called
// again: a change reads the whole configuration and writes it back, and would take
// back what another wrote in between.
func (c *Client) change(name string) (done func()) {
	m := &c.changing[maphash.String(changeSeed, name)%uint64(len(c.changing))]
	m.Lock()
	return m.Unlock
}

var changeSeed = maphash.MakeSeed()

// adopt changes what must be changed in a stream that is there. The
// configuration is kept as the server sent it, so that settings that this
// program does not know survive.
func (c *Client) adopt(ctx context.Context, s OrgStream) (State, error) {
	name := c.names.Stream(s.Org)
	defer c.change(name)()
	var raw struct {
		Config map[string]json.RawMessage `json:"config"`
	}
	var had struct {
		Config jetstream.StreamConfig `json:"config"`
	}
	var i streamInfo
	if err := c.api(ctx, "STREAM.INFO."+name, nil, &outs{&raw, &had, &i}); err != nil {
		return State{}, err
	}
	if err := adoptable(had.Config); err != nil {
		return State{}, err
	}
	ours, err := c.ours(had.Config)
	if err != nil {
		return State{}, err
	}
	want := raw.Config
	var changes []string
	set := func(key string, v any) error {
		b, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("configuration %s: %w", key, err)
		}
		want[key] = b
		changes = append(changes, key)
		return nil
	}
	var errs []error
	if !had.Config.AllowDirect {
		errs = append(errs, set("allow_direct", true))
	}
	if !had.Config.AllowAtomicPublish {
		errs = append(errs, set("allow_atomic", true))
	}
	subjects := merge(had.Config.Subjects, c.subjects(s))
	if !slices.Equal(subjects, had.Config.Subjects) {
		errs = append(errs, set("subjects", subjects))
	}
	extra := slices.DeleteFunc(slices.Clone(subjects), func(sub string) bool {
		return covers(c.names.Subjects(s.Org)[0], sub)
	})
	if rp := c.republish(s.Org, extra); had.Config.RePublish == nil {
		errs = append(errs, set("republish", rp))
	} else if had := *had.Config.RePublish; had.Destination == rp.Destination && had != *rp {
		errs = append(errs, set("republish", rp))
	} else if had.Destination != rp.Destination {
		c.log.Warn("stream republishes elsewhere: its events are found by the sweep only", "stream", name, "destination", had.Destination)
	}
	if !ours {
		errs = append(errs, set("metadata", c.marked(had.Config.Metadata)))
	}
	if err := errors.Join(errs...); err != nil {
		return State{}, err
	}
	if len(changes) == 0 {
		return i.state(), nil
	}
	if err := c.api(ctx, "STREAM.UPDATE."+name, want, &i); unmarkable(changes, err) {
		c.log.Warn("stream cannot be marked as read by this database: another one would not notice that it is", "stream", name, "error", err)
		return i.state(), nil
	} else if err != nil {
		return State{}, err
	}
	c.log.Info("stream adopted", "org", s.Org, "stream", name, "changed", strings.Join(changes, " "))
	if w := weaknesses(had.Config); w != "" {
		c.log.Warn("stream can lose events before they are read", "stream", name, "why", w)
	}
	return i.state(), nil
}

// outs decodes one JSON answer into several values.
type outs []any

func (o *outs) UnmarshalJSON(b []byte) error {
	for _, v := range *o {
		if err := json.Unmarshal(b, v); err != nil {
			return err
		}
	}
	return nil
}

// adoptable says why a stream can never be an organization's.
func adoptable(c jetstream.StreamConfig) error {
	switch {
	case c.Mirror != nil:
		return errors.New("a stream of this name is there, and it is a mirror: give the organization another id, or remove the stream")
	case c.Retention != jetstream.LimitsPolicy:
		return fmt.Errorf("a stream of this name is there, and others decide what it keeps (retention %v): set it to limits, or remove the stream", c.Retention)
	case c.Sealed:
		return errors.New("a stream of this name is there, and it is sealed: remove it")
	}
	return nil
}

// weaknesses lists settings of a foreign stream under which events can be lost
// unread.
func weaknesses(c jetstream.StreamConfig) string {
	var w []string
	if c.Discard == jetstream.DiscardOld && (c.MaxBytes > 0 || c.MaxMsgs > 0) {
		w = append(w, "a full stream drops its oldest events (discard old)")
	}
	if c.MaxMsgsPerSubject > 0 {
		w = append(w, "old events of a type are dropped (max msgs per subject)")
	}
	if c.AllowRollup {
		w = append(w, "publishers can purge it (roll-up)")
	}
	if c.Storage == jetstream.MemoryStorage {
		w = append(w, "it is kept in memory only")
	}
	return strings.Join(w, "; ")
}

// merge adds subjects that are wanted to those that are there. A stream's
// subjects must not overlap, so a wider one replaces those that it covers.
func merge(has, wanted []string) []string {
	subjects := slices.Clone(has)
	for _, w := range wanted {
		if slices.ContainsFunc(subjects, func(s string) bool { return covers(s, w) }) {
			continue
		}
		subjects = slices.DeleteFunc(subjects, func(s string) bool { return covers(w, s) })
		subjects = append(subjects, w)
	}
	return subjects
}

// covers reports whether every subject that filter b matches, a matches too.
func covers(a, b string) bool {
	for {
		aw, aRest, aMore := strings.Cut(a, ".")
		bw, bRest, bMore := strings.Cut(b, ".")
		switch {
		case aw == ">":
			return true
		case bw == ">", aw != "*" && aw != bw:
			return false
		case aMore != bMore:
			return false
		case !aMore:
			return true
		}
		a, b = aRest, bRest
	}
}

// explain makes errors of creating a stream say what to do.
func (c *Client) explain(ctx context.Context, err error, name string, subjects []string) error {
	var ae *apiError
	if !errors.As(err, &ae) {
		return apiFailure(err)
	}
	switch ae.ErrCode {
	case codeSubjectOverlap:
		for _, s := range subjects {
			var out struct {
				Streams []string `json:"streams"`
			}
			if c.api(ctx, "STREAM.NAMES", map[string]string{"subject": s}, &out) != nil {
				continue
			}
			for _, other := range out.Streams {
				if other != name {
					return fmt.Errorf("%w: %s belongs to stream %s: take it from that stream, remove the stream, or choose another subject or organization id", ErrConflict, s, other)
				}
			}
		}
	case codeNoStorage, codeAccountLimit, codeNoResources:
		return fmt.Errorf("%w: the server has no room for a stream with this quota: %w", ErrFull, err)
	}
	return apiFailure(err)
}

// Erase overwrites the message at seq in the organization's stream and takes it out.
// One that is gone is erased already. It wraps [ErrDenied] when the stream does not
// allow that, or this connection may not, and [ErrNoStream].
func (c *Client) Erase(ctx context.Context, org string, seq Seq) error {
	name := c.names.Stream(org)
	msgs, _, err := c.Read(ctx, name, seq, 1)
	if err != nil {
		return fmt.Errorf("erase message %d: %w", seq, err)
	}
	if len(msgs) == 0 || msgs[0].Seq != seq {
		return nil
	}
	err = c.api(ctx, "STREAM.MSG.DELETE."+name, map[string]any{"seq": seq, "no_erase": false}, nil)
	var ae *apiError
	switch {
	case err == nil:
		c.log.Info("message erased", "stream", name, "sequence", seq)
		return nil
	case errors.As(err, &ae) && ae.ErrCode == codeNoMessage:
		return nil
	case errors.As(err, &ae) && ae.ErrCode == codeDeleteFailed:
		return fmt.Errorf("erase message %d of %s: %w: %w", seq, name, ErrDenied, err)
	}
	return fmt.Errorf("erase message %d of %s: %w", seq, name, apiFailure(err))
}

// MaxAge is how long messages stay in the organization's stream; 0: for ever.
func (c *Client) MaxAge(ctx context.Context, org string) (time.Duration, error) {
	var out struct {
		Config jetstream.StreamConfig `json:"config"`
	}
	name := c.names.Stream(org)
	if err := c.api(ctx, "STREAM.INFO."+name, nil, &out); err != nil {
		return 0, fmt.Errorf("limits of %s: %w", name, apiFailure(err))
	}
	return out.Config.MaxAge, nil
}

// Remove deletes the organization's stream and every event in it. It wraps
// ErrNoStream when there is none, and a *[ForeignError] when it is read for
// somebody else.
func (c *Client) Remove(ctx context.Context, org string) error {
	if err := CheckOrg(org); err != nil {
		return fmt.Errorf("remove stream: %w", err)
	}
	name := c.names.Stream(org)
	st, err := c.State(ctx, name)
	if err == nil {
		err = st.Foreign(c.options.Installation)
	}
	if err != nil {
		return fmt.Errorf("remove stream: %w", err)
	}
	if err := c.api(ctx, "STREAM.DELETE."+name, nil, nil); err != nil {
		return fmt.Errorf("remove stream %s: %w", name, apiFailure(err))
	}
	c.forgetNewest(name)
	return nil
}

// Find goes through all streams on the broker that have the name of an
// organization's stream, by pages of 256. A stream that is made or deleted
// meanwhile may be left out or shown; none is shown twice. The first error
// ends it.
func (c *Client) Find(ctx context.Context) iter.Seq2[State, error] {
	return func(yield func(State, error) bool) {
		seen := make(map[string]bool)
		for offset := 0; ; {
			var page struct {
				Total   int          `json:"total"`
				Streams []streamInfo `json:"streams"`
			}
			if err := c.api(ctx, "STREAM.LIST", map[string]int{"offset": offset}, &page); err != nil {
				yield(State{}, fmt.Errorf("list streams from %d: %w", offset, apiFailure(err)))
				return
			}
			for _, i := range page.Streams {
				name := i.Config.Name
				if _, ok := c.names.Org(name); !ok || seen[name] {
					continue
				}
				seen[name] = true
				if !yield(i.state(), nil) {
					return
				}
			}
			offset += len(page.Streams)
			if len(page.Streams) == 0 || offset >= page.Total {
				return
			}
		}
	}
}
