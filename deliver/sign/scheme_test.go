package sign_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"pgregory.net/rapid"
)

// signed are the headers of a request, by the scheme, under other names than those
// of Standard Webhooks.
func signed(s sign.Scheme, secrets []sign.Secret, id string, at time.Time, body []byte) http.Header {
	h := http.Header{}
	h.Set("X-Id", id)
	h.Set("X-Time", strconv.FormatInt(at.Unix(), 10))
	h.Set("X-Signed", string(s.Append(nil, secrets, id, at, body)))
	if !s.Several() && len(secrets) > 1 {
		h.Set("X-Signed"+sign.Previous, string(s.Append(nil, secrets[1:2], id, at, body)))
	}
	return h
}

func verifier(s sign.Scheme, secrets ...sign.Secret) *sign.Verifier {
	return &sign.Verifier{Scheme: s, Secrets: secrets, Headers: sign.Headers{ID: "x-id", Timestamp: "x-time", Signature: "x-signed"}}
}

// Whatever is signed passes with each of its secrets, and with nothing changed.
func TestSchemesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(sign.Schemes).Draw(t, "scheme")
		ss := []sign.Secret{s.NewSecret(), s.NewSecret()}
		if s != sign.Standard && s != sign.Ed25519 && rapid.Bool().Draw(t, "brought") {
			var err error
			if ss[0], err = s.ParseSecret(rapid.StringMatching(`[!-VX-~][ -~]{14,126}[!-~]`).Draw(t, "secret")); err != nil {
				t.Fatal(err)
			}
		}
		id := rapid.StringMatching(`[!-\-/-~]{1,40}`).Draw(t, "id")
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		at := time.Unix(rapid.Int64Range(1, 1<<33).Draw(t, "at"), 0)
		h := signed(s, ss, id, at, body)
		if s == sign.Ed25519 {
			v := verifier(s)
			v.Public = []sign.PublicKey{ss[1].Public()}
			if err := v.Verify(h, body, at); err != nil {
				t.Fatalf("by the public key: %v", err)
			}
		}
		for i := range ss {
			if err := verifier(s, ss[i]).Verify(h, body, at); err != nil {
				t.Fatalf("%s by secret %d: %v", s, i, err)
			}
		}
		if err := verifier(s, s.NewSecret(), s.NewSecret()).Verify(h, body, at); err == nil {
			t.Fatalf("%s: passes with other secrets", s)
		}
		if err := verifier(s, ss...).Verify(h, append(body, ' '), at); err == nil {
			t.Fatalf("%s: passes with another body", s)
		}
		for _, other := range sign.Schemes {
			if other != s && verifier(other, ss...).Verify(h, body, at) == nil {
				t.Fatalf("%s passes as %s", s, other)
			}
		}
	})
}

