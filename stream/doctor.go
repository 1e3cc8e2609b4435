package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	diagnoseTimeout = 15 * time.Second
	diagnoseEvery   = time.Minute     // at most
	diagnoseAgain   = 5 * time.Minute // while something is missing
	maxClockOff     = 5 * time.Second
	headerRoom      = 8 << 10 // of max_payload, for an event's headers
)

// Finding is something that an external broker lacks, or has otherwise than it
// should.
type Finding struct {
	What   string // is missing
	Breaks string // what does not work then
	Do     string // about it
	Hint   bool   // everything works, but not as well as it could
}

func (f Finding) String() string { return f.What + ": " + f.Breaks + "; " + f.Do }

// Findings is what Diagnose found when it ran last: after each connection, and
// every few minutes while something is missing.
func (c *Client) Findings() []Finding {
	if f := c.findings.Load(); f != nil {
		return *f
	}
	return nil
}

// Diagnose looks at an external broker for what the daemon needs and does not
// have there. It writes nothing to any stream, and takes at most 15 seconds. It is
// empty for an embedded server, and while the broker cannot be reached: then
// Err says so.
func (c *Client) Diagnose(ctx context.Context) []Finding {
	if c.options.Server != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, diagnoseTimeout)
	defer cancel()
	refused, err := c.tryPermissions(ctx)
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return []Finding{{
			What:   "the NATS server refuses the daemon's user",
			Breaks: "nothing can be read or appended",
			Do:     "check the user and password in --nats-url, or --nats-creds",
		}}
	case err != nil:
		c.log.Debug("the broker could not be examined", "error", err)
		return nil
	case !c.nc.IsConnected():
		return nil
	}
	found, usable := c.notPermitted(refused)
	if usable {
		switch err := c.check(ctx); {
		case err == nil && len(found) == 0: // it may ask
			found = c.clock(ctx)
		case err != nil && !errors.Is(err, ErrUnavailable):
			found = append(found, Finding{What: "the NATS server cannot be used", Breaks: "nothing can be read or appended", Do: err.Error()})
		}
	}
	return append(found, serverFindings(c.options, int(c.maxData.Load()), c.nc.ConnectedServerVersion(), c.nc.ConnectedClusterName(), c.nc.MaxPayload())...)
}

// permission is one that the daemon needs at the broker. It can be tried without
// any effect: what would change something is sent in a form that the API
// refuses.
type permission struct {
	subscribe bool
	subject   string // as it is to be allowed
	try       string // what is tried: the subject, or one that it matches
	header    nats.Header
	data      string
	vital     bool // nothing works without it
	breaks    string
}

func (c *Client) permissions() []permission {
	const (
		nobody = "grapnel-doctor"      // an organization that nobody has
		far    = `{"offset":99999999}` // of a list: its end
		wrong  = `{"name":"-"}`        // contradicts the name in the subject, or is where nothing may be
	)
	api := func(call, data, breaks string) permission {
		try := strings.Replace(call, "*", c.names.Stream(nobody), 1)
		return permission{subject: "$JS.API." + call, try: "$JS.API." + try, data: data, breaks: breaks}
	}
	hear := func(subject, breaks string) permission {
		return permission{subscribe: true, subject: subject, try: subject, breaks: breaks}
	}
	vital := func(p permission) permission {
		p.vital = true
		return p
	}
	inbox := permission{subscribe: true, subject: "_INBOX.>", try: "_INBOX." + nobody + ".*", breaks: "no answer of the server arrives, so nothing can be read or appended"}
	events := permission{
		subject: c.names.Subjects("*")[0], try: c.names.Subject(nobody, "test"), header: nats.Header{nats.ExpectedStreamHdr: {"-"}},
		breaks: "events cannot be appended by the HTTP API and the command",
	}
	return []permission{
		vital(inbox),
		vital(api("INFO", "", "whether JetStream is there cannot be asked, so nothing is read or appended")),
		vital(api("STREAM.INFO.*", "", "the state of streams cannot be read, so no event is fanned out")),
		vital(api("DIRECT.GET.*", "{}", "events cannot be read")),
		api("STREAM.MSG.GET.*", "{}", "an event with malformed headers cannot be read, and holds up its stream"),
		api("STREAM.LIST", far, "streams that others have made are not found"),
		api("STREAM.NAMES", far, "when a subject is taken, the stream that has it cannot be named"),
		api("STREAM.CREATE.*", wrong, "organizations cannot be added"),
		api("STREAM.UPDATE.*", wrong, "streams that are there cannot be adopted, nor subjects be bound to them"),
		api("STREAM.DELETE.*", wrong, "an organization that is removed leaves its stream behind, which is found again"),
		events,
		hear(c.names.WakeFilter(), "new events are found by the sweep only, up to a minute late"),
		hear(advisories+"CREATED.*", "streams that others make are found within a minute only"),
		hear(advisories+"UPDATED.*", "that a stream was changed is noticed late"),
		hear(advisories+"DELETED.*", "that a stream was deleted is noticed late"),
	}
}

// verb is what the permission is for, in our words and in the server's.
func (p permission) verb() (ours, server string) {
	if p.subscribe {
		return "subscribe to", "Subscription to"
	}
	return "publish to", "Publish to"
}

