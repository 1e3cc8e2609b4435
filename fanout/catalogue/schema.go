package catalogue

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Limits of one schema's shape.
const (
	maxSubschemas = 1000 // JSON objects and booleans in the schema
	maxInPlace    = 64   // subschemas that apply to one value, each because of the one before
)

// here is how the validator calls the document that it compiles.
const here = "grapnel:///schema"

// compileSchema compiles one JSON Schema. The error is for people.
func compileSchema(text json.RawMessage) (_ *checker, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("cannot be compiled: %.100v", r)
		}
	}()
	doc, err := document(text)
	if err != nil {
		return nil, err
	}
	m := new(meter)
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(nowhere{})
	c.UseRegexpEngine(m.pattern)
	if err := c.AddResource(here, doc); err != nil {
		return nil, err
	}
	root, err := c.Compile(here)
	if err != nil {
		return nil, complaint(err)
	}
	w := walk{depth: map[*jsonschema.Schema]int{}}
	if err := w.all(root); err != nil {
		return nil, err
	}
	for s := range w.depth {
		m.guard(s)
	}
	// A schema inside "not" is only asked whether it fits: the validator stops at
	// the first reason why it does not, and keeps no account of the others.
	return &checker{meter: m, schema: root, verdict: &jsonschema.Schema{Not: root}}, nil
}

// document reads a schema within the limits.
func document(text json.RawMessage) (any, error) {
	if err := possible(text); err != nil {
		return nil, err
	}
	doc, wrong := parse(text)
	if wrong != nil {
		if len(wrong.Path) > 0 {
			return nil, fmt.Errorf("%s %s", clip(wrong.Pointer(), 100), wrong.What)
		}
		return nil, errors.New(wrong.What)
	}
	if n := subschemas(doc); n > maxSubschemas {
		return nil, fmt.Errorf("has %d objects, at most %d are allowed", n, maxSubschemas)
	}
	return doc, nil
}

// possible says why text cannot be the data of an event.
func possible(text json.RawMessage) error {
	names := stream.Names{}
	_, err := stream.Decoding{Org: "any"}.Decode(stream.Message{Subject: names.Subject("any", "any"), Seq: 1, Data: text})
	var why *stream.Rejected
	if errors.As(err, &why) {
		return errors.New(why.Detail)
	}
	return err
}

// subschemas counts what may be one.
func subschemas(doc any) (n int) {
	switch v := doc.(type) {
	case map[string]any:
		n = 1
		for _, value := range v {
			n += subschemas(value)
		}
	case []any:
		for _, value := range v {
			n += subschemas(value)
		}
	case bool:
		n = 1
	}
	return n
}

// nowhere loads nothing.
type nowhere struct{}

var errOutside = errors.New("outside of the schema")

func (nowhere) Load(string) (any, error) { return nil, errOutside }

// complaint is why the compiler refused a schema.
func complaint(err error) error {
	var outside *jsonschema.LoadURLError
	var invalid *jsonschema.SchemaValidationError
	switch {
	case errors.As(err, &outside):
		return fmt.Errorf("refers to %s: nothing outside of the schema is loaded, put it under $defs", clip(strings.TrimPrefix(outside.URL, "grapnel:///"), 100))
	case errors.As(err, &invalid):
		path, what := explain(invalid.Err)
		if len(path) == 0 {
			return errors.New(what)
		}
		return fmt.Errorf("%s %s", clip((&Mismatch{Path: path}).Pointer(), 100), what)
	}
	return errors.New(clip(strings.ReplaceAll(err.Error(), here, ""), 200))
}

// walk finds all schemas that a compiled one can come to.
type walk struct {
	depth map[*jsonschema.Schema]int // the longest chain of schemas for one value that begins here; 0: being visited
	later []*jsonschema.Schema       // that apply to other values
}

// all visits the root and everything that it can come to.
func (w *walk) all(root *jsonschema.Schema) error {
	for w.later = append(w.later, root); len(w.later) > 0; {
		s := w.later[len(w.later)-1]
		w.later = w.later[:len(w.later)-1]
		if _, seen := w.depth[s]; seen {
			continue
		}
		if err := w.visit(s); err != nil {
			return err
		}
	}
	return nil
}

// visit refuses a schema that would apply itself to the same value again, or
// through a long chain of others.
func (w *walk) visit(s *jsonschema.Schema) error {
	if s.DynamicRef != nil || s.RecursiveRef != nil {
		return errors.New("uses $dynamicRef or $recursiveRef: use $ref, which is resolved when the schema is saved")
	}
	w.depth[s] = 0
	deepest := 0
	for _, sub := range inPlace(s) {
		if depth, seen := w.depth[sub]; !seen {
			if err := w.visit(sub); err != nil {
				return err
			}
		} else if depth == 0 {
			return fmt.Errorf("%s refers to itself without a step into the data", strings.TrimPrefix(sub.Location, here))
		}
		deepest = max(deepest, w.depth[sub])
	}
	if deepest++; deepest > maxInPlace {
		return fmt.Errorf("applies more than %d subschemas to one value, each because of the one before ($ref, allOf, …)", maxInPlace)
	}
	w.depth[s] = deepest
	w.later = append(w.later, below(s)...)
	return nil
}

// inPlace are the subschemas that apply to the same value as s.
func inPlace(s *jsonschema.Schema) (subs []*jsonschema.Schema) {
	for _, sub := range []*jsonschema.Schema{s.Ref, s.Not, s.If, s.Then, s.Else} {
		if sub != nil {
			subs = append(subs, sub)
		}
	}
	subs = append(subs, s.AllOf...)
	subs = append(subs, s.AnyOf...)
	subs = append(subs, s.OneOf...)
	subs = slices.AppendSeq(subs, maps.Values(s.DependentSchemas))
	for dep := range maps.Values(s.Dependencies) {
		subs = appendSchema(subs, dep)
	}
	return subs
}

// below are the subschemas that apply to what lies inside the value of s.
func below(s *jsonschema.Schema) (subs []*jsonschema.Schema) {
	for _, sub := range []*jsonschema.Schema{s.PropertyNames, s.Contains, s.Items2020, s.UnevaluatedItems, s.UnevaluatedProperties} {
		if sub != nil {
			subs = append(subs, sub)
		}
	}
	subs = slices.AppendSeq(subs, maps.Values(s.Properties))
	subs = slices.AppendSeq(subs, maps.Values(s.PatternProperties))
	subs = append(subs, s.PrefixItems...)
	subs = appendSchema(subs, s.AdditionalProperties)
	subs = appendSchema(subs, s.AdditionalItems)
	if items, ok := s.Items.([]*jsonschema.Schema); ok { // before 2020-12
		return append(subs, items...)
	}
	return appendSchema(subs, s.Items)
}

func appendSchema(subs []*jsonschema.Schema, v any) []*jsonschema.Schema {
	if sub, ok := v.(*jsonschema.Schema); ok && sub != nil {
		return append(subs, sub)
	}
	return subs
}
