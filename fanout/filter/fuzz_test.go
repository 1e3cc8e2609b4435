package filter_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/grapnel-hooks/grapnel/fanout/filter"
	"github.com/grapnel-hooks/grapnel/stream"
	"pgregory.net/rapid"
)

// FuzzCompile: a text is a filter or has an error at a place in it, and a filter
// answers.
func FuzzCompile(f *testing.F) {
	for _, l := range lines(f, "conditions.txt") {
		_, text, _ := strings.Cut(l, " ")
		f.Add(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(text), "~")))
	}
	for _, l := range lines(f, "refused.txt") {
		f.Add(l[strings.LastIndex(l, "\t")+1:])
	}
	ev := invoice(f)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := filter.Compile(text)
		if err != nil {
			if se := err.(*filter.SyntaxError); se.Column < 1 || se.Column > utf8.RuneCountInString(text)+1 || se.Detail == "" || !utf8.ValidString(se.Detail) {
				t.Errorf("%q: %+v", text, se)
			}
			return
		}
		ok, why := c.Match(ev)
		again, _ := c.Match(ev)
		if ok != again || !ok && why == "" {
			t.Errorf("%q: %v (%s), then %v", text, ok, why, again)
		}
		if opposite, err := filter.Compile("!(" + text + ")"); err == nil {
			if not, _ := opposite.Match(ev); not == ok && why != overdone {
				t.Errorf("%q and its opposite are both %v", text, ok)
			}
		}
	})
}

const overdone = "the event takes more work than a filter may do, and passes"

// FuzzData: whatever the data are, a filter answers; what encoding/json reads, it
// reads in the same way.
func FuzzData(f *testing.F) {
	for _, s := range []string{`{"a":1}`, `{"a":{"b":[1,"x",{"c":null}]}}`, `{"a":"\u00fc\ud83d\ude00"}`, `[1,2]`, `"a"`, `{"a"`, `{"a":`, `{"a":[1,`, `{"\u0061":tru`, ` { "a" : -1.5e+3 } `, `{"a":"\`, `{"b":{"a":1},"a":{"b":"1"}}`, `]`, `{,}`, `{"a":1}}`} {
		f.Add([]byte(s))
	}
	has := mustCompile(f, `has(data.a)`)
	nested := mustCompile(f, `has(data.a.b)`)
	one := mustCompile(f, `data.a == 1`)
	text := mustCompile(f, `data.a == "x"`)
	element := mustCompile(f, `"x" in data.a`)
	deep := mustCompile(f, `data.a.exists(i, i.b.exists(j, j.c == 1))`)
	f.Fuzz(func(t *testing.T, data []byte) {
		ev := &stream.Event{Data: data}
		answers := map[*filter.Filter]bool{}
		for _, c := range []*filter.Filter{has, nested, one, text, element, deep} {
			answers[c], _ = c.Match(ev)
		}
		var v any
		if !utf8.Valid(data) || json.Unmarshal(data, &v) != nil || strings.Count(string(data), `"`) > 400 || duplicates(data) {
			return
		}
		object, _ := v.(map[string]any)
		a, there := object["a"]
		inner, _ := a.(map[string]any)
		_, b := inner["b"]
		want := map[*filter.Filter]bool{has: there, nested: b, text: a == "x"}
		array, _ := a.([]any)
		for _, e := range array {
			want[element] = want[element] || e == "x"
		}
		for name := range inner {
			want[element] = want[element] || name == "x"
		}
		for c, w := range want {
			if answers[c] != w {
				t.Errorf("%s of %s: %v", c, data, answers[c])
			}
		}
	})
}

