// Package client calls the daemon's HTTP API (package httpapi): over the Unix
// socket in its data directory ([New]), where the caller is the operator, or
// over the network with a token ([Remote]).
//
// An answer that is a problem document comes as an error of type
// *httpapi.Problem. When nobody answers, the error wraps [ErrNotRunning] (socket)
// or [ErrUnreachable] (network). No error holds the token or what was sent.
//
// A call ends after [CallLimit]. When the daemon answers that it is asked too
// much (429), which means that nothing was done, the call waits as long as it is
// told to, if that is a few seconds, and asks again.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// ErrNotRunning: no daemon answers on the socket.
var ErrNotRunning = errors.New("no grapnel is running")

// SocketName is the name of the daemon's socket in its data directory.
const SocketName = "grapnel.sock"

const (
	// CallLimit is how long a call may take, but for Fsck, which may take minutes.
	CallLimit = 90 * time.Second

	maxAnswer   = 256 << 20 // bytes; a page of 250 events of 1 MiB at the most
	dialLimit   = 5 * time.Second
	longestWait = 10 * time.Second // that a 429 may ask for
)

// Client calls one daemon. It is safe for concurrent use.
type Client struct {
	base      string              // URL that the API's paths are added to
	authorize func(*http.Request) // adds the token; a function, so that no print of a Client shows it
	explain   func(error) error   // says for people why no answer came
	http      *http.Client
}

// New is a client of the daemon with that data directory. It does not connect
// yet.
func New(data string) *Client {
	socket := filepath.Join(data, SocketName)
	dialer := &net.Dialer{Timeout: dialLimit}
	return &Client{
		base:      "http://grapnel",
		authorize: func(*http.Request) {},
		explain:   func(err error) error { return noSocket(data, err) },
		http: straight(&http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", socket)
			},
			MaxIdleConnsPerHost: 4,
			IdleConnTimeout:     30 * time.Second,
		}),
	}
}

// straight is an HTTP client that goes nowhere else.
func straight(t http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// noSocket says why no answer came over the socket, nil when it knows nothing
// better than err.
func noSocket(data string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w on %s", ErrNotRunning, data)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the socket of %s is another user's: run as that user, or use --url and a token", data)
	case errors.Is(err, syscall.EINVAL):
		return fmt.Errorf("the path of %s is too long for a socket: use a shorter data directory", filepath.Join(data, SocketName))
	}
	return nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call makes a request and waits for its answer, at most CallLimit. in is the
// body, nil for none; out is what the answer is decoded into, nil if it has no
// body.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	limited, cancel := context.WithTimeout(ctx, CallLimit)
	defer cancel()
	err := c.patiently(limited, method, path, query, in, out)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return fmt.Errorf("%s %s: no answer in %s", method, path, CallLimit)
	}
	return err
}

