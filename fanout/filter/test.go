package filter

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// test reads one test.
func (p *parser) test() (*condition, *SyntaxError) {
	from := p.tok.at
	if p.tests++; p.tests > MaxTests {
		return nil, p.failf("more than %d tests: take several endpoints, or \"in\" for alternatives", MaxTests)
	}
	t := &test{}
	compares, err := p.oneTest(t)
	if err != nil {
		return nil, err
	}
	if t.field == fieldData {
		t.path = p.path(t.steps)
	}
	to := from + len(strings.TrimRight(p.text[from:p.tok.at], " \t\r\n"))
	return &condition{op: is, test: t, compares: compares, from: from, to: to}, nil
}

// oneTest reads t, and reports whether it is written with an operator.
func (p *parser) oneTest(t *test) (compares bool, err *SyntaxError) {
	switch {
	case p.constant():
		return true, p.reversed(t)
	case p.tok.kind == word && p.tok.value == "has":
		return false, p.has(t)
	}
	if err = p.value(t); err != nil {
		return false, err
	}
	compares = !p.is(".")
	err = p.rest(t)
	return compares && t.verb != verbTrue, err
}

// has reads has(data.x).
func (p *parser) has(t *test) *SyntaxError {
	t.verb = verbHas
	if err := p.advance(); err != nil {
		return err
	}
	if err := p.eat("(", "after has"); err != nil {
		return err
	}
	at := p.tok.at
	if err := p.value(t); err != nil {
		return err
	}
	if !strings.Contains(t.value, ".") || strings.HasSuffix(t.value, "]") {
		return fail(p.text, at, `has asks for a member, such as has(data.x); for a name in brackets write "x-y" in data`)
	}
	return p.eat(")", "after the value")
}

// reversed reads a test that begins with its constant.
func (p *parser) reversed(t *test) *SyntaxError {
	at := p.tok.at
	c, err := p.literal()
	if err != nil {
		return err
	}
	t.want = []constant{c}
	v, compares := comparisons[p.tok.value]
	switch {
	case p.tok.kind == mark && compares:
		if t.verb = v; mirrored[v] != 0 {
			t.verb = mirrored[v]
		}
		if err = p.advance(); err == nil {
			err = p.value(t)
		}
	case p.tok.kind == word && p.tok.value == "in":
		t.verb = verbEqual
		if err = p.advance(); err != nil {
			return err
		}
		if err = p.value(t); err == nil {
			if t.field != fieldData {
				return fail(p.text, at, "%s is no array: compare it with ==", t.value)
			}
			err = p.every(t)
		}
	default:
		return p.unexpected("a constant alone is no condition: compare it with a value, such as data.amount")
	}
	if err == nil {
		err = p.fits(t, at)
	}
	return err
}

// rest reads what follows a value: a comparison, in, a method, or nothing.
func (p *parser) rest(t *test) (err *SyntaxError) {
	v, compares := comparisons[p.tok.value]
	switch {
	case p.tok.kind == mark && compares:
		t.verb = v
		if err = p.advance(); err != nil {
			return err
		}
		at := p.tok.at
		var c constant
		if c, err = p.literal(); err == nil {
			t.want = []constant{c}
			err = p.fits(t, at)
		}
		return err
	case p.tok.kind == word && p.tok.value == "in":
		return p.list(t)
	case p.is("."):
		return p.call(t)
	case t.field != fieldData:
		return p.failf("%s alone is no condition: compare it, such as %[1]s == \"…\"", t.value)
	}
	t.verb = verbTrue
	return nil
}

// list reads in [1, 2].
func (p *parser) list(t *test) *SyntaxError {
	t.verb = verbIn
	if err := p.advance(); err != nil {
		return err
	}
	if err := p.eat("[", "and a list of constants after in"); err != nil {
		return err
	}
	for {
		at := p.tok.at
		c, err := p.literal()
		if err != nil {
			return err
		}
		t.want = append(t.want, c)
		if err := p.fits(t, at); err != nil {
			return err
		}
		if !p.is(",") {
			return p.eat("]", "or a comma")
		}
		if err := p.advance(); err != nil {
			return err
		}
	}
}

