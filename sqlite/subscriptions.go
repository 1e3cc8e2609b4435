package sqlite

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Start is from where in the org's stream a new endpoint gets events. The zero
// Start is the org's position at that moment: the first event it gets is the next
// one that is fanned out.
type Start struct {
	// After is the sequence, in the present incarnation, after which it gets
	// events. When the org was read further, it begins as a [fanout.Backfill].
	After *stream.Seq
}

// place is a place in the incarnations of an org's stream.
type place struct{ incarnation, seq int64 }

// place reads, within the transaction, how far the org was ever read.
func (t *txn) place(o *orgState) (place, error) {
	r := make(row, 2)
	found, err := t.c.one(r, "SELECT incarnation, furthest FROM cursors WHERE org=?", o.row)
	if err == nil && !found {
		err = fanout.ErrNoOrg // removed a moment ago
	}
	return place{r.int(0), r.int(1)}, err
}

// subscribe opens a span for e, from at on.
func (t *txn) subscribe(o *orgState, e *deliver.Endpoint, at place) error {
	_, err := t.c.exec("INSERT INTO subscriptions(org, endpoint, types, workspace, filter, incarnation, from_seq) VALUES(?,?,?,?,?,?,?)",
		o.row, e.Row, jsonList(e.EventTypes), e.Workspace, e.Filter, at.incarnation, at.seq)
	if err != nil {
		return err
	}
	return t.bump(o)
}

// unsubscribe closes the endpoint's open span where the org was read to. A span
// that would end before it begins never was.
func (t *txn) unsubscribe(o *orgState, endpoint int64) error {
	at, err := t.place(o)
	if err != nil {
		return err
	}
	if _, err := t.c.exec(`DELETE FROM subscriptions WHERE org=? AND endpoint=? AND until_seq IS NULL AND (incarnation, from_seq) >= (?, ?)`,
		o.row, endpoint, at.incarnation, at.seq); err != nil {
		return err
	}
	_, err = t.c.exec("UPDATE subscriptions SET until_incarnation=?, until_seq=? WHERE org=? AND endpoint=? AND until_seq IS NULL",
		at.incarnation, at.seq, o.row, endpoint)
	if err != nil {
		return err
	}
	return t.bump(o)
}

// resubscribe closes the open span, if there is one, and opens another. An
// endpoint that is behind stays so: it gets the other one at its place.
func (t *txn) resubscribe(o *orgState, e *deliver.Endpoint) error {
	if c, ok, err := t.catchup(e.Row); err != nil {
		return err
	} else if ok {
		return t.regrow(o, e, &c)
	}
	r := make(row, 2)
	found, err := t.c.one(r, "SELECT incarnation, from_seq FROM subscriptions WHERE org=? AND endpoint=? AND until_seq IS NULL", o.row, e.Row)
	if err != nil {
		return err
	}
	at, err := t.place(o)
	if err != nil {
		return err
	}
	if found {
		if err := t.unsubscribe(o, e.Row); err != nil {
			return err
		}
		// A start that lies ahead still holds.
		if from := (place{r.int(0), r.int(1)}); from.incarnation > at.incarnation || from.incarnation == at.incarnation && from.seq > at.seq {
			at = from
		}
	}
	return t.subscribe(o, e, at)
}

// Subscriptions implements [fanout.Books]. The set is compiled once for each
// version.
func (s *Store) Subscriptions(ctx context.Context, org string) (*fanout.Set, error) {
	o, err := s.find(org)
	if err != nil {
		return nil, err
	}
	s.mu.RLock()
	set := o.set
	s.mu.RUnlock()
	if set != nil {
		return set, nil
	}
	if set, err = s.compile(o); err != nil {
		return nil, fmt.Errorf("subscriptions of %s: %w", org, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if set.Version() == o.version { // else it has changed meanwhile, and nobody may rely on it for long
		o.set = set
	}
	return set, nil
}

func (s *Store) compile(o *orgState) (*fanout.Set, error) {
	var version int64
	var spans []fanout.Span
	rows, err := s.readDB.QueryContext(background, `SELECT c.version, s.endpoint, s.types, s.workspace, s.filter, s.incarnation, s.from_seq, s.until_incarnation, s.until_seq
		FROM cursors c LEFT JOIN subscriptions s ON s.org = c.org
			AND (s.until_seq IS NULL OR (s.until_incarnation, s.until_seq) > (c.incarnation, c.position)) WHERE c.org = ?`, o.row)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var endpoint, incarnation, from, untilIncarnation, until *int64
		var types, workspace, text *string
		if err := rows.Scan(&version, &endpoint, &types, &workspace, &text, &incarnation, &from, &untilIncarnation, &until); err != nil {
			return nil, err
		}
		if endpoint == nil {
			continue // nobody is subscribed
		}
		sub := fanout.Span{Subscription: fanout.Subscription{
			Endpoint: *endpoint, Workspace: *workspace, Filter: s.filters.Get(*text), Incarnation: int(*incarnation), From: stream.Seq(*from),
		}}
		if until != nil {
			sub.Ended, sub.UntilIncarnation, sub.Until = true, int(*untilIncarnation), stream.Seq(*until)
		}
		if err := json.Unmarshal([]byte(*types), &sub.Types); err != nil {
			return nil, fmt.Errorf("types of endpoint %d: %w", *endpoint, err)
		}
		spans = append(spans, sub)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	return fanout.CompileHistory(version, spans), nil
}
