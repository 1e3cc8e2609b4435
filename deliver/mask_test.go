package deliver

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

// Nothing that only the endpoint's owner knows is kept of an answer. (SEC-23)
func TestMask(t *testing.T) {
	secret := sign.NewSecret()
	target, err := NewTarget(Endpoint{
		URL: "https://hooks.example/in", Secrets: []Secret{{Secret: secret}},
		Headers: []Header{
			{"Authorization", NewHeaderValue("Bearer hunter-two")}, {"X-Env", NewHeaderValue("prod")},
			{"X-Key", NewHeaderValue(`a"b<c>d`)}, {"X-Part", NewHeaderValue("hunter")},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, text, want string }{
		{"nothing to hide", `{"ok":true} in prod`, `{"ok":true} in prod`},
		{"a header", "got Authorization: Bearer hunter-two.", "got Authorization: [redacted]."},
		{"its credentials", "token hunter-two is unknown", "token [redacted] is unknown"},
		{"twice", "hunter-two hunter-two", "[redacted] [redacted]"},
		{"a shorter value in it", "hunter and hunter-two", "[redacted] and [redacted]"},
		{"as it is", `X-Key: a"b<c>d`, "X-Key: [redacted]"},
		{"in JSON of Go", `{"key":"a\"b\u003cc\u003ed"}`, `{"key":"[redacted]"}`},
		{"in JSON of others", `{"key":"a\"b<c>d"}`, `{"key":"[redacted]"}`},
		{"the secret", "signed with " + secret.Reveal(), "signed with [redacted]"},
		{"another secret", "whsec_AAAA", "whsec_AAAA"},
	} {
		if got := string(target.mask([]byte(c.text))); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// A value at the end of what is kept is not cut in two.
func TestMaskAtTheEnd(t *testing.T) {
	target, err := NewTarget(Endpoint{
		URL: "https://hooks.example/in", Secrets: []Secret{{Secret: sign.NewSecret()}},
		Headers: []Header{{"X-Key", NewHeaderValue("hunter-two")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len("hunter-two") {
		body := strings.Repeat(".", KeptBody-cut) + "hunter-two" + strings.Repeat(".", 100)
		kept, truncated := readBody(answering(body), target)
		if strings.Contains(string(kept), "h") || len(kept) > KeptBody || !truncated {
			t.Errorf("cut after %d: %d bytes, truncated %v, ends with %q", cut, len(kept), truncated, kept[len(kept)-12:])
		}
	}
}

func answering(body string) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body))}
}
