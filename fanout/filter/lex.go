package filter

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// kind is that of a token.
type kind uint8

const (
	end    kind = iota
	word        // data, in, true
	text        // a string; token.value is what it stands for
	digits      // a number
	mark        // && ( [ …
)

// token is a piece of the text. Its place is text[at:to].
type token struct {
	kind   kind
	at, to int
	value  string
}

// lexer cuts the text into tokens.
type lexer struct {
	text string
	at   int
}

// fail is an error at byte at of the text.
func fail(s string, at int, format string, args ...any) *SyntaxError {
	return &SyntaxError{utf8.RuneCountInString(s[:at]) + 1, fmt.Sprintf(format, args...)}
}

func letter(c byte) bool { return c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' }
func digit(c byte) bool  { return c >= '0' && c <= '9' }

// next is the token that begins at l.at or after it.
func (l *lexer) next() (token, *SyntaxError) {
	for l.at < len(l.text) && strings.IndexByte(" \t\r\n", l.text[l.at]) >= 0 {
		l.at++
	}
	s := l.text[l.at:]
	switch {
	case s == "":
		return token{kind: end, at: l.at, to: l.at}, nil
	case s[0] == '"' || s[0] == '\'':
		return l.quoted(l.at, false)
	case s[0] == 'r' && len(s) > 1 && (s[1] == '"' || s[1] == '\''):
		return l.quoted(l.at+1, true)
	case letter(s[0]):
		n := 1
		for n < len(s) && (letter(s[n]) || digit(s[n])) {
			n++
		}
		return l.take(word, n), nil
	case digit(s[0]) || s[0] == '-':
		return l.number()
	}
	for _, m := range []string{"&&", "||", "==", "!=", "<=", ">="} {
		if strings.HasPrefix(s, m) {
			return l.take(mark, 2), nil
		}
	}
	switch s[0] {
	case '(', ')', '[', ']', ',', '.', '!', '<', '>':
		return l.take(mark, 1), nil
	case '=':
		return token{}, fail(l.text, l.at, "= is not known: write == to compare")
	case '&', '|':
		return token{}, fail(l.text, l.at, "%c is not known: write %[1]c%[1]c", s[0])
	}
	r, _ := utf8.DecodeRuneInString(s)
	return token{}, fail(l.text, l.at, "%q cannot stand here: put texts between quotes", r)
}

func (l *lexer) take(k kind, n int) token {
	t := token{kind: k, at: l.at, to: l.at + n, value: l.text[l.at : l.at+n]}
	l.at += n
	return t
}

// quoted reads the string whose quote is at q: "…" or '…' with escapes, or, when
// raw, without.
func (l *lexer) quoted(q int, raw bool) (token, *SyntaxError) {
	t := token{kind: text, at: l.at}
	var b strings.Builder
	for i := q + 1; i < len(l.text); i++ {
		c := l.text[i]
		switch {
		case c == l.text[q]:
			t.to, t.value = i+1, b.String()
			l.at = t.to
			return t, nil
		case c == '\n' || c == '\r':
			return t, fail(l.text, i, `the line ends within a string: write \n`)
		case c == '\\' && !raw:
			r, n := escape(l.text[i:])
			if n == 0 {
				return t, fail(l.text, i, `\ begins no escape here: write \\ for itself, or put r before the quote`)
			}
			b.WriteRune(r)
			i += n - 1
		default:
			b.WriteByte(c)
		}
	}
	return t, fail(l.text, t.at, "the string has no end: %c is missing", l.text[q])
}

// escape is the character that the escape with which s begins stands for, and
// its length; 0 if it is none.
func escape(s string) (r rune, n int) {
	if len(s) < 2 {
		return 0, 0
	}
	switch s[1] {
	case '"', '\'', '\\':
		return rune(s[1]), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u', 'U':
		n = 6
		if s[1] == 'U' {
			n = 10
		}
		if len(s) < n {
			return 0, 0
		}
		v, err := strconv.ParseUint(s[2:n], 16, 32)
		if err != nil || !utf8.ValidRune(rune(v)) {
			return 0, 0
		}
		return rune(v), n
	}
	return 0, 0
}

// number reads a number as JSON writes it.
func (l *lexer) number() (token, *SyntaxError) {
	n := 1
	for n < len(l.text)-l.at && (digit(l.text[l.at+n]) || strings.IndexByte("+-.eE", l.text[l.at+n]) >= 0) {
		n++
	}
	s := l.text[l.at : l.at+n]
	switch {
	case n > MaxNumber:
		return token{}, fail(l.text, l.at, "a number has at most %d characters", MaxNumber)
	case !json.Valid([]byte(s)):
		return token{}, fail(l.text, l.at, "%s is no number: write 12, -12, 1.5 or 1e3", s)
	}
	if m := parseNumber([]byte(s)); m.exponent > MaxExponent || m.exponent < -MaxExponent {
		return token{}, fail(l.text, l.at, "%s is beyond 1e±%d", s, MaxExponent)
	}
	if _, err := strconv.ParseInt(s, 10, 64); err != nil && strings.Trim(s, "-0123456789") == "" {
		return token{}, fail(l.text, l.at, "%s is no integer of 64 bits: write %[1]s.0", s)
	}
	return l.take(digits, n), nil
}
