package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Replays is the part of a Service that sends again what matches, as a job that
// goes on by itself, also after a restart.
type Replays interface {
	// StartReplay makes a replay of an endpoint. It wraps ErrState when the
	// endpoint has one that is not finished, or the organization has 10.
	StartReplay(ctx context.Context, org, endpoint string, r NewReplay) (Replay, error)
	// CountReplay counts what StartReplay would do now. It may take seconds.
	CountReplay(ctx context.Context, org, endpoint string, f ReplayFilter) (ReplayCounts, error)
	// Replays lists up to limit replays of the org that were started before the
	// given one ("": all), the newest first. Finished ones go after 30 days.
	Replays(ctx context.Context, org, before string, limit int) ([]Replay, error)
	Replay(ctx context.Context, org, id string) (Replay, error)
	// PauseReplay and ResumeReplay stop a replay for a while, CancelReplay for
	// good. What it has made pending is sent in any case. They wrap ErrState when
	// the replay is finished; what is so already they leave as it is.
	PauseReplay(ctx context.Context, org, id string) (Replay, error)
	ResumeReplay(ctx context.Context, org, id string) (Replay, error)
	CancelReplay(ctx context.Context, org, id string) (Replay, error)
}

// ReplayFilter says what is sent again.
type ReplayFilter struct {
	Status     Statuses   // of the deliveries: dead, delivered, cancelled; or missing alone: those that the endpoint never had
	EventTypes []string   // as an endpoint's; any of them, none: all
	Since      time.Time  // when the stream stored the event: at this time or later
	Until      time.Time  // before this time
	FromSeq    stream.Seq // of the event in its stream: this one or a later one; 0: any
	ToSeq      stream.Seq // this one or an earlier one; 0: any
}

// NewReplay is a replay to be made.
type NewReplay struct {
	ReplayFilter
	Rate int // deliveries a second, at most
}

// ReplayCounts is what has come of a replay, or would. Matched is the sum of the
// others; Changed, Removed and Withheld are those that were skipped.
type ReplayCounts struct {
	Matched, Replayed, Changed, Removed, Withheld, Lost int64
}

// ReplayReport is what a replay has done, beside the counts.
type ReplayReport struct {
	ByType      map[string]int64 // replayed, by event type; "*": of further types
	First, Last stream.ID        // of the events replayed; zero: none, or it was removed
	Ran         time.Duration    // how long it was neither paused nor finished
	PerSecond   float64          // replayed meanwhile
}

// ReplayProgress is how far a replay is.
type ReplayProgress struct {
	Expected int64         // deliveries that will have matched at the end; -1: not known
	Share    float64       // of the work that is done, 0 to 1; -1: not known
	Left     time.Duration // for the rest, at the pace of so far; -1: not known
}

// Replay is a job that sends deliveries of one endpoint again.
type Replay struct {
	ID       string // rpl_…
	Org      string
	Endpoint string // ep_…
	NewReplay
	ReplayCounts
	ReplayReport
	ReplayProgress
	State      string // running, paused, done, cancelled
	Waiting    string // why a running one does not go on just now, ""
	Why        string // the daemon ended it, ""
	StartedBy  string // tok_…, or operator
	CreatedAt  time.Time
	UpdatedAt  time.Time
	FinishedAt time.Time // zero: it is not
}

// DefaultReplayRate and MaxReplayRate are deliveries a second.
const (
	DefaultReplayRate = 100
	MaxReplayRate     = 1000
)

// ReplayCreate is the body of POST /orgs/{org}/endpoints/{id}/replay.
type ReplayCreate struct {
	Status     Statuses   `json:"status,omitempty" nullable:"false" doc:"Deliveries in this state, or in one of these: dead, delivered, cancelled; or missing alone: what the endpoint would get and never had; dead when left out"`
	EventTypes []string   `json:"event_types,omitempty" nullable:"false" maxItems:"100" example:"[\"invoice.*\"]" doc:"Exact, * or a prefix such as invoice.*; any of them, all when left out"`
	Since      *time.Time `json:"since,omitempty" nullable:"false" doc:"Events stored at or after"`
	Until      *time.Time `json:"until,omitempty" nullable:"false" doc:"Events stored before"`
	FromSeq    uint64     `json:"from_seq,omitempty" minimum:"1" maximum:"9007199254740991" example:"1" doc:"Events of the present stream from this sequence on"`
	ToSeq      uint64     `json:"to_seq,omitempty" minimum:"1" maximum:"9007199254740991" example:"120000" doc:"Events of the present stream up to this sequence"`
	Rate       int        `json:"rate,omitempty" minimum:"1" maximum:"1000" example:"100" doc:"Deliveries a second at most; 100 when left out"`
	DryRun     bool       `json:"dry_run,omitempty" doc:"Only count: the answer is a 200 with the counts, and no replay is made"`
}

