package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/grapnel-hooks/grapnel/cmd/internal/suggest"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

// formats are the wire formats of a file, by name:
//
//	acme:
//	  scheme: sha256-hex
//	  headers: {type: X-Acme-Event, signature: X-Acme-Signature}
//	  body: {id: event_id, event: type, at: time_unix, data: data}
//
// All that is wrong with them is told at once, each with its line.
func formats(n ast.Node) ([]deliver.Format, error) {
	var all []deliver.Format
	var bad []error
	err := each(n, func(name string, line int, value ast.Node) {
		f := formatReader{format: deliver.Format{Name: name}, lines: map[string]int{"": line}}
		f.read(value)
		if len(f.bad) == 0 {
			f.check(all)
		}
		bad = append(bad, f.bad...)
		all = append(all, f.format)
	})
	if err != nil {
		return nil, fmt.Errorf("want formats by name: %w", err)
	}
	if len(all) > deliver.MaxFormats {
		bad = append(bad, fmt.Errorf("has %d formats, want at most %d", len(all), deliver.MaxFormats))
	}
	return all, errors.Join(bad...)
}

// formatReader reads one format.
type formatReader struct {
	format deliver.Format
	lines  map[string]int // of its parts, named as in deliver.FormatError
	bad    []error
}

// refuse notes what is wrong with a part.
func (r *formatReader) refuse(part string, line int, err error) {
	if part != "" {
		part = ": " + part
	}
	r.bad = append(r.bad, fmt.Errorf("format %.100s%s in line %d: %w", r.format.Name, part, line, err))
}

// check reports what the format as a whole wants, in the line where it is said.
func (r *formatReader) check(others []deliver.Format) {
	err := r.format.Check()
	if err == nil {
		_, err = deliver.NewFormats([]deliver.Format{r.format}) // the name of a built-in one?
	}
	if err == nil && slices.ContainsFunc(others, func(f deliver.Format) bool { return f.Name == r.format.Name }) {
		err = &deliver.FormatError{Detail: "is there twice"}
	}
	var wrong *deliver.FormatError
	if !errors.As(err, &wrong) {
		return
	}
	part := wrong.Part
	line, ok := r.lines[part]
	for !ok {
		part = part[:max(0, strings.LastIndexByte(part, '.'))]
		line, ok = r.lines[part]
	}
	r.refuse(wrong.Part, line, errors.New(wrong.Detail))
}

func (r *formatReader) read(n ast.Node) {
	known := []string{"scheme", "headers", "body"}
	err := each(n, func(key string, line int, value ast.Node) {
		r.lines[key] = line
		switch key {
		case "scheme":
			text, err := scalar(value)
			if err != nil {
				r.refuse(key, line, err)
			}
			r.format.Scheme = sign.Scheme(text)
			if near := nearest(text, sign.Schemes); err == nil && near != "" {
				r.refuse(key, line, fmt.Errorf("%q: did you mean %s?", text, near))
			}
		case "headers":
			r.headers(line, value)
		case "body":
			r.body(line, value)
		default:
			r.refuse(key, line, unknown(key, known))
		}
	})
	if err != nil {
		r.refuse("", r.lines[""], fmt.Errorf("want scheme, headers and body: %w", err))
	}
	for _, key := range []string{"headers", "body"} {
		if r.lines[key] == 0 && err == nil {
			r.refuse("", r.lines[""], fmt.Errorf("%s is missing", key))
		}
	}
}

func (r *formatReader) headers(line int, n ast.Node) {
	h := &r.format.Headers
	err := each(n, func(role string, line int, value ast.Node) {
		part := "headers." + role
		r.lines[part] = line
		field := h.Of(role)
		if field == nil {
			r.refuse(part, line, unknown(role, h.Roles()))
			return
		}
		name, err := scalar(value)
		if err == nil && name == "" {
			err = errors.New("has no value")
		}
		if err != nil {
			r.refuse(part, line, err)
		}
		*field = name
	})
	if err != nil {
		r.refuse("headers", line, fmt.Errorf("want names of headers by what they hold: %w", err))
	}
}

// body is a map from fields to what they hold, or the name of a kind of body.
func (r *formatReader) body(line int, n ast.Node) {
	if _, ok := n.(ast.MapNode); !ok {
		kind, err := scalar(n)
		kinds := []deliver.BodyKind{deliver.BodyData, deliver.BodyStandard, deliver.BodyEvent, deliver.BodyBinary}
		if near := nearest(kind, kinds); err == nil && near != "" {
			err = fmt.Errorf("%q: did you mean %s?", kind, near)
		}
		if err != nil {
			r.refuse("body", line, err)
		}
		if r.format.Body = deliver.BodyKind(kind); r.format.Body == deliver.BodyMap {
			r.refuse("body", line, errors.New("want a map of fields, such as {event: type, data: data}"))
		}
		return
	}
	r.format.Body = deliver.BodyMap
	err := each(n, func(name string, line int, value ast.Node) {
		part := "body." + name
		r.lines[part] = line
		source, err := scalar(value)
		if near := nearest(source, deliver.BodySources); err == nil && near != "" {
			err = fmt.Errorf("%q: did you mean %s?", source, near)
		}
		if err != nil {
			r.refuse(part, line, err)
		}
		r.format.Fields = append(r.format.Fields, deliver.BodyField{Name: name, Source: deliver.BodySource(source)})
	})
	if err != nil {
		r.refuse("body", line, err)
	}
}

// nearest is the name that was probably meant by one that is not known; "" if it is
// known, or nothing is near.
func nearest[T ~string](name string, known []T) string {
	if slices.Contains(known, T(name)) {
		return ""
	}
	names := make([]string, len(known))
	for i, k := range known {
		names[i] = string(k)
	}
	return suggest.Nearest(name, names)
}

// Formats are the wire formats of a configuration file.
func Formats(name string) ([]deliver.Format, error) {
	f, err := readFile(name)
	return f.formats, err
}
