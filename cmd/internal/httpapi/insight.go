package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Insight is the part of a Service that says how endpoints fare, and why one
// did or did not get an event.
type Insight interface {
	// EndpointStats says how an endpoint fares.
	EndpointStats(ctx context.Context, org, id string) (deliver.EndpointStats, error)
	// Explain says for each endpoint of the org why it did or did not get an
	// event, or, with the zero id, what lies at a sequence of the stream.
	Explain(ctx context.Context, org string, id stream.ID, seq stream.Seq) (Explanation, error)
}

// Explanation is what became of an event, or of a sequence without one.
type Explanation struct {
	ID          stream.ID // zero: it is no event, or not known
	Incarnation int       // of the stream
	Seq         stream.Seq
	Type        string    // "": not known
	Stored      time.Time // zero: not known
	Answers     []fanout.Answer
}

// StatsBody is how an endpoint fares.
type StatsBody struct {
	Pending      int64      `json:"pending" example:"3" doc:"Deliveries that wait for an attempt"`
	Dead         int64      `json:"dead" example:"1" doc:"Deliveries that nobody has asked for again"`
	Health       string     `json:"health" example:"healthy" doc:"healthy, failing, paused or disabled"`
	FailingSince *time.Time `json:"failing_since" doc:"When the present run of failures began; null while the last attempt was a success"`
	LastHour     WindowBody `json:"last_hour" doc:"Up to now, from a full five minutes on"`
	LastDay      WindowBody `json:"last_day" doc:"Up to now, from a full five minutes on"`
}

// WindowBody counts the attempts that ended within some time. Those that failed
// by the daemon's own fault are left out.
type WindowBody struct {
	Attempts    int64    `json:"attempts" example:"120"`
	Succeeded   int64    `json:"succeeded" example:"118"`
	Failed      int64    `json:"failed" example:"2"`
	SuccessRate *float64 `json:"success_rate" example:"0.983" doc:"From 0 to 1; null without attempts"`
	P50MS       *float64 `json:"latency_p50_ms" example:"48.5" doc:"Off by a sixteenth at the most; null without attempts"`
	P99MS       *float64 `json:"latency_p99_ms" example:"310"`
}

// ExplainBody says what became of an event, an entry for each endpoint.
type ExplainBody struct {
	EventID     *string         `json:"event_id" example:"evt_0NKMVFQM7Z3XEJ2MXWP06B89Q0" doc:"null: there is no event at that sequence"`
	Seq         uint64          `json:"seq" example:"17"`
	Incarnation int             `json:"incarnation" example:"1" doc:"Of the stream: how often it was made anew, from 1"`
	Type        string          `json:"type,omitempty" example:"invoice.paid"`
	StoredAt    *time.Time      `json:"stored_at,omitempty"`
	Data        []ExplainedBody `json:"data" nullable:"false"`
	NextCursor  *string         `json:"next_cursor" doc:"Pass as ?cursor= for the next endpoints; null on the last page"`
}

// ExplainedBody is why one endpoint did or did not get it.
type ExplainedBody struct {
	EndpointID    string     `json:"endpoint_id" example:"ep_01KB2Q3X8V9W0Y1Z2A3B4C5D6E"`
	Reason        string     `json:"reason" enum:"delivered,pending,dead,cancelled,not_reached,rejected,gated,gap,skipped,type_not_subscribed,other_workspace,filtered,created_later,disabled,duplicate,catching_up,lost,expired,unknown,missing" example:"type_not_subscribed"`
	Detail        string     `json:"detail" example:"it was subscribed to lead.*" doc:"For people"`
	DeliveryID    string     `json:"delivery_id,omitempty" example:"dlv_01KB2Q3X8V9W0Y1Z2A3B4C5D6F"`
	AttemptCount  *int       `json:"attempt_count,omitempty" nullable:"false"`
	Cause         string     `json:"cause,omitempty" doc:"Of a dead or cancelled one: exhausted, gone, endpoint_deleted, payload_lost, poison, blocked; of a rejected message: its code"`
	WaitsFor      string     `json:"waits_for,omitempty" enum:"endpoint_disabled,endpoint_paused,endpoint_failing,order,backoff,first_attempt,turn" doc:"Of a pending one"`
	NextAttemptAt *time.Time `json:"next_attempt_at,omitempty" doc:"Of a pending one: not before"`
	DisabledSince *time.Time `json:"disabled_since,omitempty"`
	EventTypes    []string   `json:"event_types,omitempty" nullable:"false" doc:"What it was subscribed to then"`
	WorkspaceID   string     `json:"workspace_id,omitempty" doc:"The workspace that it was subscribed to then"`
	Filter        string     `json:"filter,omitempty" doc:"The content filter that it had then"`
	FromSeq       *uint64    `json:"from_seq,omitempty" nullable:"false" doc:"Created or enabled later: it gets what comes after this sequence"`
	DuplicateOf   *uint64    `json:"duplicate_of,omitempty" nullable:"false" doc:"The sequence of the event with the same id"`
	Removed       bool       `json:"removed,omitempty" doc:"The endpoint was removed since"`
}

