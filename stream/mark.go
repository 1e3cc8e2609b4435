package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// markKey is the key in a stream's metadata under which it says for which
// installation it is read.
//
// A cursor is in the database, and nowhere else. A database that is new (a
// wrong volume, a lost disk, a second daemon) would therefore read every stream
// from its beginning, and send everything again. The mark tells it that another
// database has a cursor there already. It is no lock: whoever claims a stream
// takes it over, and the one that had it notices at the next look.
const markKey = "grapnel-installation"

// ForeignError: the stream is marked as another installation's.
type ForeignError struct {
	Stream       string
	Installation string // whose it is
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("stream %s is read by another database (installation %s): restore that database, or take the stream over with `grapnel cursor claim`",
		e.Stream, e.Installation)
}

// Foreign returns a *ForeignError when the stream carries a mark other than
// installation. "" has no mark, and minds none.
func (s State) Foreign(installation string) error {
	if installation == "" || s.Installation == "" || s.Installation == installation {
		return nil
	}
	return &ForeignError{Stream: s.Name, Installation: s.Installation}
}

// Mark marks the organization's stream as our installation's. One that has
// another mark is left alone: a *ForeignError. Doing it again changes nothing.
func (c *Client) Mark(ctx context.Context, org string) error { return c.mark(ctx, org, false) }

// Claim is Mark, whosever the stream was.
func (c *Client) Claim(ctx context.Context, org string) error { return c.mark(ctx, org, true) }

func (c *Client) mark(ctx context.Context, org string, claim bool) error {
	name := c.names.Stream(org)
	fail := func(err error) error { return fmt.Errorf("mark stream %s: %w", name, err) }
	if c.options.Installation == "" {
		return nil
	}
	if err := CheckOrg(org); err != nil {
		return fail(err)
	}
	defer c.change(name)()
	var raw struct {
		Config map[string]json.RawMessage `json:"config"`
	}
	var i streamInfo
	if err := c.api(ctx, "STREAM.INFO."+name, nil, &outs{&raw, &i}); err != nil {
		return fail(apiFailure(err))
	}
	st := i.state()
	if err := st.Foreign(c.options.Installation); err != nil && !claim {
		return err
	}
	if st.Installation == c.options.Installation {
		return nil
	}
	var err error
	if raw.Config["metadata"], err = json.Marshal(c.marked(i.Config.Metadata)); err != nil {
		return fail(err)
	}
	if err := c.api(ctx, "STREAM.UPDATE."+name, raw.Config, nil); err != nil {
		return fail(apiFailure(err))
	}
	return nil
}

// marked is a stream's metadata with our mark.
func (c *Client) marked(has map[string]string) map[string]string {
	m := make(map[string]string, len(has)+1)
	for k, v := range has {
		m[k] = v
	}
	if c.options.Installation != "" {
		m[markKey] = c.options.Installation
	}
	return m
}

// ours reports whether a stream that is to be adopted has our mark already. One
// that has another is an error.
func (c *Client) ours(has jetstream.StreamConfig) (bool, error) {
	st := State{Name: has.Name, Installation: has.Metadata[markKey]}
	return c.options.Installation == "" || st.Installation == c.options.Installation, st.Foreign(c.options.Installation)
}

// unmarkable reports whether the update of a stream that is to get nothing but
// the mark failed: it can be read without.
func unmarkable(changes []string, err error) bool {
	return err != nil && len(changes) == 1 && changes[0] == "metadata" && !errors.Is(err, ErrNoStream)
}
