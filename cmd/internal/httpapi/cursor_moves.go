package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/grapnel-hooks/grapnel/stream"
)

// CursorMoves is the part of a Service by which people hold and move cursors.
// Each call that changes something is audited.
type CursorMoves interface {
	// PauseCursor stops the reading of the org's stream: when it returns, the
	// position no longer moves, also after a restart, until ResumeCursor.
	// Deliveries that exist go on. Repeating either changes nothing.
	// It ends by itself at p.Until. Pausing a paused cursor gives it the reason and
	// the end in p, if there are any.
	PauseCursor(ctx context.Context, org string, p Pausing) (Cursor, error)
	ResumeCursor(ctx context.Context, org string) (Cursor, error)
	// ResetCursor foresees a move of the org's position, and makes it when
	// r.Execute is set. It wraps ErrState when the position is not r.Expect, unless
	// that is because it is where it is to be moved, and when the stream is not the
	// one that the position, or r.Mark, was taken from; and ErrBusy while
	// another one is foreseen. An *Invalid names "allow_skip" when events
	// would be skipped, and "to_seq" when the stream does not go as far.
	ResetCursor(ctx context.Context, org string, r CursorReset) (CursorPlan, error)
}

// CursorReset says where a cursor is to be moved: one of Seq, Shift, Time, Ago,
// Earliest, Latest and Mark.
type CursorReset struct {
	Seq      *stream.Seq    // fanned out up to here: the next one is read next
	Time     time.Time      // to before the first event that was stored then or later
	Ago      *time.Duration // the same, so long ago
	Earliest bool           // to before the stream's first event
	Latest   bool           // to the stream's last event
	Shift    *int64         // by so many sequences: back if it is negative
	Mark     *CursorMark

	Execute   bool // else it is only foreseen
	Reason    string
	Expect    stream.Seq // where the position has to be
	AllowSkip bool       // events that were never read may be skipped
	Rows      bool       // what happens to each delivery is wanted, too
}

// CursorMark is a position that was written down, with what it is recognised by.
type CursorMark struct {
	Seq     stream.Seq
	Created time.Time // of the stream
	Stored  time.Time // the message at Seq; zero: there was none
	Hash    uint64    // of it; 0: it is not known
}

// MaxPlanRows is how many rows a CursorPlan has at most.
const MaxPlanRows = 100_000

// CursorPlanRow is what a move does to an event, or to its delivery to one
// endpoint.
type CursorPlanRow struct {
	Seq      stream.Seq
	Event    stream.ID
	Type     string
	Endpoint string // ep_…; "": the fate is the event's
	Fate     string // exists, new, forgotten, skipped
}

// CursorPlan is what a move causes.
type CursorPlan struct {
	Org      string
	Executed bool
	From, To stream.Seq

	Again     uint64 // messages that are read again
	Existing  uint64 // deliveries of them that exist already
	New       uint64 // deliveries of them that are missing, and are made
	Forgotten uint64 // of the messages: those of whose deliveries retention may have removed some
	Skipped   uint64 // events that were never read, and never are
	Complete  bool   // all was counted
	Through   stream.Seq
	// Already: it is there already, and nothing is done.
	Already bool
	Rows    []CursorPlanRow // if they are wanted; MaxPlanRows at most
}

// CursorResetBody is the body of POST /orgs/{org}/cursor/reset.
type CursorResetBody struct {
	ToSeq      *uint64         `json:"to_seq,omitempty" maximum:"9223372036854775807" doc:"To this sequence: the next one is read next"`
	ToTime     *time.Time      `json:"to_time,omitempty" doc:"To before the first event that was stored then or later"`
	ByDuration *Duration       `json:"by_duration,omitempty" doc:"To before the first event that was stored so long ago or later"`
	ToEarliest bool            `json:"to_earliest,omitempty" doc:"To before the first event of the stream"`
	ToLatest   bool            `json:"to_latest,omitempty" doc:"To the last event of the stream"`
	ShiftBy    *int64          `json:"shift_by,omitempty" minimum:"-9223372036854775807" doc:"On by so many sequences, or back if it is negative; with execute counted from expect_position"`
	ToMark     *CursorMarkBody `json:"to_mark,omitempty" doc:"To a position that was written down, if the stream is still the one it was taken from; else 409"`

	Execute        bool    `json:"execute,omitempty" doc:"Move it; without, the answer only says what would happen"`
	Reason         string  `json:"reason,omitempty" maxLength:"500" doc:"For the audit; needed with execute"`
	ExpectPosition *uint64 `json:"expect_position,omitempty" maximum:"9223372036854775807" doc:"Where the cursor is; needed with execute. 409 if it is elsewhere"`
	AllowSkip      bool    `json:"allow_skip,omitempty" doc:"Events that were never read may be skipped"`
	Rows           bool    `json:"rows,omitempty" doc:"The answer also says what happens to each delivery"`
}

