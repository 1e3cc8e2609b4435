package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

func typePath(name string) string { return base + "/event-types/" + url.PathEscape(name) }

// EventTypeQuery narrows a list of event types.
type EventTypeQuery struct {
	Page
	Group      string
	Deprecated *bool // nil: either
}

// EventTypes lists the catalogue by name, of each type the newest version.
func (c *Client) EventTypes(ctx context.Context, q EventTypeQuery) (httpapi.List[httpapi.EventTypeBody], error) {
	v := q.query()
	set(v, "group", q.Group)
	if q.Deprecated != nil {
		v.Set("deprecated", strconv.FormatBool(*q.Deprecated))
	}
	return get[httpapi.List[httpapi.EventTypeBody]](ctx, c, base+"/event-types", v)
}

// EventType shows one version of a type, with version "" the newest.
func (c *Client) EventType(ctx context.Context, name, version string) (httpapi.EventTypeBody, error) {
	v := url.Values{}
	set(v, "version", version)
	return get[httpapi.EventTypeBody](ctx, c, typePath(name), v)
}

// PutEventType makes a version of a type or replaces it.
func (c *Client) PutEventType(ctx context.Context, name string, t httpapi.EventTypePut) (out httpapi.EventTypeBody, err error) {
	err = c.call(ctx, http.MethodPut, typePath(name), nil, t, &out)
	return out, err
}

// RemoveEventType removes one version of a type, with version "" all of them.
func (c *Client) RemoveEventType(ctx context.Context, name, version string) error {
	v := url.Values{}
	set(v, "version", version)
	return c.call(ctx, http.MethodDelete, typePath(name), v, nil, nil)
}

// ImportEventTypes puts all types of the list, or none.
func (c *Client) ImportEventTypes(ctx context.Context, types httpapi.EventTypeList) (out httpapi.EventTypesImported, err error) {
	err = c.call(ctx, http.MethodPost, base+"/event-types/import", nil, types, &out)
	return out, err
}

// ExportEventTypes reads the whole catalogue.
func (c *Client) ExportEventTypes(ctx context.Context) (httpapi.EventTypeList, error) {
	return get[httpapi.EventTypeList](ctx, c, base+"/event-types/export", nil)
}
