package deliver

import (
	"encoding/json"
	"testing"
	"unicode/utf8"
)

func TestLineOfABody(t *testing.T) {
	const body = `{"type":"a.b","data":{"id":"c1","n":1,"none":null,"esc":"\u0063\u0031","obj":{"a":1,"b":[2.0]},"list":["c1"]}}`
	line := func(o Options, body string) Line {
		r := ruleOf(&o)
		return r.line([]byte(body))
	}
	by := func(p string) Options { return Options{OrderedBy: p} }
	id := line(by("/data/id"), body)
	for _, tt := range []struct {
		name string
		line Line
		want Line
	}{
		{"not ordered: in no line", line(by("/data/missing"), body), Line{}},
		{"null: in no line", line(by("/data/none"), body), Line{}},
		{"ordered: all in one", line(Options{Ordered: true}, body), line(Options{Ordered: true}, `{}`)},
		{"the same value elsewhere", line(by("/data/id"), `{"data":{"id":"c1"}}`), id},
		{"the same characters, written otherwise", line(by("/data/id"), `{"data":{"id":"\u0063\u0031"}}`), id},
		{"objects whatever their order", line(by("/data/obj"), `{"data":{"obj":{"b":[2],"a":1.0}}}`), line(by("/data/obj"), body)},
	} {
		if tt.line != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, tt.line, tt.want)
		}
	}
	for name, other := range map[string]Line{
		"another pointer":  line(by("/data/esc"), body),
		"another value":    line(by("/data/id"), `{"data":{"id":"c2"}}`),
		"a list of it":     line(by("/data/list"), body),
		"none":             {},
		"ordered, all one": line(Options{Ordered: true}, body),
	} {
		if other == id {
			t.Errorf("%s: the same line", name)
		}
	}
	if r := ruleOf(&Options{}); r.id != 0 {
		t.Errorf("an endpoint that is not ordered has rule %d", r.id)
	}
}

func TestKeyOfValues(t *testing.T) {
	same := [][]string{
		{`1`, `1.0`, `1e0`, `10e-1`, `0.1e1`},
		{`0`, `-0`, `0.0`, `-0e5`},
		{`1000`, `1e3`},
		{`-2.5`, `-25e-1`},
		{`9007199254740993`}, {`9007199254740992`}, // beyond what a float tells apart
		{`1e999`}, {`-1e999`},
		{`"a"`, `"\u0061"`},
		{`"1"`}, {`""`}, {`"null"`}, {`true`}, {`false`}, {`"true"`},
		{`[]`}, {`{}`}, {`[1,2]`, `[1.0, 2]`}, {`[2,1]`},
		{`{"a":1,"b":null}`, `{"b":null, "a":1e0}`},
	}
	seen := map[int64]string{}
	for _, class := range same {
		first, ok := keyOf([]byte(class[0]))
		if was, twice := seen[first]; twice || !ok {
			t.Errorf("%s has the key of %s (%v)", class[0], was, ok)
		}
		seen[first] = class[0]
		for _, v := range class[1:] {
			if k, ok := keyOf([]byte(v)); !ok || k != first {
				t.Errorf("%s and %s have keys %d and %d", class[0], v, first, k)
			}
		}
	}
}

// Equal strings and equal numbers have one key, and what is no value none.
func FuzzKeyOf(f *testing.F) {
	for _, seed := range []string{`"a\u00e9"`, `1.50`, `{"x":[1,{"y":null}]}`, `null`, `"`, `[`, `-`, `1e5`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		keyOf(value) // never panics
		var v any
		if json.Unmarshal(value, &v) != nil || !utf8.Valid(value) {
			return
		}
		value = value[skipSpace(value, 0):]
		key, ok := keyOf(value[:skipValue(value, 0)])
		if ok != (v != nil) {
			t.Fatalf("%s has a key: %v", value, ok)
		}
		switch v.(type) {
		case string, float64, bool:
			again, err := json.Marshal(v)
			if err != nil {
				return
			}
			if other, _ := keyOf(again); other != key {
				if _, number := v.(float64); number {
					return // the float may be another number than the text
				}
				t.Fatalf("%s and %s have keys %d and %d", value, again, key, other)
			}
		}
	})
}