// CursorMarkBody is a position as GET /orgs/{org}/cursor shows it.
type CursorMarkBody struct {
	Position      uint64     `json:"position" maximum:"9223372036854775807" example:"42"`
	StreamCreated time.Time  `json:"stream_created"`
	PositionAt    *time.Time `json:"position_at,omitempty"`
	PositionHash  string     `json:"position_hash,omitempty" pattern:"^[0-9a-f]{16}$" example:"9f86d081884c7d65"`
}

// TransformSchema implements huma.SchemaTransformer: one way of saying where to
// is an example, all of them are not.
func (CursorResetBody) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Examples = []any{map[string]any{"by_duration": "1h"}}
	return s
}

// CursorPlanBody is the answer to POST /orgs/{org}/cursor/reset.
type CursorPlanBody struct {
	Org                string `json:"org" example:"acme"`
	Executed           bool   `json:"executed" doc:"Whether the cursor was moved"`
	From               uint64 `json:"from" example:"42"`
	To                 uint64 `json:"to" example:"30"`
	EventsAgain        uint64 `json:"events_again" example:"12" doc:"Messages that are read again"`
	DeliveriesExisting uint64 `json:"deliveries_existing" example:"22" doc:"Of them; they are left alone"`
	DeliveriesNew      uint64 `json:"deliveries_new" example:"2" doc:"Of them; they are missing, and are made"`
	EventsForgotten    uint64 `json:"events_forgotten" example:"0" doc:"Of events_again: nothing is made of them, since retention may have removed their deliveries"`
	EventsSkipped      uint64 `json:"events_skipped" example:"0" doc:"Never read, and not read then"`
	Complete           bool   `json:"complete" doc:"false: counting stopped after a million messages, at counted_through"`
	CountedThrough     uint64 `json:"counted_through" example:"42"`
	Already            bool   `json:"already,omitempty" doc:"The cursor is there already: nothing was done"`

	Rows []CursorPlanRowBody `json:"rows,omitempty" nullable:"false" doc:"With rows: by sequence, up to 100,000; events that have no deliveries and make none are left out"`
}

// CursorPlanRowBody is what a move does to an event, or to its delivery to one
// endpoint.
type CursorPlanRowBody struct {
	Seq        uint64 `json:"seq" example:"31"`
	EventID    string `json:"event_id" example:"evt_0NKMVFQM7Z3XEJ2MXWP06B89Q0"`
	Type       string `json:"type" example:"invoice.paid"`
	EndpointID string `json:"endpoint_id,omitempty" example:"ep_01KB2Q3X8V9W0Y1Z2A3B4C5D6E" doc:"Absent where all of the event's are meant"`
	Fate       string `json:"fate" enum:"exists,new,forgotten,skipped" example:"new"`
}

// Pausing says why a cursor is paused, and until when.
type Pausing struct {
	Reason string
	Until  time.Time // zero: until somebody resumes it
}

// CursorPauseBody is the body of POST /orgs/{org}/cursor/pause.
type CursorPauseBody struct {
	Reason string     `json:"reason,omitempty" maxLength:"500" example:"the receiver moves house" doc:"For the audit, and shown with the cursor"`
	Until  *time.Time `json:"until,omitempty" doc:"When it is resumed by itself; without, when somebody resumes it"`
}

type pauseCursor struct {
	OrgPath
	Write[CursorPauseBody]
}

type resetCursor struct {
	OrgPath
	Write[CursorResetBody]
}

