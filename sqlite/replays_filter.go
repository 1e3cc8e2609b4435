package sqlite

import (
	"fmt"
	"slices"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// statusMissing is the name of [Missing].
const statusMissing = "missing"

// Missing reports whether the filter asks for what the endpoint never had.
func (f ReplayFilter) Missing() bool { return slices.Contains(f.States, Missing) }

// Statuses are the names of what is sent again, as [ParseStatuses] reads them.
func (f ReplayFilter) Statuses() []string {
	names := make([]string, len(f.States))
	for i, s := range f.States {
		if names[i] = s.String(); s == Missing {
			names[i] = statusMissing
		}
	}
	return names
}

// ParseStatuses reads what is to be sent again: dead, delivered, cancelled, any
// of them, or missing alone.
func ParseStatuses(names []string) ([]deliver.State, error) {
	var states []deliver.State
	for _, name := range names {
		s, err := deliver.ParseState(name)
		switch {
		case name == statusMissing:
			s = Missing
		case err != nil || s == deliver.Pending:
			return nil, fmt.Errorf("status %q: want dead, delivered, cancelled or missing", name)
		}
		states = append(states, s)
	}
	slices.Sort(states)
	states = slices.Compact(states)
	switch {
	case len(states) == 0:
		return nil, fmt.Errorf("no status: want dead, delivered, cancelled or missing")
	case len(states) > 1 && states[0] == Missing:
		return nil, fmt.Errorf("missing stands alone: it reads the stream, the others read the books")
	}
	return states, nil
}

// stored is the filter as precise as the books keep it.
func (f ReplayFilter) stored() ReplayFilter {
	f.Since, f.Until = fromMillis(toMillis(f.Since)), fromMillis(toMillis(f.Until))
	f.States, f.Types = slices.Clone(f.States), slices.Clone(f.Types)
	return f
}

// wantsState reports whether deliveries in that state are sent again.
func (f ReplayFilter) wantsState(s deliver.State) bool { return slices.Contains(f.States, s) }

// failed reports whether all of the states have an index of their own.
func (f ReplayFilter) failed() bool {
	return !slices.ContainsFunc(f.States, func(s deliver.State) bool { return s != deliver.Dead && s != deliver.Cancelled })
}

// wantsSeq reports whether an event's sequence is within the filter's, which are of
// that incarnation.
func (f ReplayFilter) wantsSeq(incarnation, of, seq int64) bool {
	if f.From == 0 && f.To == 0 {
		return true
	}
	return incarnation == of && seq >= int64(f.From) && (f.To == 0 || seq <= int64(f.To))
}
