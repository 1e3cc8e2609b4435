package deliver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func redactions(pairs ...string) (list []Redaction) {
	for i := 0; i < len(pairs); i += 2 {
		d := Redaction{Path: pairs[i]}
		if pairs[i+1] != "" {
			d.Replace = json.RawMessage(pairs[i+1])
		}
		list = append(list, d)
	}
	return list
}

func TestRedact(t *testing.T) {
	for _, tc := range []struct {
		name, data, want string
		paths            []string
	}{
		{"a member", `{"a":1,"b":2}`, `{"b":2}`, []string{"/data/a", ""}},
		{"the last member", `{"a":1 , "b":2 }`, `{"a":1 }`, []string{"/data/b", ""}},
		{"all members", `{ "a":1, "b":2 }`, `{}`, []string{"/data/*", ""}},
		{"the middle, with its whitespace", "{ \"a\": 1 ,\n\t\"b\" : 2,\r\n \"c\":3 }", "{ \"a\": 1 ,\r\n \"c\":3 }", []string{"/data/b", ""}},
		{"replaced", `{"a": {"b":1} ,"c":2}`, `{"a": "x" ,"c":2}`, []string{"/data/a", `"x"`}},
		{"by null", `{"a":1}`, `{"a":null}`, []string{"/data/a", `null`}},
		{"deep", `{"a":{"b":[{"c":1,"d":2},{"c":3}]}}`, `{"a":{"b":[{"d":2},{"c":3}]}}`, []string{"/data/a/b/0/c", ""}},
		{"every element", `{"a":[{"c":1},{"c":3,"d":4},5]}`, `{"a":[{},{"d":4},5]}`, []string{"/data/a/*/c", ""}},
		{"an element keeps its place", `[1, 2 ,3]`, `[1, null ,3]`, []string{"/data/1", ""}},
		{"every element taken out", `[ 1,{"a":2} ]`, `[ null,null ]`, []string{"/data/*", ""}},
		{"all of the data", ` {"a":1} `, ` null `, []string{"/data", ""}},
		{"all of the data replaced", `[1]`, `"gone"`, []string{"/data", `"gone"`}},
		{"missing", `{"a":1}`, `{"a":1}`, []string{"/data/b", "", "/data/a/b", "", "/data/0", ""}},
		{"below a scalar", `{"a":"b"}`, `{"a":"b"}`, []string{"/data/a/b", ""}},
		{"no array's length", `[1,2]`, `[1,2]`, []string{"/data/2", "", "/data/-", "", "/data/01", "", "/data/+1", ""}},
		{"a member that looks like an index", `{"0":1,"00":2}`, `{"00":2}`, []string{"/data/0", ""}},
		{"every member of that name", `{"a":1,"b":2,"a":3}`, `{"b":2}`, []string{"/data/a", ""}},
		{"a name with escapes", `{"\u0061":1,"b\/c":2,"\"":3}`, `{}`, []string{"/data/a", "", "/data/b~1c", "", `/data/"`, ""}},
		{"a tilde and an empty name", `{"m~n":1,"":2,"x":3}`, `{"x":3}`, []string{"/data/m~0n", "", "/data/", ""}},
		{"~01 is ~1", `{"~1":1,"/":2}`, `{"/":2}`, []string{"/data/~01", ""}},
		{"higher wins over deeper", `{"a":{"b":1}}`, `{"a":0}`, []string{"/data/a/b", `1`, "/data/a", `0`}},
		{"the first of the same wins", `{"a":1}`, `{"a":"first"}`, []string{"/data/*", `"first"`, "/data/a", `"second"`}},
		{"a star and a name", `{"a":{"x":1,"y":2},"b":{"x":3}}`, `{"a":{},"b":{}}`, []string{"/data/*/x", "", "/data/a/y", ""}},
		{"numbers and texts stay as they are", `{"n":1.500e+10,"t":"\u00e9\/","s":{ },"e":[ ],"x":0}`, `{"n":1.500e+10,"t":"\u00e9\/","s":{ },"e":[ ]}`, []string{"/data/x", ""}},
		{"braces in texts", `{"a":"}],{\"","b":1}`, `{"b":1}`, []string{"/data/a", ""}},
	} {
		r := newRedactor(redactions(tc.paths...))
		got, err := r.redact(nil, []byte(tc.data), r.of("invoice.paid"))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		} else if string(got) != tc.want {
			t.Errorf("%s: %s\nwant %s", tc.name, got, tc.want)
		}
	}
}