// duplicates reports whether an object names a member twice: what encoding/json
// writes again is shorter then.
func duplicates(data []byte) bool {
	var colons func(v any) int
	colons = func(v any) (n int) {
		switch v := v.(type) {
		case map[string]any:
			n = len(v)
			for _, m := range v {
				n += colons(m)
			}
		case []any:
			for _, e := range v {
				n += colons(e)
			}
		}
		return n
	}
	var v any
	json.Unmarshal(data, &v)
	d, named := json.NewDecoder(strings.NewReader(string(data))), 0
	var stack []bool // in an object; the next token is a name
	name := false
	for {
		tok, err := d.Token()
		if err != nil {
			return named != colons(v)
		}
		switch tok {
		case json.Delim('{'):
			stack, name = append(stack, true), true
			continue
		case json.Delim('['):
			stack, name = append(stack, false), false
			continue
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:len(stack)-1]
			name = len(stack) > 0 && stack[len(stack)-1]
			continue
		}
		if name {
			named++
			name = false
		} else {
			name = len(stack) > 0 && stack[len(stack)-1]
		}
	}
}

// What and, or and not say follows from what their parts say.
func TestLogic(t *testing.T) {
	tests := []string{`data.a == 1`, `data.a != 1`, `data.b`, `has(data.c)`, `data.c.startsWith("x")`, `"x" in data.d`, `data.d.exists(i, i > 1)`, `type == "t"`}
	values := []string{`1`, `2`, `"x"`, `true`, `["x",2]`, `null`}
	rapid.Check(t, func(t *rapid.T) {
		var data []string
		for _, name := range []string{"a", "b", "c", "d"} {
			if rapid.Bool().Draw(t, "there") {
				data = append(data, fmt.Sprintf("%q:%s", name, rapid.SampledFrom(values).Draw(t, "value")))
			}
		}
		ev := of("{" + strings.Join(data, ",") + "}")
		var text func(depth int) (string, bool)
		text = func(depth int) (string, bool) {
			op := rapid.IntRange(0, 3).Draw(t, "op")
			if depth == 0 || op == 0 {
				s := rapid.SampledFrom(tests).Draw(t, "test")
				f, err := filter.Compile(s)
				if err != nil {
					t.Fatal(err)
				}
				ok, _ := f.Match(ev)
				return s, ok
			}
			a, x := text(depth - 1)
			if op == 1 {
				return "!(" + a + ")", !x
			}
			b, y := text(depth - 1)
			if op == 2 {
				return "(" + a + ") && (" + b + ")", x && y
			}
			return "(" + a + ") || (" + b + ")", x || y
		}
		s, want := text(3)
		f, err := filter.Compile(s)
		if err != nil {
			t.Fatal(err)
		}
		if got, why := f.Match(ev); got != want {
			t.Errorf("%s of %s: %v (%s)", s, ev.Data, got, why)
		}
	})
}

// Numbers compare as math/big says.
func TestNumbers(t *testing.T) {
	number := rapid.StringMatching(`-?(0|[1-9][0-9]{0,6})(\.[0-9]{1,6})?([eE][+-]?[0-9]{1,2})?`).Filter(func(s string) bool {
		_, integer := new(big.Int).SetString(s, 10)
		return !integer || len(s) < 18
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := number.Draw(t, "a"), number.Draw(t, "b")
		if rapid.Bool().Draw(t, "alike") {
			b = a + "0"
			if !strings.Contains(a, ".") || strings.ContainsAny(a, "eE") {
				b = a
			}
		}
		x, _ := new(big.Rat).SetString(a)
		y, _ := new(big.Rat).SetString(b)
		c := x.Cmp(y)
		want := map[string]bool{"==": c == 0, "!=": c != 0, "<": c < 0, "<=": c <= 0, ">": c > 0, ">=": c >= 0}
		got := map[string]bool{}
		for op := range want {
			f, err := filter.Compile(fmt.Sprintf(`data %s %s`, op, b))
			if err != nil {
				t.Fatal(err)
			}
			got[op], _ = f.Match(of(a))
		}
		if !reflect.DeepEqual(want, got) {
			t.Errorf("%s and %s: %v, want %v", a, b, got, want)
		}
	})
}
