package fanout

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/grapnel-hooks/grapnel/stream"
	"pgregory.net/rapid"
)

func TestMatch(t *testing.T) {
	types := func(types ...string) Subscription {
		return Subscription{Endpoint: 1, Types: types, Incarnation: 1}
	}
	in := func(workspace string, s Subscription) Subscription { s.Workspace = workspace; return s }
	from := func(incarnation int, seq stream.Seq, s Subscription) Subscription {
		s.Incarnation, s.From = incarnation, seq
		return s
	}
	event := func(typ, workspace string) stream.Event {
		return stream.Event{Type: typ, Workspace: workspace, Seq: 10}
	}
	tests := []struct {
		name string
		sub  Subscription
		ev   stream.Event // read in incarnation 2
		want bool
	}{
		{"exact", types("invoice.paid"), event("invoice.paid", ""), true},
		{"exact, one token", types("lead_won"), event("lead_won", ""), true},
		{"another type", types("invoice.paid"), event("invoice.voided", ""), false},
		{"an exact type is no prefix", types("invoice"), event("invoice.paid", ""), false},
		{"a longer exact type", types("invoice.paid"), event("invoice", ""), false},
		{"types are compared with their case", types("Invoice.paid"), event("invoice.paid", ""), false},
		{"every type", types("*"), event("crm.company.types_changed", ""), true},
		{"every type, one token", types("*"), event("payment_failed", ""), true},
		{"prefix", types("invoice.*"), event("invoice.paid", ""), true},
		{"prefix, deeper", types("chat.*"), event("chat.message.sent", ""), true},
		{"prefix of two tokens", types("chat.message.*"), event("chat.message.recalled", ""), true},
		{"prefix of two tokens, a sibling", types("chat.message.*"), event("chat.channel.created", ""), false},
		{"prefix does not match the type itself", types("invoice.*"), event("invoice", ""), false},
		{"prefix ends at a dot", types("blog.*"), event("blog_post.created", ""), false},
		{"prefix is no suffix", types("paid.*"), event("invoice.paid", ""), false},
		{"one of several", types("page.created", "page.deleted"), event("page.deleted", ""), true},
		{"none of several", types("page.created", "page.deleted"), event("page.updated", ""), false},
		{"several that all match", types("*", "page.*", "page.created"), event("page.created", ""), true},
		{"no types", types(), event("page.created", ""), false},
		{"an illegal pattern matches nothing", types("*.created", "page.cre*", ""), event("page.created", ""), false},

		{"org-wide gets organization-level events", types("*"), event("organization.registered", ""), true},
		{"org-wide gets every workspace's", types("*"), event("inventory.low", "berlin"), true},
		{"a workspace gets its own", in("berlin", types("*")), event("inventory.low", "berlin"), true},
		{"a workspace does not get another's", in("berlin", types("*")), event("inventory.low", "paris"), false},
		{"a workspace does not get organization-level events", in("berlin", types("*")), event("organization.registered", ""), false},
		{"a workspace with an exact type", in("berlin", types("patient.admitted")), event("patient.admitted", "berlin"), true},
		{"a workspace with a prefix", in("berlin", types("patient.*")), event("patient.admitted", "berlin"), true},

		{"starts just before", from(2, 9, types("*")), event("a", ""), true},
		{"starts at the event", from(2, 10, types("*")), event("a", ""), false},
		{"starts later", from(2, 11, types("*")), event("a", ""), false},
		{"started in an earlier incarnation", from(1, 99, types("*")), event("a", ""), true},
		{"starts in a later incarnation", from(3, 0, types("*")), event("a", ""), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Compile(1, []Subscription{tt.sub}).Match(&tt.ev, 2, nil)
			if want := tt.want; (len(got) == 1) != want || len(got) > 1 {
				t.Errorf("%+v gets %+v: %v, want %v", tt.sub, tt.ev, got, want)
			}
		})
	}
}

