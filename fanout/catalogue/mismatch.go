package catalogue

import (
	"cmp"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// Codes of rejection, beside those of package stream.
const (
	CodeUnknownType    = "unknown_type"           // the catalogue has no such type
	CodeUnknownVersion = "unknown_schema_version" // the type has no such version
	CodeSchema         = "schema"                 // the data do not keep to the schema
)

// maxDetail is how many bytes of a mismatch people get to see.
const maxDetail = 300

// Mismatch says why an event does not keep to the catalogue. It names members,
// and what the schema wants of them, never what the event has in them.
type Mismatch struct {
	Code string
	Path []string // of the member inside the data; empty: the data themselves
	What string   // is wrong with it
}

// Rejected is m as the books record it.
func (m *Mismatch) Rejected() *stream.Rejected {
	detail := m.What
	if m.Code == CodeSchema {
		detail = "the data: " + m.What
		if len(m.Path) > 0 {
			detail = clip(m.Pointer(), maxDetail/2) + ": " + m.What
		}
	}
	return &stream.Rejected{Code: m.Code, Detail: clip(detail, maxDetail)}
}

// Pointer is the member as a JSON Pointer (RFC 6901).
func (m *Mismatch) Pointer() string {
	var b strings.Builder
	for _, token := range m.Path {
		b.WriteByte('/')
		b.WriteString(pointerEscapes.Replace(token))
	}
	return b.String()
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// explain finds in what the validator says the one thing to tell: of all that
// is wrong the member that comes first, so that the answer does not depend on
// the order in which the validator walks through objects.
func explain(err error) (path []string, what string) {
	var root *jsonschema.ValidationError
	if !errors.As(err, &root) {
		return nil, "does not keep to the schema"
	}
	found := leaves(root, nil)
	first := slices.MinFunc(found, func(a, b leaf) int {
		return cmp.Or(slices.Compare(a.path, b.path), cmp.Compare(a.what, b.what))
	})
	return first.path, first.what
}

type leaf struct {
	path []string
	what string
}

const maxLeaves = 1000

// leaves are the reasons under e. Which of several alternatives was meant nobody
// knows, so their reasons are not looked at.
func leaves(e *jsonschema.ValidationError, found []leaf) []leaf {
	switch e.ErrorKind.(type) {
	case *kind.AnyOf, *kind.OneOf, *kind.Not, *kind.Contains, *kind.MinContains, *kind.MaxContains, *kind.PropertyNames:
	default:
		if len(e.Causes) > 0 {
			for _, c := range e.Causes {
				if len(found) < maxLeaves {
					found = leaves(c, found)
				}
			}
			return found
		}
	}
	path := e.InstanceLocation
	switch k := e.ErrorKind.(type) {
	case *kind.PropertyNames: // its location is one that the validator uses again
		return append(found, leaf{nil, reason(k)})
	case *kind.Required: // say it of what is missing
		return append(found, leaf{child(path, k.Missing), "is missing"})
	case *kind.DependentRequired:
		return append(found, leaf{child(path, k.Missing), "is missing: it goes with " + clip(k.Prop, 60)})
	case *kind.Dependency:
		return append(found, leaf{child(path, k.Missing), "is missing: it goes with " + clip(k.Prop, 60)})
	case *kind.AdditionalProperties:
		return append(found, leaf{child(path, k.Properties), "is not a member that the schema knows"})
	}
	return append(found, leaf{path, reason(e.ErrorKind)})
}

// child is the path of the first of names in the object at path.
func child(path, names []string) []string {
	if len(names) == 0 {
		return path
	}
	return append(slices.Clone(path), slices.Min(names))
}

// reason says what the schema wants. The validator's own words would quote the
// event's values.
func reason(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return fmt.Sprintf("is of type %s, want %s", k.Got, strings.Join(k.Want, " or "))
	case *kind.Format: // what the guard found, see guard.look
		return k.Err.Error()
	case *kind.FalseSchema:
		return "must not be there"
	case *kind.Pattern:
		return "does not match the pattern " + clip(k.Want, 100)
	case *kind.MinLength:
		return fmt.Sprintf("has %d characters, want at least %d", k.Got, k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("has %d characters, want at most %d", k.Got, k.Want)
	case *kind.MinItems:
		return fmt.Sprintf("has %d items, want at least %d", k.Got, k.Want)
	case *kind.MaxItems:
		return fmt.Sprintf("has %d items, want at most %d", k.Got, k.Want)
	case *kind.AdditionalItems:
		return fmt.Sprintf("has %d items too many", k.Count)
	case *kind.MinProperties:
		return fmt.Sprintf("has %d members, want at least %d", k.Got, k.Want)
	case *kind.MaxProperties:
		return fmt.Sprintf("has %d members, want at most %d", k.Got, k.Want)
	case *kind.PropertyNames:
		return "an object has a member of a name that is not allowed: " + clip(k.Property, 60)
	case *kind.Minimum:
		return "is too small, want at least " + number(k.Want)
	case *kind.Maximum:
		return "is too large, want at most " + number(k.Want)
	case *kind.ExclusiveMinimum:
		return "is too small, want more than " + number(k.Want)
	case *kind.ExclusiveMaximum:
		return "is too large, want less than " + number(k.Want)
	case *kind.MultipleOf:
		return "is not a multiple of " + number(k.Want)
	case *kind.Contains, *kind.MinContains:
		return "has too few items of the kind that the schema wants in it"
	case *kind.MaxContains:
		return "has too many items of the kind that the schema counts"
	case *kind.AnyOf:
		return "fits none of the alternatives (anyOf)"
	case *kind.OneOf:
		if k.Subschemas == nil {
			return "fits none of the alternatives (oneOf)"
		}
		return "fits several of the alternatives, want exactly one (oneOf)"
	case *kind.Not:
		return "is what the schema excludes (not)"
	}
	return "does not keep to the schema"
}

func number(r *big.Rat) string {
	if r.IsInt() {
		return clip(r.RatString(), 40)
	}
	f, _ := r.Float64()
	return fmt.Sprint(f)
}