// ReplayBody is a replay in an answer.
type ReplayBody struct {
	ID         string     `json:"id,omitempty" example:"rpl_01KB2Q3X8V9W0Y1Z2A3B4C5D6J" doc:"Left out with dry_run"`
	Org        string     `json:"org" example:"acme"`
	EndpointID string     `json:"endpoint_id" example:"ep_01KB2Q3X8V9W0Y1Z2A3B4C5D6E"`
	State      string     `json:"state" enum:"running,paused,done,cancelled" example:"running"`
	Waiting    string     `json:"waiting,omitempty" example:"the endpoint is disabled" doc:"Why it does not go on just now"`
	Why        string     `json:"why,omitempty" doc:"Why grapnel itself has ended it"`
	DryRun     bool       `json:"dry_run,omitempty" doc:"It was only counted: replayed is what would be"`
	Status     Statuses   `json:"status" nullable:"false" doc:"What is sent again"`
	EventTypes []string   `json:"event_types,omitempty" nullable:"false" example:"[\"invoice.*\"]"`
	Since      *time.Time `json:"since,omitempty"`
	Until      *time.Time `json:"until,omitempty"`
	FromSeq    uint64     `json:"from_seq,omitempty" example:"1"`
	ToSeq      uint64     `json:"to_seq,omitempty" example:"120000"`
	Rate       int        `json:"rate" example:"100"`
	Matched    int64      `json:"matched" example:"1200" doc:"Found so far; the sum of the following three"`
	Replayed   int64      `json:"replayed" example:"1198" doc:"Pending again, with a fresh budget of attempts"`
	Skipped    int64      `json:"skipped" example:"2" doc:"Not sent again although it matched; skips says why"`
	Lost       int64      `json:"lost" example:"0" doc:"Cannot be sent again: the stream does not hold their events any more, and the books do not keep their payloads"`
	Skips      *SkipsBody `json:"skips,omitempty" doc:"Left out when nothing was skipped"`
	Expected   *int64     `json:"expected,omitempty" example:"5000" doc:"How many will have matched at the end; left out while that is being counted, and of what is missing"`
	Progress   *float64   `json:"progress,omitempty" minimum:"0" maximum:"1" example:"0.24" doc:"The part that is done; left out while it is not known"`
	ETASeconds *float64   `json:"eta_seconds,omitempty" example:"38.2" doc:"What the rest takes at the pace of so far; left out while it is not known"`
	PerSecond  float64    `json:"rate_reached,omitempty" example:"99.8" doc:"Deliveries a second so far, pauses not counted"`
	RanSeconds float64    `json:"running_seconds,omitempty" example:"12.002" doc:"How long it was neither paused nor finished"`

	ByType       map[string]int64 `json:"by_type,omitempty" doc:"Replayed, by event type; up to 50 types, others together as *"`
	FirstEventID string           `json:"first_event_id,omitempty" example:"evt_0123456789ABCDEFGHJKMNPQRS" doc:"Of the first one replayed"`
	LastEventID  string           `json:"last_event_id,omitempty" example:"evt_0123456789ABCDEFGHJKMNPQRS" doc:"Of the latest one replayed"`

	StartedBy  string     `json:"started_by,omitempty" example:"operator"`
	CreatedAt  *time.Time `json:"created_at,omitempty" doc:"Left out with dry_run"`
	UpdatedAt  *time.Time `json:"updated_at,omitempty" doc:"Of the last step, or change of state"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
}

// SkipsBody says why deliveries that matched were not sent again.
type SkipsBody struct {
	Changed  int64 `json:"changed,omitempty" example:"2" doc:"Had left the state that was asked for"`
	Removed  int64 `json:"removed,omitempty" doc:"By retention"`
	Withheld int64 `json:"withheld,omitempty" doc:"Of what is missing: rejected, kept back by the plan, skipped by hand, or perhaps removed by retention"`
}

type replayCreate struct {
	EndpointPath
	Body    *ReplayCreate
	RawBody []byte
}

// Resolve implements huma.Resolver.
func (r *replayCreate) Resolve(huma.Context) []error {
	return strictly(typeOf[ReplayCreate](), r.RawBody, "body")
}

// replayAnswer answers with 202, and a dry run with 200.
type replayAnswer struct {
	Status   int
	Replayed string `header:"Idempotent-Replayed" doc:"true: this is the answer of the first request with this Idempotency-Key"`
	Body     ReplayBody
}

// ReplayPath names a replay.
type ReplayPath struct {
	OrgPath
	ID string `path:"id" maxLength:"64" doc:"rpl_…"`
}

func (p ReplayPath) thing() string { return itemThing("replay", p.ID, p.Org) }

func (a *api) replays() {
	const tag, all, one = "replays", base + "/orgs/{org}/replays", base + "/orgs/{org}/replays/{id}"
	read, manage := access{scope: WebhooksRead, gated: true}, access{scope: WebhooksManage, gated: true}
	handle(a, route{id: "start-replay", method: http.MethodPost, path: base + "/orgs/{org}/endpoints/{id}/replay", status: http.StatusAccepted, tag: tag,
		access: manage, creates: true, bodyless: true, flights: a.searches, summary: "Send an endpoint again what matches, as a job; with dry_run only count it"}, a.startReplay)
	handle(a, route{id: "list-replays", method: http.MethodGet, path: all, tag: tag, access: read, summary: "List replays, newest first; finished ones are kept for 30 days"},
		func(ctx context.Context, in *struct {
			OrgPath
			Page
		}) (*answer[List[ReplayBody]], error) {
			var before string
			if err := in.after("replay", "%s", &before); err != nil {
				return nil, err
			}
			found, err := a.svc.Replays(ctx, in.Org, before, in.more())
			if err != nil {
				return nil, err
			}
			return listed(found, in.Limit, replayBody, func(r Replay) *string { return cursorAt("replay", "%s", r.ID) }), nil
		})
	handle(a, route{id: "get-replay", method: http.MethodGet, path: one, tag: tag, access: read, summary: "Show how far a replay has come, and what came of it"},
		replayHandler(a, Service.Replay))
	handle(a, route{id: "pause-replay", method: http.MethodPost, path: one + "/pause", tag: tag, access: manage, summary: "Pause a replay; what it has made pending is sent"},
		replayHandler(a, Service.PauseReplay))
	handle(a, route{id: "resume-replay", method: http.MethodPost, path: one + "/resume", tag: tag, access: manage, summary: "Let a paused replay go on"},
		replayHandler(a, Service.ResumeReplay))
	handle(a, route{id: "cancel-replay", method: http.MethodPost, path: one + "/cancel", tag: tag, access: manage, summary: "End a replay; what it has made pending is sent"},
		replayHandler(a, Service.CancelReplay))
}

func replayHandler(a *api, do func(_ Service, ctx context.Context, org, id string) (Replay, error)) func(context.Context, *ReplayPath) (*answer[ReplayBody], error) {
	return func(ctx context.Context, in *ReplayPath) (*answer[ReplayBody], error) {
		r, err := do(a.svc, ctx, in.Org, in.ID)
		if err != nil {
			return nil, err
		}
		return &answer[ReplayBody]{replayBody(r)}, nil
	}
}

func (a *api) startReplay(ctx context.Context, in *replayCreate) (*replayAnswer, error) {
	var b ReplayCreate
	if in.Body != nil {
		b = *in.Body
	}
	n, err := newReplay(b)
	if err != nil {
		return nil, err
	}
	if b.DryRun {
		counts, err := a.svc.CountReplay(ctx, in.Org, in.ID, n.ReplayFilter)
		if err != nil {
			return nil, err
		}
		body := replayBody(Replay{Org: in.Org, Endpoint: in.ID, NewReplay: n, ReplayCounts: counts, State: "done"})
		body.DryRun = true
		return &replayAnswer{Status: http.StatusOK, Body: body}, nil
	}
	made, err := makeOnce(ctx, a, func(ctx context.Context) (Replay, error) { return a.svc.StartReplay(ctx, in.Org, in.ID, n) }, replayBody)
	if err != nil {
		return nil, err
	}
	return &replayAnswer{Status: http.StatusAccepted, Replayed: made.Replayed, Body: made.Body}, nil
}

// newReplay fills in the defaults.
func newReplay(b ReplayCreate) (NewReplay, error) {
	n := NewReplay{ReplayFilter: ReplayFilter{Status: b.Status, EventTypes: b.EventTypes, FromSeq: stream.Seq(b.FromSeq), ToSeq: stream.Seq(b.ToSeq)}, Rate: b.Rate}
	if len(n.Status) == 0 {
		n.Status = Statuses{"dead"}
	}
	if err := n.Status.check(); err != nil {
		return n, err
	}
	if n.Rate == 0 {
		n.Rate = DefaultReplayRate
	}
	if b.Since != nil {
		n.Since = *b.Since
	}
	if b.Until != nil {
		n.Until = *b.Until
	}
	if b.Since != nil && b.Until != nil && !n.Since.Before(n.Until) {
		return n, &Invalid{Field: "until", Detail: "must be after since"}
	}
	if b.ToSeq > 0 && b.ToSeq < b.FromSeq {
		return n, &Invalid{Field: "to_seq", Detail: "must not be before from_seq"}
	}
	for i, p := range n.EventTypes {
		if err := fanout.CheckPattern(p); err != nil {
			return n, &Invalid{Field: fmt.Sprintf("event_types[%d]", i), Detail: err.Error()}
		}
	}
	return n, nil
}

func replayBody(r Replay) ReplayBody {
	b := ReplayBody{
		ID: r.ID, Org: r.Org, EndpointID: r.Endpoint, State: r.State, Waiting: r.Waiting, Why: r.Why,
		Status: r.Status, EventTypes: r.EventTypes, Since: optional(r.Since), Until: optional(r.Until),
		FromSeq: uint64(r.FromSeq), ToSeq: uint64(r.ToSeq), Rate: r.Rate,
		Matched: r.Matched, Replayed: r.Replayed, Skipped: r.Changed + r.Removed + r.Withheld, Lost: r.Lost,
		PerSecond: thousandths(r.PerSecond), RanSeconds: thousandths(r.Ran.Seconds()), ByType: r.ByType, StartedBy: r.StartedBy,
		CreatedAt: optional(r.CreatedAt), UpdatedAt: optional(r.UpdatedAt), FinishedAt: optional(r.FinishedAt),
	}
	if b.Skipped > 0 {
		b.Skips = &SkipsBody{Changed: r.Changed, Removed: r.Removed, Withheld: r.Withheld}
	}
	if r.ID != "" { // a dry run has no progress
		b.Expected, b.Progress, b.ETASeconds = known(r.Expected), known(r.Share), known(r.Left.Seconds())
	}
	if r.First != (stream.ID{}) {
		b.FirstEventID = r.First.String()
	}
	if r.ReplayReport.Last != (stream.ID{}) {
		b.LastEventID = r.ReplayReport.Last.String()
	}
	return b
}

// known is a number that is negative when it is not known.
func known[T int64 | float64](v T) *T {
	if v < 0 {
		return nil
	}
	v = T(thousandths(float64(v)))
	return &v
}

func thousandths(v float64) float64 { return math.Round(v*1000) / 1000 }

// Statuses are one or several statuses: in JSON a string, or an array of strings.
type Statuses []string

// check says what of them cannot be sent again.
func (s Statuses) check() error {
	for _, status := range s {
		switch {
		case !slices.Contains([]string{"dead", "delivered", "cancelled", "missing"}, status):
			return &Invalid{Field: "status", Detail: fmt.Sprintf("%q cannot be sent again: want dead, delivered, cancelled or missing", status)}
		case status == "missing" && len(s) > 1:
			return &Invalid{Field: "status", Detail: "missing stands alone: it reads the stream, the others read the books"}
		}
	}
	return nil
}

// MarshalJSON implements json.Marshaler: one status is a string.
func (s Statuses) MarshalJSON() ([]byte, error) {
	if len(s) == 1 {
		return json.Marshal(s[0])
	}
	return json.Marshal([]string(s))
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *Statuses) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*s = Statuses{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(s))
}

// Schema implements huma.SchemaProvider.
func (Statuses) Schema(huma.Registry) *huma.Schema {
	const most = 4
	one := &huma.Schema{Type: huma.TypeString, Examples: []any{"dead"}}
	several := &huma.Schema{
		Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeString, Examples: []any{"dead"}},
		MinItems: new(1), MaxItems: new(most), Examples: []any{[]string{"dead", "cancelled"}},
	}
	s := &huma.Schema{OneOf: []*huma.Schema{one, several}, Examples: []any{"dead"}}
	for _, s := range []*huma.Schema{one, several.Items, several, s} {
		s.PrecomputeMessages()
	}
	return s
}
