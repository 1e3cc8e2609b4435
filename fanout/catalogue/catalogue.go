package catalogue

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/grapnel-hooks/grapnel/stream"
)

// Catalogue is a list of event types, compiled. It is immutable and safe for
// concurrent use. A nil Catalogue knows nothing and judges nothing.
type Catalogue struct {
	types map[string]*entry
	bytes int // of all types, see Type.size
}

// entry is a type with its versions.
type entry struct {
	versions map[string]version
	order    []string // of the versions, the newest last; see CompareVersions
}

type version struct {
	Type
	checker *checker // nil: any data
}

// Compile makes a Catalogue of types, in any order. What is wrong with them is
// an [*Error] for each type, joined, the first twenty.
func Compile(types []Type) (*Catalogue, error) {
	const maxErrors = 20
	c := &Catalogue{types: map[string]*entry{}}
	var errs []error
	seen := map[[2]string]bool{}
	for _, t := range types {
		t = t.Normal()
		key := [2]string{t.Name, t.Version}
		if seen[key] {
			errs = append(errs, &Error{Type: t.Name, Version: t.Version, Detail: "is there twice with the same schema_version"})
		} else if err := c.put(t); err != nil {
			errs = append(errs, err)
		}
		seen[key] = true
		if len(errs) == maxErrors {
			break
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, nil
}

// With is c with types added, or in the place of those of the same name and
// version. The error is an [*Error] for the first that cannot be used.
func (c *Catalogue) With(types ...Type) (*Catalogue, error) {
	next := c.copy()
	for _, t := range types {
		if err := next.put(t.Normal()); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// Without is c without only that version of a type, or with "" without all of
// them. ok is false when there is nothing of that name.
func (c *Catalogue) Without(name, only string) (_ *Catalogue, ok bool) {
	if c == nil || c.types[name] == nil {
		return c, false
	}
	next := c.copy()
	old := next.types[name]
	kept := &entry{versions: map[string]version{}}
	for v, t := range old.versions {
		if only == "" || v == only {
			next.bytes -= t.size()
		} else {
			kept.versions[v] = t
			kept.order = append(kept.order, v)
		}
	}
	if len(kept.versions) == len(old.versions) {
		return c, false
	}
	slices.SortFunc(kept.order, CompareVersions)
	if next.types[name] = kept; len(kept.versions) == 0 {
		delete(next.types, name)
	}
	return next, true
}

// copy shares the entries: put and Without replace them.
func (c *Catalogue) copy() *Catalogue {
	if c == nil {
		return &Catalogue{types: map[string]*entry{}}
	}
	return &Catalogue{types: maps.Clone(c.types), bytes: c.bytes}
}

// put adds t to a Catalogue in the making.
func (c *Catalogue) put(t Type) error {
	if err := t.check(); err != nil {
		return err
	}
	bad := func(field, format string, args ...any) error {
		return &Error{Type: t.Name, Version: t.Version, Field: field, Detail: fmt.Sprintf(format, args...)}
	}
	v := version{Type: t}
	v.Schema, v.Example = slices.Clone(t.Schema), slices.Clone(t.Example)
	if len(t.Schema) > 0 {
		var err error
		if v.checker, err = compileSchema(v.Schema); err != nil {
			return bad("schema", "%v", err)
		}
	}
	if len(t.Example) > 0 {
		if err := possible(t.Example); err != nil {
			return bad("example", "%v", err)
		}
		if m := v.check(t.Example); m != nil {
			return bad("example", "does not keep to the schema: %s", m.Rejected().Detail)
		}
	}

	old := c.types[t.Name]
	e := &entry{versions: map[string]version{}}
	if old != nil {
		e.versions = maps.Clone(old.versions)
	} else if len(c.types) == MaxTypes {
		return bad("", "is one too many: a catalogue has at most %d types", MaxTypes)
	}
	c.bytes += v.size() - e.versions[t.Version].size()
	if c.bytes > MaxTotal {
		return bad("", "is too large: all types together may have %d bytes", MaxTotal)
	}
	e.versions[t.Version] = v
	if len(e.versions) > MaxVersions {
		return bad("schema_version", "is one too many: a type has at most %d versions", MaxVersions)
	}
	e.order = slices.SortedFunc(maps.Keys(e.versions), CompareVersions)
	c.types[t.Name] = e
	return nil
}

// check says why data do not keep to the version's schema, or nil.
func (v version) check(data []byte) *Mismatch {
	if v.checker == nil {
		return nil
	}
	value, m := parse(data)
	if m != nil {
		return m
	}
	return v.checker.check(value)
}

// Judge says why ev does not keep to the catalogue, or nil.
func (c *Catalogue) Judge(ev *stream.Event) *Mismatch {
	if c == nil || stream.KnownOperational(ev.Type) {
		return nil
	}
	e := c.types[ev.Type]
	if e == nil {
		return &Mismatch{Code: CodeUnknownType, What: fmt.Sprintf("the catalogue has no event type %s", clip(ev.Type, stream.MaxType))}
	}
	v, ok := e.versions[ev.SchemaVersion]
	if !ok {
		return &Mismatch{Code: CodeUnknownVersion, What: fmt.Sprintf("event type %s has no schema version %s: it has %s",
			clip(ev.Type, 100), clip(ev.SchemaVersion, 50), clip(strings.Join(e.order, ", "), 100))}
	}
	return v.check(ev.Data)
}

// Check is Judge in the form in which the books record it.
func (c *Catalogue) Check(ev *stream.Event) *stream.Rejected {
	if m := c.Judge(ev); m != nil {
		return m.Rejected()
	}
	return nil
}

// CheckSubscription lists the patterns that name one event type which is not in the
// catalogue, in their order. Wildcards are for what is to come as well, and are
// never unknown.
func (c *Catalogue) CheckSubscription(patterns []string) (unknown []string) {
	for _, p := range patterns {
		if c != nil && !strings.HasSuffix(p, "*") && c.types[p] == nil && !stream.KnownOperational(p) {
			unknown = append(unknown, p)
		}
	}
	return unknown
}

// Get returns one version of a type, or with version "" the newest, and the
// names of all of them, the oldest first.
func (c *Catalogue) Get(name, version string) (_ Type, versions []string, ok bool) {
	if c == nil || c.types[name] == nil {
		return Type{}, nil, false
	}
	e := c.types[name]
	if version == "" {
		version = e.order[len(e.order)-1]
	}
	v, ok := e.versions[version]
	return v.Type, slices.Clone(e.order), ok
}

// Names are all types, in alphabetical order.
func (c *Catalogue) Names() []string {
	if c == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(c.types))
}

// Types are all versions of all types, by name, and the oldest version first.
// [Compile] makes the same Catalogue of them.
func (c *Catalogue) Types() []Type {
	var all []Type
	for _, name := range c.Names() {
		e := c.types[name]
		for _, v := range e.order {
			all = append(all, e.versions[v].Type)
		}
	}
	return all
}
