package stream

import "testing"

func TestSyncText(t *testing.T) {
	for _, c := range []struct{ name, answer, want string }{
		{"always", `{"data":{"config":{"sync_interval":120000000000,"sync_always":true}}}`, "always"},
		{"the default", `{"data":{"config":{"sync_interval":120000000000}}}`, "2m0s"},
		{"an older server", `{"data":{"config":{}}}`, ""},
		{"JetStream is off", `{"data":{"disabled":true}}`, ""},
		{"refused", `{"error":{"code":403}}`, ""},
		{"no JSON", `-ERR`, ""},
	} {
		if got := syncText([]byte(c.answer)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
