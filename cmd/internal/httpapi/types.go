package httpapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// The JSON shapes of the API (contract, sections 6 and 7). Fields that may be
// left out are omitted when they have no value; times are RFC 3339 in UTC.

// List is one page of a list. NextCursor is null on the last page.
type List[T any] struct {
	Data       []T     `json:"data" nullable:"false"`
	NextCursor *string `json:"next_cursor" doc:"Pass as ?cursor= for the next page; null on the last"`
}

// OrgBody is an organization in an answer.
type OrgBody struct {
	ID        string    `json:"id" example:"acme"`
	Name      string    `json:"name,omitempty" example:"Acme Ltd"`
	Plan      string    `json:"plan,omitempty"`
	Payload   string    `json:"payload" enum:"data,envelope" example:"data"`
	Subjects  []string  `json:"subjects" nullable:"false" example:"[\"webhook.>\"]"`
	CreatedAt time.Time `json:"created_at"`
}

// OrgCreate is the body of POST /orgs.
type OrgCreate struct {
	ID       string   `json:"id" minLength:"1" maxLength:"64" pattern:"^[A-Za-z0-9_-]+$" patternDescription:"1 to 64 letters, digits, _ or -" example:"acme"`
	Name     string   `json:"name,omitempty" maxLength:"200" example:"Acme Ltd" doc:"For people"`
	Plan     string   `json:"plan,omitempty" maxLength:"64" doc:"A name from the configuration's plans"`
	Payload  string   `json:"payload,omitempty" enum:"data,envelope" default:"data" doc:"What its publishers send"`
	Subjects []string `json:"subjects,omitempty" nullable:"false" maxItems:"16" doc:"Extra subjects that its stream binds, such as webhook.>"`
}

// OrgUpdate is the body of PATCH /orgs/{org}: what is left out stays.
type OrgUpdate struct {
	Name     *string   `json:"name,omitempty" nullable:"false" maxLength:"200" example:"Acme & Sons"`
	Plan     *string   `json:"plan,omitempty" nullable:"false" maxLength:"64"`
	Payload  *string   `json:"payload,omitempty" nullable:"false" enum:"data,envelope"`
	Subjects *[]string `json:"subjects,omitempty" nullable:"false" maxItems:"16"`
}

// Retry is an endpoint's retry schedule. In a request, what is left out has
// the default (create) or stays (update).
type Retry struct {
	Initial     *Duration `json:"initial,omitempty" nullable:"false" example:"5s" doc:"Delay after the first failure, 1s to 24h"`
	Multiplier  *float64  `json:"multiplier,omitempty" nullable:"false" minimum:"1" maximum:"10" example:"4" doc:"Each further delay is this many times the one before"`
	MaxInterval *Duration `json:"max_interval,omitempty" nullable:"false" example:"8h" doc:"But never more than this, up to 24h"`
	Attempts    *int      `json:"attempts,omitempty" nullable:"false" minimum:"1" maximum:"100" example:"17" doc:"In all, the first included"`
}

// EndpointBody is an endpoint in an answer.
type EndpointBody struct {
	ID          string            `json:"id" example:"ep_01KB2Q3X8V9W0Y1Z2A3B4C5D6E"`
	Org         string            `json:"org" example:"acme"`
	URL         string            `json:"url" example:"https://hooks.example/invoices"`
	Description string            `json:"description,omitempty" example:"Invoices to the ledger"`
	EventTypes  []string          `json:"event_types" nullable:"false" example:"[\"invoice.*\"]"`
	WorkspaceID *string           `json:"workspace_id" example:"berlin" doc:"null: org-wide"`
	Headers     map[string]string `json:"headers" nullable:"false" example:"{\"X-Api-Key\":\"[redacted]\"}" doc:"Of the endpoint's own; values are never shown"`
	TimeoutMS   int               `json:"timeout_ms" example:"10000"`
	Retry       Retry             `json:"retry"`
	Concurrency int               `json:"concurrency" example:"8"`
	CredentialsBody
	OptionsBody
	Disabled       bool       `json:"disabled"`
	DisabledReason string     `json:"disabled_reason,omitempty" doc:"manual, gone or failing"`
	DisabledAt     *time.Time `json:"disabled_at,omitempty"`
	ConditionBody
	CatchingUp  *CatchingUpBody   `json:"catching_up,omitempty" doc:"It is behind the organization's cursor"`
	HeldBecause string            `json:"held_because,omitempty" doc:"Why nothing is sent to it until somebody mends it: its format is not configured any more, or its filter cannot be read"`
	Gaps        []EndpointGapBody `json:"gaps,omitempty" nullable:"false" doc:"Of one endpoint: the latest sequences that the stream lost before they were read for it"`
	CreatedAt   time.Time         `json:"created_at"`
	UpdatedAt   time.Time         `json:"updated_at"`

	revision int64
}

