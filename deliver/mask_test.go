package deliver

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

// Nothing that only the endpoint's owner knows is kept of an answer. (SEC-23)
func TestMask(t *testing.T) {
	secret := sign.NewSecret()
	slashes, err := sign.ParseSecret("whsec_" + strings.Repeat("ab/c", 11))
	if err != nil {
		t.Fatal(err)
	}
	target, err := NewTarget(Endpoint{
		URL: "https://hooks.example/in", Secrets: []Secret{{Secret: secret}, {Secret: slashes, ExpiresAt: time.Now().Add(time.Hour)}},
		Headers: []Header{
			{"Authorization", NewHeaderValue("Bearer hunter-two")}, {"X-Env", NewHeaderValue("prod")},
			{"X-Key", NewHeaderValue(`a"b<c>d`)}, {"X-Part", NewHeaderValue("hunter")}, {"X-Path", NewHeaderValue("p/q/r")},
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
		{"in JSON of PHP", `{"key":"p\/q\/r"}`, `{"key":"[redacted]"}`},
		{"the secret", "signed with " + secret.Reveal(), "signed with [redacted]"},
		{"the secret in JSON of PHP", "with " + strings.ReplaceAll(slashes.Reveal(), "/", `\/`), "with [redacted]"},
		{"another secret", "whsec_AAAA", "whsec_AAAA"},
	} {
		if got := string(target.mask([]byte(c.text))); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// A receiver that gives out its tokens itself may show what it was asked with.
func TestMaskOfTheClient(t *testing.T) {
	target, err := NewTarget(Endpoint{
		URL: "https://hooks.example/in", Secrets: []Secret{{Secret: sign.NewSecret()}},
		Credentials: &Credentials{Auth: Auth{Type: AuthOAuth2, TokenURL: "https://hooks.example/token", ClientID: "us", ClientSecret: NewHidden("hunter/two")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	target = target.bearing("hunter-three")
	const text = `hunter/two client_secret=hunter%2Ftwo "hunter\/two" Basic dXM6aHVudGVyJTJGdHdv Bearer hunter-three`
	if got, want := string(target.mask([]byte(text))), `[redacted] client_secret=[redacted] "[redacted]" Basic [redacted] [redacted]`; got != want {
		t.Errorf("%s, want %s", got, want)
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

// An answer that breaks off, or is not read to its end, may do so within a value.
func TestMaskOfWhatBreaksOff(t *testing.T) {
	value := "hunter-" + strings.Repeat("two-", 250)
	target, err := NewTarget(Endpoint{
		URL: "https://hooks.example/in", Secrets: []Secret{{Secret: sign.NewSecret()}},
		Headers: []Header{{"X-Key", NewHeaderValue(value)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(value) {
		res := answering("")
		res.Body = io.NopCloser(io.MultiReader(strings.NewReader("got "+value[:cut]), iotest.ErrReader(io.ErrUnexpectedEOF)))
		kept, truncated := readBody(res, target)
		if want := "got [redacted]"; cut >= minMasked && string(kept) != want || !truncated {
			t.Fatalf("broken off after %d: truncated %v, kept %q, want %q", cut, truncated, kept, want)
		}
	}
	kept, _ := readBody(answering(strings.Repeat(value, maxBody/len(value)+1)), target)
	if strings.Contains(string(kept), "hunter") {
		t.Errorf("kept of a value that was repeated: %.300q", kept)
	}
	if kept, _ := readBody(answering("the hunter-two"), target); string(kept) != "the hunter-two" {
		t.Errorf("kept of a complete answer: %q", kept)
	}
}

func answering(body string) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body))}
}
