package sign_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"pgregory.net/rapid"
)

type vector struct {
	Name      string
	Secrets   []string
	ID        string
	Timestamp int64
	Body      string
	Signature string
}

func vectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile("../../testdata/signatures/standard.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []vector }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	return file.Cases
}

func secrets(t testing.TB, texts ...string) []sign.Secret {
	t.Helper()
	var out []sign.Secret
	for _, text := range texts {
		s, err := sign.ParseSecret(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

func headers(id string, at time.Time, signature string) http.Header {
	return http.Header{
		sign.HeaderID:        {id},
		sign.HeaderTimestamp: {strconv.FormatInt(at.Unix(), 10)},
		sign.HeaderSignature: {signature},
	}
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			ss := secrets(t, v.Secrets...)
			at := time.Unix(v.Timestamp, 0)
			if got := sign.Sign(ss, v.ID, at, []byte(v.Body)); got != v.Signature {
				t.Errorf("signature\n got %s\nwant %s", got, v.Signature)
			}
			h := headers(v.ID, at, v.Signature)
			for i, s := range ss { // each secret by itself is enough
				if err := sign.Verify([]sign.Secret{s}, h, []byte(v.Body), at, 0); err != nil {
					t.Errorf("our Verify with secret %d: %v", i, err)
				}
				official, err := standardwebhooks.NewWebhook(v.Secrets[i])
				if err != nil {
					t.Fatal(err)
				}
				if err := official.VerifyIgnoringTimestamp([]byte(v.Body), h); err != nil {
					t.Errorf("the official library with secret %d: %v", i, err)
				}
			}
		})
	}
}

// Whatever is signed, the official library accepts what we sign, and we accept
// what it signs.
func TestOfficialLibraryAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), sign.MinKey, sign.MaxKey).Draw(t, "key")
		text := "whsec_" + base64.StdEncoding.EncodeToString(key)
		id := rapid.StringMatching(`[!-\-/-~]{1,200}`).Draw(t, "id")
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		now := time.Now()

		s, err := sign.ParseSecret(text)
		if err != nil {
			t.Fatal(err)
		}
		official, err := standardwebhooks.NewWebhook(text)
		if err != nil {
			t.Fatal(err)
		}
		rotated := []sign.Secret{sign.NewSecret(), s}
		if err := official.Verify(body, headers(id, now, sign.Sign(rotated, id, now, body))); err != nil {
			t.Fatalf("the official library refuses ours: %v", err)
		}
		theirs, err := official.Sign(id, now, body)
		if err != nil {
			t.Fatal(err)
		}
		if err := sign.Verify(rotated, headers(id, now, theirs), body, now, 0); err != nil {
			t.Fatalf("we refuse the official library's: %v", err)
		}
	})
}

