package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/grapnel-hooks/grapnel/stream"
)

// Expunges is the part of a Service that takes the content of events out.
type Expunges interface {
	// ExpungeEvent takes the content of an event, named by its id or by its
	// sequence in the present stream (the other is zero), out of the books and the
	// stream, or says what that would be. It may be repeated, which does what could
	// not be done the last time.
	ExpungeEvent(ctx context.Context, org string, id stream.ID, seq stream.Seq, r Expunge) (Expunged, error)
}

// Expunge says whether it is to be done, and why.
type Expunge struct {
	Execute bool
	Reason  string
}

// What became of an event's message in its stream.
const (
	MessageErased   = "erased"  // overwritten and taken out
	MessageThere    = "there"   // it would be erased
	MessageGone     = "gone"    // the stream had dropped it before
	MessageDenied   = "denied"  // the stream does not allow it: it goes with the stream's own limits
	MessageUnknown  = "unknown" // the broker did not answer: try again
	LogFolded       = "folded"  // the write-ahead log is empty
	LogKeeps        = "kept"    // somebody reads or copies the log: it goes with a later checkpoint
	LogNotTouched   = "untouched"
	expungeReasonIs = "is required with execute"
)

// Expunged is what was, or would be, taken out.
type Expunged struct {
	ID        stream.ID // zero: it was no event
	Seq       stream.Seq
	Executed  bool
	Before    bool // it was expunged before
	Payloads  int64
	Answers   int64
	Rejected  int64
	Cancelled int64
	Message   string    // see MessageErased
	Until     time.Time // when the stream drops it by itself at the latest; zero: not known, or erased
	Log       string    // see LogFolded
	Remains   []string  // where copies may be that this program does not reach, for people
}

// ExpungeBody is the body of POST /orgs/{org}/events/{id}/expunge.
type ExpungeBody struct {
	Execute bool   `json:"execute,omitempty" doc:"Do it; without, the answer only says what would be taken out. It cannot be undone"`
	Reason  string `json:"reason,omitempty" maxLength:"500" example:"request of the data subject, case 4711" doc:"For the audit; needed with execute. Name nobody"`
}

// ExpungedBody is the answer to POST /orgs/{org}/events/{id}/expunge.
type ExpungedBody struct {
	EventID   *string    `json:"event_id" example:"evt_0NKMVFQM7Z3XEJ2MXWP06B89Q0" doc:"null: it was no event"`
	Seq       uint64     `json:"seq" example:"17"`
	Executed  bool       `json:"executed"`
	Before    bool       `json:"before" doc:"It was expunged before"`
	Payloads  int64      `json:"payloads" example:"1" doc:"Copies of its payload in the database"`
	Answers   int64      `json:"answers" example:"3" doc:"Attempts of which the receiver's answer was kept"`
	Rejected  int64      `json:"rejected" example:"0" doc:"Copies of a rejected message"`
	Cancelled int64      `json:"cancelled" example:"1" doc:"Pending deliveries"`
	Message   string     `json:"message" enum:"erased,there,gone,denied,unknown" example:"erased" doc:"In the stream. denied: it does not allow that, see until"`
	Until     *time.Time `json:"until" doc:"When the stream drops the message by itself, if it could not be erased"`
	Log       string     `json:"log" enum:"folded,kept,untouched" example:"folded" doc:"The database's log, which holds what was deleted until it is folded"`
	Remains   []string   `json:"remains" nullable:"false" example:"[]" doc:"Where other copies may be, for people"`
}

type expungeEvent struct {
	EventPath
	Write[ExpungeBody]
}

func (a *api) expunges() {
	handle(a, route{id: "expunge-event", method: http.MethodPost, path: base + "/orgs/{org}/events/{id}/expunge", tag: "events", access: access{scope: Admin}, flights: a.searches,
		summary: "Take an event's content out of database and stream for ever, or say what that would be", describe: patient},
		func(ctx context.Context, in *expungeEvent) (*answer[ExpungedBody], error) {
			if in.Body.Execute && in.Body.Reason == "" {
				return nil, &Invalid{Field: "reason", Detail: expungeReasonIs}
			}
			var id stream.ID
			seq, err := strconv.ParseUint(in.ID, 10, 64)
			if err != nil || seq == 0 {
				seq = 0
				if id, err = stream.ParseID(in.ID); err != nil {
					return nil, ErrNotFound
				}
			}
			x, err := a.svc.ExpungeEvent(ctx, in.Org, id, stream.Seq(seq), Expunge(in.Body))
			if err != nil {
				return nil, err
			}
			return &answer[ExpungedBody]{expungedBody(x)}, nil
		})
}

func expungedBody(x Expunged) ExpungedBody {
	b := ExpungedBody{
		Seq: uint64(x.Seq), Executed: x.Executed, Before: x.Before, Payloads: x.Payloads, Answers: x.Answers, Rejected: x.Rejected,
		Cancelled: x.Cancelled, Message: x.Message, Until: optional(x.Until), Log: x.Log, Remains: append([]string{}, x.Remains...),
	}
	if x.ID != (stream.ID{}) {
		text := x.ID.String()
		b.EventID = &text
	}
	return b
}
