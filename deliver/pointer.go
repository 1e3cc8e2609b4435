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
func (p pointer) find(doc []byte) []byte {
	value := doc[skipSpace(doc, 0):]
	for _, token := range p {
		if value = child(value, token); value == nil {
			return nil
		}
	}
	return value[:skipValue(value, 0)]
}

// child is the text from the member or element of that name on, or nil.
func child(value []byte, token string) (found []byte) {
	if len(value) == 0 {
		return nil
	}
	switch value[0] {
	case '{':
		for name, v := range members(value) {
			if sameName(name, token) {
				found = value[v:]
			}
		}
	case '[':
		n, err := strconv.Atoi(token)
		if err != nil || strconv.Itoa(n) != token {
			return nil
		}
		for i, v := range elements(value) {
			if i == n {
				return value[v:]
			}
		}
	}
	return found
}

// members goes through an object: the text of each name, with its quotes, and
// where its value begins.
func members(object []byte) func(yield func(name []byte, value int) bool) {
	return func(yield func([]byte, int) bool) {
		for i := skipSpace(object, 1); i < len(object) && object[i] == '"'; {
			end := skipValue(object, i)
			name := object[i:end]
			i = skipSpace(object, end)
			i = skipSpace(object, i+1) // the colon
			if i >= len(object) || !yield(name, i) {
				return
			}
			i = skipComma(object, skipValue(object, i))
		}
	}
}

// elements goes through an array: the number of each element, and where it
// begins.
func elements(array []byte) func(yield func(n, value int) bool) {
	return func(yield func(int, int) bool) {
		n := 0
		for i := skipSpace(array, 1); i < len(array) && array[i] != ']'; n++ {
			if !yield(n, i) {
				return
			}
			i = skipComma(array, skipValue(array, i))
		}
	}
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
