package filter

import (
	"fmt"
	"strings"
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
