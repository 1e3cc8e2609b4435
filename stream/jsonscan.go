package stream

import "unicode/utf8"

// soundJSON reports whether b is one JSON text (RFC 8259) in UTF-8 that is at
// most MaxDepth deep: what json.Valid, utf8.Valid and tooDeep say together. It
// takes a quarter of the time, which matters since every event passes here, and
// most of decoding is this check.
func soundJSON(b []byte) bool {
	var objects uint64 // one bit per open array or object, the innermost lowest: is it an object
	depth := 0
	ascii := true
	i := 0

value:
	i = skipSpace(b, i)
	if i == len(b) {
		return false
	}
	switch c := b[i]; c {
	case '{', '[':
		if depth++; depth > MaxDepth {
			return false
		}
		objects <<= 1
		if c == '{' {
			objects |= 1
		}
		i = skipSpace(b, i+1)
		if i == len(b) {
			return false
		}
		if b[i] == c+2 { // empty: both closing brackets come two after their opening ones
			i++
			goto closed
		}
		if c == '{' {
			goto key
		}
		goto value
	case '"':
		if i = scanString(b, i, &ascii); i < 0 {
			return false
		}
	case 't':
		if i += 4; i > len(b) || string(b[i-4:i]) != "true" {
			return false
		}
	case 'f':
		if i += 5; i > len(b) || string(b[i-5:i]) != "false" {
			return false
		}
	case 'n':
		if i += 4; i > len(b) || string(b[i-4:i]) != "null" {
			return false
		}
	default:
		if i = scanNumber(b, i); i < 0 {
			return false
		}
	}

after: // a value
	i = skipSpace(b, i)
	if depth == 0 {
		return i == len(b) && (ascii || utf8.Valid(b))
	}
	if i == len(b) {
		return false
	}
	switch c := b[i]; {
	case c == ',' && objects&1 == 1:
		i = skipSpace(b, i+1)
		goto key
	case c == ',':
		i++
		goto value
	case c == '}' && objects&1 == 1, c == ']' && objects&1 == 0:
		i++
		goto closed
	}
	return false

closed: // an array or object
	depth--
	objects >>= 1
	goto after

key:
	if i == len(b) || b[i] != '"' {
		return false
	}
	if i = scanString(b, i, &ascii); i < 0 {
		return false
	}
	if i = skipSpace(b, i); i == len(b) || b[i] != ':' {
		return false
	}
	i++
	goto value
}

// plain marks the bytes that stand for themselves in a string and are ASCII.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// scanString returns the index after the string that begins at b[i], or -1 when
// it is none. It clears ascii for a string with other bytes, which it does not
// look at further.
func scanString(b []byte, i int, ascii *bool) int {
	for i++; i < len(b); i++ {
		c := b[i]
		switch {
		case plain[c]:
		case c == '"':
			return i + 1
		case c >= utf8.RuneSelf:
			*ascii = false
		case c != '\\':
			return -1 // a control character
		default:
			if i++; i == len(b) {
				return -1
			}
			switch b[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if len(b)-i <= 4 || !hex(b[i+1]) || !hex(b[i+2]) || !hex(b[i+3]) || !hex(b[i+4]) {
					return -1
				}
				i += 4
			default:
				return -1
			}
		}
	}
	return -1
}

func hex(c byte) bool { return digit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' }

func digit(c byte) bool { return '0' <= c && c <= '9' }

// scanNumber returns the index after the number that begins at b[i], or -1 when
// it is none.
func scanNumber(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	start := i
	if i = scanDigits(b, i); i < 0 || b[start] == '0' && i > start+1 {
		return -1
	}
	if i < len(b) && b[i] == '.' {
		if i = scanDigits(b, i+1); i < 0 {
			return -1
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		i = scanDigits(b, i)
	}
	return i
}

// scanDigits returns the index after the digits that begin at b[i], or -1 when
// there are none.
func scanDigits(b []byte, i int) int {
	start := i
	for i < len(b) && digit(b[i]) {
		i++
	}
	if i == start {
		return -1
	}
	return i
}
