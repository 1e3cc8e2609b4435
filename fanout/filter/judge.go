package filter

import (
	"bytes"
	"time"
)

// What looking at a value costs, in work.
const (
	workValue    = 16 // each value, and each constant that it is compared with
	workPattern  = 8  // each byte of a string and instruction of a regular expression
	workEscaped  = 4  // each byte of a string that has an escape
	workContains = 2  // this many bytes in which another string is looked for cost 1 …
	workLong     = 4  // … and when that string has longText bytes, one costs this
	longText     = 64
	workBytes    = 8 // this many bytes of a string that is compared cost 1
)

// holds reports whether c is true of the event. When the work is over it says
// something; whoever asked looks at r.over.
func (r *Reading) holds(c *condition) bool {
	switch c.op {
	case not:
		return !r.holds(c.parts[0])
	case and, or:
		for _, p := range c.parts {
			if r.over || r.holds(p) == (c.op == or) {
				return c.op == or
			}
		}
		return c.op == and
	}
	if c.test.field != fieldData {
		return r.field(c.test)
	}
	node := r.slots[c.test.path]
	if p := &r.places[node]; p.number == r.number {
		for i := p.first; i >= 0 && !r.over; i = r.found[i].next {
			if r.one(c.test, r.found[i]) {
				return true
			}
		}
	}
	nodes := r.group.tree.nodes
	for n := nodes[node].over; n != 0; n = nodes[nodes[n].up].over {
		if r.count(n) > MaxElements {
			r.over = true
		}
	}
	return false
}

// pay takes work, and reports whether there was enough.
func (r *Reading) pay(work int) bool {
	if r.left -= work; r.left < 0 {
		r.over = true
	}
	return !r.over
}

// field tests what is not in the data.
func (r *Reading) field(t *test) bool {
	var s string
	switch ev := r.event; t.field {
	case fieldTime:
		return instant(t, ev.Time)
	case fieldType:
		s = ev.Type
	case fieldWorkspace:
		s = ev.Workspace
	case fieldSource:
		s = ev.Source
	case fieldVersion:
		s = ev.SchemaVersion
	}
	r.buf = append(r.buf[:0], s...)
	return r.text(t, r.buf)
}

// instant tests the event's time.
func instant(t *test, at time.Time) bool {
	for i := range t.want {
		if t.verb.holds(at.Compare(t.want[i].at)) {
			return true
		}
	}
	return false
}

// one tests one value of the data.
func (r *Reading) one(t *test, f found) bool {
	raw := r.event.Data[f.from:f.to]
	if len(raw) == 0 || !r.pay(workValue) {
		return false
	}
	s := sortOf(raw[0])
	switch t.verb {
	case verbHas:
		return true
	case verbTrue:
		return s == sortTrue
	}
	if t.verb >= verbStarts {
		return s == sortText && r.text(t, r.unquoted(f))
	}
	var n number
	if s == sortNumber {
		if !r.pay(len(raw)) {
			return false
		}
		n = parseNumber(raw)
	}
	for i := range t.want {
		c := &t.want[i]
		switch {
		case c.sort != s:
			if t.verb == verbUnequal {
				return true
			}
		case s == sortNumber:
			if !r.pay(workValue) {
				return false
			}
			if t.verb.holds(n.compare(&c.number)) {
				return true
			}
		case s == sortText:
			return r.text(t, r.unquoted(f))
		default: // null, true, false
			return t.verb == verbEqual || t.verb == verbIn
		}
	}
	return false
}

// sortOf tells a value by its first byte.
func sortOf(c byte) sort {
	switch c {
	case '{':
		return sortObject
	case '[':
		return sortArray
	case '"':
		return sortText
	case 't':
		return sortTrue
	case 'f':
		return sortFalse
	case 'n':
		return sortNull
	}
	return sortNumber
}

// unquoted is what a string of the data says.
func (r *Reading) unquoted(f found) []byte {
	raw := inner(r.event.Data, int(f.from), int(f.to))
	if f.from != r.paidFor {
		if !r.pay(len(raw) / workBytes) {
			return nil
		}
		if bytes.IndexByte(raw, '\\') < 0 {
			return raw
		}
		if !r.pay(len(raw) * workEscaped) {
			return nil
		}
		r.paidFor = f.from
	}
	if f.from != r.plainOf {
		r.plain = unescape(r.plain[:0], raw)
		r.plainOf = f.from
	}
	return r.plain
}

// text tests a string.
func (r *Reading) text(t *test, s []byte) bool {
	if r.over {
		return false
	}
	switch t.verb {
	case verbMatches:
		return r.pay(workValue+len(s)*t.price) && t.re.Match(s)
	case verbContains:
		work := len(s) / workContains
		if len(t.want[0].text) >= longText {
			work = len(s) * workLong
		}
		return r.pay(workValue+work) && bytes.Contains(s, t.want[0].text)
	case verbStarts:
		return r.pay(workValue) && bytes.HasPrefix(s, t.want[0].text)
	case verbEnds:
		return r.pay(workValue) && bytes.HasSuffix(s, t.want[0].text)
	}
	for i := range t.want {
		c := &t.want[i]
		if c.sort == sortText {
			if !r.pay(workValue + min(len(s), len(c.text))/workBytes) {
				return false
			}
			if t.verb.holds(bytes.Compare(s, c.text)) {
				return true
			}
		}
	}
	return false
}
