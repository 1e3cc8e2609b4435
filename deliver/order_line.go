package deliver

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"
)

// Line is where a delivery of an ordered endpoint stands: those of one endpoint
// and line go one at a time, in the order of their event numbers.
type Line struct {
	Rule int64 // by what the endpoint is ordered; 0: the delivery stands in no line
	Key  int64 // of all whose value is the same
}

// HeldBack is the Due of a delivery that waits in its line behind others: in the
// year 9999, so that it never comes due by itself. It is read with its line.
const HeldBack int64 = 253402300799000

// rule says in which line a delivery stands. It is made of an endpoint's options.
type rule struct {
	id int64
	by pointer // nil: all stand in one line
}

// ruleOf is what o asks for; the zero rule if the endpoint is not ordered.
func ruleOf(o *Options) rule {
	switch {
	case o.Ordered:
		return rule{id: 1}
	case o.OrderedBy != "":
		// Never 0 or 1, and the same after a restart.
		return rule{id: hash('p', []byte(o.OrderedBy)) | 2, by: parsePointer(o.OrderedBy)}
	}
	return rule{}
}

// single reports whether all deliveries stand in one line.
func (r rule) single() bool { return r.by == nil }

// line is where the delivery of that body stands, the zero Line if it has no value
// to be ordered by.
func (r rule) line(body []byte) Line {
	if r.by == nil {
		return Line{Rule: r.id}
	}
	key, ok := keyOf(r.by.find(body))
	if !ok {
		return Line{}
	}
	return Line{Rule: r.id, Key: key}
}

// keyOf is what two values have in common if they are equal: strings by their
// characters, numbers by their value (1, 1.0 and 1e0 are equal), objects whatever
// the order of their members. A missing value and null have none. That unequal
// ones may have it in common by chance does no harm: they share a line.
func keyOf(value []byte) (key int64, ok bool) {
	if len(value) == 0 || value[0] == 'n' {
		return 0, false
	}
	switch value[0] {
	case '"':
		if len(value) < 2 {
			return 0, false
		}
		inner := value[1 : len(value)-1]
		if bytes.IndexByte(inner, '\\') >= 0 {
			var s string
			if json.Unmarshal(value, &s) != nil {
				return 0, false
			}
			inner = []byte(s)
		}
		return hash('s', inner), true
	case 't', 'f':
		return hash('b', value), true
	case '{', '[':
		d := json.NewDecoder(bytes.NewReader(value))
		d.UseNumber()
		var v any
		if d.Decode(&v) != nil {
			return 0, false
		}
		text, err := json.Marshal(evened(v)) // members sorted by name
		if err != nil {
			return 0, false
		}
		return hash('c', text), true
	}
	return hash('n', []byte(number(string(value)))), true
}

// evened is v with all numbers in one form.
func evened(v any) any {
	switch v := v.(type) {
	case json.Number:
		return json.Number(number(v.String()))
	case []any:
		for i := range v {
			v[i] = evened(v[i])
		}
	case map[string]any:
		for name := range v {
			v[name] = evened(v[name])
		}
	}
	return v
}

// number is a form that all ways to write one number have in common. Integers
// keep all their digits.
func number(text string) string {
	if text == "-0" {
		return "0"
	}
	if !bytes.ContainsAny([]byte(text), ".eE") {
		return text
	}
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return text // beyond all floats
	case f == 0:
		return "0"
	case f == math.Trunc(f):
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

func hash(kind byte, b []byte) int64 {
	var room [128]byte
	sum := sha256.Sum256(append(append(room[:0], kind), b...))
	return int64(binary.BigEndian.Uint64(sum[:]))
}