func TestVerifyNamesTheCheck(t *testing.T) {
	secret := sign.NewSecret()
	now := time.Unix(1795255200, 500e6)
	body := []byte(`{"type":"invoice.paid"}`)
	const id = "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV"
	good := sign.Sign([]sign.Secret{secret}, id, now, body)
	mac := strings.TrimPrefix(good, "v1,")

	at := func(d time.Duration) func(http.Header) {
		return func(h http.Header) {
			then := now.Add(d)
			h.Set(sign.HeaderTimestamp, strconv.FormatInt(then.Unix(), 10))
			h.Set(sign.HeaderSignature, sign.Sign([]sign.Secret{secret}, id, then, body))
		}
	}
	set := func(name string, values ...string) func(http.Header) {
		return func(h http.Header) { h[name] = values }
	}
	for _, tc := range []struct {
		name   string
		change func(http.Header)
		check  sign.Check // "" passes
		header string
	}{
		{"as signed", func(http.Header) {}, "", ""},
		{"lower-case names", func(h http.Header) {
			for k, v := range h {
				delete(h, k)
				h[strings.ToLower(k)] = v
			}
		}, "", ""},
		{"no id", set(sign.HeaderID), sign.Present, sign.HeaderID},
		{"empty id", set(sign.HeaderID, ""), sign.Present, sign.HeaderID},
		{"two ids", set(sign.HeaderID, id, id), sign.Present, sign.HeaderID},
		{"no timestamp", set(sign.HeaderTimestamp), sign.Present, sign.HeaderTimestamp},
		{"no signature", set(sign.HeaderSignature), sign.Present, sign.HeaderSignature},
		{"two signature headers", set(sign.HeaderSignature, good, good), sign.Present, sign.HeaderSignature},
		{"id with a dot", set(sign.HeaderID, "evt.1"), sign.WellFormed, sign.HeaderID},
		{"timestamp with a sign", set(sign.HeaderTimestamp, "+1795255200"), sign.WellFormed, sign.HeaderTimestamp},
		{"timestamp with a fraction", set(sign.HeaderTimestamp, "1795255200.5"), sign.WellFormed, sign.HeaderTimestamp},
		{"timestamp too long", set(sign.HeaderTimestamp, "1795255200000000"), sign.WellFormed, sign.HeaderTimestamp},
		{"no v1 at all", set(sign.HeaderSignature, "v1a,"+mac), sign.WellFormed, sign.HeaderSignature},
		{"a thousand signatures", set(sign.HeaderSignature, strings.Repeat("v1,x ", 1000)+good), sign.WellFormed, sign.HeaderSignature},
		{"299 s ago", at(-299 * time.Second), "", ""},
		{"299 s ahead", at(299 * time.Second), "", ""},
		{"301 s ago", at(-301 * time.Second), sign.Fresh, ""},
		{"301 s ahead", at(301 * time.Second), sign.Fresh, ""},
		{"SEC-31 empty v1", set(sign.HeaderSignature, "v1,"), sign.Authentic, ""},
		{"SEC-31 short v1", set(sign.HeaderSignature, "v1,"+mac[:43]), sign.Authentic, ""},
		{"SEC-31 half a MAC", set(sign.HeaderSignature, "v1,"+base64.StdEncoding.EncodeToString(make([]byte, 16))), sign.Authentic, ""},
		{"not base64", set(sign.HeaderSignature, "v1,"+strings.Repeat("!", 44)), sign.Authentic, ""},
		{"upper-case scheme", set(sign.HeaderSignature, "V1,"+mac), sign.WellFormed, sign.HeaderSignature},
		{"another secret's", set(sign.HeaderSignature, sign.Sign([]sign.Secret{sign.NewSecret()}, id, now, body)), sign.Authentic, ""},
		{"another scheme's, then ours", set(sign.HeaderSignature, "v1a,AAAA "+good), "", ""},
		{"ours twice", set(sign.HeaderSignature, good+" "+good), "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := headers(id, now, good)
			tc.change(h)
			err := sign.Verify([]sign.Secret{secret}, h, body, now, 0)
			var got sign.Error
			if e := (*sign.Error)(nil); errors.As(err, &e) {
				got = *e
			} else if err != nil {
				t.Fatalf("error of type %T: %v", err, err)
			}
			if got.Check != tc.check || got.Header != tc.header {
				t.Errorf("failed check %q of header %q, want %q of %q (%v)", got.Check, got.Header, tc.check, tc.header, err)
			}
		})
	}
}

func TestVerifyRefusesAChange(t *testing.T) {
	secret, now := sign.NewSecret(), time.Now()
	body := []byte(`{"a":1}`)
	h := headers("evt_1", now, sign.Sign([]sign.Secret{secret}, "evt_1", now, body))
	for i := range body {
		changed := bytes.Clone(body)
		changed[i] ^= 1
		if sign.Verify([]sign.Secret{secret}, h, changed, now, 0) == nil {
			t.Errorf("byte %d changed, and it passes", i)
		}
	}
	if sign.Verify(nil, h, body, now, 0) == nil {
		t.Error("passes without secrets")
	}
	if sign.Verify([]sign.Secret{{}}, h, body, now, 0) == nil {
		t.Error("passes with the zero secret")
	}
}

func TestSkewIsInTheError(t *testing.T) {
	now := time.Unix(1795255200, 0)
	secret := sign.NewSecret()
	h := headers("evt_1", now.Add(400*time.Second), "v1,")
	want := "verify webhook: timestamp is 400 s in the future, more than the 300 s that are tolerated"
	if err := sign.Verify([]sign.Secret{secret}, h, nil, now, 0); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	h = headers("evt_1", now.Add(-61*time.Second), "v1,")
	want = "verify webhook: timestamp is 61 s in the past, more than the 60 s that are tolerated"
	if err := sign.Verify([]sign.Secret{secret}, h, nil, now, time.Minute); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestParseSecret(t *testing.T) {
	enc := func(n int) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, n)) }
	for _, tc := range []struct {
		name, text string
		ok         bool
	}{
		{"24 bytes", "whsec_" + enc(24), true},
		{"32 bytes", "whsec_" + enc(32), true},
		{"64 bytes", "whsec_" + enc(64), true},
		{"23 bytes", "whsec_" + enc(23), false},
		{"65 bytes", "whsec_" + enc(65), false},
		{"empty", "", false},
		{"prefix only", "whsec_", false},
		{"no prefix", enc(32), false},
		{"another prefix", "whsk_" + enc(32), false},
		{"no padding", "whsec_" + strings.TrimRight(enc(32), "="), false},
		{"URL alphabet", "whsec_" + strings.NewReplacer("+", "-", "/", "_").Replace(enc(32)), false},
		{"newline inside", "whsec_" + enc(24)[:8] + "\n" + enc(24)[8:], false},
		{"space at the end", "whsec_" + enc(24) + " ", false},
		{"bits beyond the last byte", "whsec_" + enc(32)[:42] + "9=", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, err := sign.ParseSecret(tc.text)
			if (err == nil) != tc.ok {
				t.Fatalf("error %v, want ok %v", err, tc.ok)
			}
			if err != nil {
				if err != sign.ErrSecret || !s.IsZero() {
					t.Errorf("got %v and zero %v", err, s.IsZero())
				}
				return
			}
			if s.Reveal() != tc.text {
				t.Error("Reveal differs from what was parsed")
			}
		})
	}
}

