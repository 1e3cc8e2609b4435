package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Subject is what somebody asks "why not?" about: an event by its ID, or what
// lies at a sequence of the present stream.
type Subject struct {
	ID    stream.ID     // zero: by Seq
	Seq   stream.Seq    // where the stream has it; 0: it does not have it any more
	Event *stream.Event // as the stream has it there, nil if that is no event, or gone
}

// Explanation is what became of an event, or of a sequence without one.
type Explanation struct {
	fanout.Question
	ID      stream.ID // zero: unknown
	Answers []fanout.Answer
}

// Explain says for each endpoint of the org why it did or did not get the
// subject, see [fanout.Explain]. It reads the rows of that event only, the
// org's endpoints and their subscriptions. It wraps [ErrNotFound] when neither
// the books nor the stream know the event.
func (s *Store) Explain(ctx context.Context, org string, sub Subject) (Explanation, error) {
	var x Explanation
	if x.ID = sub.ID; sub.Event != nil {
		x.ID = sub.Event.ID
	}
	var candidates []int64
	if x.ID != (stream.ID{}) {
		var err error
		if candidates, err = s.keys.lookup(s.readDB, x.ID, nil); err != nil {
			return x, fmt.Errorf("explain %s of %s: %w", sub, org, err)
		}
	}
	a, err := s.Audit(ctx, org) // all of it as of one moment
	if err != nil {
		return x, err
	}
	err = a.explain(ctx, sub, &x, candidates)
	if err = errors.Join(err, a.Close()); err != nil {
		return Explanation{}, fmt.Errorf("explain %s of %s: %w", sub, org, err)
	}
	return x, nil
}

// String names what was asked for.
func (s Subject) String() string {
	if s.ID != (stream.ID{}) {
		return s.ID.String()
	}
	return fmt.Sprint("sequence ", s.Seq)
}

// explain puts together all that is known. The candidates are the events that
// may have the subject's ID.
func (a *Audit) explain(ctx context.Context, sub Subject, x *Explanation, candidates []int64) (err error) {
	q := &x.Question
	q.Event, q.Now = sub.Event, a.s.now()
	if q.Position, q.Complete, err = a.Position(ctx); err != nil {
		return err
	}
	if sub.Event != nil {
		q.Type, q.Stored = sub.Event.Type, sub.Event.Stored
	}
	q.Incarnation, q.Seq = max(q.Position.Incarnation, 1), sub.Seq
	for _, event := range candidates {
		if found, err := a.booked(x, sub, event); err != nil || found {
			if err != nil {
				return err
			}
			break
		}
	}
	if q.Seq == 0 {
		return ErrNotFound // neither the stream nor the books know where it lies
	}
	if err := a.exception(q); err != nil {
		return err
	}
	if sub.ID == (stream.ID{}) && sub.Event == nil && q.Exception == nil && q.Seq <= q.Position.Seq {
		return ErrNotFound // the stream has it no more, and nobody can say what it was
	}
	if q.Spans, err = a.History(ctx); err != nil {
		return err
	}
	if q.Receivers, err = a.receivers(q); err != nil {
		return err
	}
	x.Answers = fanout.Explain(*q)
	return nil
}

// booked looks whether the books have the subject as that event: at its own
// place, or, when it is a duplicate of that one, elsewhere.
func (a *Audit) booked(x *Explanation, sub Subject, event int64) (found bool, err error) {
	q, p := &x.Question, fanout.EventPlace{Event: event, Org: x.Position.Org}
	var key []byte
	var typ string
	var stored int64
	err = a.c.QueryRowContext(background, "SELECT incarnation, seq, key, type, stored FROM events WHERE id=? AND org=?", event, a.o.row).
		Scan(&p.Incarnation, &p.Seq, &key, &typ, &stored)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if p.ID = toID(key); err != nil || p.ID != x.ID {
		return false, err
	}
	if here := p.Incarnation == q.Incarnation && p.Seq == q.Seq; !here {
		if sub.ID == (stream.ID{}) {
			q.Earlier = &p // asked by sequence: another message has this ID
			return false, nil
		}
		// Asked by ID: where the books have it is where it was fanned out.
		q.Incarnation, q.Seq, q.Event = p.Incarnation, p.Seq, nil
	}
	q.Earlier, q.Type, q.Stored = nil, typ, fromMillis(stored)
	return true, a.deliveries(q, event)
}

