package filter

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// pass goes over the data once, and notes where the values lie that the tree's
// paths lead to. Of data that are no sound JSON it notes something or nothing.
func (r *Reading) pass() {
	r.passed = true
	data := r.event.Data
	from := space(data, 0)
	to := len(bytes.TrimRight(data, " \t\r\n"))
	if from < to {
		r.note(0, from, to)
		r.descend(0, from)
	}
}

// note adds a value to those of a node, and returns where it is in found; -1 when
// there are too many, which their count tells.
func (r *Reading) note(node int32, from, to int) int32 {
	p := &r.places[node]
	if p.number != r.number {
		*p = places{number: r.number, object: p.object, first: -1, last: -1}
	}
	if p.count++; p.count > MaxElements {
		return -1
	}
	n := int32(len(r.found))
	r.found = append(r.found, found{int32(from), int32(to), -1})
	if p.last < 0 {
		p.first = n
	} else {
		r.found[p.last].next = n
	}
	p.last = n
	return n
}

// descend goes over the value at from, which is at that node, and returns where it
// ends.
func (r *Reading) descend(node int32, from int) (to int) {
	data, n := []byte(r.event.Data), &r.group.tree.nodes[node]
	switch {
	case data[from] == '{' && (n.members() || n.each != 0):
		return r.members(n, from+1)
	case data[from] == '[' && n.each != 0:
		return r.elements(n, from+1)
	}
	return skip(data, from)
}

// members goes over an object, from behind its brace.
func (r *Reading) members(n *treeNode, i int) int {
	data := []byte(r.event.Data)
	r.object++
	object := r.object
	for {
		if i = space(data, i); i == len(data) || data[i] != '"' {
			return min(i+1, len(data)) // the closing brace
		}
		end := i + 1
		escaped := false
		for end < len(data) && data[end] != '"' {
			if data[end] == '\\' {
				escaped = true
				end++
			}
			end++
		}
		end = min(end+1, len(data))
		if n.each != 0 {
			r.note(n.each, i, end)
		}
		var child int32
		if size := end - i - 2; size >= n.shortest && (size <= n.longest || escaped && size <= n.longest*6) {
			child = r.child(n, inner(data, i, end), escaped)
		}
		if i = space(data, end); i < len(data) { // the colon
			i = space(data, i+1)
		}
		if i >= len(data) {
			return len(data)
		}
		if child == 0 || r.places[child].object == object {
			i = skip(data, i)
		} else {
			r.places[child].object = object
			i = r.value(child, i)
		}
		if i = space(data, i); i < len(data) && data[i] == ',' {
			i++
		}
	}
}

// child is the node of the member that is called so.
func (r *Reading) child(n *treeNode, name []byte, escaped bool) int32 {
	if escaped {
		r.buf = unescape(r.buf[:0], name)
		name = r.buf
	}
	return n.child(name)
}

// elements goes over an array, from behind its bracket. It leaves out those that
// are too many: whoever asks for them looks at how many there were.
func (r *Reading) elements(n *treeNode, i int) int {
	data := []byte(r.event.Data)
	for {
		if i = space(data, i); i == len(data) || data[i] == ']' {
			return min(i+1, len(data))
		}
		if r.count(n.each) >= MaxElements {
			r.places[n.each].count++
			return rest(data, i)
		}
		from := i
		if i = r.value(n.each, i); i == from {
			return len(data) // no JSON
		}
		if i = space(data, i); i < len(data) && data[i] == ',' {
			i++
		}
	}
}

// count is how many values there are at a node.
func (r *Reading) count(node int32) int32 {
	if p := &r.places[node]; p.number == r.number {
		return p.count
	}
	return 0
}

// value notes the value at from, and goes on into it.
func (r *Reading) value(node int32, from int) (to int) {
	n := r.note(node, from, from)
	to = r.descend(node, from)
	if n >= 0 {
		r.found[n].to = int32(to)
	}
	return to
}

// space is the index of the first byte from i on that is no white space.
func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// quotes is the index after the string that begins at i.
func quotes(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return len(b)
}

// structure marks the bytes at which an array or object that nobody asks for has to
// be looked at.
var structure = [256]bool{'"': true, '{': true, '[': true, '}': true, ']': true}

// ends marks the bytes that end a number or a word.
var ends = [256]bool{',': true, '}': true, ']': true, ' ': true, '\n': true, '\t': true, '\r': true}

// skip is the index after the value that begins at i.
func skip(b []byte, i int) int {
	switch b[i] {
	case '"':
		return quotes(b, i)
	case '{', '[':
		return rest(b, i+1)
	}
	for i < len(b) && !ends[b[i]] {
		i++
	}
	return i
}

// rest is the index after the array or object that i lies in.
func rest(b []byte, i int) int {
	for depth := 1; i < len(b); {
		c := b[i]
		switch {
		case !structure[c]:
			i++
			continue
		case c == '"':
			i = quotes(b, i)
			continue
		case c == '{' || c == '[':
			depth++
		default:
			depth--
		}
		if i++; depth == 0 {
			return i
		}
	}
	return len(b)
}

// inner is the string b[from:to] without its quotes.
func inner(b []byte, from, to int) []byte {
	if to-from < 2 {
		return nil
	}
	return b[from+1 : to-1]
}

// unescape appends what the inside of a JSON string says.
func unescape(dst, raw []byte) []byte {
	for {
		if len(raw) == 0 || raw[0] != '\\' { // else nothing is between two escapes
			i := bytes.IndexByte(raw, '\\')
			if i < 0 {
				return append(dst, raw...)
			}
			dst, raw = append(dst, raw[:i]...), raw[i:]
		}
		if len(raw) == 1 {
			return append(dst, raw...)
		}
		n := 2
		switch raw[1] {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			dst, n = unescapeUnits(dst, raw)
		default:
			dst = append(dst, raw[1])
		}
		raw = raw[min(n, len(raw)):]
	}
}

// unescapeUnits appends what \uXXXX, or two of them that are a pair of surrogates,
// stands for, and says how long it is.
func unescapeUnits(dst, raw []byte) (_ []byte, n int) {
	r, n := unit(raw), 6
	if utf16.IsSurrogate(r) {
		pair := utf8.RuneError
		if len(raw) > 6 {
			pair = utf16.DecodeRune(r, unit(raw[6:]))
		}
		if r = pair; pair != utf8.RuneError {
			n = 12
		}
	}
	return utf8.AppendRune(dst, r), n
}

// unit is the number in \uXXXX.
func unit(raw []byte) rune {
	if len(raw) < 6 || raw[0] != '\\' || raw[1] != 'u' {
		return utf8.RuneError
	}
	a, b, c, d := hex[raw[2]], hex[raw[3]], hex[raw[4]], hex[raw[5]]
	if a|b|c|d < 0 {
		return utf8.RuneError
	}
	return rune(a)<<12 | rune(b)<<8 | rune(c)<<4 | rune(d)
}

// hex is what hexadecimal digits are worth; -1 of others.
var hex = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i, c := range "0123456789abcdef" {
		t[c] = int8(i)
	}
	for i, c := range "ABCDEF" {
		t[c] = int8(10 + i)
	}
	return t
}()