// tryPermissions tries them all on a connection of its own, so that what is
// refused is not taken for a fault of the walk. It returns what the server
// refused.
func (c *Client) tryPermissions(ctx context.Context) (refused []string, err error) {
	o, err := c.natsOptions()
	if err != nil {
		return nil, err
	}
	o.Name = "grapnel doctor"
	o.AllowReconnect, o.RetryOnFailedConnect = false, false
	o.ConnectedCB, o.ReconnectedCB, o.DisconnectedErrCB = nil, nil, nil
	closed := make(chan struct{})
	o.ClosedCB = func(*nats.Conn) { close(closed) }
	o.AsyncErrorCB = func(_ *nats.Conn, _ *nats.Subscription, err error) { // one at a time, and before ClosedCB
		if errors.Is(err, nats.ErrPermissionViolation) {
			refused = append(refused, err.Error())
		}
	}
	nc, err := o.Connect()
	if err != nil {
		return nil, err
	}
	err = c.tryEach(ctx, nc)
	nc.Close()
	<-closed
	return refused, err
}

func (c *Client) tryEach(ctx context.Context, nc *nats.Conn) error {
	for _, p := range c.permissions() {
		var err error
		if p.subscribe {
			_, err = nc.Subscribe(p.try, func(*nats.Msg) {})
		} else {
			err = nc.PublishMsg(&nats.Msg{Subject: p.try, Header: p.header, Data: []byte(p.data)})
		}
		if err != nil {
			return err
		}
	}
	return nc.FlushWithContext(ctx)
}

// notPermitted are the findings about permissions. usable is false when one is
// among them without which nothing works.
func (c *Client) notPermitted(refused []string) (found []Finding, usable bool) {
	usable = true
	for _, p := range c.permissions() {
		ours, server := p.verb()
		if !slices.ContainsFunc(refused, func(r string) bool { return strings.Contains(r, fmt.Sprintf("%s %q", server, p.try)) }) {
			continue
		}
		usable = usable && !p.vital
		found = append(found, Finding{
			What:   fmt.Sprintf("the daemon's NATS user may not %s %s", ours, p.subject),
			Breaks: p.breaks,
			Do:     "allow it in the server's configuration, or in the user's JWT",
		})
	}
	return found, usable
}

// serverFindings are those about what the server said of itself.
func serverFindings(o Options, maxData int, version, cluster string, maxPayload int64) []Finding {
	var found []Finding
	if olderThan(version, goodVersion) {
		found = append(found, Finding{
			What:   "the NATS server is version " + version,
			Breaks: "it has known faults that can lose or hide events",
			Do:     "update it to " + goodVersion + " or later",
		})
	}
	if need := int64(maxData) + headerRoom; maxPayload > 0 && maxPayload < need {
		found = append(found, Finding{
			What:   fmt.Sprintf("the NATS server takes messages of at most %d bytes (max_payload)", maxPayload),
			Breaks: fmt.Sprintf("events as large as --max-event-size (%d) cannot be appended", maxData),
			Do:     fmt.Sprintf("set max_payload to at least %d, or --max-event-size to at most %d", need, max(maxPayload-headerRoom, 0)),
		})
	}
	if cluster != "" && o.Replicas < 3 {
		found = append(found, Finding{
			What:   fmt.Sprintf("the NATS server is one of cluster %s, and streams are made with %d replica", cluster, o.Replicas),
			Breaks: "an organization's events are away while the server that has them is",
			Do:     "give the streams three replicas on the broker (nats stream edit EVENTS_… --replicas 3)",
			Hint:   true,
		})
	}
	return found
}

// clock compares the broker's clock with ours, by what it says of one stream.
func (c *Client) clock(ctx context.Context) []Finding {
	var page struct {
		Streams []string `json:"streams"`
	}
	if c.api(ctx, "STREAM.NAMES", nil, &page) != nil {
		return nil
	}
	for _, name := range page.Streams {
		if _, ok := c.names.Org(name); !ok {
			continue
		}
		var info struct {
			At time.Time `json:"ts"`
		}
		asked := time.Now()
		if c.api(ctx, "STREAM.INFO."+name, nil, &info) != nil || info.At.IsZero() {
			return nil
		}
		return clockFindings(info.At, asked, time.Now())
	}
	return nil
}

// clockFindings is about a broker that said it was at, between asked and
// answered on our clock.
func clockFindings(at, asked, answered time.Time) []Finding {
	off, way := asked.Sub(at), "behind"
	if at.After(asked) {
		off, way = at.Sub(answered), "ahead of"
	}
	if off <= maxClockOff {
		return nil
	}
	return []Finding{{
		What:   fmt.Sprintf("the NATS server's clock is %s %s the daemon's", off.Round(time.Second), way),
		Breaks: "the age of events, and endpoints that start at a time, are wrong by that",
		Do:     "set both by NTP",
	}}
}

// examine runs Diagnose after each connection and each loss of one, at most once
// a minute, and again while something is missing; it says what it finds.
func (c *Client) examine(ctx context.Context) {
	for {
		select { // what is asked for is done now
		case <-c.doctor:
		default:
		}
		found := c.Diagnose(ctx)
		if ctx.Err() != nil {
			return
		}
		c.report(found)
		select {
		case <-time.After(diagnoseEvery):
		case <-ctx.Done():
			return
		}
		var again <-chan time.Time
		if len(found) > 0 {
			again = time.After(diagnoseAgain)
		}
		select {
		case <-c.doctor:
		case <-again:
		case <-ctx.Done():
			return
		}
	}
}

// report logs what was not found the last time.
func (c *Client) report(found []Finding) {
	had := make(map[Finding]bool)
	for _, f := range c.Findings() {
		had[f] = true
	}
	for _, f := range found {
		switch {
		case had[f]:
		case f.Hint:
			c.log.Info("the broker could serve better", "found", f.What, "breaks", f.Breaks, "do", f.Do)
		default:
			c.log.Warn("the broker lacks something", "found", f.What, "breaks", f.Breaks, "do", f.Do)
		}
	}
	c.findings.Store(&found)
}
