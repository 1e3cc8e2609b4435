package httpapitest

import (
	"context"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/fanout/catalogue"
)

// eventTypes is the catalogue, with the times of its versions by name and version.
type eventTypes struct {
	all   *catalogue.Catalogue
	times map[[2]string][2]time.Time
}

// get shapes one version. The lock is held.
func (s *Service) eventType(name, version string) (httpapi.EventType, error) {
	t, versions, ok := s.types.all.Get(name, version)
	if !ok {
		return httpapi.EventType{}, httpapi.ErrNotFound
	}
	times := s.types.times[[2]string{t.Name, t.Version}]
	return httpapi.EventType{Type: t, Versions: versions, CreatedAt: times[0], UpdatedAt: times[1]}, nil
}

// putTypes puts types into the catalogue, and counts those that are new or
// different. The lock is held.
func (s *Service) putTypes(ctx context.Context, types ...catalogue.Type) (changed int, err error) {
	next, err := s.types.all.With(types...)
	if err != nil {
		return 0, err
	}
	for _, t := range types {
		before, _, had := s.types.all.Get(t.Name, t.Version)
		after, _, _ := next.Get(t.Name, t.Version)
		if had && same(before, after) {
			continue
		}
		changed++
		now, key := s.tick(), [2]string{t.Name, t.Version}
		times := s.types.times[key]
		if !had {
			times[0] = now
		}
		times[1] = now
		if s.types.times == nil {
			s.types.times = map[[2]string][2]time.Time{}
		}
		s.types.times[key] = times
		s.note(ctx, "", "event_type.put", t.Name+"@"+t.Version)
	}
	s.types.all = next
	return changed, nil
}

func same(a, b catalogue.Type) bool {
	return a.Group == b.Group && a.Description == b.Description && a.Deprecated == b.Deprecated &&
		slices.Equal(a.Schema, b.Schema) && slices.Equal(a.Example, b.Example)
}

// AddEventType implements httpapi.Catalogue.
func (s *Service) AddEventType(ctx context.Context, t catalogue.Type) (httpapi.EventType, error) {
	leave, err := s.enter("")
	defer leave()
	if err != nil {
		return httpapi.EventType{}, err
	}
	if _, _, ok := s.types.all.Get(t.Name, t.Version); ok {
		return httpapi.EventType{}, httpapi.ErrExists
	}
	if _, err := s.putTypes(ctx, t); err != nil {
		return httpapi.EventType{}, err
	}
	made, err := s.eventType(t.Name, t.Version)
	if err != nil {
		return made, err
	}
	return made, s.remember(ctx, made)
}

// PutEventType implements httpapi.Catalogue.
func (s *Service) PutEventType(ctx context.Context, t catalogue.Type) (httpapi.EventType, error) {
	leave, err := s.enter("")
	defer leave()
	if err != nil {
		return httpapi.EventType{}, err
	}
	if _, err := s.putTypes(ctx, t); err != nil {
		return httpapi.EventType{}, err
	}
	return s.eventType(t.Name, t.Version)
}

// ImportEventTypes implements httpapi.Catalogue.
func (s *Service) ImportEventTypes(ctx context.Context, types []catalogue.Type) (int, error) {
	leave, err := s.enter("")
	defer leave()
	if err != nil {
		return 0, err
	}
	return s.putTypes(ctx, types...)
}

// RemoveEventType implements httpapi.Catalogue.
func (s *Service) RemoveEventType(ctx context.Context, name, version string) error {
	leave, err := s.enter("")
	defer leave()
	if err != nil {
		return err
	}
	_, versions, _ := s.types.all.Get(name, "")
	next, ok := s.types.all.Without(name, version)
	if !ok {
		return httpapi.ErrNotFound
	}
	s.types.all = next
	for _, v := range versions {
		if version == "" || version == v {
			s.note(ctx, "", "event_type.remove", name+"@"+v)
		}
	}
	return nil
}

// EventType implements httpapi.Catalogue.
func (s *Service) EventType(_ context.Context, name, version string) (httpapi.EventType, error) {
	leave, err := s.enter("")
	defer leave()
	if err != nil {
		return httpapi.EventType{}, err
	}
	return s.eventType(name, version)
}

// EventTypes implements httpapi.Catalogue.
func (s *Service) EventTypes(_ context.Context, f httpapi.EventTypeFilter, after string, limit int) ([]httpapi.EventType, error) {
	leave, err := s.enter("")
	defer leave()
	if err != nil {
		return nil, err
	}
	var out []httpapi.EventType
	for _, name := range s.types.all.Names() {
		t, err := s.eventType(name, "")
		if err != nil {
			return nil, err
		}
		if name > after && len(out) < limit && (f.Group == "" || f.Group == t.Group) && (f.Deprecated == nil || *f.Deprecated == t.Deprecated) {
			out = append(out, t)
		}
	}
	return out, nil
}

// ExportEventTypes implements httpapi.Catalogue.
func (s *Service) ExportEventTypes(context.Context) ([]catalogue.Type, error) {
	leave, err := s.enter("")
	defer leave()
	return s.types.all.Types(), err
}
