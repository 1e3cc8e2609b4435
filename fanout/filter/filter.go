package filter

import (
	"fmt"
	"sync"

	"github.com/grapnel-hooks/grapnel/stream"
)

// Limits of a filter. All but MaxWork are checked when it is compiled.
const (
	MaxText     = 2048    // bytes
	MaxTests    = 50      // comparisons and the like
	MaxDepth    = 16      // parentheses and ! inside each other; steps of a path
	MaxPattern  = 256     // bytes of a regular expression
	MaxProgram  = 500     // instructions of a compiled regular expression
	MaxNumber   = 40      // characters of a number in a filter
	MaxExponent = 300     // of a number in a filter, either way
	MaxElements = 4096    // elements that one exists goes over in one event
	MaxWork     = 200_000 // for one event: about as many nanoseconds
)

// Filter is a compiled filter. It is immutable and safe for concurrent use.
type Filter struct {
	text   string
	root   *condition
	paths  []path
	err    error // why it cannot be compiled, see Hold
	single func() *Group
}

// Compile compiles a filter. Its error is always a *[SyntaxError].
func Compile(text string) (*Filter, error) {
	p := parser{text: text}
	root, err := p.parse()
	if err != nil {
		return nil, err
	}
	return newFilter(&Filter{text: text, root: root, paths: p.paths}), nil
}

func newFilter(f *Filter) *Filter {
	f.single = sync.OnceValue(func() *Group { return NewGroup([]*Filter{f}) })
	return f
}

// Hold is Compile for a text that was compiled before, perhaps by another
// version of this program; of "" it is nil. One that cannot be compiled any more becomes a filter
// that matches everything, and whose [Filter.Err] says what is wrong: so what it would have
// let through can be held, and nothing is lost.
func Hold(text string) *Filter {
	if text == "" {
		return nil
	}
	f, err := Compile(text)
	if err != nil {
		f = newFilter(&Filter{text: text, err: err})
	}
	return f
}

// String is the text of the filter; "" of a nil one.
func (f *Filter) String() string {
	if f == nil {
		return ""
	}
	return f.text
}

// Equal reports whether both have the same text.
func (f *Filter) Equal(g *Filter) bool { return f.String() == g.String() }

// Err says why a filter made by [Hold] cannot be compiled any more, or nil.
func (f *Filter) Err() error {
	if f == nil {
		return nil
	}
	return f.err
}

// Match reports whether ev fulfils the filter, and if not, which part of it is
// false, in words and without anything of the event's data. Of an event that takes more than
// [MaxWork] it reports true, and says so. A nil filter matches everything.
func (f *Filter) Match(ev *stream.Event) (bool, string) {
	if f == nil {
		return true, ""
	}
	if f.err != nil {
		return true, fmt.Sprintf("the filter cannot be read any more: %v", f.err)
	}
	r := f.single().Read(ev)
	defer r.Close()
	ok := r.Match(0)
	switch {
	case r.over:
		return true, "the event takes more work than a filter may do, and passes"
	case ok:
		return true, ""
	}
	return false, r.why(f.root, f.text)
}

// SyntaxError says what is wrong with the text of a filter.
type SyntaxError struct {
	Column int    // in characters, from 1
	Detail string // what is wrong, and what to do
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("column %d: %s", e.Column, e.Detail) }
