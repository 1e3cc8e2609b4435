package catalogue

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// MaxSteps is what checking one event may take. A step is about a quarter of a
// microsecond: one subschema applied to one value, or one member or item looked at.
const MaxSteps = 300_000

const (
	explainSteps = 50_000 // for finding words for what is wrong, see checker.check
	maxPattern   = 256    // bytes of a regular expression
	maxProgram   = 1000   // instructions that it compiles to
)

// checker checks data against one schema.
type checker struct {
	mu      sync.Mutex // the meter counts for one check at a time
	meter   *meter
	schema  *jsonschema.Schema
	verdict *jsonschema.Schema // fits what schema does not fit
}

// check says why v, which parse made, does not keep to the schema, or nil.
//
// It asks twice: first whether, with the whole budget, then why, with little. An
// account of all that is wrong takes memory for each step of it.
func (c *checker) check(v any) *Mismatch {
	c.mu.Lock()
	defer c.mu.Unlock()
	err, done := c.meter.limit(MaxSteps, func() error { return c.verdict.Validate(v) })
	switch {
	case !done:
		return &Mismatch{Code: CodeSchema, What: fmt.Sprintf("cannot be checked in %d steps: the schema asks too much of data like these", MaxSteps)}
	case err != nil:
		return nil
	}
	m := &Mismatch{Code: CodeSchema, What: "does not keep to the schema"}
	err, done = c.meter.limit(explainSteps, func() error { return c.schema.Validate(v) })
	if done && err != nil {
		m.Path, m.What = explain(err)
	}
	return m
}

// meter counts the steps of one check. All schemas of a checker share it.
type meter struct{ left int }

var errSpent = errors.New("the budget is spent")

// spend takes steps from the budget. When nothing is left it panics: the
// validator knows no other way to end early. limit takes it up.
func (m *meter) spend(steps int) {
	if m.left -= steps; m.left < 0 {
		panic(errSpent)
	}
}

// limit runs f with a budget. done is false when that was not enough.
func (m *meter) limit(steps int, f func() error) (err error, done bool) {
	defer func() {
		if r := recover(); r != nil {
			err, done = nil, false // spent; or a fault of the validator: it cannot be checked either
		}
	}()
	m.left = steps
	return f(), true
}

// guard is what stands before a subschema: it takes the steps, and judges what the
// validator would judge too slowly.
type guard struct {
	meter  *meter
	names  int             // that the schema looks for in each object
	values map[string]bool // canonical; nil: any
	wanted string          // words for values
	unique bool
}

// guard puts one before s. The validator calls the check of a format early, for
// whatever value, so that is what it becomes; formats themselves are not checked.
//
// Comparisons go to it as well: the validator compares a value with each of an
// enumeration's before anything is counted, and the items of an array that
// should be unique by a hash for which collisions can be written down.
func (m *meter) guard(s *jsonschema.Schema) {
	if s.Bool != nil {
		return
	}
	g := &guard{meter: m, unique: s.UniqueItems}
	g.names = len(s.Required) + len(s.DependentRequired) + len(s.DependentSchemas) + len(s.Dependencies) + len(s.PatternProperties)
	for _, names := range s.DependentRequired {
		g.names += len(names)
	}
	if s.Enum != nil {
		g.allow(s.Enum.Values)
	}
	if s.Const != nil {
		if g.values == nil {
			g.allow([]any{*s.Const})
		} else if g.values[string(canonical(nil, *s.Const))] {
			g.allow([]any{*s.Const})
		} else {
			g.values, g.wanted = map[string]bool{}, "nothing: enum and const exclude each other"
		}
	}
	s.Enum, s.Const, s.UniqueItems = nil, nil, false
	s.Format = &jsonschema.Format{Name: "guard", Validate: g.look}
}

func (g *guard) allow(values []any) {
	g.values = make(map[string]bool, len(values))
	var words []string
	for _, v := range values {
		g.values[string(canonical(nil, v))] = true
		if text, err := json.Marshal(v); err == nil && len(words) < 20 {
			words = append(words, string(text))
		}
	}
	g.wanted = clip(strings.Join(words, ", "), 150)
}

// look judges v as far as it falls to the guard.
func (g *guard) look(v any) error {
	switch v := v.(type) {
	case map[string]any:
		g.meter.spend(1 + len(v) + g.names/4)
	case []any:
		g.meter.spend(1 + len(v))
	case string:
		g.meter.spend(1 + len(v)/256)
	case json.Number:
		g.meter.spend(1 + len(v)/8 + exponent(string(v)))
	default:
		g.meter.spend(1)
	}
	if g.values != nil {
		c := canonical(nil, v)
		g.meter.spend(len(c) / 16)
		if !g.values[string(c)] {
			return errors.New("is not one of the values that the schema allows: " + g.wanted)
		}
	}
	if items, ok := v.([]any); ok && g.unique {
		return g.distinct(items)
	}
	return nil
}

func (g *guard) distinct(items []any) error {
	seen := make(map[string]int, len(items))
	var c []byte
	for i, item := range items {
		c = canonical(c[:0], item)
		g.meter.spend(1 + len(c)/16)
		if first, twice := seen[string(c)]; twice {
			return fmt.Errorf("has equal items at %d and %d, want all different", first, i)
		}
		seen[string(c)] = i
	}
	return nil
}

// exponent is the price of one: 1e300 has few characters and many digits.
func exponent(number string) int {
	if strings.ContainsAny(number, "eE") {
		return 8
	}
	return 0
}

// pattern compiles a regular expression that pays for its matching.
func (m *meter) pattern(text string) (jsonschema.Regexp, error) {
	if len(text) > maxPattern {
		return nil, fmt.Errorf("is %d bytes long, use at most %d", len(text), maxPattern)
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	if len(program.Inst) > maxProgram {
		return nil, fmt.Errorf("compiles to %d instructions, at most %d are allowed: use smaller counts of repetition", len(program.Inst), maxProgram)
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	return &pattern{re, m, len(program.Inst)}, nil
}

type pattern struct {
	re    *regexp.Regexp
	meter *meter
	size  int
}

func (p *pattern) String() string { return p.re.String() }

// MatchString looks at each character with each instruction at the most.
func (p *pattern) MatchString(s string) bool {
	p.meter.spend(1 + len(s)*p.size/32)
	return p.re.MatchString(s)
}
