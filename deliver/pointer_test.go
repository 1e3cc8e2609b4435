package deliver

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

func TestPointerFind(t *testing.T) {
	const doc = `{"id":"evt_1", "a/b":1,"m~n":2,"":3,"a\u0062c":4,"twice":5,"twice":6,"data":{"n":null,"list":[10, {"x":"y"} ,[]], "s":"},\"{"},"é":7}`
	for _, tt := range []struct{ pointer, want string }{
		{"/id", `"evt_1"`},
		{"/a~1b", `1`},
		{"/m~0n", `2`},
		{"/", `3`},
		{"/abc", `4`},
		{"/twice", `6`},
		{"/é", `7`},
		{"/data/n", `null`},
		{"/data/list", `[10, {"x":"y"} ,[]]`},
		{"/data/list/0", `10`},
		{"/data/list/1/x", `"y"`},
		{"/data/list/2", `[]`},
		{"/data/list/2/0", ``},
		{"/data/list/3", ``},
		{"/data/list/00", ``},
		{"/data/list/-", ``},
		{"/data/list/-1", ``},
		{"/data/list/9999999999999999999999", ``},
		{"/data/s", `"},\"{"`},
		{"/data/s/0", ``},
		{"/data/n/x", ``},
		{"/data/missing", ``},
		{"/ID", ``},
	} {
		if got := parsePointer(tt.pointer).find([]byte(doc)); string(got) != tt.want {
			t.Errorf("%s: got %s, want %s", tt.pointer, got, tt.want)
		}
	}
}

// decoded finds the value with encoding/json.
func decoded(doc any, p pointer) (any, bool) {
	for _, token := range p {
		switch v := doc.(type) {
		case map[string]any:
			child, ok := v[token]
			if !ok {
				return nil, false
			}
			doc = child
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(v) || strconv.Itoa(i) != token {
				return nil, false
			}
			doc = v[i]
		default:
			return nil, false
		}
	}
	return doc, true
}

func FuzzPointer(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"data":{"customer":"c1"}}`, "/data/customer"},
		{`{"data":[1,[2,{"x":-1.5e3}]]}`, "/data/1/1/x"},
		{` { "a\"b" : "\\" , "\ud83d\ude00":{} } `, "/😀"},
		{`{"a":1,"a":{"b":2}}`, "/a/b"},
		{`[`, "/0"},
		{`{"a`, "/a"},
		{`{"":{"~":true}}`, "//~0"},
	} {
		f.Add([]byte(seed[0]), seed[1])
	}
	f.Fuzz(func(t *testing.T, doc []byte, text string) {
		if checkPointer(text) != nil {
			return
		}
		p := parsePointer(text)
		found := p.find(doc) // never panics, whatever the document is
		if !json.Valid(doc) {
			return
		}
		var whole any
		d := json.NewDecoder(bytes.NewReader(doc))
		d.UseNumber()
		if err := d.Decode(&whole); err != nil {
			t.Fatal(err)
		}
		want, ok := decoded(whole, p)
		if ok != (found != nil) {
			t.Fatalf("%s in %s: found %q, want %v", text, doc, found, want)
		}
		if !ok {
			return
		}
		var got any
		d = json.NewDecoder(bytes.NewReader(found))
		d.UseNumber()
		if err := d.Decode(&got); err != nil || d.More() {
			t.Fatalf("%s in %s: found %q: %v", text, doc, found, err)
		}
		g, _ := json.Marshal(got)
		w, _ := json.Marshal(want)
		if !bytes.Equal(g, w) {
			t.Fatalf("%s in %s: found %s, want %s", text, doc, g, w)
		}
	})
}

// BenchmarkPointerDeep finds what lies deep in the largest event: it takes no longer
// than a pass over it.
func BenchmarkPointerDeep(b *testing.B) {
	for _, depth := range []int{1, MaxPointer / 2} {
		b.Run(strconv.Itoa(depth), func(b *testing.B) {
			doc := []byte(strings.Repeat(`{"a":`, depth) + "[" + strings.Repeat("1,", 120<<10) + "1]" + strings.Repeat("}", depth))
			p := parsePointer(strings.Repeat("/a", depth))
			for b.Loop() {
				if p.find(doc) == nil {
					b.Fatal("not found")
				}
			}
		})
	}
}
