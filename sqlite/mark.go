package sqlite

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// mark is where a list goes on: the key of the last thing that was looked at.
// As text it is the cursor of a page: "1-" and two numbers.
type mark struct{ a, b int64 }

// newest is before the first of a list that goes from new to old.
var newest = mark{math.MaxInt64, math.MaxInt64}

func (m mark) String() string { return fmt.Sprintf("1-%d-%d", m.a, m.b) }

// parseMark reads a cursor; "" is newest.
func parseMark(s string) (mark, error) {
	if s == "" {
		return newest, nil
	}
	rest, ok := strings.CutPrefix(s, "1-")
	left, right, cut := strings.Cut(rest, "-")
	a, errA := strconv.ParseUint(left, 10, 63)
	b, errB := strconv.ParseUint(right, 10, 63)
	m := mark{int64(a), int64(b)}
	if !ok || !cut || errA != nil || errB != nil || m.String() != s {
		return mark{}, fmt.Errorf("%w: %.40q", ErrCursor, s)
	}
	return m, nil
}
