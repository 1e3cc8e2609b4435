package fanout

import (
	"github.com/grapnel-hooks/grapnel/fanout/filter"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Subscription is what one endpoint wants, during one span of the org's
// stream. A change of types, workspace, filter or enabledness closes one Subscription and
// opens another, so that for each event it can be told later who was
// subscribed when the cursor passed.
type Subscription struct {
	Endpoint    int64 // row
	Types       []string
	Workspace   string         // "": org-wide
	Filter      *filter.Filter // nil: none
	Incarnation int            // of the stream, when From was taken
	From        stream.Seq     // events after this sequence, in that incarnation or later ones
}
