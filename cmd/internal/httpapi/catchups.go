package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Catchups is the part of a Service that knows which endpoints are behind the
// cursor of their organization.
type Catchups interface {
	// CatchingUp says how far those of the org's endpoints are behind that are, by
	// row.
	CatchingUp(ctx context.Context, org string, endpoints []deliver.Endpoint) (map[int64]CatchingUp, error)
	// Held says why nothing is sent to the endpoint until somebody mends it: its
	// format is not configured any more, or its filter cannot be read. "" when
	// neither is so. It is quick.
	Held(e deliver.Endpoint) string
	// EndpointGaps lists what the stream lost before it was read for the endpoint,
	// the latest first, up to limit.
	EndpointGaps(ctx context.Context, org, endpoint string, limit int) ([]Gap, error)
}

// Start is from where in the stream a new endpoint gets events. The zero Start
// is now: what comes from now on.
type Start struct {
	Beginning bool       // from the oldest event that the stream still has
	Seq       stream.Seq // from this one on; 0: it does not say so
	Time      time.Time  // from the first that was stored then or later
}

// CatchingUp is how far an endpoint is behind.
type CatchingUp struct {
	Reason  string // backfill or parked
	Since   time.Time
	From    stream.Seq // it began after this sequence
	Place   stream.Seq // all up to here was read for it
	Behind  uint64     // sequences from there to where the cursor was
	AtRisk  bool       // the stream is about to lose what comes after Place
	Lost    uint64     // sequences that the stream lost before they were read for it, ever
	Waiting string     // why nothing is read for it now, ""
}

// CatchingUpBody is a CatchingUp in an answer.
type CatchingUpBody struct {
	Reason  string    `json:"reason" enum:"backfill,parked" example:"parked" doc:"backfill: it asked for what was there before it; parked: too many of its deliveries were pending"`
	Since   time.Time `json:"since"`
	From    uint64    `json:"from" example:"120000" doc:"It began after this sequence"`
	Place   uint64    `json:"place" example:"151000" doc:"All up to here was read for it"`
	Behind  uint64    `json:"behind" example:"49000" doc:"Sequences that are still to be read for it"`
	AtRisk  bool      `json:"at_risk" doc:"The stream is about to lose what was not read yet"`
	Lost    uint64    `json:"lost" example:"0" doc:"Sequences that the stream lost before they were read for it; the endpoint's gaps list them"`
	Waiting string    `json:"waiting,omitempty" example:"10000 deliveries of the endpoint are pending, and more are made only below 10000" doc:"Why nothing is read for it at this moment"`
}

// EndpointGapBody is a range of sequences that the stream lost before they were
// read for an endpoint that was behind.
type EndpointGapBody struct {
	Incarnation int       `json:"incarnation" example:"1"`
	From        uint64    `json:"from" example:"100"`
	To          uint64    `json:"to" example:"119"`
	Count       uint64    `json:"count" example:"20"`
	At          time.Time `json:"at"`
}

// maxEndpointGaps is how many of an endpoint are shown.
const maxEndpointGaps = 20

func catchingUpBody(c CatchingUp) *CatchingUpBody {
	return &CatchingUpBody{
		Reason: c.Reason, Since: utc(c.Since), From: uint64(c.From), Place: uint64(c.Place), Behind: c.Behind,
		AtRisk: c.AtRisk, Lost: c.Lost, Waiting: c.Waiting,
	}
}

// behind adds to endpoints' bodies how far they are behind.
func (a *api) behind(ctx context.Context, org string, endpoints []deliver.Endpoint) (func(deliver.Endpoint) EndpointBody, error) {
	of, err := a.svc.CatchingUp(ctx, org, endpoints)
	if err != nil {
		return nil, err
	}
	return func(e deliver.Endpoint) EndpointBody {
		b := endpointBody(e)
		b.HeldBecause = a.svc.Held(e)
		if c, ok := of[e.Row]; ok {
			b.CatchingUp = catchingUpBody(c)
		}
		return b
	}, nil
}

// answered is an endpoint with what it lacks.
func (a *api) answered(ctx context.Context, e deliver.Endpoint) (*endpointAnswer, error) {
	body, err := a.behind(ctx, e.Org, []deliver.Endpoint{e})
	if err != nil {
		return nil, err
	}
	b := body(e)
	gaps, err := a.svc.EndpointGaps(ctx, e.Org, e.ID, maxEndpointGaps)
	if err != nil {
		return nil, err
	}
	for _, g := range gaps {
		b.Gaps = append(b.Gaps, EndpointGapBody{Incarnation: g.Incarnation, From: uint64(g.From), To: uint64(g.To), Count: g.Count(), At: utc(g.At)})
	}
	return &endpointAnswer{ETag: b.etag(), Body: b}, nil
}

// StartText is a Start in a request: now, beginning, a time, or a sequence,
// which may be a number.
type StartText string

// startForms is what a start can be, for people.
const startForms = "want now, beginning, a sequence, or a time such as 2026-11-21T12:00:00Z"

// UnmarshalJSON implements json.Unmarshaler.
func (s *StartText) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] != '"' {
		*s = StartText(b)
		return nil
	}
	return json.Unmarshal(b, (*string)(s))
}

// Schema implements huma.SchemaProvider.
func (StartText) Schema(huma.Registry) *huma.Schema {
	longest := 64
	s := &huma.Schema{
		OneOf: []*huma.Schema{
			{Type: huma.TypeString, MaxLength: &longest},
			{Type: huma.TypeInteger},
		},
		Examples: []any{"beginning"},
	}
	for _, one := range s.OneOf {
		one.PrecomputeMessages()
	}
	s.PrecomputeMessages()
	return s
}

// ParseStart reads a start.
func ParseStart(text string) (Start, error) {
	switch text {
	case "", "now":
		return Start{}, nil
	case "beginning":
		return Start{Beginning: true}, nil
	}
	if n, err := strconv.ParseUint(text, 10, 63); err == nil {
		if n == 0 {
			return Start{}, &Invalid{Field: "start", Detail: "the first sequence is 1"}
		}
		return Start{Seq: stream.Seq(n)}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil || at.IsZero() {
		return Start{}, &Invalid{Field: "start", Detail: fmt.Sprintf("%.64q: %s", text, startForms)}
	}
	return Start{Time: at}, nil
}