// What cannot be read is not passed on.
func TestRedactFailsClosed(t *testing.T) {
	r := newRedactor(redactions("/data/a/b", ""))
	for _, data := range []string{``, `{`, `{"a`, `{"a"`, `{"a":`, `{"a":{`, `{"a":{"b":1`, `{"a":{"b":1}`, `{"a":1}}`, `{"a":[1,2}`, `{"a" 1}`, `{a:1}`, `[`, `[1`, `[1,`, `{"a":1}x`, `{"b":"}`, `{"a":1,}`, "{\"a\n\":1}"} {
		if got, err := r.redact(nil, []byte(data), r.of("t")); err == nil && json.Valid(got) {
			t.Errorf("%s became %s", data, got)
		}
	}
}

func TestRedactionsOfTypes(t *testing.T) {
	r := newRedactor([]Redaction{
		{Path: "/data/all"}, {Path: "/data/star", Types: []string{"*"}}, {Path: "/data/exact", Types: []string{"order.paid", "invoice.paid"}},
		{Path: "/data/prefix", Types: []string{"invoice.*"}}, {Path: "/data/other", Types: []string{"invoice", "invoicex.*", "invoice.paid.late"}},
	})
	data := `{"all":1,"star":1,"exact":1,"prefix":1,"other":1}`
	for typ, want := range map[string]string{
		"invoice.paid":  `{"other":1}`,
		"invoice.sent":  `{"exact":1,"other":1}`,
		"order.paid":    `{"prefix":1,"other":1}`,
		"webhook.test":  `{"exact":1,"prefix":1,"other":1}`,
		"invoices.paid": `{"exact":1,"prefix":1,"other":1}`,
	} {
		if got, err := r.redact(nil, []byte(data), r.of(typ)); err != nil || string(got) != want {
			t.Errorf("%s: %s %v, want %s", typ, got, err, want)
		}
	}
}

// However often something is replaced, the data grows by a bounded amount, and
// nothing of it is kept for want of room.
func TestRedactGrowsWithinBounds(t *testing.T) {
	data := []byte("[" + strings.Repeat("7,", 100_000) + "7]")
	r := newRedactor(redactions("/data/*", `"`+strings.Repeat("x", MaxReplace-2)+`"`))
	got, err := r.redact(nil, data, r.of("t"))
	if err != nil {
		t.Fatal(err)
	}
	if !json.Valid(got) || bytes.Contains(got, []byte("7")) || len(got) > 5*len(data)+maxGrowth {
		t.Errorf("%d bytes became %d", len(data), len(got))
	}
}

// node is a JSON value with its members in their order, each as often as it is
// there.
type node struct {
	Scalar string
	Kind   byte // '{', '[' or 0
	Keys   []string
	Below  []*node
}

type fataler interface {
	Fatalf(format string, args ...any)
}

func parseNode(t fataler, text []byte) *node {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var read func() *node
	read = func() *node {
		tok, err := d.Token()
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		delim, ok := tok.(json.Delim)
		if !ok {
			return &node{Scalar: fmt.Sprintf("%T %v", tok, tok)}
		}
		n := &node{Kind: byte(delim)}
		for d.More() {
			if delim == '{' {
				key, _ := d.Token()
				n.Keys = append(n.Keys, key.(string))
			}
			n.Below = append(n.Below, read())
		}
		d.Token()
		return n
	}
	return read()
}

// naive is what redaction means, on a tree: nil is taken out.
func naive(t fataler, n *node, path []string, list []Redaction) *node {
	for _, d := range list {
		tokens := strings.Split(d.Path, "/")[2:]
		if d.Path == "/data" {
			tokens = nil
		}
		if len(tokens) != len(path) {
			continue
		}
		match := true
		for i, token := range tokens {
			token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
			match = match && (token == "*" || token == path[i])
		}
		if match && d.Replace == nil {
			return nil
		}
		if match {
			return parseNode(t, d.Replace)
		}
	}
	out := &node{Scalar: n.Scalar, Kind: n.Kind}
	for i, b := range n.Below {
		name := strconv.Itoa(i)
		if n.Kind == '{' {
			name = n.Keys[i]
		}
		below := naive(t, b, append(slices.Clone(path), name), list)
		switch {
		case below == nil && n.Kind == '{':
			continue
		case below == nil:
			below = &node{Scalar: "<nil> <nil>"}
		}
		if n.Kind == '{' {
			out.Keys = append(out.Keys, name)
		}
		out.Below = append(out.Below, below)
	}
	return out
}

