package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/grapnel-hooks/grapnel/fanout"
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
	Status     string    // of the deliveries: dead, delivered, cancelled; missing: those that the endpoint never had
	EventTypes []string  // as an endpoint's; any of them, none: all
	Since      time.Time // when the stream stored the event: at this time or later
	Until      time.Time // before this time
}

// NewReplay is a replay to be made.
type NewReplay struct {
	ReplayFilter
	Rate int // deliveries a second, at most
}

// ReplayCounts is what has come of a replay, or would.
type ReplayCounts struct {
	Matched, Replayed, Skipped, Lost int64
}

// Replay is a job that sends deliveries of one endpoint again.
type Replay struct {
	ID       string // rpl_…
	Org      string
	Endpoint string // ep_…
	NewReplay
	ReplayCounts
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
	Status     string     `json:"status,omitempty" enum:"dead,delivered,cancelled,missing" doc:"Deliveries in this state, or missing: what the endpoint would get and never had; dead when left out"`
	EventTypes []string   `json:"event_types,omitempty" nullable:"false" maxItems:"100" example:"[\"invoice.*\"]" doc:"Exact, * or a prefix such as invoice.*; any of them, all when left out"`
	Since      *time.Time `json:"since,omitempty" nullable:"false" doc:"Events stored at or after"`
	Until      *time.Time `json:"until,omitempty" nullable:"false" doc:"Events stored before"`
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
	Status     string     `json:"status" enum:"dead,delivered,cancelled,missing" example:"dead"`
	EventTypes []string   `json:"event_types,omitempty" nullable:"false" example:"[\"invoice.*\"]"`
	Since      *time.Time `json:"since,omitempty"`
	Until      *time.Time `json:"until,omitempty"`
	Rate       int        `json:"rate" example:"100"`
	Matched    int64      `json:"matched" example:"1200" doc:"Found so far; the sum of the following three"`
	Replayed   int64      `json:"replayed" example:"1198" doc:"Pending again, with a fresh budget of attempts"`
	Skipped    int64      `json:"skipped" example:"2" doc:"Had left the state meanwhile, or were removed by retention"`
	Lost       int64      `json:"lost" example:"0" doc:"Cannot be sent again: the stream does not hold their events any more, and the books do not keep their payloads"`
	StartedBy  string     `json:"started_by,omitempty" example:"operator"`
	CreatedAt  *time.Time `json:"created_at,omitempty" doc:"Left out with dry_run"`
	UpdatedAt  *time.Time `json:"updated_at,omitempty" doc:"Of the last step, or change of state"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
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
	n := NewReplay{ReplayFilter: ReplayFilter{Status: b.Status, EventTypes: b.EventTypes}, Rate: b.Rate}
	if n.Status == "" {
		n.Status = "dead"
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
	for i, p := range n.EventTypes {
		if err := fanout.CheckPattern(p); err != nil {
			return n, &Invalid{Field: fmt.Sprintf("event_types[%d]", i), Detail: err.Error()}
		}
	}
	return n, nil
}

func replayBody(r Replay) ReplayBody {
	return ReplayBody{
		ID: r.ID, Org: r.Org, EndpointID: r.Endpoint, State: r.State, Waiting: r.Waiting, Why: r.Why,
		Status: r.Status, EventTypes: r.EventTypes, Since: optional(r.Since), Until: optional(r.Until), Rate: r.Rate,
		Matched: r.Matched, Replayed: r.Replayed, Skipped: r.Skipped, Lost: r.Lost, StartedBy: r.StartedBy,
		CreatedAt: optional(r.CreatedAt), UpdatedAt: optional(r.UpdatedAt), FinishedAt: optional(r.FinishedAt),
	}
}