func TestMatchAnswersAscendingWithoutDuplicates(t *testing.T) {
	set := Compile(7, []Subscription{
		{Endpoint: 5, Types: []string{"*", "a.b"}},
		{Endpoint: 3, Types: []string{"a.*"}, Workspace: "w"},
		{Endpoint: 9, Types: []string{"a.b", "a.b", "a.*"}},
		{Endpoint: 1, Types: []string{"a.b"}, Workspace: "other"},
		{Endpoint: 2, Types: []string{"*"}, Workspace: "w"},
		{Endpoint: 5, Types: []string{"a.*"}},
	})
	got := set.Match(&stream.Event{Type: "a.b", Workspace: "w", Seq: 1}, 0, []int64{9, 9})
	if diff := cmp.Diff([]int64{9, 9, 2, 3, 5, 9}, got); diff != "" {
		t.Errorf("rows appended to 9 9 (-want +got):\n%s", diff)
	}
	if set.Version() != 7 {
		t.Errorf("version %d, want 7", set.Version())
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	set, ev := crowd(1000)
	dst := make([]int64, 0, 1000)
	if n := testing.AllocsPerRun(100, func() { dst = set.Match(&ev, 1, dst[:0]) }); n != 0 {
		t.Errorf("%v allocations for an answer that has room", n)
	}
	if len(dst) == 0 {
		t.Error("nobody got the event")
	}
}

func TestCheckPattern(t *testing.T) {
	long := strings.Repeat("a", stream.MaxType)
	for _, p := range []string{
		"*", "invoice.paid", "invoice.*", "lead_won", "crm.company.types_changed", "a.b.c.*", "A-1.*", long,
		// The catalogues of the platforms that came before.
		"organization.registered", "chat.message.*", "blog_post.updated", "meeting.booked", "ticket.updated",
	} {
		if err := CheckPattern(p); err != nil {
			t.Errorf("%q: %v", p, err)
		}
	}
	for _, p := range []string{
		"", ".", ".*", "*.*", "**", "*.paid", "invoice.**", "invoice*", "in*oice.paid", "invoice.", ".paid", "a..b", "a..*",
		"invoice.paid ", "invoice paid", "invoice.>", ">", "ünvoice", "a\x00b", "a\nb", long + "a", "a.*.b", "a.*.*",
	} {
		if err := CheckPattern(p); err == nil {
			t.Errorf("%q is accepted", p)
		}
	}
}

// twin says the rules of matching once more, word by word and slowly.
func twin(subs []Subscription, ev stream.Event, incarnation int) []int64 {
	var rows []int64
	for _, s := range subs {
		wanted := slices.ContainsFunc(s.Types, func(p string) bool {
			prefix, below := strings.CutSuffix(p, ".*")
			return p == "*" || p == ev.Type || below && strings.HasPrefix(ev.Type, prefix+".")
		})
		scope := s.Workspace == "" || s.Workspace == ev.Workspace
		begun := s.Incarnation < incarnation || s.Incarnation == incarnation && s.From < ev.Seq
		if wanted && scope && begun {
			rows = append(rows, s.Endpoint)
		}
	}
	slices.Sort(rows)
	return slices.Compact(rows)
}

func TestMatchAgreesWithItsTwin(t *testing.T) {
	// Few names, so that things meet.
	token := rapid.SampledFrom([]string{"a", "b", "aa"})
	name := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(token, 1, 4).Draw(t, "tokens"), ".")
	})
	pattern := rapid.Custom(func(t *rapid.T) string {
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			return "*"
		case 1, 2:
			return name.Draw(t, "name") + ".*"
		}
		return name.Draw(t, "name")
	})
	workspace := rapid.SampledFrom([]string{"", "", "w1", "w2"})
	sub := rapid.Custom(func(t *rapid.T) Subscription {
		return Subscription{
			Endpoint:    rapid.Int64Range(1, 12).Draw(t, "endpoint"),
			Types:       rapid.SliceOfN(pattern, 0, 4).Draw(t, "types"),
			Workspace:   workspace.Draw(t, "workspace"),
			Incarnation: rapid.IntRange(1, 3).Draw(t, "incarnation"),
			From:        stream.Seq(rapid.IntRange(0, 4).Draw(t, "from")),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		subs := rapid.SliceOfN(sub, 0, 20).Draw(t, "subscriptions")
		set := Compile(1, subs)
		for range 5 {
			ev := stream.Event{
				Type:      name.Draw(t, "type"),
				Workspace: workspace.Draw(t, "event's workspace"),
				Seq:       stream.Seq(rapid.IntRange(1, 5).Draw(t, "seq")),
			}
			incarnation := rapid.IntRange(1, 3).Draw(t, "read in")
			got := set.Match(&ev, incarnation, nil)
			if diff := cmp.Diff(twin(subs, ev, incarnation), got, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("%+v in incarnation %d (-twin +match):\n%s", ev, incarnation, diff)
			}
		}
	})
}

func FuzzMatch(f *testing.F) {
	f.Add("invoice.*", "invoice.paid", "")
	f.Add("*", "a", "w")
	f.Add("a..*", "a..b", "w")
	f.Add(strings.Repeat("a.", 64)+"*", strings.Repeat("a.", 100)+"a", "w")
	f.Fuzz(func(t *testing.T, pattern, typ, workspace string) {
		if typ == "" {
			return // no event has none
		}
		subs := []Subscription{{Endpoint: 1, Types: []string{pattern}}, {Endpoint: 2, Types: []string{pattern}, Workspace: workspace}}
		ev := stream.Event{Type: typ, Workspace: workspace, Seq: 1}
		got := Compile(1, subs).Match(&ev, 1, nil)
		var want []int64
		if CheckPattern(pattern) == nil {
			want = twin(subs, ev, 1)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("pattern %q, type %q, workspace %q (-twin +match):\n%s", pattern, typ, workspace, diff)
		}
	})
}

// crowd is a Set of n endpoints of all kinds, and an event that a tenth of
// them gets.
func crowd(n int) (*Set, stream.Event) {
	var subs []Subscription
	for i := range n {
		s := Subscription{Endpoint: int64(i + 1), Incarnation: 1}
		switch i % 20 {
		case 0:
			s.Types = []string{"*"}
		case 1:
			s.Types = []string{"invoice.paid", "invoice.*"}
		default:
			s.Types = []string{fmt.Sprintf("type%d.made", i), "other.*"}
		}
		if i%7 == 3 {
			s.Workspace = fmt.Sprintf("w%d", i)
		}
		subs = append(subs, s)
	}
	return Compile(1, subs), stream.Event{Type: "invoice.paid", Workspace: "w3", Seq: 1}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		set, hit := crowd(n)
		for _, typ := range []string{"invoice.paid", "nobody.cares"} {
			ev := hit
			ev.Type = typ
			b.Run(fmt.Sprintf("%d/%s", n, typ), func(b *testing.B) {
				b.ReportAllocs()
				var dst []int64
				for b.Loop() {
					dst = set.Match(&ev, 1, dst[:0])
				}
				b.ReportMetric(float64(len(dst)), "rows")
			})
		}
	}
}
