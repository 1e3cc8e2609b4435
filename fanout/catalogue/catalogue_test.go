package catalogue

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/stream"
	"pgregory.net/rapid"
)

// typ is a type with one schema.
func typ(name, version, schema string) Type {
	return Type{Name: name, Version: version, Schema: json.RawMessage(schema)}
}

func event(name, version, data string) *stream.Event {
	return &stream.Event{Type: name, SchemaVersion: version, Data: json.RawMessage(data)}
}

func mustCompile(t testing.TB, types ...Type) *Catalogue {
	t.Helper()
	c, err := Compile(types)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const invoice = `{"type":"object","required":["invoice","amount"],"additionalProperties":false,"properties":{
	"invoice":{"type":"string","pattern":"^in_[0-9]+$"},
	"amount":{"type":"integer","minimum":1},
	"currency":{"enum":["EUR","USD"]},
	"lines":{"type":"array","uniqueItems":true,"maxItems":3,"items":{"type":"object","properties":{"sku":{"type":"string","maxLength":4}}}},
	"a/b~":{"type":"string"},
	"payer":{"oneOf":[{"type":"string"},{"type":"object"}]}}}`

func TestCheck(t *testing.T) {
	c := mustCompile(t, typ("invoice.paid", "", invoice), typ("invoice.paid", "2", ""), typ("task.done", "2026-11-21", "true"))
	tests := []struct {
		name  string
		event *stream.Event
		want  *stream.Rejected
	}{
		{"keeps to it", event("invoice.paid", "1", `{"invoice":"in_1","amount":12,"currency":"EUR","lines":[{"sku":"a"},{"sku":"b"}]}`), nil},
		{"a whole number with a fraction", event("invoice.paid", "1", `{"invoice":"in_1","amount":12.0}`), nil},
		{"precise where a float is not", event("invoice.paid", "1", `{"invoice":"in_1","amount":9007199254740993}`), nil},
		{"any data", event("invoice.paid", "2", `[1,"x"]`), nil},
		{"another form of version", event("task.done", "2026-11-21", `null`), nil},
		{"unknown type", event("invoice.payd", "1", `{}`), &stream.Rejected{Code: CodeUnknownType, Detail: "the catalogue has no event type invoice.payd"}},
		{"unknown version", event("invoice.paid", "3", `{}`), &stream.Rejected{Code: CodeUnknownVersion, Detail: "event type invoice.paid has no schema version 3: it has 1, 2"}},
		{"no version 1", event("task.done", "1", `{}`), &stream.Rejected{Code: CodeUnknownVersion, Detail: "event type task.done has no schema version 1: it has 2026-11-21"}},
		{"of another type", event("invoice.paid", "1", `"secret"`), &stream.Rejected{Code: CodeSchema, Detail: "the data: is of type string, want object"}},
		{"the first of two missing members", event("invoice.paid", "1", `{}`), &stream.Rejected{Code: CodeSchema, Detail: "/amount: is missing"}},
		{"another type", event("invoice.paid", "1", `{"invoice":"in_1","amount":"secret"}`), &stream.Rejected{Code: CodeSchema, Detail: "/amount: is of type string, want integer"}},
		{"a fraction", event("invoice.paid", "1", `{"invoice":"in_1","amount":1.5}`), &stream.Rejected{Code: CodeSchema, Detail: "/amount: is of type number, want integer"}},
		{"too small", event("invoice.paid", "1", `{"invoice":"in_1","amount":0}`), &stream.Rejected{Code: CodeSchema, Detail: "/amount: is too small, want at least 1"}},
		{"pattern", event("invoice.paid", "1", `{"invoice":"secret","amount":1}`), &stream.Rejected{Code: CodeSchema, Detail: "/invoice: does not match the pattern ^in_[0-9]+$"}},
		{"enum", event("invoice.paid", "1", `{"invoice":"in_1","amount":1,"currency":"secret"}`), &stream.Rejected{Code: CodeSchema, Detail: `/currency: is not one of the values that the schema allows: "EUR", "USD"`}},
		{"unknown member", event("invoice.paid", "1", `{"invoice":"in_1","amount":1,"more":"secret"}`), &stream.Rejected{Code: CodeSchema, Detail: "/more: is not a member that the schema knows"}},
		{"inside an array", event("invoice.paid", "1", `{"invoice":"in_1","amount":1,"lines":[{"sku":"a"},{"sku":"secret"}]}`), &stream.Rejected{Code: CodeSchema, Detail: "/lines/1/sku: has 6 characters, want at most 4"}},
		{"equal items", event("invoice.paid", "1", `{"invoice":"in_1","amount":1,"lines":[{"n":1},{"n":1.0}]}`), &stream.Rejected{Code: CodeSchema, Detail: "/lines: has equal items at 0 and 1, want all different"}},
		{"pointer is escaped", event("invoice.paid", "1", `{"invoice":"in_1","amount":1,"a/b~":1}`), &stream.Rejected{Code: CodeSchema, Detail: "/a~1b~0: is of type number, want string"}},
		{"alternatives", event("invoice.paid", "1", `{"invoice":"in_1","amount":1,"payer":1}`), &stream.Rejected{Code: CodeSchema, Detail: "/payer: fits none of the alternatives (oneOf)"}},
		{"a member twice", event("invoice.paid", "1", `{"invoice":"in_1","amount":0,"lines":[{"sku":"\"}:"},{"sku":"x","\u0073ku":"y"}],"amount":1}`), &stream.Rejected{Code: CodeSchema, Detail: "/lines/1/sku: is named twice in its object: parsers differ in which of them counts"}},
		{"a number too large to compare", event("invoice.paid", "1", `{"invoice":"in_1","amount":1e999999999}`), &stream.Rejected{Code: CodeSchema, Detail: "/amount: is a number of more than 400 characters or beyond 10^±400, and cannot be checked"}},
		{"not JSON at all", event("invoice.paid", "1", `{`), &stream.Rejected{Code: CodeSchema, Detail: "the data: cannot be read: unexpected EOF"}},
		{"no data at all", event("invoice.paid", "1", ``), &stream.Rejected{Code: CodeSchema, Detail: "the data: cannot be read: EOF"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 3 { // the validator walks objects in random order
				if diff := cmp.Diff(tt.want, c.Check(tt.event)); diff != "" {
					t.Fatal("-want +got:\n" + diff)
				}
			}
		})
	}
	if got := (*Catalogue)(nil).Check(event("any", "1", "{")); got != nil {
		t.Errorf("no catalogue: %v, want nothing to object", got)
	}
}

// What the guard takes over from the validator means the same as before.
func TestComparisons(t *testing.T) {
	tests := []struct{ schema, fits, fails string }{
		{`{"const":1}`, `1.0 10e-1 1`, `2 "1" true`},
		{`{"const":-0.0}`, `0 -0 0.0`, `1 false`},
		{`{"const":{"a":[1,{"b":null}]}}`, `{"a":[1,{"b":null}]}`, `{"a":[1,{"b":0}]} {"a":[1]} {}`},
		{`{"enum":["a",null,[1,2],12345678901234567890]}`, `"a" null [1,2] 12345678901234567890`, `"b" 0 [2,1] [12] 12345678901234567891`},
		{`{"enum":[1,2],"const":2}`, `2`, `1`},
		{`{"enum":[1],"const":2}`, ``, `1 2`},
		{`{"uniqueItems":true}`, `[] [1] [1,"1",true,null,[1],["a\u0004b"],["a","b"]] "x"`, `[1,1.0] [{"a":1,"b":2},{"b":2,"a":1}] [[],[]]`},
		{`{"not":{"const":1}}`, `2`, `1`},
		{`{"if":{"const":1},"then":false}`, `2`, `1`},
		{`{"contains":{"const":1}}`, `[2,1] {}`, `[2] []`},
		{`{"unevaluatedProperties":false,"anyOf":[{"properties":{"a":true},"required":["a"]},{"properties":{"b":true},"required":["b"]}]}`, `{"a":1} {"a":1,"b":1}`, `{"a":1,"c":1}`},
		{`{"unevaluatedItems":false,"prefixItems":[{"const":1}]}`, `[1] []`, `[1,2] [2]`},
		{`{"propertyNames":{"pattern":"^a"}}`, `{"a":1}`, `{"b":1}`},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","items":[{"const":1}],"additionalItems":false}`, `[1]`, `[1,1] [2]`},
		{`{"$schema":"http://json-schema.org/draft-07/schema#","dependencies":{"a":["b"],"b":{"required":["c"]}}}`, `{} {"a":1,"b":1,"c":1}`, `{"a":1} {"b":1}`},
		{`{"format":"email","contentEncoding":"base64"}`, `"no address"`, ``},
		{`{"$ref":"#/$defs/tree","$defs":{"tree":{"type":"object","properties":{"kids":{"items":{"$ref":"#/$defs/tree"}}}}}}`, `{"kids":[{"kids":[{}]}]}`, `{"kids":[{"kids":[1]}]}`},
		{`{"$id":"https://example.com/a","$ref":"#b","$defs":{"b":{"$anchor":"b","const":1}}}`, `1`, `2`},
		{`true`, `1 {}`, ``},
		{`false`, ``, `1 {}`},
		{`{}`, `1 {}`, ``},
	}
	for _, tt := range tests {
		c := mustCompile(t, typ("x", "1", tt.schema))
		for data := range strings.FieldsSeq(tt.fits) {
			if tt.fits == `"no address"` {
				data = tt.fits
			}
			if got := c.Check(event("x", "1", data)); got != nil {
				t.Errorf("%s with %s: %v, want it to fit", tt.schema, data, got)
			}
		}
		for data := range strings.FieldsSeq(tt.fails) {
			if got := c.Check(event("x", "1", data)); got == nil {
				t.Errorf("%s with %s: fits, want it not to", tt.schema, data)
			}
		}
	}
}

func TestRefusedTypes(t *testing.T) {
	long := strings.Repeat("x", 300)
	chain := `{"$ref":"#/$defs/0","$defs":{`
	for i := range 70 {
		chain += fmt.Sprintf(`"%d":{"$ref":"#/$defs/%d"},`, i, i+1)
	}
	chain += `"70":true}}`
	tests := []struct {
		name string
		typ  Type
		want string // field: a part of the detail
	}{
		{"name", typ("a..b", "", ""), "name: empty word"},
		{"version", typ("a", "1\n", ""), "schema_version: printable"},
		{"version's space", typ("a", " 1", ""), "schema_version: space"},
		{"group", Type{Name: "a", Group: long}, "group: at most 64"},
		{"description", Type{Name: "a", Description: strings.Repeat(long, 10)}, "description: at most 2000"},
		{"schema's size", typ("a", "", `{"description":"`+strings.Repeat("x", MaxSchema)+`"}`), "schema: at most 65536"},
		{"schema's depth", typ("a", "", strings.Repeat(`{"not":`, 65)+"true"+strings.Repeat("}", 65)), "schema: more than 64 deep"},
		{"not JSON", typ("a", "", `{"type":`), "schema: unexpected end"},
		{"not a schema", typ("a", "", `7`), "schema: is of type number, want"},
		{"no such type", typ("a", "", `{"properties":{"x":{"type":"text"}}}`), "schema: /properties/x/type fits none"},
		{"a member twice", typ("a", "", `{"type":"string","type":"object"}`), "schema: /type is named twice"},
		{"a number without end", typ("a", "", `{"minimum":1e1000000}`), "schema: /minimum is a number of more than"},
		{"a URL", typ("a", "", `{"$ref":"https://example.com/schema.json"}`), "schema: refers to https://example.com/schema.json: nothing outside"},
		{"a file", typ("a", "", `{"$ref":"file:///etc/passwd"}`), "schema: refers to file:///etc/passwd: nothing outside"},
		{"a file beside it", typ("a", "", `{"$ref":"other.json#/a"}`), "schema: refers to other.json: nothing outside"},
		{"another meta-schema", typ("a", "", `{"$schema":"https://example.com/meta"}`), "schema: refers to https://example.com/meta: nothing outside"},
		{"nothing there", typ("a", "", `{"$ref":"#/$defs/no"}`), "schema: not found"},
		{"itself", typ("a", "", `{"$ref":"#"}`), "schema: refers to itself"},
		{"itself, later", typ("a", "", `{"anyOf":[{"not":{"$ref":"#"}}]}`), "schema: refers to itself"},
		{"a long chain", typ("a", "", chain), "schema: more than 64 subschemas"},
		{"dynamic", typ("a", "", `{"$dynamicRef":"#x","$defs":{"x":{"$dynamicAnchor":"x"}}}`), "schema: uses $dynamicRef"},
		{"the meta-schema", typ("a", "", `{"$ref":"https://json-schema.org/draft/2020-12/schema"}`), "schema: uses $dynamicRef"},
		{"too many subschemas", typ("a", "", `{"allOf":[true`+strings.Repeat(",true", 1000)+`]}`), "schema: has 1002 objects"},
		{"look-ahead", typ("a", "", `{"pattern":"(?=x)"}`), "schema: invalid"},
		{"long pattern", typ("a", "", `{"pattern":"`+long+`"}`), "schema: at most 256"},
		{"large pattern", typ("a", "", `{"pattern":"(a{30}b{10}){25}"}`), "schema: instructions"},
		{"large pattern of names", typ("a", "", `{"patternProperties":{"(a{30}){60}":true}}`), "schema: name that is not allowed"},
		{"example's JSON", Type{Name: "a", Example: json.RawMessage(`{`)}, "example: unexpected end"},
		{"example", Type{Name: "a", Schema: json.RawMessage(invoice), Example: json.RawMessage(`{"amount":1}`)}, "example: does not keep to the schema: /invoice: is missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Compile([]Type{tt.typ})
			field, detail, _ := strings.Cut(tt.want, ": ")
			var got *Error
			if !errors.As(err, &got) || got.Field != field || !strings.Contains(got.Detail, detail) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && len(err.Error()) > 700 {
				t.Errorf("%d bytes of error", len(err.Error()))
			}
		})
	}
}

