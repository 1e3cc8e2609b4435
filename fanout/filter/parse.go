package filter

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// parser reads one filter by recursive descent: a function for each rule of
// the grammar in the package comment.
type parser struct {
	text  string
	lex   lexer
	tok   token // the one that is looked at
	depth int   // parentheses and ! around it
	tests int
	bound []bound // of the exists around it, the innermost last
	paths []path
}

// bound is the variable of an exists.
type bound struct {
	name string
	at   path // what it stands for
}

func (p *parser) parse() (*condition, error) {
	if len(p.text) > MaxText {
		return nil, fail(p.text, 0, "the filter has %d bytes, want at most %d", len(p.text), MaxText)
	}
	if i := strings.IndexFunc(p.text, func(r rune) bool { return r == utf8.RuneError }); i >= 0 {
		return nil, fail(p.text, i, "the text is not UTF-8")
	}
	p.lex.text = p.text
	c, err := p.whole()
	if err != nil {
		return nil, err // not a nil *SyntaxError in an error
	}
	return c, nil
}

func (p *parser) whole() (*condition, *SyntaxError) {
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.tok.kind == end {
		return nil, p.failf("the filter is empty: write a condition, such as data.amount > 100")
	}
	c, err := p.condition()
	if err == nil && p.tok.kind != end {
		err = p.unexpected("the filter should end here, or go on with && or ||")
	}
	return c, err
}

// advance looks at the next token.
func (p *parser) advance() (err *SyntaxError) {
	p.tok, err = p.lex.next()
	return err
}

func (p *parser) is(s string) bool { return p.tok.kind == mark && p.tok.value == s }

// eat takes s, and says what is missing when it is not there.
func (p *parser) eat(s, why string) *SyntaxError {
	if !p.is(s) {
		return p.unexpected(fmt.Sprintf("want %s %s", s, why))
	}
	return p.advance()
}

func (p *parser) failf(format string, args ...any) *SyntaxError {
	return fail(p.text, p.tok.at, format, args...)
}

func (p *parser) unexpected(want string) *SyntaxError {
	switch instead := map[string]string{"and": "&&", "or": "||", "not": "!"}[strings.ToLower(p.tok.value)]; {
	case p.tok.kind == end:
		return p.failf("the filter ends too early: %s", want)
	case p.tok.kind == word && instead != "":
		return p.failf("%s is not known: write %s", p.tok.value, instead)
	}
	return p.failf("%s is unexpected: %s", clip(p.text[p.tok.at:p.tok.to], 40), want)
}

// clip shortens s to some n bytes.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

func (p *parser) condition() (*condition, *SyntaxError) { return p.chain("||", or, p.all) }
func (p *parser) all() (*condition, *SyntaxError)       { return p.chain("&&", and, p.not) }

// chain reads one or more parts with sep between them.
func (p *parser) chain(sep string, op operation, part func() (*condition, *SyntaxError)) (*condition, *SyntaxError) {
	c := &condition{op: op, from: p.tok.at}
	for {
		one, err := part()
		if err != nil {
			return nil, err
		}
		c.parts, c.to = append(c.parts, one), one.to
		if !p.is(sep) {
			break
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
	if len(c.parts) == 1 {
		return c.parts[0], nil
	}
	return c, nil
}

func (p *parser) not() (*condition, *SyntaxError) {
	from := p.tok.at
	if !p.is("!") && !p.is("(") {
		return p.test()
	}
	if p.depth++; p.depth > MaxDepth {
		return nil, p.failf("more than %d parentheses and ! inside each other: write it flatter", MaxDepth)
	}
	defer func() { p.depth-- }()
	negated := p.is("!")
	if err := p.advance(); err != nil {
		return nil, err
	}
	if negated {
		one, err := p.not()
		if err != nil {
			return nil, err
		}
		if one.op == is && one.compares {
			return nil, fail(p.text, from, "! comes before the comparison: put parentheses around it, !(%s)", clip(p.text[one.from:one.to], 100))
		}
		return &condition{op: not, parts: []*condition{one}, from: from, to: one.to}, nil
	}
	c, err := p.condition()
	if err != nil {
		return nil, err
	}
	to := p.tok.to
	if err := p.eat(")", "to close the parenthesis"); err != nil {
		return nil, err
	}
	whole := *c
	whole.from, whole.to, whole.compares = from, to, false
	return &whole, nil
}

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

// rest reads what follows a value: a comparison, in, a method, or nothing.
func (p *parser) rest(t *test) (err *SyntaxError) {
	at := p.tok.at
	v, compares := comparisons[p.tok.value]
	switch {
	case p.tok.kind == mark && compares:
		t.verb = v
		if err = p.advance(); err != nil {
			return err
		}
		at = p.tok.at
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