// etag is the ETag of the endpoint: it changes with what people set, and when
// the endpoint is disabled.
func (b EndpointBody) etag() string {
	if b.revision == 0 { // of an answer that was stored
		return ""
	}
	return fmt.Sprintf("\"%d\"", b.revision)
}

// EndpointCreated is the answer to POST /orgs/{org}/endpoints, the only one
// that shows the secret.
type EndpointCreated struct {
	EndpointBody
	Secret    string `json:"secret" example:"whsec_bm90LWEtc2VjcmV0LWJ1dC1hbi1leGFtcGxlLW9mLW9uZQ==" doc:"Signs every request to the endpoint; shown here and never again"`
	PublicKey string `json:"public_key,omitempty" example:"whpk_bm90LWEta2V5LWJ1dC1hbi1leGFtcGxlLW9mLTE=" doc:"Of a format that signs by ed25519: what receivers verify with"`
	StartsAt  uint64 `json:"starts_at,omitempty" example:"120001" doc:"With start: the first sequence that it gets"`
}

// EndpointCreate is the body of POST /orgs/{org}/endpoints.
type EndpointCreate struct {
	URL         string            `json:"url" minLength:"1" maxLength:"2048" example:"https://hooks.example/invoices" doc:"Where events are POSTed"`
	EventTypes  []string          `json:"event_types,omitempty" nullable:"false" minItems:"1" maxItems:"100" example:"[\"invoice.*\"]" doc:"Exact (invoice.paid), a prefix (invoice.*) or every (*), which is the default"`
	WorkspaceID Clearable         `json:"workspace_id,omitzero" example:"berlin" doc:"Only this workspace's events; without it, or null, org-wide"`
	Description Clearable         `json:"description,omitzero" example:"Invoices to the ledger" doc:"For people"`
	Secret      string            `json:"secret,omitempty" maxLength:"128" doc:"whsec_ and base64 of 24 to 64 bytes, or what another format signs with: 16 to 128 printable characters, or whsk_; made when left out"`
	Headers     map[string]string `json:"headers,omitempty" nullable:"false" maxProperties:"20" example:"{\"X-Api-Key\":\"of-the-receiver\"}" doc:"Sent with each request, up to 20; kept encrypted and never shown again"`
	TimeoutMS   *int              `json:"timeout_ms,omitempty" nullable:"false" minimum:"1000" maximum:"30000" example:"10000"`
	Retry       *Retry            `json:"retry,omitempty"`
	Concurrency *int              `json:"concurrency,omitempty" nullable:"false" minimum:"1" maximum:"256" example:"8"`
	CredentialsChange
	OptionsChange
	Start    StartText `json:"start,omitempty" doc:"From where in the stream it gets events: now, which is the default; beginning; a sequence; or a time. What the stream no longer has is left out"`
	Disabled bool      `json:"disabled,omitempty"`
}