// patiently is call without a limit but the context's.
func (c *Client) patiently(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	for {
		wait, err := c.ask(ctx, method, path, query, body, out)
		if wait == 0 || wait > longestWait {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
	}
}

// ask makes one request. wait is after how long the daemon said to ask again,
// when it did nothing because it is asked too much.
func (c *Client) ask(ctx context.Context, method, path string, query url.Values, body []byte, out any) (wait time.Duration, _ error) {
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	var send io.Reader
	if body != nil {
		send = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, send)
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	c.authorize(req)
	resp, err := c.http.Do(req)
	if err != nil {
		if why := c.explain(err); why != nil {
			return 0, why
		}
		var u *url.Error
		if errors.As(err, &u) { // its text has the whole URL, at the socket a made-up one
			err = u.Err
		}
		return 0, fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	if resp.StatusCode >= 300 {
		return retryAfter(resp), refusal(method, path, resp, raw)
	}
	if out == nil || len(raw) == 0 {
		return 0, nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return 0, fmt.Errorf("%s %s: the answer is not one of grapnel's (%w)", method, path, err)
	}
	return 0, nil
}

// refusal is the error of an answer that is no success.
func refusal(method, path string, resp *http.Response, raw []byte) error {
	p := &httpapi.Problem{}
	switch {
	case json.Unmarshal(raw, p) == nil && p.Status != 0:
		return p
	case resp.StatusCode < 400:
		to := "elsewhere"
		if u, err := resp.Location(); err == nil {
			to = u.Scheme + "://" + u.Host + u.EscapedPath()
		}
		return fmt.Errorf("%s %s: the answer leads to %s, and redirects are not followed: give the daemon's own URL", method, path, to)
	}
	return fmt.Errorf("%s %s: answer %s, and not one of grapnel's: is it the right address?", method, path, resp.Status)
}

// retryAfter is the wait that a 429 asks for (RFC 9110, section 10.2.3), 0 for
// none.
func retryAfter(resp *http.Response) time.Duration {
	seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if resp.StatusCode != http.StatusTooManyRequests || err != nil || seconds < 1 {
		return 0
	}
	return time.Duration(min(seconds, 3600)) * time.Second
}

const base = "/api/v1"

// orgPath is the path of what belongs to an organization. The parts may be what
// somebody typed.
func orgPath(org string, rest ...string) string {
	return idPath(base+"/orgs", append([]string{org}, rest...)...)
}

// idPath is path and under it the parts, which may be what somebody typed.
func idPath(path string, parts ...string) string {
	for _, part := range parts {
		path += "/" + url.PathEscape(part)
	}
	return path
}

// Page says which page of a list.
type Page struct {
	Limit  int    // 1 to 250; 0: 50
	Cursor string // next_cursor of the page before
}

func (p Page) query() url.Values {
	q := url.Values{}
	set(q, "cursor", p.Cursor)
	if p.Limit != 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	return q
}

func set(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

func setTime(q url.Values, name string, t time.Time) {
	if !t.IsZero() {
		q.Set(name, t.UTC().Format(time.RFC3339Nano))
	}
}

func get[T any](ctx context.Context, c *Client, path string, q url.Values) (out T, err error) {
	err = c.call(ctx, http.MethodGet, path, q, nil, &out)
	return out, err
}

// AddOrg makes an organization.
func (c *Client) AddOrg(ctx context.Context, o httpapi.OrgCreate) (out httpapi.OrgBody, err error) {
	err = c.call(ctx, http.MethodPost, base+"/orgs", nil, o, &out)
	return out, err
}

// Orgs lists organizations by id.
func (c *Client) Orgs(ctx context.Context, p Page) (httpapi.List[httpapi.OrgBody], error) {
	return get[httpapi.List[httpapi.OrgBody]](ctx, c, base+"/orgs", p.query())
}

// Org shows one.
func (c *Client) Org(ctx context.Context, org string) (httpapi.OrgBody, error) {
	return get[httpapi.OrgBody](ctx, c, orgPath(org), nil)
}

// ChangeOrg changes what u gives.
func (c *Client) ChangeOrg(ctx context.Context, org string, u httpapi.OrgUpdate) (out httpapi.OrgBody, err error) {
	err = c.call(ctx, http.MethodPatch, orgPath(org), nil, u, &out)
	return out, err
}

// RemoveOrg removes an organization that has no endpoints.
func (c *Client) RemoveOrg(ctx context.Context, org string) error {
	return c.call(ctx, http.MethodDelete, orgPath(org), nil, nil, nil)
}

// AddEndpoint makes an endpoint; only its answer has the secret.
func (c *Client) AddEndpoint(ctx context.Context, org string, e httpapi.EndpointCreate) (out httpapi.EndpointCreated, err error) {
	err = c.call(ctx, http.MethodPost, orgPath(org, "endpoints"), nil, e, &out)
	return out, err
}

// Endpoints lists an organization's endpoints, oldest first.
func (c *Client) Endpoints(ctx context.Context, org string, p Page) (httpapi.List[httpapi.EndpointBody], error) {
	return get[httpapi.List[httpapi.EndpointBody]](ctx, c, orgPath(org, "endpoints"), p.query())
}

// Endpoint shows one.
func (c *Client) Endpoint(ctx context.Context, org, id string) (httpapi.EndpointBody, error) {
	return get[httpapi.EndpointBody](ctx, c, orgPath(org, "endpoints", id), nil)
}

// ChangeEndpoint changes what u gives.
func (c *Client) ChangeEndpoint(ctx context.Context, org, id string, u httpapi.EndpointUpdate) (out httpapi.EndpointBody, err error) {
	err = c.call(ctx, http.MethodPatch, orgPath(org, "endpoints", id), nil, u, &out)
	return out, err
}

// RemoveEndpoint removes an endpoint and cancels its pending deliveries.
func (c *Client) RemoveEndpoint(ctx context.Context, org, id string) error {
	return c.call(ctx, http.MethodDelete, orgPath(org, "endpoints", id), nil, nil, nil)
}

// Append appends one event.
func (c *Client) Append(ctx context.Context, org string, e httpapi.EventCreate) (out httpapi.AppendedBody, err error) {
	err = c.call(ctx, http.MethodPost, orgPath(org, "events"), nil, e, &out)
	return out, err
}

// EventQuery narrows a list of events.
type EventQuery struct {
	Page
	Type, Workspace string
	Since, Until    time.Time
}

// Events lists the stream's events, newest first.
func (c *Client) Events(ctx context.Context, org string, q EventQuery) (httpapi.List[httpapi.EventBody], error) {
	v := q.query()
	set(v, "type", q.Type)
	set(v, "workspace_id", q.Workspace)
	setTime(v, "since", q.Since)
	setTime(v, "until", q.Until)
	return get[httpapi.List[httpapi.EventBody]](ctx, c, orgPath(org, "events"), v)
}

// Event shows one, by its id or sequence.
func (c *Client) Event(ctx context.Context, org, id string) (httpapi.EventBody, error) {
	return get[httpapi.EventBody](ctx, c, orgPath(org, "events", id), nil)
}

// DeliveryQuery narrows a list of deliveries.
type DeliveryQuery struct {
	Page
	Endpoint, Event, Type, Status string
	Since, Until                  time.Time
}

// Deliveries lists deliveries, those of the newest events first.
func (c *Client) Deliveries(ctx context.Context, org string, q DeliveryQuery) (httpapi.List[httpapi.DeliveryBody], error) {
	v := q.query()
	set(v, "endpoint_id", q.Endpoint)
	set(v, "event_id", q.Event)
	set(v, "type", q.Type)
	set(v, "status", q.Status)
	setTime(v, "since", q.Since)
	setTime(v, "until", q.Until)
	return get[httpapi.List[httpapi.DeliveryBody]](ctx, c, orgPath(org, "deliveries"), v)
}

// Delivery shows one with its attempts.
func (c *Client) Delivery(ctx context.Context, org, id string) (httpapi.DeliveryDetail, error) {
	return get[httpapi.DeliveryDetail](ctx, c, orgPath(org, "deliveries", id), nil)
}

// RetryDelivery sends a delivery again.
func (c *Client) RetryDelivery(ctx context.Context, org, id string) (out httpapi.DeliveryBody, err error) {
	err = c.call(ctx, http.MethodPost, orgPath(org, "deliveries", id, "retry"), nil, nil, &out)
	return out, err
}

// Cursor shows an organization's cursor.
func (c *Client) Cursor(ctx context.Context, org string) (httpapi.CursorBody, error) {
	return get[httpapi.CursorBody](ctx, c, orgPath(org, "cursor"), nil)
}

// Cursors lists those of all organizations.
func (c *Client) Cursors(ctx context.Context, p Page) (httpapi.List[httpapi.CursorBody], error) {
	return get[httpapi.List[httpapi.CursorBody]](ctx, c, base+"/cursors", p.query())
}

// Gaps lists an organization's recorded gaps, newest first.
func (c *Client) Gaps(ctx context.Context, org string, p Page) (httpapi.List[httpapi.GapBody], error) {
	return get[httpapi.List[httpapi.GapBody]](ctx, c, orgPath(org, "gaps"), p.query())
}

// Rejected lists messages that were no events, newest first.
func (c *Client) Rejected(ctx context.Context, org string, p Page) (httpapi.List[httpapi.RejectedBody], error) {
	return get[httpapi.List[httpapi.RejectedBody]](ctx, c, orgPath(org, "rejected"), p.query())
}

// Fsck proves the books of one organization, or of all when org is empty.
func (c *Client) Fsck(ctx context.Context, org string) (out httpapi.FsckBody, err error) {
	q := url.Values{}
	set(q, "org", org)
	err = c.patiently(ctx, http.MethodGet, base+"/fsck", q, nil, &out)
	return out, err
}

// Structure says what is wrong between the rows of the database.
func (c *Client) Structure(ctx context.Context) (out httpapi.StructureBody, err error) {
	err = c.patiently(ctx, http.MethodGet, base+"/fsck/structure", nil, nil, &out)
	return out, err
}

// MendStructure takes out rows of the database that lead nowhere.
func (c *Client) MendStructure(ctx context.Context, reason string) (out httpapi.StructureBody, err error) {
	err = c.patiently(ctx, http.MethodPost, base+"/fsck/structure/repair", nil, httpapi.MendBody{Reason: reason}, &out)
	return out, err
}

// Health is how the daemon is. That it takes no work at present is in the
// answer, not an error.
func (c *Client) Health(ctx context.Context) (httpapi.HealthBody, error) {
	return get[httpapi.HealthBody](ctx, c, "/healthz", nil)
}
