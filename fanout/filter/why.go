package filter

import "fmt"

// maxPart is how many bytes of a filter a reason quotes.
const maxPart = 200

// why says which part of c, a condition of that text which is false, makes it so: of
// and the first that is false, of or the whole. It says what sorts of values there
// are, never which, and only of the filter that was asked last.
func (r *Reading) why(c *condition, text string) string {
	part := clip(text[c.from:c.to], maxPart)
	switch c.op {
	case and:
		for _, p := range c.parts {
			r.left, r.over, r.paidFor = MaxWork, false, -1
			if !r.holds(p) {
				return r.why(p, text)
			}
		}
	case or:
		return part + ": neither part is true"
	case not:
		return part + ": what must not be is so"
	}
	t := c.test
	if t == nil || t.field != fieldData {
		return part + " is false"
	}
	p := &r.places[r.slots[t.path]]
	switch {
	case p.number != r.number:
		return fmt.Sprintf("%s: %s is missing", part, t.value)
	case p.count > 1:
		return part + ": true of no element"
	}
	f := r.found[p.first]
	s := sortOf(r.event.Data[f.from])
	if !t.takes(s) {
		return fmt.Sprintf("%s: %s is %v", part, t.value, s)
	}
	return part + " is false"
}

// takes reports whether the test can be true of values of that sort.
func (t *test) takes(s sort) bool {
	switch {
	case t.verb == verbHas || t.verb == verbUnequal:
		return true
	case t.verb == verbTrue:
		return s == sortTrue || s == sortFalse
	case t.verb >= verbStarts:
		return s == sortText
	}
	for i := range t.want {
		switch w := t.want[i].sort; w {
		case s:
			return true
		case sortTrue, sortFalse:
			if s == sortTrue || s == sortFalse {
				return true
			}
		}
	}
	return false
}
