package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/grapnel-hooks/grapnel/cmd/internal/suggest"
	"github.com/grapnel-hooks/grapnel/cmd/internal/typefile"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout/catalogue"
)

const maxFile = 1 << 20 // bytes

// file is a configuration file, read.
type file struct {
	name                   string
	entries                map[string]entry
	sections               map[string]int // line of each that is there
	plans                  map[string][]string
	eventTypes             []catalogue.Type
	formats                []deliver.Format
	keepFinished, keepDead time.Duration
	keepBytes              int64
}

// entry is a setting in a file: one value, or several of a list.
type entry struct {
	line   int
	values []string
}

func readFile(name string) (file, error) {
	f := file{name: name, entries: map[string]entry{}, sections: map[string]int{}}
	data, err := readLimited(name)
	if err != nil {
		return f, &Error{Where: name, Err: err}
	}
	doc, err := parser.ParseBytes(data, 0)
	if err != nil {
		return f, f.syntax(err)
	}
	if len(doc.Docs) > 1 {
		return f, &Error{Where: name, Err: errors.New("has several YAML documents: want one")}
	}
	if len(doc.Docs) == 0 || doc.Docs[0].Body == nil || doc.Docs[0].Body.Type() == ast.CommentType {
		return f, nil // nothing but comments
	}
	var errs []error
	err = each(doc.Docs[0].Body, func(key string, line int, value ast.Node) {
		if err := f.take(key, line, value); err != nil {
			errs = append(errs, &Error{Where: fmt.Sprintf("%s:%d: %s", name, line, key), Err: err})
		}
	})
	if err != nil {
		return f, &Error{Where: fmt.Sprintf("%s:%d", name, lineOf(doc.Docs[0].Body)), Err: err}
	}
	return f, errors.Join(errs...)
}

