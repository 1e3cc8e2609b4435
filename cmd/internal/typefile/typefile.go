// Package typefile reads event types from files: those that people write for
// import, and the configuration's event_types.
//
// # The form
//
// A file is one mapping with one key, in YAML or JSON; the fields of a type are
// those of the API (docs/event-types.md):
//
//	event_types:
//	  - name: invoice.paid
//	    schema_version: "1"          # the default
//	    group: billing
//	    description: An invoice was paid in full.
//	    schema:
//	      type: object
//	      required: [invoice]
//	      properties: {invoice: {type: string}}
//	    example: {invoice: in_1}
//
// Schemas and examples are JSON however they are written: keys keep their order,
// numbers their digits. YAML that JSON has no word for (anchors, tags, dates,
// infinity) is refused.
package typefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/grapnel-hooks/grapnel/fanout/catalogue"
)

// Limits of a file, in bytes. JSON is what is exported; YAML is written by people,
// and slower to read.
const (
	MaxJSON = 16 << 20
	MaxYAML = 2 << 20
)

// Error is something wrong in a file.
type Error struct {
	File string // "": the file that is being read
	Line int    // 0: unknown
	Err  error
}

// Error says file and line: "types.yaml:7: …", "line 7: …".
func (e *Error) Error() string {
	switch {
	case e.File == "" && e.Line == 0:
		return e.Err.Error()
	case e.File == "":
		return fmt.Sprintf("line %d: %v", e.Line, e.Err)
	case e.Line == 0:
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Read reads the types of a file. What is wrong is an [*Error] for each type,
// joined.
func Read(name string) ([]catalogue.Type, error) {
	f, err := os.Open(name)
	if err != nil {
		var p *os.PathError
		if errors.As(err, &p) {
			err = p.Err // the name is said already
		}
		return nil, &Error{File: name, Err: err}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxJSON+1))
	if err != nil {
		return nil, &Error{File: name, Err: err}
	}
	return Parse(name, data)
}

// Parse reads the types of a file with that name and content.
func Parse(name string, data []byte) ([]catalogue.Type, error) {
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '{' {
		return parseJSON(name, data)
	}
	if len(data) > MaxYAML {
		return nil, &Error{File: name, Err: fmt.Errorf("has more than %d bytes: split it, or write it as JSON", MaxYAML)}
	}
	doc, err := parser.ParseBytes(data, 0)
	if err != nil {
		var y yaml.Error
		if errors.As(err, &y) {
			e := &Error{File: name, Err: errors.New(y.GetMessage())}
			if t := y.GetToken(); t != nil {
				e.Line = t.Position.Line
			}
			return nil, e
		}
		return nil, &Error{File: name, Err: err}
	}
	if len(doc.Docs) != 1 || doc.Docs[0].Body == nil {
		return nil, &Error{File: name, Err: errors.New("want one YAML document with the key event_types")}
	}
	top, ok := doc.Docs[0].Body.(ast.MapNode)
	if !ok {
		return nil, &Error{File: name, Line: line(doc.Docs[0].Body), Err: errors.New("want the key event_types with a list of types")}
	}
	var types []catalogue.Type
	found := false
	for it := top.MapRange(); it.Next(); {
		if key := it.Key().String(); key != "event_types" {
			return nil, &Error{File: name, Line: line(it.Key()), Err: fmt.Errorf("unknown key %.60q: known is event_types", key)}
		}
		found = true
		if types, err = List(name, it.Value()); err != nil {
			return nil, err
		}
	}
	if !found {
		return nil, &Error{File: name, Err: errors.New("want the key event_types with a list of types")}
	}
	return types, nil
}

// maxErrors is how many of a file's mistakes are told.
const maxErrors = 20

// List reads a YAML list of types. name is the file's, for errors; "" leaves it
// out.
func List(name string, n ast.Node) ([]catalogue.Type, error) {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		return nil, &Error{File: name, Line: line(n), Err: errors.New("want a list of event types")}
	}
	if len(list.Values) > catalogue.MaxTypes*catalogue.MaxVersions {
		return nil, &Error{File: name, Line: line(n), Err: errors.New("has too many entries")}
	}
	c := collector{name: name, seen: map[[2]string]bool{}}
	for _, item := range list.Values {
		raw, err := appendJSON(nil, item, 0)
		if err != nil {
			c.wrong(errLine(err, line(item)), err)
		} else {
			c.take(raw, line(item))
		}
		if len(c.errs) == maxErrors {
			break
		}
	}
	return c.result()
}

