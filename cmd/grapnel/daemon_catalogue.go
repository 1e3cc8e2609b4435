package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/fanout/catalogue"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

// strictTypes is what events must keep to, nil when they may be anything.
func (d *daemon) strictTypes() *catalogue.Catalogue {
	if !d.live.Load().Strict {
		return nil
	}
	return d.store.Catalogue()
}

// importConfigured puts the configuration's event types into the catalogue. What
// was changed by the API meanwhile is what the configuration says again.
func (d *daemon) importConfigured(ctx context.Context, o *daemonOptions) error {
	changed, err := d.store.ImportEventTypes(ctx, o.EventTypes)
	if err != nil {
		return fmt.Errorf("event_types of the configuration: %w", err)
	}
	if changed > 0 {
		d.log.Info("event types of the configuration are new or changed", "count", changed)
	}
	if o.Strict && len(d.store.Catalogue().Names()) == 0 {
		d.log.Warn("strict is on and the catalogue is empty: every event will be rejected until there are event types")
	}
	return nil
}

// checkStrict says which of the events that are to be appended would be rejected,
// and why.
func (d *daemon) checkStrict(ctx context.Context, batch []stream.Append) error {
	types := d.strictTypes()
	if types == nil {
		return nil
	}
	for i, a := range batch {
		if err := ctx.Err(); err != nil {
			return err // each check is short, a thousand may not be
		}
		m := types.Judge(&stream.Event{
			Type: a.Type, SchemaVersion: cmp.Or(a.SchemaVersion, catalogue.DefaultVersion), Data: a.Data,
		})
		if m == nil {
			continue
		}
		field := dataField(m.Path)
		switch m.Code {
		case catalogue.CodeUnknownType:
			field = "type"
		case catalogue.CodeUnknownVersion:
			field = "schema_version"
		}
		if len(batch) > 1 {
			field = fmt.Sprintf("events[%d].%s", i, field)
		}
		return &httpapi.Invalid{Field: field, Detail: m.What}
	}
	return nil
}

// dataField is the field of a request that a place inside the event's data is
// named by: data.lines[0].sku.
func dataField(path []string) string {
	const most = 200
	var b strings.Builder
	b.WriteString("data")
	for _, token := range path {
		if token != "" && strings.Trim(token, "0123456789") == "" {
			fmt.Fprintf(&b, "[%s]", token)
		} else {
			b.WriteString("." + token)
		}
		if b.Len() > most {
			return strings.ToValidUTF8(b.String()[:most], "") + "…"
		}
	}
	return b.String()
}

// checkTypes refuses subscriptions to event types that are not in the
// catalogue, when it is strict.
func (d *daemon) checkTypes(patterns []string) error {
	unknown := d.strictTypes().CheckSubscription(patterns)
	if len(unknown) == 0 {
		return nil
	}
	const most = 10
	names := strings.Join(unknown[:min(len(unknown), most)], ", ")
	if len(unknown) > most {
		names += ", …"
	}
	return &httpapi.Invalid{Field: "event_types", Detail: "the catalogue has no event type " + names + ": subscribe to types that it has, or to a prefix such as invoice.*"}
}

func (d *daemon) AddEventType(ctx context.Context, t catalogue.Type) (httpapi.EventType, error) {
	shape := func(made any) any { return eventTypeAnswer(made.(sqlite.EventType)) }
	made, err := d.store.AddEventType(d.asked(ctx, shape), t)
	return eventTypeAnswer(made), answered(err)
}

func (d *daemon) PutEventType(ctx context.Context, t catalogue.Type) (httpapi.EventType, error) {
	made, _, err := d.store.PutEventType(d.asked(ctx, nil), t)
	return eventTypeAnswer(made), answered(err)
}

func (d *daemon) ImportEventTypes(ctx context.Context, types []catalogue.Type) (int, error) {
	changed, err := d.store.ImportEventTypes(d.asked(ctx, nil), types)
	return changed, answered(err)
}

func (d *daemon) RemoveEventType(ctx context.Context, name, version string) error {
	return answered(d.store.RemoveEventType(d.asked(ctx, nil), name, version))
}

func (d *daemon) EventType(ctx context.Context, name, version string) (httpapi.EventType, error) {
	t, err := d.store.GetEventType(ctx, name, version)
	return eventTypeAnswer(t), answered(err)
}

func (d *daemon) EventTypes(ctx context.Context, f httpapi.EventTypeFilter, after string, limit int) ([]httpapi.EventType, error) {
	found, err := d.store.ListEventTypes(ctx, sqlite.EventTypeFilter(f), after, limit)
	if err != nil {
		return nil, answered(err)
	}
	types := make([]httpapi.EventType, len(found))
	for i, t := range found {
		types[i] = eventTypeAnswer(t)
	}
	return types, nil
}

func (d *daemon) ExportEventTypes(context.Context) ([]catalogue.Type, error) {
	return d.store.Catalogue().Types(), nil
}

func eventTypeAnswer(t sqlite.EventType) httpapi.EventType { return httpapi.EventType(t) }
