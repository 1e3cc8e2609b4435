package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Expunging takes the content of one event out of the books: its payload, what receivers
// answered to it, and the copy of a message that was rejected. That it was, and what
// became of it, stays: the event, its deliveries and attempts are still proven, and
// its key stays known, so that nothing brings it back. A row of the table expunged
// says so; an event that has one is never sent again.
//
// What is deleted is overwritten with zeros (secure_delete), and the log, which still has
// it, is folded and emptied afterwards ([Store.FoldLog]).

// Expunge says what is to be expunged.
type Expunge struct {
	Place   Place // where it lies
	Event   int64 // its number in the books; 0: it has none
	Reason  string
	Execute bool // else it is only counted
}

// Expunged is what was, or would be, taken out of the books.
type Expunged struct {
	Payloads  int64
	Answers   int64 // of receivers, kept with attempts
	Rejected  int64
	Cancelled []deliver.Key // pending deliveries
	Before    bool          // it was expunged before
}

// Expunge takes the content of an event, or of a message that was none, out of
// the books, and cancels what is pending of it. Doing it again changes nothing.
func (s *Store) Expunge(ctx context.Context, org, target string, e Expunge) (Expunged, error) {
	o, err := s.find(org)
	if err != nil {
		return Expunged{}, err
	}
	var done Expunged
	err = s.w.do(ctx, func(t *txn) (err error) {
		if done, err = t.countExpunge(o, e); err != nil || !e.Execute {
			return err
		}
		defer func() {
			_, off := t.c.exec("PRAGMA secure_delete = OFF")
			err = errors.Join(err, off)
		}()
		if _, err := t.c.exec("PRAGMA secure_delete = ON"); err != nil {
			return err
		}
		if err := t.expunge(o, e, done.Cancelled); err != nil {
			return err
		}
		if done.Before && done.Payloads+done.Answers+done.Rejected+int64(len(done.Cancelled)) == 0 {
			return nil
		}
		return t.audited(o, "event.expunge", target, Changes{
			"reason": {nil, e.Reason}, "payloads": {done.Payloads, 0}, "answers": {done.Answers, 0}, "rejected": {done.Rejected, 0}, "cancelled": {nil, len(done.Cancelled)},
		})
	})
	if err != nil {
		return Expunged{}, fmt.Errorf("expunge %s: %w", target, err)
	}
	return done, nil
}

func (t *txn) countExpunge(o *orgState, e Expunge) (done Expunged, err error) {
	count := func(to *int64, query string, args ...driver.Value) {
		if err == nil {
			r := make(row, 1)
			_, err = t.c.one(r, query, args...)
			*to = r.int(0)
		}
	}
	var before int64
	count(&before, "SELECT count(*) FROM expunged WHERE org=? AND incarnation=? AND seq=?", o.row, int64(e.Place.Incarnation), int64(e.Place.Seq))
	count(&done.Rejected, "SELECT count(*) FROM rejected WHERE org=? AND incarnation=? AND seq=? AND (length(data) > 0 OR detail<>?)",
		o.row, int64(e.Place.Incarnation), int64(e.Place.Seq), expungedDetail)
	if e.Event != 0 {
		count(&done.Payloads, "SELECT count(*) FROM payloads WHERE event=?", e.Event)
		count(&done.Answers, "SELECT count(*) FROM attempts WHERE event=? AND (headers IS NOT NULL OR body IS NOT NULL)", e.Event)
	}
	done.Before = before > 0
	if err == nil && e.Event != 0 {
		err = t.c.query(func(r row) error {
			done.Cancelled = append(done.Cancelled, deliver.Key{Event: e.Event, Endpoint: r.int(0)})
			return nil
		}, "SELECT endpoint FROM deliveries WHERE event=? AND org=? AND state=0", e.Event, o.row)
	}
	return done, err
}

// withheld are the events of the plan, by sequence, whose content was expunged before
// they were read, or whose message the stream could not erase. They are booked as any
// other, so that the books are proven, with deliveries that are cancelled at once.
func (t *txn) withheld(o *orgState, p fanout.Plan) (map[int64]bool, error) {
	if len(p.Events) == 0 {
		return nil, nil
	}
	var all map[int64]bool
	err := t.c.query(func(r row) error {
		if all == nil {
			all = make(map[int64]bool)
		}
		all[r.int(0)] = true
		return nil
	}, "SELECT seq FROM expunged WHERE org=? AND incarnation=? AND seq BETWEEN ? AND ?",
		o.row, int64(p.To.Incarnation), int64(p.Events[0].Seq), int64(p.Events[len(p.Events)-1].Seq))
	return all, err
}

// withhold books an event that is withheld: its deliveries are cancelled, and what
// is asked by its number finds that it was expunged.
func (t *txn) withhold(o *orgState, p fanout.Plan, seq stream.Seq, event int64, endpoints []int64) error {
	if _, err := t.c.exec("UPDATE expunged SET event=? WHERE org=? AND incarnation=? AND seq=? AND event=0",
		event, o.row, int64(p.To.Incarnation), int64(seq)); err != nil {
		return err
	}
	return t.insertCancelled(o, event, deliver.ByHand, endpoints)
}