func (a *api) insight() {
	read := access{scope: WebhooksRead, gated: true}
	handle(a, route{id: "get-endpoint-stats", method: http.MethodGet, path: base + "/orgs/{org}/endpoints/{id}/stats", tag: "endpoints", access: read,
		summary: "Show how an endpoint fares: what waits, success rate and latency"},
		func(ctx context.Context, in *EndpointPath) (*answer[StatsBody], error) {
			st, err := a.svc.EndpointStats(ctx, in.Org, in.ID)
			if err != nil {
				return nil, err
			}
			return &answer[StatsBody]{statsBody(&st)}, nil
		})
	handle(a, route{id: "explain-event", method: http.MethodGet, path: base + "/orgs/{org}/events/{id}/explain", tag: "events", access: read, flights: a.searches,
		summary: "Say for each endpoint why it did or did not get an event"},
		func(ctx context.Context, in *struct {
			EventPath
			Page
		}) (*answer[ExplainBody], error) {
			return a.explain(ctx, in.EventPath, in.Page)
		})
}

func (a *api) explain(ctx context.Context, at EventPath, p Page) (*answer[ExplainBody], error) {
	var after int64
	if err := p.after("explain", "%d", &after); err != nil {
		return nil, err
	}
	var id stream.ID
	seq, err := strconv.ParseUint(at.ID, 10, 64)
	if err != nil || seq == 0 {
		seq = 0
		if id, err = stream.ParseID(at.ID); err != nil {
			return nil, ErrNotFound
		}
	}
	x, err := a.svc.Explain(ctx, at.Org, id, stream.Seq(seq))
	if err != nil {
		return nil, err
	}
	b := ExplainBody{Seq: uint64(x.Seq), Incarnation: x.Incarnation, Type: x.Type, StoredAt: optional(x.Stored), Data: []ExplainedBody{}}
	if x.ID != (stream.ID{}) {
		text := x.ID.String()
		b.EventID = &text
	}
	rest := slices.DeleteFunc(x.Answers, func(e fanout.Answer) bool { return e.Row <= after })
	if len(rest) > p.Limit {
		rest = rest[:p.Limit]
		b.NextCursor = cursorAt("explain", "%d", rest[p.Limit-1].Row)
	}
	b.Data = shaped(rest, explainedBody)
	return &answer[ExplainBody]{b}, nil
}

func statsBody(st *deliver.EndpointStats) StatsBody {
	return StatsBody{
		Pending: st.Pending, Dead: st.Dead, Health: string(st.Condition), FailingSince: optional(st.FailingSince),
		LastHour: windowBody(&st.Hour), LastDay: windowBody(&st.Day),
	}
}