// EndpointUpdate is the body of PATCH /orgs/{org}/endpoints/{id}: what is left
// out stays.
type EndpointUpdate struct {
	URL         *string            `json:"url,omitempty" nullable:"false" minLength:"1" maxLength:"2048"`
	EventTypes  *[]string          `json:"event_types,omitempty" nullable:"false" minItems:"1" maxItems:"100" example:"[\"invoice.*\",\"refund.*\"]"`
	WorkspaceID Clearable          `json:"workspace_id,omitzero" doc:"null makes it org-wide"`
	Description Clearable          `json:"description,omitzero" example:"Invoices and refunds"`
	Headers     *map[string]string `json:"headers,omitempty" nullable:"false" maxProperties:"20" example:"{\"X-Tenant\":\"seven\"}" doc:"Takes the place of all there are; the value [redacted] keeps the one that the header has. Needed when url moves to another origin"`
	TimeoutMS   *int               `json:"timeout_ms,omitempty" nullable:"false" minimum:"1000" maximum:"30000" example:"5000"`
	Retry       *Retry             `json:"retry,omitempty"`
	Concurrency *int               `json:"concurrency,omitempty" nullable:"false" minimum:"1" maximum:"256"`
	CredentialsChange
	OptionsChange
	Secret   string `json:"secret,omitempty" minLength:"3" maxLength:"128" doc:"Takes the place of all that sign now, at once, as a format that they do not fit needs it; new: one is made. Use rotate-secret otherwise"`
	Disabled *bool  `json:"disabled,omitempty" nullable:"false" example:"false" doc:"false enables it, whatever had disabled it, and resumes its pending deliveries"`
}

// EventCreate is one event in the body of POST /orgs/{org}/events.
type EventCreate struct {
	Type          string          `json:"type" minLength:"1" maxLength:"128" pattern:"^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]+)*$" patternDescription:"tokens of letters, digits, _ and -, joined by dots" example:"invoice.paid"`
	Data          json.RawMessage `json:"data" example:"{\"invoice\":\"in_1\",\"amount\":1999}" doc:"Any JSON; receivers get it byte for byte"`
	WorkspaceID   string          `json:"workspace_id,omitempty" maxLength:"64" pattern:"^[A-Za-z0-9_-]*$" patternDescription:"1 to 64 letters, digits, _ or -" example:"berlin"`
	DedupeKey     string          `json:"dedupe_key,omitempty" maxLength:"256" example:"in_1-paid" doc:"What the publisher calls the event; the same key twice is one event"`
	SchemaVersion string          `json:"schema_version,omitempty" maxLength:"64" example:"1"`
	Source        string          `json:"source,omitempty" maxLength:"256" example:"billing" doc:"The service that wrote it"`
	Time          *time.Time      `json:"time,omitempty" nullable:"false" doc:"When it happened; now, when left out"`
}

// AppendedBody is what became of one event of POST /orgs/{org}/events.
type AppendedBody struct {
	ID        string `json:"id" example:"evt_4S7T0N3M8Q1V5X2Z6B9C0D4F7G"`
	Seq       uint64 `json:"seq" example:"42"`
	Duplicate bool   `json:"duplicate" doc:"The stream has an event of this dedupe key already"`
}

// EventBody is an event in an answer.
type EventBody struct {
	ID            string          `json:"id" example:"evt_4S7T0N3M8Q1V5X2Z6B9C0D4F7G"`
	Org           string          `json:"org" example:"acme"`
	Seq           uint64          `json:"seq" example:"42"`
	Type          string          `json:"type" example:"invoice.paid"`
	Time          time.Time       `json:"time" doc:"When it happened, as the publisher says"`
	StoredAt      time.Time       `json:"stored_at"`
	WorkspaceID   string          `json:"workspace_id,omitempty" example:"berlin"`
	SchemaVersion string          `json:"schema_version" example:"1"`
	Source        string          `json:"source,omitempty" example:"billing"`
	DedupeKey     string          `json:"dedupe_key,omitempty" example:"in_1-paid"`
	TraceParent   string          `json:"traceparent,omitempty"`
	Data          json.RawMessage `json:"data" example:"{\"invoice\":\"in_1\",\"amount\":1999}"`
}