// expungedDetail takes the place of why a message was rejected, which may
// have quoted it.
const expungedDetail = "expunged"

func (t *txn) expunge(o *orgState, e Expunge, pending []deliver.Key) error {
	for _, k := range pending {
		t.tally(k.Endpoint, -1, 0)
		if _, err := t.c.exec("UPDATE deliveries SET state=?, reason=?, due=0, trigger=0 WHERE event=? AND endpoint=?",
			int64(deliver.Cancelled), int64(deliver.ByHand), k.Event, k.Endpoint); err != nil {
			return err
		}
		if err := t.leave(k); err != nil {
			return err
		}
	}
	if e.Event != 0 {
		if _, err := t.c.exec("DELETE FROM payloads WHERE event=?", e.Event); err != nil {
			return err
		}
		if _, err := t.c.exec("UPDATE attempts SET headers=NULL, body=NULL, truncated=NULL WHERE event=?", e.Event); err != nil {
			return err
		}
		t.after = append(t.after, func() { delete(t.w.kept, e.Event) })
	}
	if _, err := t.c.exec("UPDATE rejected SET data=x'', detail=? WHERE org=? AND incarnation=? AND seq=?",
		expungedDetail, o.row, int64(e.Place.Incarnation), int64(e.Place.Seq)); err != nil {
		return err
	}
	_, err := t.c.exec("INSERT OR IGNORE INTO expunged(org, incarnation, seq, event, at) VALUES(?,?,?,?,?)",
		o.row, int64(e.Place.Incarnation), int64(e.Place.Seq), e.Event, toMillis(t.now))
	return err
}

// isExpunged reports whether the content of an event was taken out.
func (t *txn) isExpunged(event int64) (bool, error) {
	return t.c.one(make(row, 1), "SELECT 1 FROM expunged WHERE event=? AND event > 0", event)
}

// ExpungedAt says whether what lay at a place of the org's stream was expunged, and the
// number of the event that it was; 0: it had no deliveries.
func (s *Store) ExpungedAt(_ context.Context, org string, at Place) (event int64, was bool, err error) {
	o, err := s.find(org)
	if err != nil {
		return 0, false, err
	}
	found, err := s.column("SELECT event FROM expunged WHERE org=? AND incarnation=? AND seq=?", o.row, at.Incarnation, int64(at.Seq))
	if err != nil || len(found) == 0 {
		return 0, false, err
	}
	return found[0], true, nil
}

// ExpungedBetween are the sequences from first to last, of the present stream of the org,
// whose content was expunged; nil: none was.
func (s *Store) ExpungedBetween(_ context.Context, org string, first, last stream.Seq) (map[stream.Seq]bool, error) {
	o, err := s.find(org)
	if err != nil {
		return nil, err
	}
	found, err := s.column(`SELECT x.seq FROM cursors c JOIN expunged x ON x.org=c.org AND x.incarnation=max(c.incarnation, 1)
		WHERE c.org=? AND x.seq BETWEEN ? AND ?`, o.row, int64(first), int64(min(last, math.MaxInt64)))
	if err != nil || len(found) == 0 {
		return nil, err
	}
	all := make(map[stream.Seq]bool, len(found))
	for _, seq := range found {
		all[stream.Seq(seq)] = true
	}
	return all, nil
}

// foldTries is how often the log is tried to be emptied while somebody still reads it.
const foldTries = 20

// FoldLog folds the write-ahead log into the database and empties it, so that it holds
// nothing any more of what was deleted. It reports false when another program copies the
// log and decides itself when, or somebody went on reading all the while: then it
// happens with a later checkpoint.
func (s *Store) FoldLog(ctx context.Context) (bool, error) {
	if s.o.Replicated {
		return false, nil
	}
	db := openDB(s.path, "rw", 1, nil)
	defer db.Close()
	for range foldTries {
		var busy, pages, folded int
		err := db.QueryRowContext(background, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &folded)
		if err != nil && faultOf(err) != faultBusy {
			return false, fmt.Errorf("fold the log: %w", public(err))
		}
		if err == nil && busy == 0 {
			return true, nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return false, nil
		}
	}
	return false, nil
}

// withoutExpunged moves the places of expunged events to where no stream has
// anything: their payloads are gone, even if the stream still holds them.
func (s *Store) withoutExpunged(places []fanout.EventPlace) error {
	if len(places) == 0 {
		return nil
	}
	events := make([]int64, len(places))
	for i := range places {
		events[i] = places[i].Event
	}
	gone, err := s.column("SELECT x.event FROM json_each(?) j CROSS JOIN expunged x ON x.event=j.value WHERE x.event > 0", numbers(events))
	if err != nil || len(gone) == 0 {
		return err
	}
	for i := range places {
		for _, event := range gone {
			if places[i].Event == event {
				places[i].Seq = 0
			}
		}
	}
	return nil
}

var errExpunged = fmt.Errorf("its content was expunged: %w", ErrState)