func TestSchemesNameTheCheck(t *testing.T) {
	now := time.Unix(1795255200, 500e6)
	body := []byte(`{"type":"invoice.paid"}`)
	hexOf := func(h http.Header) string { return h.Get("X-Signed")[strings.LastIndexByte(h.Get("X-Signed"), '=')+1:] }
	set := func(name string, value func(http.Header) string) func(http.Header) {
		return func(h http.Header) { h.Set(name, value(h)) }
	}
	text := func(s string) func(http.Header) string { return func(http.Header) string { return s } }
	later := func(s sign.Scheme, secret sign.Secret, d time.Duration) func(http.Header) {
		return func(h http.Header) {
			for name, v := range signed(s, []sign.Secret{secret}, "evt_1", now.Add(d), body) {
				h[name] = v
			}
		}
	}
	hexed, stamped, keyed := sign.SHA256Hex.NewSecret(), sign.Timestamped.NewSecret(), sign.Ed25519.NewSecret()
	for _, tc := range []struct {
		scheme sign.Scheme
		secret sign.Secret
		name   string
		change func(http.Header)
		check  sign.Check // "" passes
	}{
		{sign.SHA256Hex, hexed, "as signed", func(http.Header) {}, ""},
		{sign.SHA256Hex, hexed, "upper-case digits", set("X-Signed", func(h http.Header) string { return "sha256=" + strings.ToUpper(hexOf(h)) }), ""},
		{sign.SHA256Hex, hexed, "only the one before", func(h http.Header) {
			h.Set("X-Signed-Previous", h.Get("X-Signed"))
			h.Set("X-Signed", "sha256="+strings.Repeat("0", 64))
		}, ""},
		{sign.SHA256Hex, hexed, "none", func(h http.Header) { h.Del("X-Signed") }, sign.Present},
		{sign.SHA256Hex, hexed, "two", func(h http.Header) { h.Add("X-Signed", h.Get("X-Signed")) }, sign.Present},
		{sign.SHA256Hex, hexed, "empty", set("X-Signed", text("")), sign.Present},
		{sign.SHA256Hex, hexed, "no digits", set("X-Signed", text("sha256=")), sign.WellFormed},
		{sign.SHA256Hex, hexed, "a digit less", set("X-Signed", func(h http.Header) string { return "sha256=" + hexOf(h)[:63] }), sign.WellFormed},
		{sign.SHA256Hex, hexed, "a byte less", set("X-Signed", func(h http.Header) string { return "sha256=" + hexOf(h)[:62] }), sign.WellFormed},
		{sign.SHA256Hex, hexed, "a digit more", set("X-Signed", func(h http.Header) string { return "sha256=" + hexOf(h) + "0" }), sign.WellFormed},
		{sign.SHA256Hex, hexed, "no hex", set("X-Signed", text("sha256="+strings.Repeat("g", 64))), sign.WellFormed},
		{sign.SHA256Hex, hexed, "without its name", set("X-Signed", hexOf), sign.WellFormed},
		{sign.SHA256Hex, hexed, "another digest", set("X-Signed", func(h http.Header) string { return "sha1=" + hexOf(h) }), sign.WellFormed},
		{sign.SHA256Hex, hexed, "zeros", set("X-Signed", text("sha256="+strings.Repeat("0", 64))), sign.Authentic},
		{sign.SHA256Hex, hexed, "an empty one before", set("X-Signed-Previous", text("sha256=")), sign.WellFormed},

		{sign.Timestamped, stamped, "as signed", func(http.Header) {}, ""},
		{sign.Timestamped, stamped, "one that does not fit, first", set("X-Signed", func(h http.Header) string {
			return strings.Replace(h.Get("X-Signed"), ",", ",v1="+strings.Repeat("0", 64)+",v0=x,", 1)
		}), ""},
		{sign.Timestamped, stamped, "299 s ago", later(sign.Timestamped, stamped, -299*time.Second), ""},
		{sign.Timestamped, stamped, "299 s ahead", later(sign.Timestamped, stamped, 299*time.Second), ""},
		{sign.Timestamped, stamped, "301 s ago", later(sign.Timestamped, stamped, -301*time.Second), sign.Fresh},
		{sign.Timestamped, stamped, "301 s ahead", later(sign.Timestamped, stamped, 301*time.Second), sign.Fresh},
		{sign.Timestamped, stamped, "none", func(h http.Header) { h.Del("X-Signed") }, sign.Present},
		{sign.Timestamped, stamped, "no time", set("X-Signed", func(h http.Header) string { return "v1=" + hexOf(h) }), sign.WellFormed},
		{sign.Timestamped, stamped, "an empty time", set("X-Signed", func(h http.Header) string { return "t=,v1=" + hexOf(h) }), sign.WellFormed},
		{sign.Timestamped, stamped, "another time", set("X-Signed", func(h http.Header) string { return "t=1795255201,v1=" + hexOf(h) }), sign.Authentic},
		{sign.Timestamped, stamped, "no signature", set("X-Signed", text("t=1795255200")), sign.WellFormed},
		{sign.Timestamped, stamped, "an empty signature", set("X-Signed", text("t=1795255200,v1=")), sign.WellFormed},
		{sign.Timestamped, stamped, "half a signature", set("X-Signed", func(h http.Header) string { return "t=1795255200,v1=" + hexOf(h)[:32] }), sign.WellFormed},
		{sign.Timestamped, stamped, "another scheme", set("X-Signed", func(h http.Header) string { return "t=1795255200,v0=" + hexOf(h) }), sign.WellFormed},
		{sign.Timestamped, stamped, "a thousand", set("X-Signed", func(h http.Header) string {
			return "t=1795255200" + strings.Repeat(",v1="+strings.Repeat("0", 64), 1000) + ",v1=" + hexOf(h)
		}), sign.WellFormed},

		{sign.Ed25519, keyed, "as signed", func(http.Header) {}, ""},
		{sign.Ed25519, keyed, "another first", set("X-Signed", func(h http.Header) string { return "v1,AAAA v1a,AAAA " + h.Get("X-Signed") }), ""},
		{sign.Ed25519, keyed, "299 s ago", later(sign.Ed25519, keyed, -299*time.Second), ""},
		{sign.Ed25519, keyed, "301 s ahead", later(sign.Ed25519, keyed, 301*time.Second), sign.Fresh},
		{sign.Ed25519, keyed, "no id", func(h http.Header) { h.Del("X-Id") }, sign.Present},
		{sign.Ed25519, keyed, "another id", set("X-Id", text("evt_2")), sign.Authentic},
		{sign.Ed25519, keyed, "an id with a dot", set("X-Id", text("evt.1")), sign.WellFormed},
		{sign.Ed25519, keyed, "empty", set("X-Signed", text("v1a,")), sign.Authentic},
		{sign.Ed25519, keyed, "half a signature", set("X-Signed", func(h http.Header) string { return h.Get("X-Signed")[:48] }), sign.Authentic},
		{sign.Ed25519, keyed, "zeros", set("X-Signed", text("v1a,"+base64.StdEncoding.EncodeToString(make([]byte, 64)))), sign.Authentic},
		{sign.Ed25519, keyed, "v1 only", set("X-Signed", func(h http.Header) string { return strings.Replace(h.Get("X-Signed"), "v1a,", "v1,", 1) }), sign.WellFormed},
	} {
		h := signed(tc.scheme, []sign.Secret{tc.secret}, "evt_1", now, body)
		tc.change(h)
		err := verifier(tc.scheme, tc.secret).Verify(h, body, now)
		var got sign.Error
		if e := (*sign.Error)(nil); errors.As(err, &e) {
			got = *e
		} else if err != nil {
			t.Fatalf("error of type %T: %v", err, err)
		}
		if got.Check != tc.check {
			t.Errorf("%s, %s: failed %q, want %q (%v)", tc.scheme, tc.name, got.Check, tc.check, err)
		}
	}
	// A secret that is no key must not become the empty one.
	empty := hmac.New(sha256.New, nil)
	empty.Write([]byte("evt_1.1795255200." + string(body)))
	h := signed(sign.Standard, []sign.Secret{sign.NewSecret()}, "evt_1", now, body)
	h.Set("X-Signed", "v1,"+base64.StdEncoding.EncodeToString(empty.Sum(nil)))
	brought, err := sign.AnySecret("a-secret-of-a-platform")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []sign.Secret{brought, keyed} {
		if verifier(sign.Standard, s).Verify(h, body, now) == nil {
			t.Error("a signature by the empty key passes")
		}
	}
	if err := verifier("md5", hexed).Verify(http.Header{}, body, now); err == nil {
		t.Error("an unknown scheme passes")
	}
	for _, s := range sign.Schemes {
		h := signed(s, []sign.Secret{s.NewSecret()}, "evt_1", now, body)
		for _, none := range [][]sign.Secret{nil, {{}}} {
			if verifier(s, none...).Verify(h, body, now) == nil {
				t.Errorf("%s passes without secrets", s)
			}
		}
	}
}

