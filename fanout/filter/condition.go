package filter

import (
	"regexp"
	"time"
)

// condition is a node of a compiled filter.
type condition struct {
	op       operation
	parts    []*condition // of and and or two or more, of not one
	test     *test        // of is
	compares bool         // of is: it is written with an operator
	from, to int          // its place in the text
}

type operation uint8

const (
	is operation = iota // a test
	not
	and
	or
)

// field is what a value begins with.
type field uint8

const (
	fieldData field = iota
	fieldType
	fieldWorkspace
	fieldSource
	fieldVersion
	fieldTime
)

var fields = map[string]field{
	"data": fieldData, "type": fieldType, "workspace": fieldWorkspace, "source": fieldSource,
	"schema_version": fieldVersion, "time": fieldTime,
}

// path is the way from the data to a value.
type path []step

// step goes to a member of an object, or, each, to every element of an array or
// name of an object.
type step struct {
	name string
	each bool
}

// test compares one value, or each of those that a path finds, with constants.
type test struct {
	field field
	steps path   // of data
	path  int    // of data: which of the filter's paths steps are
	value string // as it is written
	verb  verb
	want  []constant // one; of verbIn one or more; of verbHas and verbTrue none
	re    *regexp.Regexp
	price int // of re: work for each byte
}

type verb uint8

const (
	verbTrue verb = iota // it is true
	verbHas
	verbEqual
	verbUnequal
	verbLess
	verbAtMost
	verbMore
	verbAtLeast
	verbIn
	verbStarts
	verbEnds
	verbContains
	verbMatches
)

var comparisons = map[string]verb{
	"==": verbEqual, "!=": verbUnequal, "<": verbLess, "<=": verbAtMost, ">": verbMore, ">=": verbAtLeast,
}

// mirrored are those that are another one when their sides change.
var mirrored = map[verb]verb{verbLess: verbMore, verbMore: verbLess, verbAtMost: verbAtLeast, verbAtLeast: verbAtMost}

var methods = map[string]verb{
	"startsWith": verbStarts, "endsWith": verbEnds, "contains": verbContains, "matches": verbMatches,
}

// holds reports whether a comparison that came out as c, see cmp.Compare, is
// what v asks for.
func (v verb) holds(c int) bool {
	switch v {
	case verbEqual, verbIn:
		return c == 0
	case verbUnequal:
		return c != 0
	case verbLess:
		return c < 0
	case verbAtMost:
		return c <= 0
	case verbMore:
		return c > 0
	case verbAtLeast:
		return c >= 0
	}
	return false
}

// orders reports whether v needs something that has an order.
func (v verb) orders() bool { return v >= verbLess && v <= verbAtLeast }

// sort is what a JSON value is.
type sort uint8

const (
	sortNone sort = iota // nothing that JSON knows
	sortNull
	sortTrue
	sortFalse
	sortNumber
	sortText
	sortArray
	sortObject
	sortTime // of a constant
)

func (s sort) String() string {
	switch s {
	case sortNull:
		return "null"
	case sortTrue, sortFalse:
		return "true or false"
	case sortNumber:
		return "a number"
	case sortText:
		return "a string"
	case sortArray:
		return "an array"
	case sortObject:
		return "an object"
	case sortTime:
		return "a time"
	}
	return "no value"
}

// constant is one side of a comparison.
type constant struct {
	sort   sort
	text   []byte
	number number
	at     time.Time
}
