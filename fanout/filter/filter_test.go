package filter_test

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout/filter"
	"github.com/grapnel-hooks/grapnel/stream"
)

// lines are those of a file of testdata that are no comment.
func lines(t testing.TB, name string) (list []string) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(b)) {
		if l = strings.TrimSuffix(l, "\n"); l != "" && l[0] != '#' {
			list = append(list, l)
		}
	}
	return list
}

// invoice is the event of testdata.
func invoice(t testing.TB) *stream.Event {
	t.Helper()
	b, err := os.ReadFile("testdata/event.json")
	if err != nil {
		t.Fatal(err)
	}
	var e struct {
		Type, Workspace, Source string
		SchemaVersion           string `json:"schema_version"`
		Time                    time.Time
		Data                    json.RawMessage
	}
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	return &stream.Event{Type: e.Type, Workspace: e.Workspace, Source: e.Source, SchemaVersion: e.SchemaVersion, Time: e.Time, Data: e.Data}
}

func of(data string) *stream.Event { return &stream.Event{Type: "t", Data: json.RawMessage(data)} }

func mustCompile(t testing.TB, text string) *filter.Filter {
	t.Helper()
	f, err := filter.Compile(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return f
}

func TestConditions(t *testing.T) {
	ev := invoice(t)
	var all []*filter.Filter
	var want []bool
	for _, l := range lines(t, "conditions.txt") {
		answer, text, _ := strings.Cut(l, " ")
		text = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(text), "~"))
		f := mustCompile(t, text)
		got, why := f.Match(ev)
		if strconv.FormatBool(got) != answer {
			t.Errorf("%s: %v (%s), want %s", text, got, why, answer)
		}
		if got == (why != "") {
			t.Errorf("%s: %v, because %q", text, got, why)
		}
		all, want = append(all, f), append(want, answer == "true")
	}
	// All of them in one pass say the same.
	g := filter.NewGroup(all)
	for range 2 {
		r := g.Read(ev)
		for i, f := range all {
			for range 2 { // asked again it says the same
				if r.Match(i) != want[i] {
					t.Errorf("%s: beside others %v", f, !want[i])
				}
			}
		}
		r.Close()
		r = g.Read(of(`{}`)) // leaves nothing behind
		for i := range all {
			r.Match(i)
		}
		r.Close()
	}
}

func TestRefused(t *testing.T) {
	for _, l := range lines(t, "refused.txt") {
		column, rest, _ := strings.Cut(l, "\t")
		says, text, _ := strings.Cut(rest, "\t")
		_, err := filter.Compile(text)
		if err == nil {
			t.Errorf("%s: compiles", text)
			continue
		}
		se := err.(*filter.SyntaxError)
		if strconv.Itoa(se.Column) != column || !strings.Contains(se.Detail, says) {
			t.Errorf("%s\n\t%v, want column %s and %q", text, err, column, says)
		}
	}
}

func TestLimits(t *testing.T) {
	repeat := strings.Repeat
	cases := map[string]struct{ fits, over string }{
		"bytes":       {"data.x == '" + repeat("x", filter.MaxText-12) + "'", "data.x == '" + repeat("x", filter.MaxText-11) + "'"},
		"tests":       {repeat("data.x||", filter.MaxTests-1) + "data.x", repeat("data.x||", filter.MaxTests) + "data.x"},
		"parentheses": {repeat("(", 16) + "data.x" + repeat(")", 16), repeat("(", 17) + "data.x" + repeat(")", 17)},
		"negations":   {repeat("!", 16) + "data.x", repeat("!", 17) + "data.x"},
		"steps":       {"data" + repeat(".x", 16), "data" + repeat(".x", 17)},
		"elements":    {"data" + repeat(".x", 15) + ".exists(i, i)", "data" + repeat(".x", 16) + ".exists(i, i)"},
		"in elements": {"1 in data" + repeat(".x", 15), "1 in data" + repeat(".x", 16)},
		"pattern":     {"data.x.matches('" + repeat("x", 256) + "')", "data.x.matches('" + repeat("x", 257) + "')"},
	}
	for name, c := range cases {
		if _, err := filter.Compile(c.fits); err != nil {
			t.Errorf("%s: at the limit: %v", name, err)
		}
		if _, err := filter.Compile(c.over); err == nil {
			t.Errorf("%s: one more than the limit compiles", name)
		}
	}
	if filter.MaxText != deliver.MaxFilter {
		t.Errorf("a filter has at most %d bytes, an endpoint takes %d", filter.MaxText, deliver.MaxFilter)
	}
}