// The forms that each scheme takes, and that their texts come back as they were.
func TestSecretsOfSchemes(t *testing.T) {
	seed := bytes.Repeat([]byte{7}, ed25519.SeedSize)
	pair := ed25519.NewKeyFromSeed(seed)
	enc := base64.StdEncoding.EncodeToString
	private, whsec := "whsk_"+enc(pair), "whsec_"+enc(seed)
	forged := append(append([]byte{}, seed...), make([]byte, 32)...)
	std, hexed, stamped, keyed := sign.Standard, sign.SHA256Hex, sign.Timestamped, sign.Ed25519
	for _, tc := range []struct {
		name, text string
		fits       []sign.Scheme
	}{
		{"whsec_", whsec, []sign.Scheme{std, hexed, stamped}},
		{"whsk_", private, []sign.Scheme{keyed}},
		{"16 characters", "sixteen-letters!", []sign.Scheme{hexed, stamped}},
		{"128 characters", strings.Repeat("~", 128), []sign.Scheme{hexed, stamped}},
		{"with spaces inside", "a secret of words", []sign.Scheme{hexed, stamped}},
		{"what only looks like whsec_", "whsec_not-base64-at-all", []sign.Scheme{hexed, stamped}},
		{"15 characters", "fifteen-letters", nil},
		{"129 characters", strings.Repeat("~", 129), nil},
		{"empty", "", nil},
		{"a space at the end", "sixteen-letters! ", nil},
		{"a control character", "sixteen-letters!\x01", nil},
		{"a newline", "sixteen\nletters!!", nil},
		{"beyond ASCII", "sechzehn-größere", nil},
		{"half a key pair", "whsk_" + enc(seed), nil},
		{"a key pair that is none", "whsk_" + enc(forged), nil},
		{"a public key", "whpk_" + enc(pair[32:]), nil},
	} {
		for _, s := range sign.Schemes {
			want := false
			for _, f := range tc.fits {
				want = want || f == s
			}
			secret, err := s.ParseSecret(tc.text)
			if (err == nil) != want {
				t.Errorf("%s for %s: %v", tc.name, s, err)
				continue
			}
			if err != nil {
				if len(tc.text) > 8 && strings.Contains(err.Error(), tc.text[6:]) {
					t.Errorf("the error holds the text: %v", err)
				}
				continue
			}
			again, err := sign.AnySecret(secret.Reveal())
			if err != nil || secret.Reveal() != tc.text || !again.Equal(secret) || !s.Fits(again) {
				t.Errorf("%s for %s does not come back: %v", tc.name, s, err)
			}
			if got := !secret.Public().IsZero(); got != (s == keyed) {
				t.Errorf("%s for %s: public key %v", tc.name, s, got)
			}
		}
	}
	for _, s := range sign.Schemes {
		if a, b := s.NewSecret(), s.NewSecret(); !s.Fits(a) || a.Equal(b) {
			t.Errorf("%s: new secrets", s)
		}
		if s.Fits(sign.Secret{}) {
			t.Errorf("%s: the zero secret fits", s)
		}
	}
	secret, _ := sign.AnySecret(private)
	if got, want := secret.Public().String(), "whpk_"+enc(pair[32:]); got != want {
		t.Errorf("public key %s, want %s", got, want)
	}
	for text, ok := range map[string]bool{
		secret.Public().String(): true, "": false, "whpk_": false, private: false, "whpk_" + enc(seed[:31]): false, "whpk_" + enc(seed) + "\n": false,
	} {
		if k, err := sign.ParsePublicKey(text); (err == nil) != ok || ok && k.String() != text || !ok && !k.IsZero() {
			t.Errorf("public key %q: %v", text, err)
		}
	}
}

