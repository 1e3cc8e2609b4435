package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/grapnel-hooks/grapnel/cmd/internal/suggest"
)

const (
	unknownField     = "unknown field"
	unknownParameter = "unknown query parameter"
	repeatedField    = "is there more than once"
	maxDepth         = 64 // of arrays and objects inside each other, in a body (SEC-28)
	maxFieldErrors   = 20 // that an answer names: enough to see what is wrong, whatever was sent
)

// Write is the body of a write. Beside what huma checks it refuses what huma
// lets pass in silence: null for a field that cannot be null, a field's
// name in other letters, and a field that is there twice.
type Write[T any] struct {
	Body    T
	RawBody []byte
}

// Resolve implements huma.Resolver.
func (b *Write[T]) Resolve(huma.Context) []error {
	return strictly(reflect.TypeFor[T](), b.RawBody, "body")
}

// strictly checks the names and nulls of a JSON object that is to become a t.
// What is no object is for others to refuse.
func strictly(t reflect.Type, raw []byte, at string) []error {
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil {
		return nil
	}
	var errs []error
	for _, name := range repeated(raw) {
		errs = append(errs, &huma.ErrorDetail{Location: at + "." + shortened(name), Message: repeatedField})
	}
	known := fieldsOf(t)
	names := make([]string, 0, len(known))
	for n := range known {
		names = append(names, n)
	}
	slices.Sort(names)
	for name, value := range object {
		if len(errs) >= maxFieldErrors {
			break
		}
		ft, ok := known[name]
		where := at + "." + shortened(name)
		switch {
		case !ok:
			errs = append(errs, &huma.ErrorDetail{Location: where, Message: unknown(name, names)})
		case string(value) == "null" && !nullable(ft):
			errs = append(errs, &huma.ErrorDetail{Location: where, Message: "cannot be null; leave it out instead"})
		case ft.Kind() == reflect.Pointer && ft.Elem().Kind() == reflect.Struct && ft.Elem().PkgPath() == t.PkgPath():
			errs = append(errs, strictly(ft.Elem(), value, where)...)
		}
	}
	return errs
}

// repeated are the names that a JSON object has more than once. Readers differ in
// which one they take (RFC 8259, section 4): what a filter in front of us has let
// pass should be what we do.
func repeated(raw []byte) (names []string) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.Token() // the brace; the caller knows that this is an object
	seen := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		var value json.RawMessage
		if err != nil || d.Decode(&value) != nil {
			return names
		}
		if text, ok := name.(string); ok && seen[text] {
			if names = append(names, text); len(names) == maxFieldErrors {
				return names
			}
		} else if ok {
			seen[text] = true
		}
	}
	return names
}

func unknown(name string, names []string) string {
	if near := suggest.Nearest(strings.ToLower(shortened(name)), names); near != "" {
		return fmt.Sprintf("%s: did you mean %s?", unknownField, near)
	}
	return unknownField + ": known are " + strings.Join(names, ", ")
}

// shortened is the name of a field that is not known, which may be as long as the
// body.
func shortened(name string) string {
	const longest = 64
	if len(name) <= longest {
		return name
	}
	return strings.ToValidUTF8(name[:longest], "") + "…"
}

func nullable(t reflect.Type) bool {
	return t == reflect.TypeFor[Clearable]() || t == reflect.TypeFor[json.RawMessage]()
}

// fieldsOf are the JSON names of a struct's fields, and their types.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := make(map[string]reflect.Type, t.NumField())
	for f := range t.Fields() {
		if f.Anonymous {
			maps.Copy(fields, fieldsOf(f.Type))
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields[name] = f.Type
	}
	return fields
}

// decodeJSON is json.Unmarshal for what comes from outside: nothing deeper than
// maxDepth.
func decodeJSON(data []byte, v any) error {
	depth, inString, escaped := 0, false, false
	for _, c := range data {
		switch {
		case escaped:
			escaped = false
		case inString:
			escaped, inString = c == '\\', c != '"'
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("arrays and objects may be at most %d deep", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return json.Unmarshal(data, v)
}