// call reads .startsWith("x") and its like.
func (p *parser) call(t *test) *SyntaxError {
	if err := p.advance(); err != nil {
		return err
	}
	if p.tok.value == "exists" {
		return p.exists(t)
	}
	v, known := methods[p.tok.value]
	if !known {
		return p.unexpected("want startsWith, endsWith, contains, matches or exists")
	}
	t.verb = v
	if t.field == fieldTime {
		return p.failf(`a time is compared with == != < <= > and >=`)
	}
	if err := p.advance(); err != nil {
		return err
	}
	if err := p.eat("(", "after the method"); err != nil {
		return err
	}
	at := p.tok.at
	if p.tok.kind != text {
		return p.unexpected("want a string in quotes")
	}
	c, err := p.literal()
	if err != nil {
		return err
	}
	t.want = []constant{c}
	if v == verbMatches {
		if err := p.compilePattern(t, at); err != nil {
			return err
		}
	}
	return p.eat(")", "after the string")
}

// exists reads exists(i, i.x == 1), from its name on. It becomes the test of i, for
// each element of t's value.
func (p *parser) exists(t *test) *SyntaxError {
	if err := p.advance(); err != nil {
		return err
	}
	if err := p.eat("(", "after exists"); err != nil {
		return err
	}
	name := p.tok
	_, taken := fields[name.value]
	taken = taken || slices.ContainsFunc(p.bound, func(b bound) bool { return b.name == name.value })
	if name.kind != word || taken || slices.Contains(reserved, name.value) {
		return p.unexpected("want a new name for the element, such as in exists(i, i.sku == \"a\")")
	}
	if t.field != fieldData {
		return p.failf("%s is no array", t.value)
	}
	if err := p.advance(); err != nil {
		return err
	}
	if err := p.eat(",", "after the name of the element"); err != nil {
		return err
	}
	if err := p.every(t); err != nil {
		return err
	}
	p.bound = append(p.bound, bound{name.value, t.steps})
	inner, at := &test{}, p.tok.at
	if p.is("!") || p.is("(") {
		return p.failf("want one test of %s, without &&, ||, ! and parentheses", name.value)
	}
	if _, err := p.oneTest(inner); err != nil {
		return err
	}
	if n := len(t.steps); inner.field != fieldData || len(inner.steps) < n || !slices.Equal(inner.steps[:n], t.steps) {
		return fail(p.text, at, "the test has to be one of %s", name.value)
	}
	p.bound = p.bound[:len(p.bound)-1]
	if p.is("&&") || p.is("||") {
		return p.failf("want one test of %s, without &&, ||, ! and parentheses", name.value)
	}
	*t = *inner
	return p.eat(")", "after the test")
}

// reserved are the words that CEL lets nobody name a variable.
var reserved = strings.Fields(`in true false null as break const continue else for function if import let
	loop package namespace return var void while and or not has timestamp exists`)

// compilePattern compiles the regular expression of t (RE2).
func (p *parser) compilePattern(t *test, at int) *SyntaxError {
	s := string(t.want[0].text)
	if len(s) > MaxPattern {
		return fail(p.text, at, "the regular expression has %d bytes, want at most %d", len(s), MaxPattern)
	}
	parsed, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return fail(p.text, at, "%v: want RE2, which has neither look-around nor back-references", err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil || len(program.Inst) > MaxProgram {
		return fail(p.text, at, "the regular expression takes more than %d steps: repeat less", MaxProgram)
	}
	if t.re, err = regexp.Compile(s); err != nil {
		return fail(p.text, at, "%v", err)
	}
	t.price = len(program.Inst) * workPattern
	return nil
}

// fits says why the newest constant of t, at byte at, cannot be compared with
// its value, or nil.
func (p *parser) fits(t *test, at int) *SyntaxError {
	c := &t.want[len(t.want)-1]
	switch {
	case t.verb.orders() && (c.sort == sortNull || c.sort == sortTrue || c.sort == sortFalse):
		return fail(p.text, at, "%v has no order: compare with == or !=", c.sort)
	case t.field == fieldTime && c.sort != sortTime:
		return fail(p.text, at, `time is compared with a time, such as timestamp("2026-11-21T10:00:00Z")`)
	case t.field != fieldTime && c.sort == sortTime:
		return fail(p.text, at, "only time is compared with a timestamp")
	case t.field != fieldTime && t.field != fieldData && c.sort != sortText:
		return fail(p.text, at, "%s is a string: compare it with one", t.value)
	}
	return nil
}