// Nothing goes out unsigned.
func TestSignsOnlyWithWhatFits(t *testing.T) {
	brought, err := sign.AnySecret("a-secret-of-a-platform")
	if err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func(){
		"no secrets":        func() { sign.SHA256Hex.Append(nil, nil, "evt_1", time.Now(), nil) },
		"the zero secret":   func() { sign.SHA256Hex.Append(nil, []sign.Secret{{}}, "evt_1", time.Now(), nil) },
		"a text, standard":  func() { sign.Standard.Append(nil, []sign.Secret{brought}, "evt_1", time.Now(), nil) },
		"a text, Sign":      func() { sign.Sign([]sign.Secret{brought}, "evt_1", time.Now(), nil) },
		"a pair, standard":  func() { sign.Sign([]sign.Secret{sign.Ed25519.NewSecret()}, "evt_1", time.Now(), nil) },
		"a text, ed25519":   func() { sign.Ed25519.Append(nil, []sign.Secret{brought}, "evt_1", time.Now(), nil) },
		"a pair, hex":       func() { sign.SHA256Hex.Append(nil, []sign.Secret{sign.Ed25519.NewSecret()}, "evt_1", time.Now(), nil) },
		"an unknown scheme": func() { sign.Scheme("md5").Append(nil, []sign.Secret{brought}, "evt_1", time.Now(), nil) },
	} {
		func() {
			defer func() {
				if p := recover(); p == nil || strings.Contains(fmt.Sprint(p), "a-secret") {
					t.Errorf("%s: %v", name, p)
				}
			}()
			do()
			t.Errorf("%s: signed", name)
		}()
	}
}