func TestCompileNamesAllThatIsWrong(t *testing.T) {
	_, err := Compile([]Type{typ("a", "", "7"), typ("b", "", "{}"), typ("b", "1", "{}"), typ("c..", "", "")})
	want := []string{"event type a: schema: ", "event type b: is there twice", "event type c..: name: "}
	got := strings.Split(fmt.Sprint(err), "\n")
	if len(got) != len(want) {
		t.Fatalf("got %q, want %d lines", got, len(want))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("line %d: %q, want it to begin with %q", i, got[i], want[i])
		}
	}
}

func TestLimits(t *testing.T) {
	var many []Type
	for i := range MaxTypes {
		many = append(many, typ(fmt.Sprintf("t%d", i), "", ""))
	}
	c := mustCompile(t, many...)
	if _, err := c.With(typ("one.more", "", "")); err == nil || !strings.Contains(err.Error(), "at most 2000 types") {
		t.Errorf("a type too many: %v", err)
	}
	if _, err := c.With(typ("t7", "2", "")); err != nil {
		t.Errorf("a version more: %v", err)
	}

	many = nil
	for i := range MaxVersions {
		many = append(many, typ("t", fmt.Sprint(i), ""))
	}
	c = mustCompile(t, many...)
	if _, err := c.With(typ("t", "50", "")); err == nil || !strings.Contains(err.Error(), "at most 50 versions") {
		t.Errorf("a version too many: %v", err)
	}
	if _, err := c.With(typ("t", "49", "true")); err != nil {
		t.Errorf("a version in the place of another: %v", err)
	}

	large := `{"description":"` + strings.Repeat("x", MaxSchema-20) + `"}`
	c = mustCompile(t)
	var err error
	n := 0
	for ; err == nil; n++ {
		c, err = c.With(typ(fmt.Sprintf("t%d", n), "", large))
	}
	if n-1 != MaxTotal/len(large) || !strings.Contains(err.Error(), "all types together") {
		t.Errorf("%d large schemas, then %v", n-1, err)
	}
}

