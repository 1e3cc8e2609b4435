package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

const base = "/api/v1"

// Options says what the handlers serve.
type Options struct {
	Service Service
	Metrics http.Handler // /metrics
	Debug   http.Handler // /debug/, at the socket only; nil: nothing is there
	Log     *slog.Logger
	Version string
	Observe func(Ended) // told of each request; nil: nobody is

	// Of the network only; who can open the socket may ask as often as they like.
	Apart   bool // health and metrics are not served by Public, but by Probes, on an address of their own
	Rates   Rates
	Proxies []netip.Prefix // whose X-Forwarded-For is believed
	Tuning  *Tuning        // by which the two above can be changed; nil: they stay
}

// Operator serves every route without a token: for the Unix socket, which only
// the daemon's own user can open.
func Operator(o Options) http.Handler { return newHandler(o, true) }

// Public serves the API over the network, to whoever has a token, and without
// one the API's description and, unless they are apart, health and metrics.
func Public(o Options) http.Handler { return newHandler(o, false) }

// Probes serves health and metrics and nothing else, to whoever can reach it.
func Probes(o Options) http.Handler {
	mux := http.NewServeMux()
	a := &api{svc: o.Service, log: o.Log, mux: mux, observe: o.Observe}
	a.visitors.Store(new(visitors))
	health(mux, o, false)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, newProblem(http.StatusNotFound, "here are /healthz, /readyz and /metrics only"))
	})
	return a.guarded(mux)
}

func newHandler(o Options, socket bool) http.Handler {
	mux := http.NewServeMux()
	a := &api{svc: o.Service, log: o.Log, socket: socket, mux: mux, huma: humago.New(mux, humaConfig(o.Version)), observe: o.Observe,
		searches: newFlights(load{maxSearches, maxSearchBytes}, partOfSearches),
		writes:   newFlights(load{maxWrites, maxWriteBytes}, partOfWrites),
		rates:    newRates(o.Rates)}
	a.visitors.Store(newVisitors(o.Rates, o.Proxies))
	o.Tuning.add(a)
	a.orgs()
	a.endpoints()
	a.events()
	a.deliveries()
	a.acts()
	a.replays()
	a.cursors()
	a.tokens()
	a.auditLog()
	a.catalogue()
	a.insight()
	a.filters()
	a.secrets()
	a.holds()
	a.expunges()
	a.structures()
	a.configuration()
	a.doctor()
	a.logLevels()
	a.aliases()
	a.describe()
	a.docs(mux)
	if socket || !o.Apart {
		health(mux, o, socket)
	}
	if socket && o.Debug != nil {
		a.debug(o.Debug)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { notRouted(mux, w, r) })
	return a.guarded(mux)
}

// api holds what the handlers share.
type api struct {
	svc  Service
	log  *slog.Logger
	mux  *http.ServeMux
	huma huma.API

	searches *flights // requests that go through a stream or the books
	writes   *flights // others that have a body

	observe  func(Ended) // nil: nobody is told
	socket   bool        // requests come from the operator on this machine, without a token
	rates    rates
	visitors atomic.Pointer[visitors]
}

func humaConfig(version string) huma.Config {
	format := huma.Format{Marshal: huma.DefaultJSONFormat.Marshal, Unmarshal: decodeJSON}
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title:       "grapnel",
				Version:     version,
				Description: "Events of organizations, delivered to their endpoints as signed webhooks.",
			},
			Components: &huma.Components{
				SecuritySchemes: map[string]*huma.SecurityScheme{"token": {
					Type: "http", Scheme: "bearer", Description: "A token of an organization, or of an operator: gk_…",
				}},
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
			},
		},
		OpenAPIPath:                  "/openapi", // and no page of huma's: it would load its script from another host
		Formats:                      map[string]huma.Format{"application/json": format, "json": format},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{shapeProblem},
	}
}

// route is one operation of the API.
type route struct {
	id, method, path string
	summary, tag     string
	access
	status   int      // of success
	maxBody  int64    // 0: 1 MiB
	creates  bool     // and honours an Idempotency-Key
	bodyless bool     // its body may be left out
	flights  *flights // bounds of what is in flight; nil: none
	describe func(*huma.Operation)
}

// thing is an input that knows what it is about: "endpoint ep_… of organization
// acme".
type thing interface{ thing() string }

// handle adds an operation whose errors become problems.
func handle[I, O any](a *api, r route, f func(context.Context, *I) (*O, error)) {
	place := "body"
	if r.method == http.MethodGet {
		place = "query"
	}
	if r.maxBody == 0 {
		r.maxBody = maxBody
	}
	if r.flights == nil && r.method != http.MethodGet && r.method != http.MethodDelete {
		r.flights = a.writes
	}
	op := huma.Operation{
		OperationID: r.id, Method: r.method, Path: r.path, Summary: r.summary, Description: r.description(), Tags: []string{r.tag},
		DefaultStatus: r.status, MaxBodyBytes: r.maxBody, BodyReadTimeout: readTimeout,
		Errors:      r.refusals(),
		Security:    []map[string][]string{{"token": {string(r.scope)}}},
		Middlewares: huma.Middlewares{a.door(r)},
	}
	if r.creates {
		describeOnce(&op)
	}
	if r.describe != nil {
		r.describe(&op)
	}
	if r.bodyless {
		// huma does not know it of a body that is also read raw.
		op.RequestBody = new(huma.RequestBody)
		defer func() { op.RequestBody.Required = false }()
	}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := f(ctx, in)
		if err != nil {
			about := "such thing"
			if t, ok := any(in).(thing); ok {
				about = t.thing()
			}
			return nil, problemOf(ctx, a.log, r.id, about, place, err)
		}
		return out, nil
	})
}

// OrgPath is the path of what belongs to an organization.
type OrgPath struct {
	Org string `path:"org" minLength:"1" maxLength:"64" pattern:"^[A-Za-z0-9_-]+$" patternDescription:"letters, digits, _ or -"`
}

func (p OrgPath) thing() string { return "organization " + p.Org }

// utc is t in UTC, as all times of answers are.
func utc(t time.Time) time.Time { return t.UTC() }

// optional is nil for the zero time.
func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