func windowBody(w *deliver.Window) WindowBody {
	b := WindowBody{Attempts: w.Attempts(), Succeeded: w.Succeeded, Failed: w.Failed}
	if rate, ok := w.Rate(); ok {
		p50, p99 := milliseconds(w.Latencies.Quantile(0.5)), milliseconds(w.Latencies.Quantile(0.99))
		b.SuccessRate, b.P50MS, b.P99MS = &rate, &p50, &p99
	}
	return b
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func explainedBody(a fanout.Answer) ExplainedBody {
	b := ExplainedBody{
		EndpointID: a.ID, Reason: string(a.Why), Detail: Because(&a), Cause: a.Code, WaitsFor: string(a.Hold),
		DisabledSince: optional(a.Since), EventTypes: a.Types, WorkspaceID: a.Scope, Filter: a.Filter, FromSeq: (*uint64)(a.From), Removed: a.Removed,
	}
	if d := a.Delivery; d != nil {
		b.DeliveryID, b.AttemptCount, b.Cause = d.ID(d.Stored), &d.Attempts, d.Reason.String()
		if d.State == deliver.Pending {
			b.NextAttemptAt = optional(d.Due)
		}
	}
	if a.Earlier != nil {
		b.DuplicateOf = (*uint64)(&a.Earlier.Seq)
	}
	return b
}

// causes says in words why a delivery is dead or cancelled.
var causes = map[deliver.Reason]string{
	deliver.Exhausted:       "its attempts are used up",
	deliver.Gone:            "the receiver answered 410 Gone",
	deliver.EndpointDeleted: "its endpoint was removed",
	deliver.PayloadLost:     "the stream no longer had the event when its first attempt came",
	deliver.Poison:          "sending it failed by our own fault, time and again",
	deliver.Blocked:         "the endpoint's address is not allowed",
}

// Because says in words what the answer says.
func Because(a *fanout.Answer) string {
	switch a.Why {
	case fanout.WhyDelivered:
		return fmt.Sprintf("delivered at attempt %d", a.Delivery.Attempts)
	case fanout.WhyPending:
		return pendingBecause(a)
	case fanout.WhyDead, fanout.WhyCancelled:
		if cause := causes[a.Delivery.Reason]; cause != "" {
			return cause
		}
		return string(a.Why) + " by hand"
	case fanout.WhyNotReached:
		return "the cursor has not come there yet"
	case fanout.WhyRejected:
		return strings.TrimSuffix("it is no event: "+a.Detail, ": ")
	case fanout.WhyGated:
		return "the plan lacked outgoing webhooks when the cursor came"
	case fanout.WhyGap:
		return fmt.Sprintf("the stream no longer had sequences %d to %d when the cursor came", a.Span.From, a.Span.To)
	case fanout.WhySkipped:
		return fmt.Sprintf("the cursor was moved over sequences %d to %d by hand", a.Span.From, a.Span.To)
	case fanout.WhyType:
		return "it was subscribed to " + strings.Join(a.Types, ", ")
	case fanout.WhyWorkspace:
		return "it was subscribed to workspace " + a.Scope
	case fanout.WhyFiltered:
		return a.Part
	case fanout.WhyCreatedLater:
		return "it was made after the event"
	case fanout.WhyDisabled:
		if a.DisabledReason != "" && !a.Since.IsZero() {
			return fmt.Sprintf("it is disabled (%s) since %s", a.DisabledReason, a.Since.UTC().Format(time.RFC3339))
		}
		return "it was disabled then"
	case fanout.WhyDuplicate:
		return fmt.Sprintf("the event at %d has the same id", a.Earlier.Seq)
	case fanout.WhyCatchingUp:
		return fmt.Sprintf("the endpoint is behind: the stream was read for it up to sequence %d", a.Receiver.Seq)
	case fanout.WhyLost:
		return "the endpoint was behind, and the stream lost the event before it was read for it"
	case fanout.WhyExpired:
		return "its delivery is too old to be kept, or was made from an earlier incarnation of the stream"
	case fanout.WhyUnknown:
		return "the stream no longer has it, and nothing about it was recorded"
	default:
		return "it was subscribed, and there is no delivery: run grapnel fsck"
	}
}

func pendingBecause(a *fanout.Answer) string {
	d := a.Delivery
	switch a.Hold {
	case fanout.HoldDisabled:
		return fmt.Sprintf("waits until the endpoint is enabled: it is disabled (%s)", a.DisabledReason)
	case fanout.HoldPaused:
		return "waits until the endpoint is resumed: it is paused"
	case fanout.HoldFailing:
		return fmt.Sprintf("waits for the endpoint, which fails: it is tried again at %s", a.Wait.UTC().Format(time.RFC3339))
	case fanout.HoldOrder:
		return "waits for what comes before it in order"
	case fanout.HoldBackoff:
		return fmt.Sprintf("failed %d times; waits until %s", d.Attempts, d.Due.UTC().Format(time.RFC3339))
	case fanout.HoldFirst:
		return "waits for its first attempt"
	default:
		return fmt.Sprintf("failed %d times; its next attempt is due", d.Attempts)
	}
}
