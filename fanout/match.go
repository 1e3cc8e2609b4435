package fanout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/grapnel-hooks/grapnel/fanout/filter"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Set is the subscriptions of one organization, compiled so that matching an
// event costs a few map lookups and the length of the answer, however many
// endpoints there are. It is immutable and safe for concurrent use.
type Set struct {
	version int64
	// lists holds, for each pattern and workspace that somebody asked for,
	// the endpoints that did, ascending by row.
	lists map[want][]span
	// filters are those of all spans, each text once; nil when there is none.
	filters *filter.Group
}

// want is one pattern within one scope. The stem of an exact pattern is the
// type itself, that of "invoice.*" is "invoice.", that of "*" is "": since no
// type ends with a dot or is empty, the three never collide, and the stems
// that can match a type are its prefixes up to each dot, and itself.
type want struct {
	stem      string
	workspace string
}

// span is one endpoint and the part of the stream in which it is subscribed.
type span struct {
	row    int64
	after  place
	ended  bool
	filter int32 // its number among the set's, from 1; 0: none
	until  place // inclusive, when ended
}

func (s *span) covers(p place) bool {
	return s.after.less(p) && (!s.ended || !s.until.less(p))
}

// place is a sequence in one incarnation of an org's stream.
type place struct {
	incarnation int
	seq         stream.Seq
}

func (p place) less(q place) bool {
	return p.incarnation < q.incarnation || p.incarnation == q.incarnation && p.seq < q.seq
}

// Compile makes the Set of subs. version is theirs, see [Books]. Patterns that
// [CheckPattern] refuses match nothing.
func Compile(version int64, subs []Subscription) *Set {
	spans := make([]Span, len(subs))
	for i, s := range subs {
		spans[i].Subscription = s
	}
	return compile(version, spans)
}

// CompileHistory is Compile for subscriptions some of which have ended.
func CompileHistory(version int64, spans []Span) *Set { return compile(version, spans) }

func compile(version int64, spans []Span) *Set {
	ordered := slices.SortedStableFunc(slices.Values(spans), func(a, b Span) int {
		return cmp.Compare(a.Endpoint, b.Endpoint)
	})
	set := &Set{version: version, lists: make(map[want][]span)}
	var filters []*filter.Filter
	numbers := make(map[string]int32) // of filters, by their texts
	for _, s := range ordered {
		if text := s.Filter.String(); text != "" && numbers[text] == 0 {
			filters = append(filters, s.Filter)
			numbers[text] = int32(len(filters))
		}
		for _, p := range s.Types {
			if CheckPattern(p) != nil {
				continue
			}
			w := want{stem: strings.TrimSuffix(p, "*"), workspace: s.Workspace}
			set.lists[w] = append(set.lists[w], span{
				row:    s.Endpoint,
				after:  place{s.Incarnation, s.From},
				ended:  s.Ended,
				filter: numbers[s.Filter.String()],
				until:  place{s.UntilIncarnation, s.Until},
			})
		}
	}
	if len(filters) > 0 {
		set.filters = filter.NewGroup(filters)
	}
	return set
}

// Version is that of the subscriptions the Set was compiled from.
func (s *Set) Version() int64 { return s.version }

// Match appends to dst the rows of the endpoints that get ev, which was read in
// that incarnation of the stream: ascending and without duplicates. It
// allocates nothing when dst has room (contract, section 3).
//
// An endpoint without a workspace gets every event; one of a workspace only
// those that carry it. One with a filter gets those of them that fulfil it; the
// data are looked at only when there is such an endpoint. An event must come after the start of the subscription:
// at a later sequence of the same incarnation, or in a later incarnation.
func (s *Set) Match(ev *stream.Event, incarnation int, dst []int64) []int64 {
	// A type of MaxType bytes has at most half as many tokens, thus as many
	// stems and one more, each in two scopes.
	var buf [stream.MaxType + 2][]span
	lists := buf[:0]
	if !stream.Operational(ev.Type) {
		lists = s.collect(lists, "", ev.Workspace)
	}
	for i := range len(ev.Type) {
		if ev.Type[i] == '.' {
			lists = s.collect(lists, ev.Type[:i+1], ev.Workspace)
		}
	}
	lists = s.collect(lists, ev.Type, ev.Workspace)

	// Each list ascends, so merging keeps the answer sorted, and what is
	// double comes one after the other.
	at, base := place{incarnation, ev.Seq}, len(dst)
	var reading *filter.Reading
	for len(lists) > 0 {
		least := 0
		for i := 1; i < len(lists); i++ {
			if lists[i][0].row < lists[least][0].row {
				least = i
			}
		}
		head := &lists[least][0]
		if head.covers(at) && (len(dst) == base || dst[len(dst)-1] != head.row) {
			if head.filter != 0 && reading == nil {
				reading = s.filters.Read(ev)
			}
			if head.filter == 0 || reading.Match(int(head.filter)-1) {
				dst = append(dst, head.row)
			}
		}
		if lists[least] = lists[least][1:]; len(lists[least]) == 0 {
			lists[least] = lists[len(lists)-1]
			lists = lists[:len(lists)-1]
		}
	}
	if reading != nil {
		reading.Close()
	}
	return dst
}

// collect appends the lists of stem that an event of that workspace reaches.
func (s *Set) collect(lists [][]span, stem, workspace string) [][]span {
	if l := s.lists[want{stem, ""}]; len(l) > 0 {
		lists = append(lists, l)
	}
	if workspace != "" {
		if l := s.lists[want{stem, workspace}]; len(l) > 0 {
			lists = append(lists, l)
		}
	}
	return lists
}

// MatchType reports whether an event of type typ matches a legal pattern. The
// pattern * stands for all types but those of operational events: who wants
// them says so.
func MatchType(pattern, typ string) bool {
	stem, wild := strings.CutSuffix(pattern, "*")
	if !wild {
		return pattern == typ
	}
	return strings.HasPrefix(typ, stem) && (stem != "" || !stream.Operational(typ)) // "invoice." or, of every type, ""
}

// Lists reports whether a list that is narrowed to a pattern has events of that
// type. The empty pattern and * have all types, operational ones as well.
func Lists(pattern, typ string) bool {
	return pattern == "" || pattern == "*" || MatchType(pattern, typ)
}

// CheckPattern says why nobody can subscribe to p, or nil. Legal are an event
// type (invoice.paid), every type but operational ones (*), and a prefix that ends at a dot
// (invoice.*): any type below it, at any depth, but not invoice itself
// (contract, section 3).
func CheckPattern(p string) error {
	if p == "*" {
		return nil
	}
	typ := strings.TrimSuffix(p, ".*")
	if strings.Contains(typ, "*") {
		return fmt.Errorf("event type pattern %.150q: * stands alone, or once at the end after a dot", p)
	}
	return stream.CheckType(typ)
}
