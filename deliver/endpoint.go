package deliver

import "time"

// Defaults and bounds of an endpoint's settings (contract, section 5).
const (
	DefaultTimeout     = 10 * time.Second
	MinTimeout         = time.Second
	MaxTimeout         = 30 * time.Second
	DefaultConcurrency = 8
	MaxConcurrency     = 256
	// DisableAfter is how long an endpoint may fail without one success
	// before it is disabled, unless its Options say otherwise.
	DisableAfter = 5 * 24 * time.Hour
)

// Policy is the retry schedule of an endpoint.
type Policy struct {
	Initial     time.Duration // the delay after the first failure
	Multiplier  float64       // each further delay is this many times the one before
	MaxInterval time.Duration // but never more than this
	Attempts    int           // in all, the first included
}

// DefaultPolicy spans a little over three days, so that a weekend's outage
// heals by itself.
var DefaultPolicy = Policy{Initial: 5 * time.Second, Multiplier: 4, MaxInterval: 8 * time.Hour, Attempts: 17}

// Endpoint is where an organization wants its events, and how.
type Endpoint struct {
	Row         int64  // its number in the books
	ID          string // ep_…
	Org         string
	URL         string
	Description string
	EventTypes  []string      // exact, "*" or "invoice.*"
	Workspace   string        // "": org-wide
	Secrets     []Secret      // newest first; the first has no end
	Headers     []Header      // sent with each request, as CheckHeaders returns them
	Credentials *Credentials  // nil: none; nobody changes them
	Timeout     time.Duration // of an attempt, everything included
	Retry       Policy
	Concurrency int
	Options
	// DisabledReason is why the endpoint is disabled, see DisabledManual; "" means
	// that it is enabled.
	DisabledReason string
	DisabledAt     time.Time
	CreatedAt      time.Time
	UpdatedAt      time.Time
	// Revision counts the changes of everything above it, from 1. Whether attempts
	// succeed does not change it, unless that disables the endpoint.
	Revision int64
	Health
}

// Reasons for which an endpoint is disabled.
const (
	DisabledManual  = "manual"  // by hand
	DisabledFailing = "failing" // DisableAfter passed without a success
	DisabledRemoved = "removed" // it was deleted
	DisabledGone    = "gone"    // its receiver answered 410
)

// Enabled reports whether the endpoint takes deliveries.
func (e Endpoint) Enabled() bool { return e.DisabledReason == "" }