func TestSEC23_NoFormOfSecretShows(t *testing.T) {
	brought, err := sign.AnySecret("canary-of-a-platform")
	if err != nil {
		t.Fatal(err)
	}
	pair := sign.Ed25519.NewSecret()
	raw, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(pair.Reveal(), "whsk_"))
	var out bytes.Buffer
	for _, s := range []sign.Secret{brought, pair} {
		for _, v := range []any{s, &s, []sign.Secret{s}, struct{ s sign.Secret }{s}} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
				fmt.Fprintf(&out, verb+"\n", v)
			}
			json.NewEncoder(&out).Encode(v)
			slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
		}
	}
	for _, leak := range []string{"canary", hex.EncodeToString([]byte("canary")), pair.Reveal()[5:30], hex.EncodeToString(raw[:16]), fmt.Sprint(raw[:8])[1:20]} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("the output holds %d bytes of a secret", len(leak))
		}
	}
}

func FuzzVerifiers(f *testing.F) {
	at := time.Unix(1795255200, 0)
	secrets := map[sign.Scheme]sign.Secret{}
	for _, s := range sign.Schemes {
		secrets[s] = s.NewSecret()
		f.Add(string(s), "evt_1", "1795255200", string(s.Append(nil, []sign.Secret{secrets[s]}, "evt_1", at, []byte("x"))), "sha256=", []byte("x"))
	}
	f.Add("timestamped", "", "", "t=,v1=,v1", "", []byte(nil))
	f.Fuzz(func(t *testing.T, scheme, id, stamp, signature, previous string, body []byte) {
		s := sign.Scheme(scheme)
		secret := secrets[s]
		h := http.Header{"X-Id": {id}, "X-Time": {stamp}, "X-Signed": {signature}, "X-Signed-Previous": {previous}}
		err := verifier(s, secret).Verify(h, body, at)
		if e := (*sign.Error)(nil); err != nil && !errors.As(err, &e) {
			t.Fatalf("error of type %T", err)
		}
		if err == nil && !bytes.Equal(body, []byte("x")) {
			t.Fatalf("%s: %q passes for %q", s, signature, body)
		}
	})
}

func TestTextSchemesAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools drop items at random under the race detector")
	}
	body := bytes.Repeat([]byte("x"), 1024)
	dst := make([]byte, 0, 512)
	now := time.Now()
	for _, s := range []sign.Scheme{sign.Standard, sign.SHA256Hex, sign.Timestamped} {
		ss := []sign.Secret{s.NewSecret(), s.NewSecret()}
		if n := testing.AllocsPerRun(1000, func() { dst = s.Append(dst[:0], ss, "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV", now, body) }); n >= 1 {
			t.Errorf("%s: %v allocations", s, n)
		}
	}
}
