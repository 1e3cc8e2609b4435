package catalogue

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/grapnel-hooks/grapnel/stream"
)

// Limits of a catalogue and of what is in it. Sizes are in bytes.
const (
	MaxTypes       = 2000 // names
	MaxVersions    = 50   // of one name
	MaxSchema      = 64 << 10
	MaxExample     = 64 << 10
	MaxTotal       = 8 << 20 // of all types: compiled, schemas take many times that
	MaxDescription = 2000
	MaxGroup       = 64
	MaxVersion     = 64
)

// DefaultVersion is the schema version of a type, and of an event, that says
// none.
const DefaultVersion = "1"

// Type is one version of an event type. Its JSON form is also that of the files
// which are imported and exported.
type Type struct {
	Name        string          `json:"name"`                  // see stream.CheckType
	Version     string          `json:"schema_version"`        // "": 1; up to 64 printable bytes
	Group       string          `json:"group,omitempty"`       // for people: billing
	Description string          `json:"description,omitempty"` // for people
	Deprecated  bool            `json:"deprecated,omitempty"`  // for people: nobody should begin to use it
	Schema      json.RawMessage `json:"schema,omitempty"`      // JSON Schema of the data; empty: any data
	Example     json.RawMessage `json:"example,omitempty"`     // data that keep to the schema; empty: none
}

// Error says what of a type cannot be used.
type Error struct {
	Type, Version string
	Field         string // name, schema_version, group, description, schema, example; "": all of it
	Detail        string
}

// Error names the type, the field and what is wrong with it.
func (e *Error) Error() string {
	where := "event type " + clip(e.Type, 80)
	if e.Version != "" && e.Version != DefaultVersion {
		where += " version " + clip(e.Version, 40)
	}
	if e.Field != "" {
		where += ": " + e.Field
	}
	return where + ": " + e.Detail
}

// Normal is t with its defaults filled in.
func (t Type) Normal() Type {
	t.Version = cmp.Or(t.Version, DefaultVersion)
	if string(t.Schema) == "null" {
		t.Schema = nil
	}
	if string(t.Example) == "null" {
		t.Example = nil
	}
	return t
}

// size is what t counts for [MaxTotal].
func (t Type) size() int {
	return len(t.Description) + len(t.Schema) + len(t.Example)
}

// check looks at all but schema and example.
func (t Type) check() *Error {
	bad := func(field, format string, args ...any) *Error {
		return &Error{Type: t.Name, Version: t.Version, Field: field, Detail: fmt.Sprintf(format, args...)}
	}
	if err := stream.CheckType(t.Name); err != nil {
		return bad("name", "%v", err)
	}
	switch {
	case len(t.Version) > MaxVersion || strings.ContainsFunc(t.Version, func(r rune) bool { return r < ' ' || r > '~' }):
		return bad("schema_version", "use at most %d printable characters of ASCII, such as 1 or 2026-11-21", MaxVersion)
	case strings.TrimSpace(t.Version) != t.Version:
		return bad("schema_version", "has a space at its beginning or end")
	case len(t.Group) > MaxGroup || !printable(t.Group):
		return bad("group", "use at most %d printable bytes", MaxGroup)
	case len(t.Description) > MaxDescription:
		return bad("description", "is %d bytes long: use at most %d", len(t.Description), MaxDescription)
	case !utf8.ValidString(t.Description):
		return bad("description", "is not UTF-8")
	case len(t.Schema) > MaxSchema:
		return bad("schema", "is %d bytes long: use at most %d", len(t.Schema), MaxSchema)
	case len(t.Example) > MaxExample:
		return bad("example", "is %d bytes long: use at most %d", len(t.Example), MaxExample)
	}
	return nil
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// CompareVersions orders schema versions as people count: runs of digits by
// their value, all else byte by byte. So 9 is before 10, and 1.9 before 1.10.
func CompareVersions(a, b string) int {
	for x, y := a, b; ; {
		if x == "" || y == "" {
			return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(a, b)) // 01 and 1 differ, too
		}
		n, m := digits(x), digits(y)
		if n == 0 || m == 0 {
			if x[0] != y[0] {
				return cmp.Compare(x[0], y[0])
			}
			x, y = x[1:], y[1:]
			continue
		}
		p, q := strings.TrimLeft(x[:n], "0"), strings.TrimLeft(y[:m], "0")
		if c := cmp.Or(cmp.Compare(len(p), len(q)), cmp.Compare(p, q)); c != 0 {
			return c
		}
		x, y = x[n:], y[m:]
	}
}

func digits(s string) int {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}

// clip is s for a message: at most n bytes of printable text.
func clip(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, s[:min(len(s), 4*n)])
	if len(s) <= n {
		return s
	}
	s = s[:n-len("…")]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}
