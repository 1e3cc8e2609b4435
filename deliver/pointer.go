package deliver

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// pointer is a JSON Pointer (RFC 6901): its tokens, unescaped. It reads the
// document as text and makes no tree of it. A document has to be valid JSON; in
// one that is not, anything may be found, but nothing is read beyond its end.
type pointer []string

// parsePointer reads what [checkPointer] has accepted.
func parsePointer(s string) pointer {
	p := pointer(strings.Split(s, "/")[1:])
	for i, token := range p {
		p[i] = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
	}
	return p
}

// find is the text of the value at p, or nil. Of members with the same name the last
// counts, as for nearly all parsers; the token of an array's element is its
// number, counted from 0.
//
// It goes over doc once, however many tokens there are.
func (p pointer) find(doc []byte) []byte {
	from, to, _ := p.descend(doc, skipSpace(doc, 0))
	if from < 0 {
		return nil
	}
	return doc[from:to]
}

// descend goes over the value at i. It returns where the value at p is below it,
// from -1 if there is none, and where it ends itself.
func (p pointer) descend(doc []byte, i int) (from, to, end int) {
	switch {
	case len(p) == 0:
		end = skipValue(doc, i)
		return i, end, end
	case i < len(doc) && doc[i] == '{':
		return p.members(doc, i)
	case i < len(doc) && doc[i] == '[':
		return p.elements(doc, i)
	}
	return -1, -1, skipValue(doc, i)
}

// members is descend for an object.
func (p pointer) members(doc []byte, i int) (from, to, end int) {
	from = -1
	for i = skipSpace(doc, i+1); i < len(doc) && doc[i] == '"'; i = skipComma(doc, end) {
		nameEnd := skipValue(doc, i)
		name := doc[i:nameEnd]
		i = skipSpace(doc, nameEnd)
		i = skipSpace(doc, i+1) // the colon
		if sameName(name, p[0]) {
			from, to, end = p[1:].descend(doc, i)
		} else {
			end = skipValue(doc, i)
		}
	}
	return from, to, min(i+1, len(doc))
}

// elements is descend for an array.
func (p pointer) elements(doc []byte, i int) (from, to, end int) {
	wanted, err := strconv.Atoi(p[0])
	if err != nil || strconv.Itoa(wanted) != p[0] {
		return -1, -1, skipValue(doc, i)
	}
	from = -1
	n := 0
	for i = skipSpace(doc, i+1); i < len(doc) && doc[i] != ']'; i = skipComma(doc, end) {
		if n == wanted {
			from, to, end = p[1:].descend(doc, i)
		} else {
			end = skipValue(doc, i)
		}
		n++
	}
	return from, to, min(i+1, len(doc))
}

// sameName reports whether the text of a string, with its quotes, means token.
func sameName(text []byte, token string) bool {
	if len(text) < 2 {
		return false
	}
	inner := text[1 : len(text)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner) == token
	}
	var name string
	return json.Unmarshal(text, &name) == nil && name == token
}

func skipSpace(doc []byte, i int) int {
	for i < len(doc) && (doc[i] == ' ' || doc[i] == '\n' || doc[i] == '\t' || doc[i] == '\r') {
		i++
	}
	return min(i, len(doc))
}

// skipComma is where the next member or element begins, or the end of what they
// are in. It always moves on.
func skipComma(doc []byte, i int) int {
	i = skipSpace(doc, i)
	if i < len(doc) && doc[i] != '}' && doc[i] != ']' {
		i = skipSpace(doc, i+1)
	}
	return i
}

// skipValue is where the value at i ends.
func skipValue(doc []byte, i int) int {
	depth := 0
	for i < len(doc) {
		switch doc[i] {
		case '"':
			i = skipString(doc, i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ' ', '\n', '\t', '\r', ',', ':':
			i++
			continue // only inside of something
		default:
			for i++; i < len(doc) && !delimits(doc[i]); {
				i++
			}
		}
		if depth <= 0 {
			return i
		}
	}
	return len(doc)
}

// delimits reports whether c ends a number, true, false or null.
func delimits(c byte) bool {
	switch c {
	case ' ', '\n', '\t', '\r', ',', ':', '{', '}', '[', ']', '"':
		return true
	}
	return false
}

func skipString(doc []byte, i int) int {
	for i++; i < len(doc); i++ {
		switch doc[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(doc)
}