// DeliveryBody is a delivery in a list.
type DeliveryBody struct {
	ID            string     `json:"id" example:"dlv_01KB2Q3X8V9W0Y1Z2A3B4C5D6F"`
	Org           string     `json:"org" example:"acme"`
	EndpointID    string     `json:"endpoint_id" example:"ep_01KB2Q3X8V9W0Y1Z2A3B4C5D6E"`
	EventID       string     `json:"event_id" example:"evt_4S7T0N3M8Q1V5X2Z6B9C0D4F7G"`
	Seq           uint64     `json:"seq" example:"42"`
	Type          string     `json:"type" example:"invoice.paid"`
	Status        string     `json:"status" enum:"pending,delivered,dead,cancelled" example:"pending"`
	Reason        string     `json:"reason,omitempty" doc:"Why it is dead or cancelled"`
	AttemptCount  int        `json:"attempt_count" example:"1"`
	NextAttemptAt *time.Time `json:"next_attempt_at,omitempty" doc:"When pending: not before this; absent means at once"`
	StoredAt      time.Time  `json:"stored_at" doc:"When the stream stored the event"`
	CreatedAt     time.Time  `json:"created_at" doc:"When the event was fanned out"`
}

// DeliveryDetail is one delivery with its attempts, oldest first.
type DeliveryDetail struct {
	DeliveryBody
	Attempts []AttemptBody `json:"attempts" nullable:"false"`
}

// AttemptBody is one request and what came of it.
type AttemptBody struct {
	ID                string            `json:"id" example:"att_01KB2Q3X8V9W0Y1Z2A3B4C5D6G"`
	Number            int               `json:"number" example:"1"`
	Trigger           string            `json:"trigger" enum:"first,retry,manual,replay,test" example:"first"`
	Time              time.Time         `json:"time"`
	StatusCode        int               `json:"status_code,omitempty" example:"503" doc:"Absent when no answer came"`
	ErrorClass        string            `json:"error_class,omitempty" example:"http_5xx" doc:"Absent when delivered"`
	Error             string            `json:"error,omitempty"`
	DurationMS        float64           `json:"duration_ms" example:"12.345"`
	RetryAfter        *Duration         `json:"retry_after,omitempty" example:"30s"`
	ResponseHeaders   map[string]string `json:"response_headers,omitempty" example:"{\"content-type\":\"text/plain\"}"`
	ResponseBody      string            `json:"response_body,omitempty" example:"try later" doc:"Its first 4 KiB"`
	ResponseTruncated bool              `json:"response_truncated,omitempty"`
	Request           *RequestBody      `json:"request,omitempty"`
	Timings           *TimingsBody      `json:"timings,omitempty" doc:"Absent of a success on a connection that was there already"`
	RemoteAddress     string            `json:"remote_address,omitempty" example:"203.0.113.7:443" doc:"For operators' tokens only; absent with timings, and behind an egress proxy"`
}

// BackloggedBody is what one endpoint has to do, or cannot do any more.
type BackloggedBody struct {
	EndpointID string `json:"endpoint_id" example:"ep_01KB2Q3X8V9W0Y1Z2A3B4C5D6E"`
	Pending    int64  `json:"pending" example:"3"`
	Dead       int64  `json:"dead" example:"0"`
}

// GapBody is a range of sequences that were never fanned out.
type GapBody struct {
	Incarnation int       `json:"incarnation" example:"1"`
	From        uint64    `json:"from" example:"100"`
	To          uint64    `json:"to" example:"119"`
	Count       uint64    `json:"count" example:"20"`
	Reason      string    `json:"reason" enum:"lost,skipped" example:"lost" doc:"lost: the stream no longer had them when the cursor came; skipped: the cursor was moved over them"`
	At          time.Time `json:"at"`
}

// RejectedBody is a message that was no event.
type RejectedBody struct {
	Org         string    `json:"org" example:"acme"`
	Incarnation int       `json:"incarnation" example:"1"`
	Seq         uint64    `json:"seq" example:"43"`
	Subject     string    `json:"subject" example:"events.acme.invoice.paid"`
	StoredAt    time.Time `json:"stored_at"`
	Code        string    `json:"code" example:"not_json"`
	Detail      string    `json:"detail" example:"data: not JSON"`
	Data        string    `json:"data,omitempty" example:"{invoice" doc:"Its first 64 KiB, as text"`
}

