package httpapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// SEC-28: what is wrong with a body is told in an answer that is not larger than
// the body, and without comparing each of a hundred thousand names with ours.
func TestProblemsHaveALimit(t *testing.T) {
	h := operator(world(t))
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			if strings.Contains(format, "%") {
				fmt.Fprintf(&b, format, i)
			} else {
				b.WriteString(format)
			}
		}
		return b.String()
	}
	for name, body := range map[string]string{
		"unknown fields":       `{` + many(100_000, `"f%d":1`) + `}`,
		"repeated fields":      `{` + many(100_000, `"url":1`) + `}`,
		"entries of the wrong": `{"url":"https://a.example","event_types":[` + many(300_000, `1`) + `]}`,
		"headers of the wrong": `{"url":"https://a.example","headers":{` + many(80_000, `"h%d":1`) + `}}`,
		"unknown inner fields": `{"url":"https://a.example","retry":{` + many(80_000, `"h%d":1`) + `}}`,
		"a long name":          `{"` + strings.Repeat("f", 1<<19) + `":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/api/v1/orgs/acme/endpoints", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code/100 != 4 || w.Body.Len() > 16<<10 {
				t.Errorf("status %d with %d bytes, want a refusal of at most 16 KiB", w.Code, w.Body.Len())
			}
		})
	}
}
