// Package client calls the daemon's HTTP API (package httpapi) over its Unix
// socket.
//
// An answer that is a problem document comes as an error of type
// *httpapi.Problem. When nobody answers on the socket, the error wraps
// [ErrNotRunning].
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
	maxAnswer = 256 << 20 // bytes; a page of 250 events of 1 MiB at the most
	dialLimit = 5 * time.Second
)

// Client calls one daemon. It is safe for concurrent use.
type Client struct {
	data string
	http *http.Client
}

// New is a client of the daemon with that data directory. It does not connect
// yet.
func New(data string) *Client {
	socket := filepath.Join(data, SocketName)
	dialer := &net.Dialer{Timeout: dialLimit}
	return &Client{data: data, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     30 * time.Second,
	}}}
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call makes one request. in is the body, nil for none; out is what the answer
// is decoded into, nil if it has no body.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://grapnel"+path+"?"+query.Encode(), body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("%w on %s", ErrNotRunning, c.data)
		}
		if errors.Is(err, syscall.EINVAL) {
			return fmt.Errorf("the path of %s is too long for a socket: use a shorter data directory", filepath.Join(c.data, SocketName))
		}
		var u *url.Error
		if errors.As(err, &u) { // its text has a made-up URL
			err = u.Err
		}
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	if resp.StatusCode >= 300 {
		p := &httpapi.Problem{}
		if json.Unmarshal(raw, p) != nil || p.Status == 0 {
			return fmt.Errorf("%s %s: answer %s", method, path, resp.Status)
		}
		return p
	}
	if out == nil || len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	return nil
}

const base = "/api/v1"

// orgPath is the path of what belongs to an organization. The parts may be what
// somebody typed.
func orgPath(org string, rest ...string) string {
	p := base + "/orgs/" + url.PathEscape(org)
	for _, r := range rest {
		p += "/" + url.PathEscape(r)
	}
	return p
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
func (c *Client) Fsck(ctx context.Context, org string) (httpapi.FsckBody, error) {
	q := url.Values{}
	set(q, "org", org)
	return get[httpapi.FsckBody](ctx, c, base+"/fsck", q)
}

// Health is how the daemon is. That it takes no work at present is in the
// answer, not an error.
func (c *Client) Health(ctx context.Context) (httpapi.HealthBody, error) {
	return get[httpapi.HealthBody](ctx, c, "/healthz", nil)
}
