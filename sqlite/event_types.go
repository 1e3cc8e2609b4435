package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grapnel-hooks/grapnel/fanout/catalogue"
)

// EventType is one version of an event type of the catalogue.
type EventType struct {
	catalogue.Type
	Versions             []string // all that the type has, the oldest first
	CreatedAt, UpdatedAt time.Time
}

// eventTypes is the catalogue as memory has it. Changes come one after the
// other, so that each is checked and compiled against the one before, and not by
// the writer, whom a large schema would hold up.
type eventTypes struct {
	changing sync.Mutex // held from the first look to the commit
	now      atomic.Pointer[typesNow]
}

// typesNow is the catalogue as of the last commit. It is replaced, never changed.
type typesNow struct {
	catalogue *catalogue.Catalogue
	times     map[typeKey]typeTimes
}

type typeKey struct{ name, version string }

type typeTimes struct{ created, updated time.Time }

func (s *Store) loadEventTypes() error {
	var all []catalogue.Type
	times := make(map[typeKey]typeTimes)
	err := s.w.c.query(func(r row) error {
		t := catalogue.Type{
			Name: r.text(0), Version: r.text(1), Group: r.text(2), Description: r.text(3),
			Schema: json.RawMessage(r.text(4)), Example: json.RawMessage(r.text(5)), Deprecated: r.int(6) != 0,
		}
		all = append(all, t)
		times[typeKey{t.Name, t.Version}] = typeTimes{fromMillis(r.int(7)), fromMillis(r.int(8))}
		return nil
	}, "SELECT name, version, grouping, description, schema, example, deprecated, created_at, updated_at FROM event_types")
	if err != nil {
		return err
	}
	compiled, err := catalogue.Compile(all)
	if err != nil {
		return err
	}
	s.eventTypes.now.Store(&typesNow{compiled, times})
	return nil
}

// Catalogue is all event types, compiled, as of the last commit.
func (s *Store) Catalogue() *catalogue.Catalogue { return s.eventTypes.now.Load().catalogue }

// AddEventType makes a version of an event type. It wraps [ErrExists] when there
// is one already; what is wrong with it is a [*catalogue.Error].
func (s *Store) AddEventType(ctx context.Context, t catalogue.Type) (EventType, error) {
	made, _, err := s.putEventType(ctx, t, true)
	return made, err
}

// PutEventType makes a version of an event type, or takes the place of the one
// that is there. What is wrong with it is a [*catalogue.Error].
func (s *Store) PutEventType(ctx context.Context, t catalogue.Type) (_ EventType, created bool, err error) {
	return s.putEventType(ctx, t, false)
}

func (s *Store) putEventType(ctx context.Context, t catalogue.Type, fresh bool) (made EventType, created bool, err error) {
	t = t.Normal()
	_, err = s.changeTypes(ctx, []catalogue.Type{t}, func(tx *txn, next *typesNow) error {
		_, had := s.eventTypes.now.Load().times[typeKey{t.Name, t.Version}]
		if had && fresh {
			return fmt.Errorf("event type %s version %s: %w", t.Name, t.Version, ErrExists)
		}
		made, _ = next.get(t.Name, t.Version)
		created, tx.made = !had, made
		return nil
	})
	return made, created, err
}

// ImportEventTypes puts all of types in one transaction, and leaves those alone
// that they do not name. It returns how many were made or changed. What is wrong
// with them is a [*catalogue.Error] for each, joined; nothing is written then.
func (s *Store) ImportEventTypes(ctx context.Context, types []catalogue.Type) (changed int, err error) {
	// By themselves, to hear of all that is wrong at once.
	if _, err := catalogue.Compile(types); err != nil {
		return 0, err
	}
	return s.changeTypes(ctx, types, nil)
}

// changeTypes writes those of types that are new or differ from what is there,
// and then calls finish, if there is one, in the same operation.
func (s *Store) changeTypes(ctx context.Context, types []catalogue.Type, finish func(*txn, *typesNow) error) (changed int, err error) {
	s.eventTypes.changing.Lock()
	defer s.eventTypes.changing.Unlock()
	now := s.eventTypes.now.Load()
	types = slices.Clone(types)
	for i := range types {
		types[i] = types[i].Normal()
	}
	types = slices.DeleteFunc(types, func(t catalogue.Type) bool {
		old, _, ok := now.catalogue.Get(t.Name, t.Version)
		return ok && len(typeChanges(&old, t)) == 0
	})
	compiled, err := now.catalogue.With(types...)
	if err != nil {
		return 0, err
	}
	if len(types) == 0 && finish == nil {
		return 0, nil
	}
	err = s.w.do(ctx, func(t *txn) error {
		next := &typesNow{compiled, maps.Clone(now.times)}
		for _, typ := range types {
			if err := t.putType(now, next, typ); err != nil {
				return err
			}
		}
		if finish != nil {
			if err := finish(t, next); err != nil {
				return err
			}
		}
		t.after = append(t.after, func() { s.eventTypes.now.Store(next) })
		return nil
	})
	return len(types), err
}