func TestWithAndWithout(t *testing.T) {
	first := mustCompile(t, typ("a", "10", "true"), typ("a", "9", "true"), typ("b", "", ""))
	second, err := first.With(Type{Name: "a", Version: "9", Group: "new"}, typ("c", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	if got, versions, ok := second.Get("a", ""); !ok || got.Version != "10" || !slices.Equal(versions, []string{"9", "10"}) {
		t.Errorf("a is %v of %v, want the newest", got, versions)
	}
	if got, _, _ := second.Get("a", "9"); got.Group != "new" {
		t.Errorf("version 9 is %+v, want the new one", got)
	}
	if got, _, _ := first.Get("a", "9"); got.Group != "" {
		t.Error("the first catalogue was changed")
	}
	if _, _, ok := second.Get("a", "11"); ok {
		t.Error("there is a version 11")
	}
	third, ok := second.Without("a", "10")
	if !ok {
		t.Fatal("no version 10 to take out")
	}
	if got, versions, _ := third.Get("a", ""); got.Version != "9" || len(versions) != 1 {
		t.Errorf("a is %v of %v, want 9 alone", got, versions)
	}
	fourth, _ := third.Without("a", "9")
	if diff := cmp.Diff([]string{"b", "c"}, fourth.Names()); diff != "" {
		t.Error("-want +got:\n" + diff)
	}
	if fourth.bytes != 0 {
		t.Errorf("%d bytes, want none", fourth.bytes)
	}
	if _, ok := fourth.Without("a", ""); ok {
		t.Error("a was taken out twice")
	}
	if _, ok := second.Without("a", "7"); ok {
		t.Error("a version was taken out that was not there")
	}
	if same := mustCompile(t, second.Types()...); !cmp.Equal(same.Types(), second.Types()) {
		t.Error("the list of types does not make the same catalogue")
	}
	if diff := cmp.Diff([]string{"d", "e.f"}, fourth.CheckSubscription([]string{"d", "b", "*", "d.*", "e.f"})); diff != "" {
		t.Error("unknown subscriptions: -want +got:\n" + diff)
	}
}

func TestCompareVersions(t *testing.T) {
	ordered := []string{"0", "1", "01", "1.9", "1.10", "2", "9", "10", "2026-02-01", "2026-11-21", "a", "a1", "a02", "a2b", "a10", "v1"}
	for i, a := range ordered {
		for j, b := range ordered {
			if a != "01" && b != "01" && a != "2" && b != "2" && CompareVersions(a, b) != cmpInt(i, j) {
				t.Errorf("%s and %s: %d", a, b, CompareVersions(a, b))
			}
		}
	}
	version := rapid.StringOfN(rapid.RuneFrom([]rune("0019a.")), 0, 6, -1)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := version.Draw(t, "a"), version.Draw(t, "b"), version.Draw(t, "c")
		if CompareVersions(a, b) != -CompareVersions(b, a) || (CompareVersions(a, b) == 0) != (a == b) {
			t.Fatalf("%q and %q", a, b)
		}
		if CompareVersions(a, b) < 0 && CompareVersions(b, c) < 0 && CompareVersions(a, c) >= 0 {
			t.Fatalf("%q, %q, %q", a, b, c)
		}
	})
}

func cmpInt(a, b int) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Many events of one type are checked at once.
func TestConcurrentChecks(t *testing.T) {
	c := mustCompile(t, typ("invoice.paid", "", invoice))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				data := `{"invoice":"in_1","amount":1}`
				if i%2 == 1 {
					data = `{"invoice":"in_1","amount":0}`
				}
				if got := c.Check(event("invoice.paid", "1", data)); (got != nil) != (i%2 == 1) {
					t.Errorf("%s: %v", data, got)
				}
			}
		})
	}
	wg.Wait()
}