func readLimited(name string) ([]byte, error) {
	r, err := os.Open(name)
	if err != nil {
		var p *os.PathError
		if errors.As(err, &p) {
			err = p.Err // the name is said already
		}
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if len(data) > maxFile {
		return nil, fmt.Errorf("has more than %d bytes", maxFile)
	}
	return data, err
}

// syntax is an error of the parser in one line, with its place.
func (f *file) syntax(err error) error {
	var y yaml.Error
	if errors.As(err, &y) {
		where := f.name
		if t := y.GetToken(); t != nil {
			where = fmt.Sprintf("%s:%d", f.name, t.Position.Line)
		}
		return &Error{Where: where, Err: errors.New(y.GetMessage())}
	}
	return &Error{Where: f.name, Err: err}
}

// take reads one key of the file.
func (f *file) take(key string, line int, value ast.Node) (err error) {
	if i := slices.IndexFunc(sections, func(s section) bool { return s.key == key }); i >= 0 {
		f.sections[key] = line
		return sections[i].read(f, value)
	}
	i := slices.IndexFunc(settings, func(s setting) bool { return s.key() == key })
	if i < 0 {
		return unknown(key, names())
	}
	e := entry{line: line}
	if list, ok := value.(*ast.SequenceNode); ok {
		if !settings[i].many {
			return errors.New("want one value, not a list")
		}
		e.values, err = texts(list)
	} else {
		var v string
		v, err = scalar(value)
		e.values = []string{v}
	}
	if err == nil && len(e.values) > 0 {
		f.entries[key] = e
	}
	return err
}

// names are all keys of a file.
func names() []string {
	var n []string
	for _, s := range sections {
		n = append(n, s.key)
	}
	for _, s := range settings {
		n = append(n, s.key())
	}
	return n
}

func unknown(key string, names []string) error {
	if near := suggest.Nearest(strings.ReplaceAll(key, "-", "_"), names); near != "" {
		return fmt.Errorf("unknown key: did you mean %s?", near)
	}
	slices.Sort(names)
	return fmt.Errorf("unknown key: known are %s", strings.Join(names, ", "))
}

// plans are the features of each plan: {trial: [], enterprise: [outgoing_webhooks]}.
func plans(n ast.Node) (map[string][]string, error) {
	out := map[string][]string{}
	var bad error
	err := each(n, func(plan string, line int, value ast.Node) {
		list, ok := value.(*ast.SequenceNode)
		if !ok {
			bad = errors.Join(bad, fmt.Errorf("plan %s in line %d: want a list of features, such as [outgoing_webhooks]", plan, line))
			return
		}
		features, err := texts(list)
		for _, f := range features {
			if f != outgoingWebhooks {
				err = errors.Join(err, fmt.Errorf("plan %s in line %d: unknown feature %q: known is %s", plan, line, f, outgoingWebhooks))
			}
		}
		bad = errors.Join(bad, err)
		out[plan] = features
	})
	return out, errors.Join(err, bad)
}

// eventTypes are the types of a list, or of the file that is named, seen from the
// directory of the configuration file.
func eventTypes(config string, n ast.Node) ([]catalogue.Type, error) {
	if _, ok := n.(*ast.SequenceNode); ok {
		return typefile.List("", n)
	}
	name, err := scalar(n)
	if err != nil {
		return nil, errors.New("want a list of event types, or the name of a file with one")
	}
	if !filepath.IsAbs(name) {
		name = filepath.Join(filepath.Dir(config), name)
	}
	return typefile.Read(name)
}

// outgoingWebhooks is the only feature that a plan can have at present.
const outgoingWebhooks = "outgoing_webhooks"

// retention is how long deliveries are kept, and how large the database may become
// before finished ones go sooner: {finished: 30d, dead: 90d, max_size: 20GiB}.
func (f *file) retention(n ast.Node) error {
	var bad error
	err := each(n, func(key string, line int, value ast.Node) {
		field := map[string]*time.Duration{"finished": &f.keepFinished, "dead": &f.keepDead}[key]
		if field == nil && key != "max_size" {
			bad = errors.Join(bad, fmt.Errorf("%s in line %d: %w", key, line, unknown(key, []string{"finished", "dead", "max_size"})))
			return
		}
		s, err := scalar(value)
		if err == nil && field == nil {
			if f.keepBytes, err = Size(s); err == nil && f.keepBytes < leastSize {
				err = fmt.Errorf("%q: want at least 16MiB", s)
			}
			if err != nil {
				bad = errors.Join(bad, fmt.Errorf("%s in line %d: %w", key, line, err))
			}
			return
		}
		if err == nil {
			*field, err = Duration(s)
		}
		if err == nil && *field < time.Hour {
			err = fmt.Errorf("%q: want at least 1h", s)
		}
		if err != nil {
			bad = errors.Join(bad, fmt.Errorf("%s in line %d: %w", key, line, err))
		}
	})
	return errors.Join(err, bad)
}

// leastSize is the smallest max_size: an empty database is not much smaller.
const leastSize = 16 << 20

// each calls do for the keys of a mapping.
func each(n ast.Node, do func(key string, line int, value ast.Node)) error {
	m, ok := n.(ast.MapNode)
	if !ok {
		return errors.New("want keys with values, such as listen: 127.0.0.1:8480")
	}
	for it := m.MapRange(); it.Next(); {
		key, err := scalar(it.Key())
		if err != nil {
			return fmt.Errorf("line %d: %w", lineOf(it.Key()), err)
		}
		do(key, lineOf(it.Key()), it.Value())
	}
	return nil
}

func lineOf(n ast.Node) int { return n.GetToken().Position.Line }

// texts are the values of a list.
func texts(list *ast.SequenceNode) ([]string, error) {
	out := []string{}
	for _, v := range list.Values {
		s, err := scalar(v)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// scalar is a value's text as it was written: a size or an id may look like a
// number to YAML.
func scalar(n ast.Node) (string, error) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return n.GetToken().Value, nil
	case *ast.NullNode:
		return "", errors.New("has no value")
	}
	return "", errors.New("want a text, a number or true and false")
}
