package catalogue

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/grapnel-hooks/grapnel/stream"
)

// nested is n times open, then close n times.
func nested(n int, open, middle, end string) string {
	return strings.Repeat(open, n) + middle + strings.Repeat(end, n)
}

// items fills an array to nearly the largest size of an event.
func items(item func(i int) string) string {
	var b strings.Builder
	b.WriteByte('[')
	for i := 0; ; i++ {
		s := item(i)
		if b.Len()+len(s)+2 > stream.DefaultMaxData {
			return b.String() + "]"
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(s)
	}
}

func repeated(n int, format string) string {
	var parts []string
	for i := range n {
		parts = append(parts, strings.ReplaceAll(format, "#i", fmt.Sprint(i)))
	}
	return strings.Join(parts, ",")
}

// nasty are schemas with data that take a plain validator very long.
var nasty = []struct{ name, schema, data string }{
	{"twice into each child", `{"properties":{"a":{"allOf":[{"$ref":"#"},{"$ref":"#"}]}}}`, nested(60, `{"a":`, "1", "}")},
	{"twice, asked only whether", `{"properties":{"a":{"not":{"anyOf":[{"$ref":"#"},{"$ref":"#"}]}}}}`, nested(60, `{"a":`, "1", "}")},
	{"twice, never fitting", `{"type":"object","properties":{"a":{"anyOf":[{"$ref":"#"},{"$ref":"#"}]}}}`, nested(60, `{"a":`, "1", "}")},
	{"twice through items", `{"items":{"oneOf":[{"$ref":"#"},{"$ref":"#"}]}}`, nested(60, `[`, "", "]")},
	{"a graph of references", `{"$ref":"#/$defs/0","$defs":{` + repeated(30, `"#i":{"allOf":[{"$ref":"#/$defs/x#i"},{"$ref":"#/$defs/x#i"}]}`) + `,` +
		strings.Join(chain(30), ",") + `}}`, `1`},
	{"unevaluated", `{"unevaluatedProperties":false,"anyOf":[` + repeated(300, `{"properties":{"p#i":true}}`) + `]}`, "{" + repeated(10000, `"p#i":1`) + "}"},
	{"many numbers of many digits", `{"items":{"multipleOf":0.0000000000001,"minimum":-1,"maximum":1e399}}`, items(func(int) string { return "1e-398" })},
	{"long numbers", `{"items":{"multipleOf":0.7}}`, items(func(int) string { return strings.Repeat("7", 399) })},
	{"a long enumeration", `{"items":{"enum":[` + repeated(9000, `#i`) + `]}}`, items(func(i int) string { return fmt.Sprint(9000 + i) })},
	{"a long enumeration that fits", `{"items":{"enum":[` + repeated(9000, `#i`) + `]}}`, items(func(i int) string { return fmt.Sprint(i % 9000) })},
	{"equal hashes", `{"uniqueItems":true}`, items(func(i int) string {
		return `["` + strings.NewReplacer("0", `x\u0004`, "1", `x","`).Replace(fmt.Sprintf("%012b", i)) + `"]` // U+0004 as the mark before a text
	})},
	{"large patterns", `{"items":{"pattern":"^(a|b|ab|ba|aab|abb){1,30}$"}}`, items(func(int) string { return `"` + strings.Repeat("ab", 200) + `c"` })},
	{"many patterns for many members", `{"patternProperties":{` + repeated(900, `"(x+)+#i$":true`) + `}}`, "{" + repeated(9000, `"xxxxxxxxxxxx#i":1`) + "}"},
	{"one long text", `{"pattern":"(.*a){20}$"}`, `"` + strings.Repeat("ab", 100_000) + `"`},
	{"contains in contains", `{"contains":{"$ref":"#"},"minContains":1000}`, items(func(int) string { return "[]" })},
	{"many reasons", `{"items":{"type":"string"}}`, items(func(int) string { return "1" })},
	{"many reasons, deep", nested(60, `{"items":`, `{"type":"string"}`, "}"), nested(59, "[", items(func(int) string { return "1" })[:100_000]+"1]", "]")},
}

func chain(n int) (parts []string) {
	for i := range n {
		parts = append(parts, fmt.Sprintf(`"x%d":{"$ref":"#/$defs/%d"}`, i, i+1))
	}
	return append(parts, fmt.Sprintf(`"%d":{"properties":{}}`, n))
}

// Each of them ends, within the steps that an event may take (compare
// [MaxSteps]; SEC-30). Without the meter the first takes longer than the age of
// the universe, and the test its limit.
func TestNastySchemasEnd(t *testing.T) {
	for _, tt := range nasty {
		t.Run(tt.name, func(t *testing.T) {
			if !json.Valid([]byte(tt.data)) || len(tt.data) > stream.DefaultMaxData {
				t.Fatalf("%d bytes, valid: %t", len(tt.data), json.Valid([]byte(tt.data)))
			}
			c, err := Compile([]Type{typ("x", "1", tt.schema)})
			if err != nil {
				t.Logf("refused when saved: %v", err)
				return
			}
			got := c.Check(event("x", "1", tt.data))
			v := c.types["x"].versions["1"].checker.meter
			t.Logf("%v; %d steps left", got, v.left)
			if got != nil && (got.Code != CodeSchema || len(got.Detail) > maxDetail) {
				t.Errorf("rejected with %s, %d bytes", got.Code, len(got.Detail))
			}
		})
	}
}

func BenchmarkNasty(b *testing.B) {
	for _, bb := range nasty {
		c, err := Compile([]Type{typ("x", "1", bb.schema)})
		if err != nil {
			continue
		}
		b.Run(strings.ReplaceAll(bb.name, " ", "_"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.Check(event("x", "1", bb.data))
			}
		})
	}
}

