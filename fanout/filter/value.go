package filter

import (
	"slices"
	"strings"
	"time"
)

// constant reports whether a constant comes.
func (p *parser) constant() bool {
	return p.tok.kind == text || p.tok.kind == digits ||
		p.tok.kind == word && slices.Contains([]string{"true", "false", "null", "timestamp"}, p.tok.value)
}

// literal reads a constant.
func (p *parser) literal() (c constant, err *SyntaxError) {
	if !p.constant() {
		what := "want a string in quotes, a number, true, false or null"
		if _, known := fields[p.tok.value]; known && p.tok.kind == word {
			what = "a value is compared with a constant, not with another value"
		}
		return c, p.unexpected(what)
	}
	switch {
	case p.tok.kind == text:
		c = constant{sort: sortText, text: []byte(p.tok.value)}
	case p.tok.kind == digits:
		c = constant{sort: sortNumber, number: parseNumber([]byte(p.tok.value))}
	case p.tok.value == "timestamp":
		return p.timestamp()
	default:
		c.sort = map[string]sort{"true": sortTrue, "false": sortFalse, "null": sortNull}[p.tok.value]
	}
	return c, p.advance()
}

// timestamp reads timestamp("2026-11-21T10:00:00Z").
func (p *parser) timestamp() (c constant, err *SyntaxError) {
	c.sort = sortTime
	if err = p.advance(); err != nil {
		return c, err
	}
	if err = p.eat("(", "after timestamp"); err != nil {
		return c, err
	}
	at, e := time.Parse(time.RFC3339, p.tok.value)
	if e != nil || p.tok.kind != text {
		return c, p.failf(`want a time, such as "2026-11-21T10:00:00Z" (RFC 3339)`)
	}
	c.at = at
	if err = p.advance(); err == nil {
		err = p.eat(")", "after the time")
	}
	return c, err
}

// every lets t look at each element of its value.
func (p *parser) every(t *test) *SyntaxError {
	if t.steps = append(slices.Clone(t.steps), step{each: true}); len(t.steps) > MaxDepth {
		return p.failf("the path has more than %d steps", MaxDepth)
	}
	return nil
}

// path is the number of that path, the same for equal ones.
func (p *parser) path(steps path) int {
	i := slices.IndexFunc(p.paths, func(q path) bool { return slices.Equal(q, steps) })
	if i < 0 {
		i = len(p.paths)
		p.paths = append(p.paths, steps)
	}
	return i
}

// value reads data.customer.country, or another field. A method's name is left
// to the caller, with the dot read.
func (p *parser) value(t *test) *SyntaxError {
	from := p.tok.at
	f, known := fields[p.tok.value]
	variable := slices.IndexFunc(p.bound, func(b bound) bool { return b.name == p.tok.value })
	switch {
	case p.tok.kind != word:
		return p.unexpected("want a value, such as data.amount or type")
	case known:
	case variable >= 0:
		t.steps = slices.Clone(p.bound[variable].at)
	case slices.Contains([]string{"and", "or", "not"}, strings.ToLower(p.tok.value)):
		return p.unexpected("")
	default:
		return p.failf("%s is not known: values are type, workspace, source, schema_version, time, and members of the data, such as data.%[1]s", clip(p.tok.value, 40))
	}
	t.field = f
	t.value = p.tok.value
	if err := p.advance(); err != nil {
		return err
	}
	for p.is(".") || p.is("[") {
		if p.is(".") {
			if p.method() {
				break
			}
		}
		s, to, err := p.step(f)
		if err != nil {
			return err
		}
		if t.steps = append(t.steps, s); len(t.steps) > MaxDepth {
			return p.failf("the path has more than %d steps", MaxDepth)
		}
		t.value = p.text[from:to]
	}
	return nil
}

// method reports whether the dot that is looked at begins a method. A member
// of that name is one unless a parenthesis follows.
func (p *parser) method() bool {
	ahead := p.lex
	name, err := ahead.next()
	if err != nil || name.kind != word {
		return false
	}
	open, err := ahead.next()
	return err == nil && open.kind == mark && open.value == "("
}

// step reads .name or ["name"], and says where it ends.
func (p *parser) step(f field) (s step, to int, err *SyntaxError) {
	if f != fieldData {
		return s, 0, p.failf("only data has members")
	}
	dot := p.is(".")
	if err = p.advance(); err != nil {
		return s, 0, err
	}
	to = p.tok.to
	switch {
	case dot && p.tok.kind == word && !slices.Contains([]string{"true", "false", "null", "in"}, p.tok.value):
		s.name = p.tok.value
		err = p.advance()
		return s, to, err
	case dot:
		return s, 0, p.unexpected(`want a name after the dot; one with other characters than letters, digits and _ is written data["customer-id"]`)
	case p.tok.kind == text:
		s.name = p.tok.value
	case p.tok.kind == digits:
		return s, 0, p.failf("elements of an array have no numbers here: write .exists(i, i == …)")
	default:
		return s, 0, p.unexpected(`want the name of a member in quotes`)
	}
	if err = p.advance(); err != nil {
		return s, 0, err
	}
	to = p.tok.to
	err = p.eat("]", "after the name")
	return s, to, err
}
