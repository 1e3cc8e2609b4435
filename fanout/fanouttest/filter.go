package fanouttest

import (
	"context"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
)

// SetFilter implements Store.
func (b *Books) SetFilter(ctx context.Context, name, id, filter string) (deliver.Endpoint, error) {
	return b.change(name, id, func(o *org, e *endpoint) {
		if e.Filter == filter {
			return
		}
		e.Filter = filter
		e.Revision++
		c := o.behind[e.Row]
		switch {
		case !e.Enabled():
		case c != nil:
			o.grow(c, e)
		default:
			o.end(e.Row)
			o.open(e)
		}
	})
}

// unfiltered is a span without its filter.
func unfiltered(s fanout.Span) fanout.Span {
	s.Filter = nil
	return s
}