func TestNewSecretsDiffer(t *testing.T) {
	a, b := sign.NewSecret(), sign.NewSecret()
	if a.Equal(b) || a.Reveal() == b.Reveal() {
		t.Error("two new secrets are the same")
	}
	again, err := sign.ParseSecret(a.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, again); diff != "" { // by Secret.Equal
		t.Error("a secret does not survive Reveal and ParseSecret")
	}
}

func TestSEC23_SecretsDoNotShow(t *testing.T) {
	secret := sign.NewSecret()
	text := strings.TrimPrefix(secret.Reveal(), "whsec_")
	key, _ := base64.StdEncoding.DecodeString(text)
	type hidden struct{ s sign.Secret }
	values := []any{secret, &secret, []sign.Secret{secret}, map[string]sign.Secret{"a": secret}, struct{ S sign.Secret }{secret}, hidden{secret}, &hidden{secret}}
	var out bytes.Buffer
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		fmt.Fprintln(&out, v)
		if err := json.NewEncoder(&out).Encode(v); err != nil {
			t.Fatal(err)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
	}
	fmt.Fprintln(&out, fmt.Errorf("with %v", secret))
	for _, leak := range []string{text, text[:12], string(key), fmt.Sprintf("%x", key), fmt.Sprintf("%X", key), fmt.Sprint(key)} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("the output holds %d bytes of the secret", len(leak))
		}
	}
	if n := strings.Count(out.String(), "[redacted]"); n < 40 {
		t.Errorf("only %d times [redacted] in:\n%s", n, out.String())
	}
}

func FuzzVerifyHeaders(f *testing.F) {
	secret := secrets(f, vectors(f)[0].Secrets...)
	for _, v := range vectors(f) {
		f.Add(v.ID, strconv.FormatInt(v.Timestamp, 10), v.Signature, []byte(v.Body))
	}
	f.Add("", "", "v1, v1 v1a,x ,", []byte(nil))
	f.Add("a.b", "-1", "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", []byte("x"))
	official, err := standardwebhooks.NewWebhook(vectors(f)[0].Secrets[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, id, stamp, signature string, body []byte) {
		h := http.Header{sign.HeaderID: {id}, sign.HeaderTimestamp: {stamp}, sign.HeaderSignature: {signature}}
		n, _ := strconv.ParseInt(stamp, 10, 64)
		err := sign.Verify(secret, h, body, time.Unix(n, 0), 0)
		if e := (*sign.Error)(nil); err != nil && !errors.As(err, &e) {
			t.Fatalf("error of type %T", err)
		}
		// We may be stricter than the official library, never more lenient. (It
		// signs the number, we the text: leading zeros are out of its sight.)
		if err == nil && !strings.HasPrefix(stamp, "0") && official.VerifyIgnoringTimestamp(body, h) != nil {
			t.Fatal("we accept what the official library refuses")
		}
	})
}

func TestAppendSignatureAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools drop items at random under the race detector")
	}
	ss := []sign.Secret{sign.NewSecret(), sign.NewSecret()}
	body := bytes.Repeat([]byte("x"), 1024)
	dst := make([]byte, 0, 256)
	now := time.Now()
	if n := testing.AllocsPerRun(1000, func() { dst = sign.AppendSignature(dst[:0], ss, "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV", now, body) }); n >= 1 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAppendSignature(b *testing.B) {
	ss := []sign.Secret{sign.NewSecret()}
	body := bytes.Repeat([]byte("x"), 1024)
	dst := make([]byte, 0, 256)
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		dst = sign.AppendSignature(dst[:0], ss, "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV", now, body)
	}
}
