package deliver

import (
	"bytes"
	"errors"
	"math/bits"
	"strconv"
	"strings"
)

// MaxReplace is how long the JSON that takes the place of something redacted may
// be, in bytes; maxGrowth is how much all of them may add to one event's data.
// What would take it beyond that becomes null.
const (
	MaxReplace = 1 << 10
	maxGrowth  = 64 << 10
)

var errData = errors.New("the data cannot be read")

// redactor is the redactions of an endpoint, compiled. It does not change.
//
// The data is walked once, with the set of redactions that may still lead to
// something below: a value that one of them names is replaced or taken out with
// all that it holds; one that none can reach is copied as it is. So what lies
// higher wins over what lies deeper, and of those that name the same value the
// first in the list.
//
// Elements of arrays that are taken out become null, since the others would
// change their places, and so does data as a whole. All other bytes stay.
type redactor struct{ rules []redactRule }

type redactRule struct {
	types   []string // patterns of event types; none: all
	tokens  pointer  // below data
	replace []byte   // nil: take it out
}

const anyToken = "*"

// newRedactor compiles what Options.Check accepts; nil for none.
func newRedactor(redactions []Redaction) *redactor {
	if len(redactions) == 0 {
		return nil
	}
	r := &redactor{}
	for _, d := range redactions[:min(len(redactions), MaxRedactions)] {
		r.rules = append(r.rules, redactRule{d.Types, parsePointer(d.Path)[1:], d.Replace})
	}
	return r
}

// ruleSet is a set of indices of rules: there are at most MaxRedactions.
type ruleSet uint64

// first is the least index in the set, which is not empty.
func (s ruleSet) first() int { return bits.TrailingZeros64(uint64(s)) }

// of are the rules for events of a type.
func (r *redactor) of(typ string) (s ruleSet) {
	for i := range r.rules {
		if r.rules[i].covers(typ) {
			s |= 1 << i
		}
	}
	return s
}

func (r *redactRule) covers(typ string) bool {
	for _, p := range r.types {
		if stem, ok := strings.CutSuffix(p, "*"); p == typ || ok && strings.HasPrefix(typ, stem) {
			return true
		}
	}
	return len(r.types) == 0
}

// redact appends data, with the rules of the set applied, to dst.
func (r *redactor) redact(dst, data []byte, set ruleSet) ([]byte, error) {
	w := redaction{rules: r.rules, b: data, dst: dst, room: maxGrowth}
	i := skipSpace(data, 0)
	w.dst = append(w.dst, data[:i]...)
	end := -1
	if hit := w.named(set, 0); hit >= 0 {
		if end = valueEnd(data, i); end >= 0 {
			w.put(hit)
		}
	} else {
		end = w.value(i, 0, set)
	}
	if end < 0 || skipSpace(data, end) != len(data) {
		return nil, errData
	}
	return append(w.dst, data[end:]...), nil
}

// redaction is one walk through one event's data.
type redaction struct {
	rules []redactRule
	b     []byte
	dst   []byte
	room  int // how much replacements may still add
}

// put appends what takes the place of a value that the rule names.
func (w *redaction) put(rule int) {
	text := w.rules[rule].replace
	if text == nil || len(text) > w.room {
		w.dst = append(w.dst, "null"...)
		return
	}
	w.room -= len(text)
	w.dst = append(w.dst, text...)
}

// named is the first rule of the set that names a value at that depth, or -1.
func (w *redaction) named(set ruleSet, depth int) int {
	for ; set != 0; set &= set - 1 {
		if i := set.first(); len(w.rules[i].tokens) == depth {
			return i
		}
	}
	return -1
}

// value appends the value that begins at b[i], which no rule of the set names,
// and returns the index after it, or -1 when it cannot be read.
func (w *redaction) value(i, depth int, set ruleSet) int {
	if set != 0 && i < len(w.b) && w.b[i] == '{' {
		return w.object(i, depth, set)
	}
	if set != 0 && i < len(w.b) && w.b[i] == '[' {
		return w.array(i, depth, set)
	}
	end := valueEnd(w.b, i)
	if end >= 0 {
		w.dst = append(w.dst, w.b[i:end]...)
	}
	return end
}

// object is value for an object. A member that is taken out goes with the
// whitespace around it and one comma.
func (w *redaction) object(i, depth int, set ruleSet) int {
	b := w.b
	w.dst = append(w.dst, '{')
	i++
	if j := skipSpace(b, i); j < len(b) && b[j] == '}' {
		w.dst = append(w.dst, b[i:j+1]...)
		return j + 1
	}
	for kept := false; ; i++ {
		start := i
		if i = skipSpace(b, i); i == len(b) || b[i] != '"' {
			return -1
		}
		end := stringEnd(b, i)
		if end < 0 {
			return -1
		}
		key := b[i+1 : end-1]
		if i = skipSpace(b, end); i == len(b) || b[i] != ':' {
			return -1
		}
		i = skipSpace(b, i+1)
		below := w.below(set, depth, key, false)
		hit := w.named(below, depth+1)
		if hit >= 0 {
			end = valueEnd(b, i)
		}
		out := hit >= 0 && w.rules[hit].replace == nil
		if !out {
			if kept {
				w.dst = append(w.dst, ',')
			}
			kept = true
			w.dst = append(w.dst, b[start:i]...)
			if hit >= 0 {
				w.put(hit)
			} else {
				end = w.value(i, depth+1, below)
			}
		}
		if end < 0 {
			return -1
		}
		if i = skipSpace(b, end); i == len(b) || b[i] != ',' && b[i] != '}' {
			return -1
		}
		if !out {
			w.dst = append(w.dst, b[end:i]...)
		}
		if b[i] == '}' {
			w.dst = append(w.dst, '}')
			return i + 1
		}
	}
}

// array is value for an array.
func (w *redaction) array(i, depth int, set ruleSet) int {
	b := w.b
	w.dst = append(w.dst, '[')
	i++
	if j := skipSpace(b, i); j < len(b) && b[j] == ']' {
		w.dst = append(w.dst, b[i:j+1]...)
		return j + 1
	}
	var room [20]byte
	for n := int64(0); ; n++ {
		start := i
		i = skipSpace(b, i)
		w.dst = append(w.dst, b[start:i]...)
		below := w.below(set, depth, strconv.AppendInt(room[:0], n, 10), true)
		end := -1
		if hit := w.named(below, depth+1); hit >= 0 {
			end = valueEnd(b, i)
			w.put(hit)
		} else {
			end = w.value(i, depth+1, below)
		}
		if end < 0 {
			return -1
		}
		if i = skipSpace(b, end); i == len(b) || b[i] != ',' && b[i] != ']' {
			return -1
		}
		w.dst = append(w.dst, b[end:i+1]...)
		i++
		if b[i-1] == ']' {
			return i
		}
	}
}

// below are those of the set that may name something in the member of that key,
// or the element of that index. A key is as it stands in the JSON.
func (w *redaction) below(set ruleSet, depth int, key []byte, index bool) (s ruleSet) {
	escaped := !index && bytes.IndexByte(key, '\\') >= 0
	name := ""
	if escaped {
		name = plain(key)
	}
	for ; set != 0; set &= set - 1 {
		i := set.first()
		tokens := w.rules[i].tokens
		if len(tokens) <= depth {
			continue
		}
		token := tokens[depth]
		if token == anyToken || !escaped && token == string(key) || escaped && token == name {
			s |= 1 << i
		}
	}
	return s
}