func parseJSON(name string, data []byte) ([]catalogue.Type, error) {
	if len(data) > MaxJSON {
		return nil, &Error{File: name, Err: fmt.Errorf("has more than %d bytes", MaxJSON)}
	}
	lineAt := func(offset int64) int { return 1 + bytes.Count(data[:min(int(offset), len(data))], []byte("\n")) }
	var whole map[string]json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		e := &Error{File: name, Err: err}
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			e.Line = lineAt(syntax.Offset)
		}
		return nil, e
	}
	raw, ok := whole["event_types"]
	if len(whole) != 1 || !ok {
		return nil, &Error{File: name, Err: errors.New("want one key, event_types, with a list of types")}
	}
	// Item by item, to know where each begins.
	start := int64(bytes.Index(data, raw))
	dec := json.NewDecoder(bytes.NewReader(raw))
	if first, err := dec.Token(); err != nil || first != json.Delim('[') {
		return nil, &Error{File: name, Line: lineAt(start), Err: errors.New("want a list of event types")}
	}
	c := collector{name: name, seen: map[[2]string]bool{}}
	for dec.More() && len(c.errs) < maxErrors {
		var item json.RawMessage
		if err := dec.Decode(&item); err != nil {
			return nil, &Error{File: name, Err: err}
		}
		c.take(item, lineAt(start+dec.InputOffset()-int64(len(item))))
	}
	return c.result()
}

// collector checks types one after the other, so that each mistake has its line.
type collector struct {
	name  string
	types []catalogue.Type
	seen  map[[2]string]bool
	errs  []error
}

func (c *collector) wrong(line int, err error) {
	c.errs = append(c.errs, &Error{File: c.name, Line: line, Err: err})
}

func (c *collector) take(raw []byte, line int) {
	var t catalogue.Type
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&t); err != nil {
		c.wrong(line, plain(err))
		return
	}
	t.Schema, t.Example = compact(t.Schema), compact(t.Example)
	t = t.Normal()
	key := [2]string{t.Name, t.Version}
	if c.seen[key] {
		c.wrong(line, &catalogue.Error{Type: t.Name, Version: t.Version, Detail: "is there twice with the same schema_version"})
		return
	}
	c.seen[key] = true
	if _, err := catalogue.Compile([]catalogue.Type{t}); err != nil {
		c.wrong(line, err)
		return
	}
	c.types = append(c.types, t)
}

// compact is JSON without space, so that indenting a file changes nothing.
func compact(raw json.RawMessage) json.RawMessage {
	var b bytes.Buffer
	if len(raw) == 0 || json.Compact(&b, raw) != nil {
		return nil
	}
	return b.Bytes()
}

func (c *collector) result() ([]catalogue.Type, error) {
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	return c.types, nil
}

// plain says what of a type has the wrong form.
func plain(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		if wrong.Field == "" {
			return errors.New("want an event type: name, description, schema, …")
		}
		if wrong.Field == "schema_version" {
			return errors.New(`schema_version must be a text: put it into quotes, "2"`)
		}
		return fmt.Errorf("%s must be a %s", wrong.Field, strings.Replace(wrong.Type.String(), "bool", "truth value, true or false", 1))
	}
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return fmt.Errorf("unknown field %s: known are %s", field, strings.Join(fields, ", "))
	}
	return err
}

var fields = slices.Sorted(slices.Values([]string{"name", "schema_version", "group", "description", "deprecated", "schema", "example"}))