func sameNodes(a, b *node) bool { return reflect.DeepEqual(a, b) }

var names = rapid.SampledFrom([]string{"a", "b", "", "0", "1", "~", "/", "*", "ü", `q"`, "a\u2028"})

// drawJSON writes a value with whitespace and escapes where JSON allows them.
func drawJSON(t *rapid.T, depth int) string {
	space := func() string { return rapid.SampledFrom([]string{"", "", "", " ", "\n\t"}).Draw(t, "space") }
	kind := rapid.IntRange(0, 5).Draw(t, "kind")
	if depth == 0 {
		kind = min(kind, 2)
	}
	quote := func(s string) string {
		if rapid.Bool().Draw(t, "escaped") && s != "" {
			var b strings.Builder
			b.WriteByte('"')
			for _, c := range s {
				fmt.Fprintf(&b, `\u%04x`, c)
			}
			return b.String() + `"`
		}
		return string(must(json.Marshal(s)))
	}
	switch kind {
	case 0:
		return rapid.SampledFrom([]string{"null", "true", "0", "-1.50E+3", "12345678901234567890"}).Draw(t, "scalar")
	case 1, 2:
		return quote(rapid.SampledFrom([]string{"", "x", `}],"`, `\`, "ü"}).Draw(t, "text"))
	}
	var b strings.Builder
	object := kind < 5
	b.WriteString(map[bool]string{true: "{", false: "["}[object] + space())
	n := rapid.IntRange(0, 4).Draw(t, "members")
	for i := range n {
		if i > 0 {
			b.WriteString("," + space())
		}
		if object {
			b.WriteString(quote(names.Draw(t, "name")) + space() + ":" + space())
		}
		b.WriteString(drawJSON(t, depth-1) + space())
	}
	b.WriteString(map[bool]string{true: "}", false: "]"}[object])
	return b.String()
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func TestRedactAgainstATree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := drawJSON(t, 4)
		var list []Redaction
		for range rapid.IntRange(1, 6).Draw(t, "redactions") {
			d := Redaction{Path: "/data"}
			for range rapid.IntRange(0, 4).Draw(t, "depth") {
				name := names.Draw(t, "token")
				d.Path += "/" + strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
			}
			d.Replace = rapid.SampledFrom([]json.RawMessage{nil, nil, json.RawMessage(`"gone"`), json.RawMessage(`{"a":[0]}`)}).Draw(t, "replace")
			list = append(list, d)
		}
		r := newRedactor(list)
		got, err := r.redact([]byte("before "), []byte(data), r.of("t"))
		if err != nil {
			t.Fatalf("%v: %s", err, data)
		}
		got = bytes.TrimPrefix(got, []byte("before "))
		tree := parseNode(t, []byte(data))
		want := naive(t, tree, nil, list)
		if want == nil {
			want = &node{Scalar: "<nil> <nil>"}
		}
		if have := parseNode(t, got); !sameNodes(want, have) {
			t.Fatalf("%s\nbecame %s\nby %+v\n%s", data, got, list, cmp.Diff(want, have))
		}
		if sameNodes(tree, want) && !slices.ContainsFunc(list, func(d Redaction) bool { return d.Replace != nil }) && string(got) != data {
			t.Fatalf("nothing was named, and %s\nbecame %s", data, got)
		}
	})
}

func FuzzRedact(f *testing.F) {
	for _, seed := range []string{`{"a":[{"b":1},null]}`, `[[],{},"\u0061"]`, ` 1 `, `{"a":1,"a":2}`, `{"\ud800":1}`, `{"a`, `[1,]`} {
		f.Add([]byte(seed), "/data/a/*/b", `"x"`)
		f.Add([]byte(seed), "/data/*", "")
	}
	f.Fuzz(func(t *testing.T, data []byte, path, replace string) {
		d := Redaction{Path: path}
		if replace != "" {
			d.Replace = json.RawMessage(replace)
		}
		o := Options{Redact: []Redaction{d}}
		if o.Check() != nil {
			return
		}
		r := newRedactor(o.Redact)
		got, err := r.redact(nil, data, r.of("t"))
		if !json.Valid(data) {
			return // it must not panic
		}
		if err != nil {
			t.Fatalf("%v: %q", err, data)
		}
		if !json.Valid(got) {
			t.Fatalf("%q became %q by %q", data, got, path)
		}
	})
}
