package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/go-cmp/cmp"
)

func bareAPI() *api { return &api{huma: humago.New(http.NewServeMux(), humaConfig("test"))} }

// The usual bodies are read quickly, with what they say.
func TestQuickEvents(t *testing.T) {
	at := time.Date(2026, 11, 21, 10, 0, 0, 5e8, time.UTC)
	for _, c := range []struct {
		name, body string
		many       bool
		want       []NewEvent
	}{
		{"one", `{"type":"a.b","data":{"n":[1,{}]}}`, false, []NewEvent{{Type: "a.b", Data: []byte(`{"n":[1,{}]}`)}}},
		{"all fields", ` { "data" : "x\"}," , "type":"a","workspace_id":"w","dedupe_key":"k\u00e4se ü","schema_version":"2","source":"s","time":"2026-11-21T10:00:00.5Z" } `, false,
			[]NewEvent{{Type: "a", Data: []byte(`"x\"},"`), Workspace: "w", DedupeKey: "käse ü", SchemaVersion: "2", Source: "s", Time: at}}},
		{"data of each kind", `[{"type":"a","data":null},{"type":"a","data":-1.5e3},{"data":true,"type":"a"},{"type":"a","data":[]}
			]`, true, []NewEvent{{Type: "a", Data: []byte("null")}, {Type: "a", Data: []byte("-1.5e3")}, {Type: "a", Data: []byte("true")}, {Type: "a", Data: []byte("[]")}}},
	} {
		got, many, ok := quickEvents([]byte(c.body))
		if !ok || many != c.many {
			t.Errorf("%s: %v, many %v", c.name, ok, many)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

// What is out of order is left to those who can say why.
func TestQuickEventsLeaves(t *testing.T) {
	one := `{"type":"a","data":1}`
	for _, body := range []string{
		``, ` `, `[]`, `[1]`, `1`, `"a"`, `null`, `{}`, `{"type":"a"}`, `{"data":1}`, `{"type":"a","data":1`, `{"type":"a","data":1}}`,
		`{"type":"a b","data":1}`, `{"type":"","data":1}`, `{"type":1,"data":1}`, `{"type":null,"data":1}`,
		`{"type":"a","data":1,"Source":"x"}`, `{"type":"a","data":1,"unheard_of":1}`, `{"type":"a","data":1,"data":2}`,
		`{"type":"a","data":1,"time":"yesterday"}`, `{"type":"a","data":1,"time":null}`, `{"type":"a","data":1,"workspace_id":"a b"}`,
		`{"type":"a","data":1,"dedupe_key":"` + strings.Repeat("k", 257) + `"}`, "{\"type\":\"a\",\"data\":1,\"source\":\"\xff\"}",
		`{"type":"a","data":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}`,
		"[" + strings.Repeat(one+",", MaxAppend) + one + "]",
	} {
		if got, _, ok := quickEvents([]byte(body)); ok {
			t.Errorf("%.100s is taken as %+v", body, got)
		}
	}
}

// What is read quickly is what reading with care gives.
func FuzzQuickEvents(f *testing.F) {
	for _, s := range []string{
		`{"type":"a.b","data":{"n":[1,{}]},"dedupe_key":"k"}`, `[{"type":"a","data":1},{"data":"x","type":"b","time":"2026-11-21T10:00:00+02:00"}]`,
		`{"type":"a","data":"\u0041\\\"","source":"\ud83d\ude00","schema_version":"","workspace_id":""}`, `{"t\u0079pe":"a","data":1}`,
		`{"type":"a","data":1,"time":"2026-11-21T10:00:00,5Z"}`, `{"type":"a","data":1,"time":"2026-11-21T24:00:00Z"}`, `[{"type":"a","data":1},]`,
	} {
		f.Add([]byte(s))
	}
	a := bareAPI()
	f.Fuzz(func(t *testing.T, body []byte) {
		quick, many, ok := quickEvents(body)
		if !ok {
			return
		}
		careful, manyToo, err := a.carefulEvents(body)
		if err != nil || many != manyToo {
			t.Fatalf("%q: %v, %v and %v", body, err, many, manyToo)
		}
		if diff := cmp.Diff(careful, quick); diff != "" {
			t.Errorf("%q (-careful +quick):\n%s", body, diff)
		}
	})
}

func BenchmarkReadEvents(b *testing.B) {
	var body strings.Builder
	for i := range 100 {
		body.WriteString("[,"[min(i, 1):][:1] + `{"type":"bench.event","dedupe_key":"` + strconv.Itoa(i) + `","data":{"note":"` + strings.Repeat("x", 1000) + `"}}`)
	}
	body.WriteString("]")
	raw := []byte(body.String())
	a := bareAPI()
	b.Run("quick", func(b *testing.B) {
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			if _, _, ok := quickEvents(raw); !ok {
				b.Fatal("not taken")
			}
		}
	})
	b.Run("careful", func(b *testing.B) {
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			if _, _, err := a.carefulEvents(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
}
