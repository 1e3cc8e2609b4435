package sqlite

import (
	"fmt"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// MaxFiltered is how many endpoints of an organization can have a content filter.
// Each may take a fifth of a millisecond of an event, and those that fan out
// events of other organizations wait for it.
const MaxFiltered = 2000

// roomForFilter says why the endpoint, which had that filter before, cannot have
// the one that it has now; it wraps [ErrState].
func (s *Store) roomForFilter(o *orgState, e *deliver.Endpoint, before string) error {
	if e.Filter == "" || before != "" {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	n := 0
	for _, row := range o.endpoints {
		if s.endpoints[row].Filter != "" {
			n++
		}
	}
	if n >= s.o.filtered {
		return fmt.Errorf("there are %d endpoints with a filter already, the most that there may be; subscribe to event types instead where that is enough: %w", n, ErrState)
	}
	return nil
}
