package stream

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"
)

const jsonSpace = " \t\r\n"

// checkJSON says why b is not one JSON text in UTF-8 (RFC 8259). It says
// nothing of depth, except when that is what the parser stumbles over.
func checkJSON(b []byte) *Rejected {
	if soundJSON(b) {
		return nil
	}
	switch {
	case json.Valid(b) && utf8.Valid(b): // only deep, which may be no matter of b's data
		return nil
	case len(b) == 0:
		return reject(CodeNotJSON, "the payload is empty: send JSON, at least null or {}")
	case bytes.IndexByte(b, 0) >= 0:
		return reject(CodeNotJSON, "a NUL byte at offset %d: JSON has none", bytes.IndexByte(b, 0))
	case !utf8.Valid(b):
		return reject(CodeNotUTF8, "bytes at offset %d are not UTF-8: encode the payload as UTF-8", firstInvalid(b))
	case bytes.HasPrefix(b, []byte("\ufeff")):
		return reject(CodeNotJSON, "the payload begins with a byte order mark: send it without")
	case tooDeep(b, MaxDepth):
		return rejectDepth()
	}
	var syntax *json.SyntaxError
	var raw json.RawMessage
	if err := json.Unmarshal(b, &raw); errors.As(err, &syntax) {
		return reject(CodeNotJSON, "%s at offset %d", syntax.Error(), syntax.Offset)
	}
	return reject(CodeNotJSON, "the payload is not JSON")
}

func rejectDepth() *Rejected {
	return reject(CodeTooDeep, "arrays and objects lie more than %d deep inside each other: flatten the data", MaxDepth)
}

// tooDeep reports whether arrays and objects in b lie more than limit deep
// inside each other. It also ends well on what is not JSON.
func tooDeep(b []byte, limit int) bool {
	// Counting is many times faster than walking, and settles nearly every event.
	if bytes.Count(b, []byte{'{'})+bytes.Count(b, []byte{'['}) <= limit {
		return false
	}
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			if depth++; depth > limit {
				return true
			}
		case '}', ']':
			depth--
		case '"':
			i = stringEnd(b, i)
		}
	}
	return false
}

// stringEnd is the index of the quote that ends the string that begins at i, or
// of the last byte when none does.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(b) - 1
}

func firstInvalid(b []byte) int {
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(b)
}

// pick finds members of a JSON object by their exact names and returns their
// values as they stand, nil where there is none. A name that occurs twice is
// returned as twice, its last value wins: parsers differ there, so whoever
// judges by a member refuses it. ok is false when b, which must be valid JSON
// without space around it, is not an object.
//
// encoding/json is not used because it matches names without regard to case.
func pick(b []byte, names ...string) (values [][]byte, twice string, ok bool) {
	if len(b) == 0 || b[0] != '{' {
		return nil, "", false
	}
	values = make([][]byte, len(names))
	for i := skipSpace(b, 1); i < len(b) && b[i] == '"'; {
		end := stringEnd(b, i)
		key := b[i : end+1]
		i = skipSpace(b, end+1) // the colon
		i = skipSpace(b, i+1)
		end = valueEnd(b, i)
		for n, name := range names {
			if !isString(key, name) {
				continue
			}
			if values[n] != nil {
				twice = name
			}
			values[n] = b[i:end]
		}
		i = skipSpace(b, end) // the comma or the closing brace
		i = skipSpace(b, i+1)
	}
	return values, twice, true
}

// valueEnd is the index after the value that begins at i.
func valueEnd(b []byte, i int) int {
	depth := 0
	for ; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			} else if depth < 0 { // of the object around a number or a word
				return i
			}
		case '"':
			if i = stringEnd(b, i); depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

// isString reports whether the JSON string raw spells s.
func isString(raw []byte, s string) bool {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1:len(raw)-1]) == s
	}
	got, ok := text(raw)
	return ok && got == s
}

// text is what the JSON value raw spells, if it is a string.
func text(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// absent reports whether a member is not there or null.
func absent(raw []byte) bool { return raw == nil || string(raw) == "null" }
