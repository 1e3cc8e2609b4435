package httpapi

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Cursor is how far an org's stream has been fanned out, beside what the
// stream holds and what came of it (contract, section 7).
type Cursor struct {
	cursor.Position
	First, Last     stream.Seq // of the stream; 0 when the broker does not tell
	StreamCheckedAt time.Time  // when the stream said so; zero: it did not
	VerifiedAt      time.Time  // when the position was last found to be one of this stream; zero: not since the start
	UpdatedAt       time.Time
	Lag             uint64        // events behind
	Age             time.Duration // since the oldest of them was stored
	Pending         int64         // deliveries
	Due             int64         // of the pending ones
	OldestDue       time.Duration // for how long the one is due that is due longest; 0: none is
	Dead            int64
	Rejected        int64 // events
	Gaps            int64 // ranges
	Pace            Pace

	State     string    // live, behind, paused, gated, gap, regressed, stream-missing, unclaimed, unreachable
	Why       string    // it is in that state, for people, and what ends it; "": there is nothing to say
	Since     time.Time // when it began; zero: it is not known
	LastError string    // why the last reading or commit failed; "": it did not
	Pause     *CursorPause

	// Of one cursor only, not in lists: the endpoints with the most pending or
	// dead deliveries, up to 20, and the latest moves by hand, up to 10, newest first.
	Endpoints []Backlogged
	Moves     []CursorMoved
	// Incarnations are streams that were found in place of the one that the
	// cursor had read, up to 10, newest first. Not in lists.
	Incarnations []Incarnation
}

// Incarnation is a stream, or a rolled-back state of one, that was found in
// place of what the cursor had read.
type Incarnation struct {
	Number  int
	At      time.Time // when it was noticed
	Change  cursor.Change
	Created time.Time  // the stream's identity
	Left    stream.Seq // how far the one before was read
	Began   stream.Seq // the sequence after which this one is read
}

// CursorPause is who paused a cursor, why, and until when.
type CursorPause struct {
	By     string // "": it is not known
	Reason string
	At     time.Time // zero: it is not known
	Until  time.Time // zero: until somebody resumes it
}

// CursorMoved is a change of a position by hand.
type CursorMoved struct {
	At       time.Time
	By       string
	Action   string // cursor.reset, …
	From, To stream.Seq
	Reason   string
	Skipped  string // sequences that were never read: "43-50"
}

// CursorBody is an org's cursor (contract, section 7).
type CursorBody struct {
	Org             string     `json:"org" example:"acme"`
	Stream          string     `json:"stream" example:"EVENTS_acme"`
	StreamCreated   *time.Time `json:"stream_created" doc:"null before the first read"`
	Incarnation     int        `json:"incarnation" example:"1"`
	FirstSeq        uint64     `json:"first_seq" example:"1"`
	LastSeq         uint64     `json:"last_seq" example:"44"`
	StreamCheckedAt *time.Time `json:"stream_checked_at" doc:"When the stream said what its first and last sequence are: now for one cursor, a minute and a half ago at most in a list; null when it did not"`
	Position        uint64     `json:"position" example:"42"`
	PositionAt      *time.Time `json:"position_at" doc:"When the message at the position was stored, by which the stream is recognised; null when there was none"`
	PositionHash    string     `json:"position_hash,omitempty" example:"9f86d081884c7d65" doc:"What that message says, as a hash; absent when it is not known"`
	VerifiedAt      *time.Time `json:"verified_at" doc:"When the position was last found to be one of this stream; null: not since the daemon's start"`
	UpdatedAt       *time.Time `json:"updated_at" doc:"null before the first read"`
	Lag             uint64     `json:"lag" example:"2"`
	AgeSeconds      float64    `json:"age_seconds" example:"0.25"`
	Pending         int64      `json:"pending" example:"3"`
	Due             int64      `json:"due" example:"1"`
	OldestDue       float64    `json:"oldest_due_seconds" example:"0" doc:"For how long the delivery is due that is due longest; 0: none is"`
	Dead            int64      `json:"dead" example:"0"`
	Rejected        int64      `json:"rejected" example:"0"`
	Gaps            int64      `json:"gaps" example:"0"`
	State           string     `json:"state" enum:"live,behind,paused,gated,gap,regressed,stream-missing,unclaimed,unreachable" example:"behind"`
	Why             string     `json:"why,omitempty" example:"reading 12.5 events/s: done in about 1s if none are added" doc:"For operators: why it is in that state, and what ends it"`
	Since           *time.Time `json:"since" doc:"Since when; null when it is not known"`
	LastError       string     `json:"last_error,omitempty" doc:"For operators: why the last reading or commit failed"`
	Rate1m          float64    `json:"rate_1m" example:"12.5" doc:"Events a second that were fanned out, over about the last minute; measured since the daemon's start"`
	Rate5m          float64    `json:"rate_5m" example:"11.2"`
	Rate1h          float64    `json:"rate_1h" example:"4.1"`

	Pause     *CursorPausedBody `json:"pause,omitempty" doc:"Absent of a cursor that is not paused"`
	Endpoints []BackloggedBody  `json:"endpoints,omitempty" nullable:"false" doc:"Those with the most pending or dead deliveries, up to 20; left out of lists"`
	Moves     []CursorMovedBody `json:"moves,omitempty" nullable:"false" doc:"For operators: the latest moves by hand, newest first, up to 10; left out of lists"`

	Incarnations []IncarnationBody `json:"incarnations,omitempty" nullable:"false" doc:"Streams that were found in place of the one that the cursor had read, newest first, up to 10; left out of lists"`
}