// BooksBody is what fsck says of one org.
type BooksBody struct {
	Org           string   `json:"org" example:"acme"`
	Proven        bool     `json:"proven" example:"true"`
	Through       uint64   `json:"through" example:"42"`
	Events        int64    `json:"events" example:"42"`
	Endpoints     int64    `json:"endpoints" example:"2"`
	Delivered     int64    `json:"delivered" example:"80"`
	Pending       int64    `json:"pending" example:"3"`
	Dead          int64    `json:"dead" example:"1"`
	Cancelled     int64    `json:"cancelled" example:"0"`
	NotSubscribed int64    `json:"not_subscribed" example:"0"`
	Duplicates    int64    `json:"duplicates" example:"0"`
	Rejected      int64    `json:"rejected" example:"0"`
	Gated         int64    `json:"gated" example:"0"`
	InGaps        int64    `json:"in_gaps" example:"0"`
	Missing       int64    `json:"missing" example:"0" doc:"Deliveries that are not there"`
	FirstMissing  uint64   `json:"first_missing" example:"0" doc:"The sequence at which the first of them should be, 0 if there is none"`
	Wrong         int64    `json:"wrong" example:"0"`
	Problems      []string `json:"problems" nullable:"false" example:"[]"`
}

// FsckBody is the answer of GET /fsck.
type FsckBody struct {
	Proven bool        `json:"proven" example:"true"`
	Orgs   []BooksBody `json:"orgs" nullable:"false"`
}

// HealthBody is the answer of /healthz and /readyz. Details are told only to
// the operator.
type HealthBody struct {
	Status   string     `json:"status" enum:"ok,degraded,unavailable"`
	Detail   string     `json:"detail,omitempty"`
	Degraded []string   `json:"degraded,omitempty"`
	Version  string     `json:"version,omitempty"`
	PID      int        `json:"pid,omitempty"`
	Started  *time.Time `json:"started,omitempty"`
}

// Duration is a span of time as text: "5s", "1m30s", "8h".
type Duration time.Duration

// String is the shortest text that means d.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("duration %q: want a number and a unit, such as 30s or 8h", b)
	}
	*d = Duration(v)
	return nil
}

// Schema implements huma.SchemaProvider.
func (Duration) Schema(huma.Registry) *huma.Schema {
	// The format "duration" of JSON Schema is another one: PT30S.
	s := &huma.Schema{
		Type: huma.TypeString, Examples: []any{"30s"},
		Pattern: `^([0-9]*\.?[0-9]+(ns|us|ms|s|m|h))+$`, PatternDescription: "a duration, such as 30s or 8h",
	}
	s.PrecomputeMessages()
	return s
}

// Clearable is a text in an update: absent leaves it as it is, null or ""
// clears it.
type Clearable struct {
	Given bool
	Text  string
}

// Text is a Clearable that sets s.
func Text(s string) Clearable { return Clearable{Given: true, Text: s} }

// MarshalJSON implements json.Marshaler.
func (c Clearable) MarshalJSON() ([]byte, error) {
	if c.Text == "" {
		return []byte("null"), nil
	}
	return json.Marshal(c.Text)
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *Clearable) UnmarshalJSON(b []byte) error {
	c.Given = true
	if string(b) == "null" {
		c.Text = ""
		return nil
	}
	return json.Unmarshal(b, &c.Text)
}

// Schema implements huma.SchemaProvider.
func (Clearable) Schema(r huma.Registry) *huma.Schema {
	s := *r.Schema(reflect.TypeFor[string](), true, "")
	s.Nullable = true
	return &s
}

// pointer is the text's address, nil when it was left out.
func (c Clearable) pointer() *string {
	if !c.Given {
		return nil
	}
	return &c.Text
}