func (a *Audit) deliveries(q *fanout.Question, event int64) error {
	return each(a.c, func(scan func(...any) error) error {
		d, err := scanDelivery(scanner(scan), q.Position.Org)
		q.Deliveries = append(q.Deliveries, d)
		return err
	}, `SELECT `+deliveryColumns+` FROM deliveries d JOIN events e ON e.id=d.event JOIN endpoints p ON p.id=d.endpoint
		WHERE d.event=? AND d.org=? ORDER BY d.endpoint`, event, a.o.row)
}

// exception finds why the sequence has no deliveries, if that is recorded.
func (a *Audit) exception(q *fanout.Question) error {
	x := fanout.Exception{Kind: fanout.ExceptionRejected, Incarnation: q.Incarnation, From: q.Seq, To: q.Seq}
	var stored int64
	err := a.c.QueryRowContext(background, "SELECT code, detail, stored FROM rejected WHERE org=? AND incarnation=? AND seq=?", a.o.row, q.Incarnation, q.Seq).
		Scan(&q.Code, &q.Detail, &stored)
	if err == nil {
		q.Exception, q.Stored = &x, fromNanos(stored)
		return nil
	}
	for kind, table := range map[fanout.ExceptionKind]string{fanout.ExceptionGap: "gaps", fanout.ExceptionGated: "gated"} {
		if errors.Is(err, sql.ErrNoRows) {
			x.Kind = kind
			skipped := "0"
			if table == "gaps" {
				skipped = "skipped"
			}
			var byHand bool
			err = a.c.QueryRowContext(background, "SELECT from_seq, to_seq, "+skipped+" FROM "+table+" WHERE org=? AND incarnation=? AND from_seq<=? ORDER BY from_seq DESC LIMIT 1",
				a.o.row, q.Incarnation, q.Seq).Scan(&x.From, &x.To, &byHand)
			if byHand {
				x.Kind = fanout.ExceptionSkipped
			}
			if err == nil && x.To < q.Seq {
				err = sql.ErrNoRows
			}
		}
	}
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	q.Exception = &x
	return err
}

// receivers are the org's endpoints, and those that were removed and once were
// subscribed at that place or have a delivery.
func (a *Audit) receivers(q *fanout.Question) ([]fanout.Receiver, error) {
	a.s.mu.RLock()
	var list []fanout.Receiver
	rows := make(map[int64]bool)
	for _, row := range a.o.endpoints {
		if e := a.s.endpoints[row]; e != nil {
			rows[row] = true
			list = append(list, fanout.Receiver{Row: row, ID: e.ID, CreatedAt: e.CreatedAt, DisabledReason: e.DisabledReason, DisabledAt: e.DisabledAt, Paused: e.Paused, Wait: e.Wait()})
		}
	}
	a.s.mu.RUnlock()
	var gone []int64
	add := func(row int64) {
		if !rows[row] {
			rows[row] = true
			gone = append(gone, row)
		}
	}
	for _, d := range q.Deliveries {
		add(d.Key.Endpoint)
	}
	for i := range q.Spans {
		if q.Spans[i].Covers(q.Incarnation, q.Seq) {
			add(q.Spans[i].Endpoint)
		}
	}
	err := each(a.c, func(scan func(...any) error) error {
		r := fanout.Receiver{Removed: true}
		var created, disabled int64
		err := scan(&r.Row, &r.ID, &created, &r.DisabledReason, &disabled)
		r.CreatedAt, r.DisabledAt = fromMillis(created), fromMillis(disabled)
		list = append(list, r)
		return err
	}, `SELECT p.id, p.ulid, p.created_at, p.disabled_reason, p.disabled_at FROM json_each(?) j
		CROSS JOIN endpoints p ON p.id=j.value WHERE p.org=?`, numbers(gone), a.o.row)
	slices.SortFunc(list, func(a, b fanout.Receiver) int { return cmp.Compare(a.Row, b.Row) })
	if err == nil {
		err = a.behind(q, list)
	}
	return list, err
}