// IncarnationBody is a stream that was found in place of what the cursor had read.
type IncarnationBody struct {
	Incarnation   int       `json:"incarnation" example:"2"`
	At            time.Time `json:"at" doc:"When it was noticed"`
	Change        string    `json:"change" enum:"recreated,regressed" example:"regressed" doc:"recreated: deleted and made anew; regressed: rolled back"`
	StreamCreated time.Time `json:"stream_created"`
	ReadBefore    uint64    `json:"read_before" example:"150" doc:"How far the one before was read"`
	ReadAfter     uint64    `json:"read_after" example:"100" doc:"The sequence after which this one is read"`
}

// CursorPausedBody is who paused a cursor, why, and until when.
type CursorPausedBody struct {
	By     string     `json:"by,omitempty" example:"operator"`
	Reason string     `json:"reason,omitempty" example:"the receiver moves house"`
	At     *time.Time `json:"at"`
	Until  *time.Time `json:"until" doc:"null: until somebody resumes it"`
}

// CursorMovedBody is a change of a position by hand.
type CursorMovedBody struct {
	At      time.Time `json:"at"`
	By      string    `json:"by" example:"operator"`
	Action  string    `json:"action" example:"cursor.reset"`
	From    uint64    `json:"from" example:"42"`
	To      uint64    `json:"to" example:"30"`
	Reason  string    `json:"reason" example:"read what was gated"`
	Skipped string    `json:"skipped,omitempty" example:"43-50" doc:"Sequences that were never read"`
}

// roundedSeconds are to the millisecond.
func roundedSeconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

// cursorFor is the cursor as the caller may see it. What broker and disk say of
// themselves, and what operators write into the audit, is for operators.
func cursorFor(ctx context.Context, c Cursor) CursorBody {
	if !CallerOf(ctx).Operator() {
		c.Why, c.LastError, c.Moves = "", "", nil
	}
	return cursorBody(c)
}

// ShowCursor, ShowGap and ShowRejected are what the API would answer to an
// operator, for whoever reads the books without it.
func ShowCursor(c Cursor) CursorBody { return cursorBody(c) }

// ShowGap: see [ShowCursor].
func ShowGap(g Gap) GapBody { return gapBody(g) }

// ShowRejected: see [ShowCursor].
func ShowRejected(org string, r Rejected) RejectedBody { return rejectedBody(org, r) }

func cursorBody(c Cursor) CursorBody {
	b := CursorBody{
		Org: c.Org, Stream: c.Stream, StreamCreated: optional(c.Created), Incarnation: c.Incarnation,
		FirstSeq: uint64(c.First), LastSeq: uint64(c.Last), StreamCheckedAt: optional(c.StreamCheckedAt),
		Position: uint64(c.Seq), PositionAt: optional(c.Anchor), VerifiedAt: optional(c.VerifiedAt), UpdatedAt: optional(c.UpdatedAt),
		Lag: c.Lag, AgeSeconds: roundedSeconds(c.Age),
		Pending: c.Pending, Due: c.Due, OldestDue: roundedSeconds(c.OldestDue), Dead: c.Dead, Rejected: c.Rejected, Gaps: c.Gaps,
		State: c.State, Why: c.Why, Since: optional(c.Since), LastError: c.LastError,
		Rate1m: thousandths(c.Pace.Minute), Rate5m: thousandths(c.Pace.FiveMinutes), Rate1h: thousandths(c.Pace.Hour),
		Endpoints: shaped(c.Endpoints, func(e Backlogged) BackloggedBody {
			return BackloggedBody{EndpointID: e.Endpoint, Pending: e.Pending, Dead: e.Dead}
		}),
		Moves: shaped(c.Moves, func(m CursorMoved) CursorMovedBody {
			return CursorMovedBody{At: utc(m.At), By: m.By, Action: m.Action, From: uint64(m.From), To: uint64(m.To), Reason: m.Reason, Skipped: m.Skipped}
		}),
	}
	b.Incarnations = shaped(c.Incarnations, func(i Incarnation) IncarnationBody {
		change := "recreated"
		if i.Change == cursor.Regressed {
			change = "regressed"
		}
		return IncarnationBody{Incarnation: i.Number, At: utc(i.At), Change: change, StreamCreated: utc(i.Created), ReadBefore: uint64(i.Left), ReadAfter: uint64(i.Began)}
	})
	if c.Hash != 0 {
		b.PositionHash = fmt.Sprintf("%016x", c.Hash)
	}
	if p := c.Pause; p != nil {
		b.Pause = &CursorPausedBody{By: p.By, Reason: p.Reason, At: optional(p.At), Until: optional(p.Until)}
	}
	return b
}
