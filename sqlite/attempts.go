package sqlite

import (
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

const (
	insertAttempts = "INSERT OR IGNORE INTO attempts(event, endpoint, number, trigger, started, duration, class, status, revision, timings) VALUES "
	plainAttempt   = insertAttempts + "(?,?,?,?,?,?,?,?,?,?)"
	attemptArgs    = 7
	firstSuccess   = "(?,?,1,0,?,?,0,?,?,?)" // the first attempt, by the first trigger, of class OK
	insertFullRow  = "INSERT OR IGNORE INTO attempts(event, endpoint, number, trigger, started, duration, class, status, revision, timings, retry_after, error, headers, body, truncated) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)

var (
	oneSuccess    = insertAttempts + firstSuccess
	manySuccesses = insertAttempts + values(firstSuccess, manyRows)
)

// bare reports whether there is nothing of the response to keep.
func bare(a *deliver.Attempt) bool {
	return a.RetryAfter == 0 && len(a.Header) == 0 && len(a.Body) == 0 && a.Error == "" && !a.Truncated
}

func addPlain(in *inserter, r *deliver.Record) error {
	a := &r.Attempt
	return in.add(r.Event, r.Endpoint, toMillis(a.Started), a.Duration.Microseconds(), int64(a.Status), a.Revision, timingsOf(a))
}

func (t *txn) insertAttempt(r *deliver.Record) error {
	a := &r.Attempt
	if bare(a) {
		_, err := t.c.exec(plainAttempt, r.Event, r.Endpoint, int64(a.Number), int64(a.Trigger), toMillis(a.Started), a.Duration.Microseconds(),
			int64(a.Class), int64(a.Status), a.Revision, timingsOf(a))
		return err
	}
	var wait, text, headers, body, truncated any // NULL unless there is something
	if a.RetryAfter != 0 {
		wait = a.RetryAfter.Milliseconds()
	}
	if a.Error != "" {
		text = a.Error
	}
	if len(a.Header) > 0 {
		b, err := json.Marshal(a.Header)
		if err != nil {
			return err
		}
		headers = string(b)
	}
	if len(a.Body) > 0 {
		body = a.Body
	}
	if a.Truncated {
		truncated = int64(1)
	}
	_, err := t.c.exec(insertFullRow, r.Event, r.Endpoint, int64(a.Number), int64(a.Trigger), toMillis(a.Started), a.Duration.Microseconds(),
		int64(a.Class), int64(a.Status), a.Revision, timingsOf(a), wait, text, headers, body, truncated)
	return err
}

// timingsOf is the column timings of an attempt: NULL when there is nothing that the
// duration does not say, as for a success on a connection that was there already,
// which most attempts are. Else: 1 if the connection was there, the four parts in
// µs as varints, and the address as netip.AddrPort marshals it, if it is known.
func timingsOf(a *deliver.Attempt) any {
	t := &a.Timings
	if t.Reused && a.Class == deliver.OK || *t == (deliver.Timings{}) && a.Address == "" {
		return nil
	}
	b := make([]byte, 0, 32)
	if t.Reused {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	for _, d := range []time.Duration{t.DNS, t.Connect, t.TLS, t.FirstByte} {
		b = binary.AppendUvarint(b, uint64(max(d, 0).Microseconds()))
	}
	if address, err := netip.ParseAddrPort(a.Address); err == nil {
		b, _ = address.AppendBinary(b) // never fails
	}
	return b
}

// readTimings reads the column timings into a. NULL leaves it alone.
func readTimings(b []byte, a *deliver.Attempt) error {
	if b == nil {
		return nil
	}
	if len(b) == 0 {
		return fmt.Errorf("timings of attempt %d are empty", a.Number)
	}
	t := &a.Timings
	t.Reused = b[0] == 1
	b = b[1:]
	for _, d := range []*time.Duration{&t.DNS, &t.Connect, &t.TLS, &t.FirstByte} {
		micros, n := binary.Uvarint(b)
		if n <= 0 {
			return fmt.Errorf("timings of attempt %d are cut short", a.Number)
		}
		*d, b = time.Duration(micros)*time.Microsecond, b[n:]
	}
	if len(b) == 0 {
		return nil
	}
	var address netip.AddrPort
	if err := address.UnmarshalBinary(b); err != nil {
		return fmt.Errorf("address of attempt %d: %w", a.Number, err)
	}
	a.Address = address.String()
	return nil
}

// maxAttempts bounds the history that is read of one delivery: its newest.
const maxAttempts = 1000

func (s *Store) attempts(k deliver.Key) ([]deliver.Attempt, error) {
	rows, err := s.readDB.QueryContext(background, `SELECT number, trigger, started, duration, class, status, revision, timings, retry_after, error, headers, body, truncated FROM (
		SELECT * FROM attempts WHERE event=? AND endpoint=? ORDER BY number DESC LIMIT ?) ORDER BY number`, k.Event, k.Endpoint, maxAttempts)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []deliver.Attempt
	for rows.Next() {
		var a deliver.Attempt
		var started, micros int64
		var timings []byte
		var wait sql.NullInt64
		var text, headers sql.NullString
		var truncated sql.NullBool
		if err := rows.Scan(&a.Number, &a.Trigger, &started, &micros, &a.Class, &a.Status, &a.Revision, &timings, &wait, &text, &headers, &a.Body, &truncated); err != nil {
			return nil, err
		}
		a.Started, a.Duration = fromMillis(started), time.Duration(micros)*time.Microsecond
		a.RetryAfter, a.Error, a.Truncated = time.Duration(wait.Int64)*time.Millisecond, text.String, truncated.Bool
		if err := readTimings(timings, &a); err != nil {
			return nil, err
		}
		if headers.Valid {
			if err := json.Unmarshal([]byte(headers.String), &a.Header); err != nil {
				return nil, fmt.Errorf("headers of attempt %d: %w", a.Number, err)
			}
		}
		list = append(list, a)
	}
	return list, rows.Err()
}