// putType writes one version and its audit entry.
func (t *txn) putType(now, next *typesNow, typ catalogue.Type) error {
	key := typeKey{typ.Name, typ.Version}
	at := t.now.Truncate(time.Millisecond).UTC()
	times, had := now.times[key]
	if !had {
		times.created = at
	}
	times.updated = at
	next.times[key] = times
	_, err := t.c.exec(`INSERT INTO event_types(name, version, grouping, description, schema, example, deprecated, created_at, updated_at)
		VALUES(?,?,?,?,?,?,?,?,?) ON CONFLICT(name, version) DO UPDATE SET grouping=excluded.grouping, description=excluded.description,
		schema=excluded.schema, example=excluded.example, deprecated=excluded.deprecated, updated_at=excluded.updated_at`,
		typ.Name, typ.Version, typ.Group, typ.Description, string(typ.Schema), string(typ.Example), typ.Deprecated,
		toMillis(times.created), toMillis(times.updated))
	if err != nil {
		return fmt.Errorf("put event type %s: %w", typ.Name, err)
	}
	var before *catalogue.Type
	if had {
		old, _, _ := now.catalogue.Get(typ.Name, typ.Version)
		before = &old
	}
	return t.audited(nil, "event_type.put", key.String(), typeChanges(before, typ))
}

// String is the version as the audit names it.
func (k typeKey) String() string { return k.name + "@" + k.version }

// typeChanges are the settings that differ; before is nil for a new version. Of
// schema and example only the name is told: they may be large.
func typeChanges(before *catalogue.Type, after catalogue.Type) Changes {
	c := Changes{}
	if before == nil {
		c["schema_version"] = [2]any{nil, after.Version}
		before = &catalogue.Type{}
	}
	changed(c, "group", before.Group, after.Group)
	changed(c, "description", before.Description, after.Description)
	changed(c, "deprecated", before.Deprecated, after.Deprecated)
	if string(before.Schema) != string(after.Schema) {
		c["schema"] = [2]any{}
	}
	if string(before.Example) != string(after.Example) {
		c["example"] = [2]any{}
	}
	return c
}

// RemoveEventType removes one version of a type, or with version "" all of
// them. It wraps [ErrNotFound]. Subscriptions to it stay.
func (s *Store) RemoveEventType(ctx context.Context, name, version string) error {
	s.eventTypes.changing.Lock()
	defer s.eventTypes.changing.Unlock()
	now := s.eventTypes.now.Load()
	without, ok := now.catalogue.Without(name, version)
	if !ok {
		return fmt.Errorf("event type %s: %w", name, ErrNotFound)
	}
	return s.w.do(ctx, func(t *txn) error {
		if _, err := t.c.exec("DELETE FROM event_types WHERE name=?1 AND (?2='' OR version=?2)", name, version); err != nil {
			return fmt.Errorf("remove event type %s: %w", name, err)
		}
		next := &typesNow{without, maps.Clone(now.times)}
		_, versions, _ := now.catalogue.Get(name, "")
		for _, v := range versions {
			if version != "" && version != v {
				continue
			}
			key := typeKey{name, v}
			delete(next.times, key)
			if err := t.audited(nil, "event_type.remove", key.String(), nil); err != nil {
				return err
			}
		}
		t.after = append(t.after, func() { s.eventTypes.now.Store(next) })
		return nil
	})
}

// GetEventType reads one version of a type, or with version "" the newest (see
// [catalogue.CompareVersions]). It wraps [ErrNotFound].
func (s *Store) GetEventType(_ context.Context, name, version string) (EventType, error) {
	t, ok := s.eventTypes.now.Load().get(name, version)
	if !ok {
		return t, fmt.Errorf("event type %s: %w", name, ErrNotFound)
	}
	return t, nil
}

func (n *typesNow) get(name, version string) (EventType, bool) {
	t, versions, ok := n.catalogue.Get(name, version)
	if !ok {
		return EventType{}, false
	}
	times := n.times[typeKey{t.Name, t.Version}]
	return EventType{Type: t, Versions: versions, CreatedAt: times.created, UpdatedAt: times.updated}, true
}

// EventTypeFilter chooses event types by their newest version; the zero value
// chooses all.
type EventTypeFilter struct {
	Group      string // "": any
	Deprecated *bool  // nil: either
}

// ListEventTypes lists up to limit types after that name, in alphabetical order:
// of each the newest version.
func (s *Store) ListEventTypes(_ context.Context, f EventTypeFilter, after string, limit int) ([]EventType, error) {
	now := s.eventTypes.now.Load()
	var list []EventType
	for _, name := range now.catalogue.Names() {
		if len(list) == min(max(limit, 1), MaxPage) {
			break
		}
		t, _ := now.get(name, "")
		if name > after && (f.Group == "" || f.Group == t.Group) && (f.Deprecated == nil || *f.Deprecated == t.Deprecated) {
			list = append(list, t)
		}
	}
	return list, nil
}
