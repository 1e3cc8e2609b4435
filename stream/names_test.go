package stream

import (
	"strings"
	"testing"
)

func TestCheckNames(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, c := range []struct {
		name  string
		check func(string) error
		good  []string
		bad   []string
	}{
		{"org", CheckOrg,
			[]string{"a", "acme", "A-1_b", "0190b4a5-6f0e-7a3b-9d53-6d2f1f3a7c11", long},
			[]string{"", long + "a", "a.b", "a b", "a*", ">", "ä", "a\x00", "a\n", "a/b"}},
		{"workspace", CheckWorkspace,
			[]string{"berlin", long},
			[]string{"", long + "a", "a.b", "*"}},
		{"type", CheckType,
			[]string{"invoice.paid", "lead_won", "crm.company.types_changed", "A-1", "a.b.c.d", long + "." + long[1:]},
			[]string{"", ".", "a.", ".a", "a..b", "a b", "a.*", ">", "a.>", "é", "a\x00b", long + "." + long}},
		{"dedupe key", CheckDedupeKey,
			[]string{"in_1-paid", "a b", "größe", "🎣", "x", `"\`, strings.Repeat("k", 256)},
			[]string{"", " a", "a ", "a\tb", "a\nb", "\x7f", "a\x00", "\xff", "\ufeffa", "a\u200bb", strings.Repeat("k", 257), strings.Repeat("ö", 129)}},
		{"binding", Names{}.CheckBinding,
			[]string{"webhook.>", "webhook.*", "svc.*.hooks.*", "a.b.c.>", "event.>"},
			[]string{"", "webhook", "a.b", ">", "*", "*.a", "events.>", "events.other.>", "wake.>", "_INBOX.>", "_R_.>", "_a.>", "a..>", "a.>.b", "a.b c.>", "$JS.>", "a.b*.>",
				strings.Repeat("a", 127) + ".>"}},
		{"prefix", func(s string) error { return Names{Prefix: s}.Check() },
			[]string{"", "events", "evt-2"},
			[]string{"wake", "Events", "a_b", "a.b", ">", strings.Repeat("a", 33)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, s := range c.good {
				if err := c.check(s); err != nil {
					t.Errorf("%q: %v", s, err)
				}
			}
			for _, s := range c.bad {
				if err := c.check(s); err == nil {
					t.Errorf("%q is accepted", s)
				} else if strings.ContainsAny(err.Error(), "\n\x00") || len(err.Error()) > 400 {
					t.Errorf("%q: error is no line for a log: %q", s, err)
				}
			}
		})
	}
}

func TestNames(t *testing.T) {
	type row struct{ what, got, want string }
	org := func(org string, ok bool) string {
		if !ok {
			return "-" + org
		}
		return org
	}
	var def Names
	own := Names{Prefix: "evt-2"}
	for _, r := range []row{
		{"stream", def.Stream("acme"), "EVENTS_acme"},
		{"stream", own.Stream("acme"), "EVT-2_acme"},
		{"org", org(def.Org("EVENTS_acme")), "acme"},
		{"org with underscores", org(def.Org("EVENTS_EVENTS_a")), "EVENTS_a"},
		{"org of a stream in small letters", org(def.Org("events_acme")), "-"},
		{"org of another prefix", org(def.Org("EVT-2_acme")), "-"},
		{"org of no name", org(def.Org("EVENTS_")), "-"},
		{"org of a name that is none", org(def.Org("EVENTS_a.b")), "-"},
		{"subjects", strings.Join(def.Subjects("acme"), " "), "events.acme.>"},
		{"subject", own.Subject("acme", "invoice.paid"), "evt-2.acme.invoice.paid"},
		{"type", org(def.Type("acme", "events.acme.invoice.paid")), "invoice.paid"},
		{"type of another org", org(def.Type("acme", "events.acme2.invoice.paid")), "-"},
		{"type of another prefix", org(def.Type("acme", "events2.acme.invoice.paid")), "-"},
		{"type of nothing", org(def.Type("acme", "events.acme")), "-"},
		{"wake source", def.WakeSource("acme", nil), "events.acme.>"},
		{"wake source with extra subjects", def.WakeSource("acme", []string{"webhook.>"}), ">"},
		{"wake subject", own.WakeSubject("acme"), "wake.acme.>"},
		{"wake filter", def.WakeFilter(), "wake.*.>"},
		{"wake org", org(def.WakeOrg("wake.acme.invoice.paid")), "acme"},
		{"wake org of another subject", org(def.WakeOrg("events.acme.invoice.paid")), "-"},
		{"wake org of nothing", org(def.WakeOrg("wake.acme")), "-"},
		{"wake org that is none", org(def.WakeOrg("wake.a b.c")), "-"},
	} {
		if r.got != r.want {
			t.Errorf("%s: got %q, want %q", r.what, r.got, r.want)
		}
	}
}

func TestBound(t *testing.T) {
	for _, c := range []struct{ binding, subject, want string }{
		{"webhook.>", "webhook.invoice.paid", "invoice.paid"},
		{"webhook.>", "webhook.a", "a"},
		{"webhook.>", "webhook", ""},
		{"webhook.>", "webhook.", ""},
		{"webhook.>", "webhooks.a", ""},
		{"webhook.*", "webhook.a", "a"},
		{"webhook.*", "webhook.a.b", ""},
		{"svc.*.hooks.*", "svc.billing.hooks.paid", "billing.paid"},
		{"svc.*.hooks.>", "svc.billing.hooks.a.b", "billing.a.b"},
		{"svc.*.hooks.>", "svc.billing.hooks", ""},
		{"svc.*.hooks.>", "svc.billing.other.a", ""},
		{"a.b", "a.b", ""},
	} {
		got, ok := bound(c.binding, c.subject)
		if ok != (c.want != "") || ok && got != c.want {
			t.Errorf("%s on %s: %q, %v", c.binding, c.subject, got, ok)
		}
	}
}