func (a *api) cursorMoves() {
	const tag = "cursors"
	body := new(huma.RequestBody)
	handle(a, route{id: "pause-cursor", method: http.MethodPost, path: base + "/orgs/{org}/cursor/pause", tag: tag, access: access{scope: CursorsManage},
		summary: "Stop reading the organization's stream; deliveries that exist go on", bodyless: true,
		describe: func(op *huma.Operation) { op.RequestBody = body }},
		func(ctx context.Context, in *pauseCursor) (*answer[CursorBody], error) {
			p := Pausing{Reason: in.Body.Reason}
			if in.Body.Until != nil {
				if p.Until = *in.Body.Until; !p.Until.After(time.Now()) {
					return nil, &Invalid{Field: "until", Detail: "lies in the past"}
				}
			}
			return shapedCursor(ctx)(a.svc.PauseCursor(ctx, in.Org, p))
		})
	body.Required = false // see rotate-endpoint-secret
	handle(a, route{id: "resume-cursor", method: http.MethodPost, path: base + "/orgs/{org}/cursor/resume", tag: tag, access: access{scope: CursorsManage},
		summary: "Read the organization's stream again"},
		func(ctx context.Context, in *OrgPath) (*answer[CursorBody], error) {
			return shapedCursor(ctx)(a.svc.ResumeCursor(ctx, in.Org))
		})
	handle(a, route{id: "reset-cursor", method: http.MethodPost, path: base + "/orgs/{org}/cursor/reset", tag: tag, access: access{scope: CursorsManage},
		summary: "Foresee a move of the organization's cursor, or make it", describe: patient},
		func(ctx context.Context, in *resetCursor) (*answer[CursorPlanBody], error) {
			r, err := in.Body.reset()
			if err != nil {
				return nil, err
			}
			p, err := a.svc.ResetCursor(ctx, in.Org, r)
			if err != nil {
				return nil, err
			}
			return &answer[CursorPlanBody]{cursorPlanBody(p)}, nil
		})
}

// reset is what the body asks for.
func (b CursorResetBody) reset() (CursorReset, error) {
	r := CursorReset{Earliest: b.ToEarliest, Latest: b.ToLatest, Execute: b.Execute, Reason: b.Reason, AllowSkip: b.AllowSkip, Shift: b.ShiftBy, Rows: b.Rows}
	var said []string
	if b.ToSeq != nil {
		seq := stream.Seq(*b.ToSeq)
		r.Seq, said = &seq, append(said, "to_seq")
	}
	if b.ToTime != nil {
		r.Time, said = *b.ToTime, append(said, "to_time")
	}
	if b.ByDuration != nil {
		ago := time.Duration(*b.ByDuration)
		r.Ago, said = &ago, append(said, "by_duration")
	}
	if b.ToEarliest {
		said = append(said, "to_earliest")
	}
	if b.ToLatest {
		said = append(said, "to_latest")
	}
	if b.ShiftBy != nil {
		said = append(said, "shift_by")
	}
	if m := b.ToMark; m != nil {
		said = append(said, "to_mark")
		r.Mark = &CursorMark{Seq: stream.Seq(m.Position), Created: m.StreamCreated}
		if m.PositionAt != nil {
			r.Mark.Stored = *m.PositionAt
		}
		r.Mark.Hash, _ = strconv.ParseUint(m.PositionHash, 16, 64) // its form is checked
	}
	switch {
	case len(said) == 0:
		return r, &Invalid{Field: "to_seq", Detail: "is required, or to_time, by_duration, shift_by, to_earliest, to_latest or to_mark"}
	case len(said) > 1:
		return r, &Invalid{Field: said[1], Detail: fmt.Sprintf("excludes %s: say one place to move to", said[0])}
	case b.Execute && b.Reason == "":
		return r, &Invalid{Field: "reason", Detail: "is required with execute"}
	case b.Execute && b.ExpectPosition == nil:
		return r, &Invalid{Field: "expect_position", Detail: "is required with execute"}
	case b.ExpectPosition != nil:
		r.Expect = stream.Seq(*b.ExpectPosition)
	}
	return r, nil
}

func cursorPlanBody(p CursorPlan) CursorPlanBody {
	return CursorPlanBody{
		Org: p.Org, Executed: p.Executed, From: uint64(p.From), To: uint64(p.To),
		EventsAgain: p.Again, DeliveriesExisting: p.Existing, DeliveriesNew: p.New, EventsForgotten: p.Forgotten,
		EventsSkipped: p.Skipped, Complete: p.Complete, CountedThrough: uint64(p.Through), Already: p.Already,
		Rows: shaped(p.Rows, func(r CursorPlanRow) CursorPlanRowBody {
			return CursorPlanRowBody{Seq: uint64(r.Seq), EventID: r.Event.String(), Type: r.Type, EndpointID: r.Endpoint, Fate: r.Fate}
		}),
	}
}

func shapedCursor(ctx context.Context) func(Cursor, error) (*answer[CursorBody], error) {
	return func(c Cursor, err error) (*answer[CursorBody], error) {
		if err != nil {
			return nil, err
		}
		return &answer[CursorBody]{cursorFor(ctx, c)}, nil
	}
}