// What checking costs for each event when strict is on.
func BenchmarkCheck(b *testing.B) {
	c := mustCompile(b, typ("invoice.paid", "", invoice), typ("any.data", "", ""))
	small := `{"invoice":"in_1","amount":12,"currency":"EUR","lines":[{"sku":"a"},{"sku":"b"}]}`
	for name, ev := range map[string]*stream.Event{
		"small":       event("invoice.paid", "1", small),
		"no_schema":   event("any.data", "1", small),
		"unknown":     event("who.knows", "1", small),
		"not_fitting": event("invoice.paid", "1", `{"invoice":"in_1","amount":0}`),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.Check(ev)
			}
		})
	}
}

// Whatever the schema and the data, the answer comes, is bounded, and does not
// quote; and what is accepted as an example is accepted as an event.
func FuzzCheck(f *testing.F) {
	for _, n := range nasty {
		if len(n.data) < 1000 {
			f.Add([]byte(n.schema), []byte(n.data))
		}
	}
	f.Add([]byte(invoice), []byte(`{"invoice":"in_1","amount":1}`))
	f.Add([]byte(`{"$schema":"http://json-schema.org/draft-04/schema#","exclusiveMinimum":true,"minimum":1}`), []byte(`1e-2`))
	f.Fuzz(func(t *testing.T, schema, data []byte) {
		one := Type{Name: "x", Schema: schema}
		c, err := Compile([]Type{one})
		if err != nil {
			if len(err.Error()) > 1000 {
				t.Errorf("%d bytes of error", len(err.Error()))
			}
			return
		}
		got := c.Check(event("x", "1", string(data)))
		if got != nil && len(got.Detail) > maxDetail {
			t.Errorf("%d bytes of detail", len(got.Detail))
		}
		if len(bytes.TrimSpace(data)) == 0 || string(data) == "null" || string(schema) == "null" || possible(data) != nil {
			return
		}
		one.Example = data
		if _, err := Compile([]Type{one}); (err == nil) != (got == nil) && len(data) < MaxExample {
			t.Errorf("as an event: %v, as an example: %v", got, err)
		}
	})
}