func TestWhy(t *testing.T) {
	ev := invoice(t)
	cases := map[string]string{
		`data.amount > 5000`: `data.amount > 5000 is false`,
		`data.paid && data.amount > 5000 && data.refunded`: `data.amount > 5000 is false`,
		`data.city == "Rome"`:                              `data.city == "Rome": data.city is missing`,
		`data.currency > 5`:                                `data.currency > 5: data.currency is a string`,
		`data.currency`:                                    `data.currency: data.currency is a string`,
		`data.customer in ["x"]`:                           `data.customer in ["x"]: data.customer is an object`,
		`data.city == "Rome" || data.refunded`:             `data.city == "Rome" || data.refunded: neither part is true`,
		`data.paid && !( data.amount == 1200 )`:            `!( data.amount == 1200 ): what must not be is so`,
		`data.items.exists(i, i.sku == "X")`:               `data.items.exists(i, i.sku == "X"): true of no element`,
		`type == "invoice"`:                                `type == "invoice" is false`,
	}
	for text, want := range cases {
		if ok, why := mustCompile(t, text).Match(ev); ok || why != want {
			t.Errorf("%s: %v, %q, want %q", text, ok, why, want)
		}
	}
}

// What is at odds with itself, and what is no JSON, has an answer too.
func TestOddData(t *testing.T) {
	cases := []struct {
		filter, data string
		want         bool
	}{
		{`data.a == 1`, `{"a":1,"a":2}`, true},
		{`data.a == 2`, `{"a":1,"a":2}`, false},
		{`data.a.b == 2`, `{"a":{"c":1},"a":{"b":2}}`, false},
		{`2 in data.a`, `{"a":[1],"a":[2]}`, false},
		{`data == 5`, ` 5 `, true},
		{`data == "x"`, `"x"`, true},
		{`data`, `true`, true},
		{`1 in data`, `[3,2,1]`, true},
		{`"" in data`, `{"":1}`, true},
		{`data[""] == 1`, `{"":1}`, true},
		{`data.x == 1`, ` { "y" : [ { } , [ ] , "]}" ] , "x" : 1 } `, true},
		{`data.x == 1`, `{"y":"\\","x":1}`, true},
		{`data.x == 1`, `{"y":{"a":"}\"{"},"x":1}`, true},
		{`data.x == "\uFFFD"`, `{"x":"\ud800"}`, true},
		{`data.x == "\uFFFDa"`, `{"x":"\ud800a"}`, true},
		{`data.x == "\uFFFD\uFFFD"`, `{"x":"\ud800\ud800"}`, true},
		{`data.x == 1e290`, `{"x":1` + strings.Repeat("0", 290) + `}`, true},
		{`data.x < 1e290`, `{"x":1e99999999999999999999}`, false},
		{`data.x > 1e290`, `{"x":1e99999999999999999999}`, true},
		{`data.x > 0`, `{"x":1e-99999999999999999999}`, true},
		{`data.x < 1e-300`, `{"x":1e-99999999999999999999}`, true},
		{`data.x == 9007199254740993`, `{"x":9007199254740992}`, false},
		{`data.x == 1`, `{"x":1.` + strings.Repeat("0", 5000) + `1}`, false},
		{`data.x == 1`, `{"x":1.` + strings.Repeat("0", 5000) + `}`, true},
	}
	for _, c := range cases {
		if got, why := mustCompile(t, c.filter).Match(of(c.data)); got != c.want {
			t.Errorf("%s of %.60s: %v (%s)", c.filter, c.data, got, why)
		}
	}
}

// What cannot be judged within the limits passes, also when it is negated.
func TestTooMuchWork(t *testing.T) {
	long := `{"x":"` + strings.Repeat("ab", 100_000) + `","a":[` + strings.Repeat("1,", filter.MaxElements) + `2]}`
	for _, text := range []string{
		`data.x.matches("(a|b|ab)*c")`,
		`!data.x.matches("(a|b|ab)*c")`,
		`2 in data.a`,
		`!(3 in data.a)`,
		`data.a.exists(i, i == 3) && data.missing`,
	} {
		if ok, why := mustCompile(t, text).Match(of(long)); !ok || why == "" {
			t.Errorf("%s: %v, %q, want it to pass, and why", text, ok, why)
		}
	}
	if ok, _ := mustCompile(t, `data.missing && data.x.matches("(a|b|ab)*c")`).Match(of(long)); ok {
		t.Error("what is not asked for takes work")
	}
	if ok, why := mustCompile(t, `data.x.contains("c")`).Match(of(long)); ok {
		t.Error("200 kB are too much for contains:", why)
	}
}

func TestHold(t *testing.T) {
	f := filter.Hold(`data.amount >`)
	if ok, why := f.Match(of(`{}`)); !ok || f.Err() == nil || !strings.Contains(why, f.Err().Error()) {
		t.Errorf("%v, %q, %v", ok, why, f.Err())
	}
	if f.String() != `data.amount >` {
		t.Error(f)
	}
	if f := filter.Hold(`data.amount > 1`); f.Err() != nil {
		t.Error(f.Err())
	}
	var none *filter.Filter
	if ok, _ := none.Match(of(`{}`)); !ok || none.String() != "" || none.Err() != nil {
		t.Error("no filter keeps something back")
	}
}

func TestCache(t *testing.T) {
	var c filter.Cache
	a, b := c.Get(`data.x`), c.Get(`data.x`)
	if a != b || c.Get("") != nil || c.Get(`data.y`) == a {
		t.Error("not one filter for each text")
	}
	if c.Get(`data.`).Err() == nil {
		t.Error("a text that is no filter has no error")
	}
}
