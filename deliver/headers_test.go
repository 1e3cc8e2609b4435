package deliver_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

// headers makes them from names and values; a value of "-" is none.
func headers(pairs ...string) []deliver.Header {
	hs := []deliver.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h := deliver.Header{Name: pairs[i]}
		if pairs[i+1] != "-" {
			h.Value = deliver.NewHeaderValue(pairs[i+1])
		}
		hs = append(hs, h)
	}
	return hs
}

func TestSEC22_CheckHeaders(t *testing.T) {
	many := func(n, size int) (pairs []string) {
		for i := range n {
			pairs = append(pairs, fmt.Sprintf("X-%02d", i), strings.Repeat("v", size))
		}
		return pairs
	}
	for _, tc := range []struct {
		name string
		in   []string
		want []string
		err  string
	}{
		{"none", nil, nil, ""},
		{"canonical and sorted", []string{"x-tenant", "7", "authorization", "Bearer canary"}, []string{"Authorization", "Bearer canary", "X-Tenant", "7"}, ""},
		{"empty value", []string{"X-A", ""}, []string{"X-A", ""}, ""},
		{"tab inside", []string{"X-A", "canary\tb"}, []string{"X-A", "canary\tb"}, ""},
		{"odd token", []string{"X!#$%&'*+.^_`|~9", "v"}, []string{"X!#$%&'*+.^_`|~9", "v"}, ""},
		{"twenty of the longest", many(7, 1024), many(7, 1024), ""},
		{"twenty", many(20, 10), many(20, 10), ""},
		{"twenty-one", many(21, 10), nil, "headers: 21 are given, at most 20 may be"},
		{"8 KiB and more", many(8, 1024), nil, "headers: names and values have 8224 bytes together"},
		{"a long value", many(1, 1025), nil, "header X-00: the value has 1025 bytes"},
		{"no value", []string{"X-A", "-"}, nil, "header X-A: has no value"},
		{"twice", []string{"X-A", "canary", "x-a", "2"}, nil, "header X-A: is given twice"},
		{"empty name", []string{"", "canary"}, nil, "headers: a name is empty"},
		{"a line pasted as name", []string{"Authorization: Bearer canary", "canary"}, nil, "headers: a name holds ':'"},
		{"name beyond ASCII", []string{"X-Ä", "canary"}, nil, "headers: a name holds"},
		{"line break", []string{"X-A", "canary\r\nX-Forged: 1"}, nil, "header X-A: the value holds a control character"},
		{"NUL", []string{"X-A", "canary\x00"}, nil, "header X-A: the value holds a control character"},
		{"DEL", []string{"X-A", "canary\x7f"}, nil, "header X-A: the value holds a control character"},
		{"beyond ASCII", []string{"X-A", "canary ä"}, nil, "header X-A: the value holds a control character or one beyond ASCII"},
		{"space at the end", []string{"X-A", "canary "}, nil, "header X-A: the value begins or ends with a space"},
		{"tab at the beginning", []string{"X-A", "\tcanary"}, nil, "header X-A: the value begins or ends with a space"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := deliver.CheckHeaders(headers(tc.in...))
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			var e *deliver.HeaderError
			if err != nil && (!errors.As(err, &e) || strings.Contains(err.Error(), "canary")) {
				t.Errorf("error %T holds the value, or is of the wrong type", err)
			}
			if diff := cmp.Diff(headers(tc.want...), got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
		})
	}
	for _, name := range []string{
		"Host", "content-length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Connection", "Upgrade", "TE", "Trailer",
		"Expect", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Accept-Encoding", "USER-AGENT", "Webhook-Id", "webhook-anything",
		"Grapnel-Delivery", "grapnel-x", "Traceparent", "tracestate", "Baggage", "Idempotency-Key", "X-Idempotency-Key",
	} {
		if _, err := deliver.CheckHeaders(headers(name, "v")); err == nil || !strings.Contains(err.Error(), name+": cannot be set") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestSEC21_ChangeHeaders(t *testing.T) {
	now := headers("Authorization", "Bearer canary", "X-Tenant", "7")
	given := func(pairs ...string) *[]deliver.Header {
		hs := headers(pairs...)
		return &hs
	}
	for _, tc := range []struct {
		name  string
		now   []deliver.Header
		given *[]deliver.Header
		moved bool
		want  []deliver.Header
		err   string
	}{
		{"nothing said", now, nil, false, now, ""},
		{"dropped", now, given(), false, nil, ""},
		{"replaced", now, given("X-New", "1"), false, headers("X-New", "1"), ""},
		{"one kept", now, given("authorization", "-", "X-New", "1"), false, headers("Authorization", "Bearer canary", "X-New", "1"), ""},
		{"one kept that is not there", now, given("X-Other", "-"), false, nil, "header X-Other: has no value"},
		{"moves", now, nil, true, nil, deliver.ErrOrigin.Error()},
		{"moves, keeps one", now, given("Authorization", "-"), true, nil, deliver.ErrOrigin.Error()},
		{"moves, dropped", now, given(), true, nil, ""},
		{"moves, given again", now, given("Authorization", "Bearer other"), true, headers("Authorization", "Bearer other"), ""},
		{"moves, had none", nil, nil, true, nil, ""},
		{"reserved", now, given("Host", "x"), false, nil, "header Host: cannot be set"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := deliver.ChangeHeaders(tc.now, tc.given, tc.moved)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.err)) {
				t.Errorf("error %v, want %q", err, tc.err)
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("headers (-want +got):\n%s", diff)
			}
		})
	}
	if now[0].Value.Reveal() != "Bearer canary" {
		t.Error("the present headers were changed")
	}
}

func TestSameOrigin(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"https://a.example/x", "https://a.example/y?z", true},
		{"https://a.example", "https://A.example:443/", true},
		{"https://a.example/", "https://b.example/", false},
		{"https://a.example/", "https://x.a.example/", false},
		{"https://a.example/", "http://a.example/", false},
		{"https://a.example/", "https://a.example:8443/", false},
		{"https://a.example/", "nonsense", false},
	} {
		if got := deliver.SameOrigin(tc.a, tc.b); got != tc.want {
			t.Errorf("%s and %s: %v", tc.a, tc.b, got)
		}
	}
}

// An exchange that served an endpoint with headers serves the next one without
// them, and what is ours is ours.
func TestHeadersStayWithTheirEndpoint(t *testing.T) {
	r := delivertest.NewReceiver()
	url := r.Start(t)
	s := newSender(t, loopback())
	made := func(pairs ...string) *deliver.Target {
		to, err := deliver.NewTarget(deliver.Endpoint{ID: "ep_1", URL: url, Secrets: []deliver.Secret{{Secret: sign.NewSecret()}}, Headers: headers(pairs...)})
		if err != nil {
			t.Fatal(err)
		}
		return to
	}
	bare, one, two := made(), made("Authorization", "Bearer one", "X-A", "1"), made("Authorization", "Bearer two", "Accept", "*/*")
	for i, tc := range []struct {
		to   *deliver.Target
		want map[string]string
	}{
		{bare, map[string]string{}},
		{one, map[string]string{"Authorization": "Bearer one", "X-A": "1"}},
		{two, map[string]string{"Authorization": "Bearer two", "Accept": "*/*"}},
		{one, map[string]string{"Authorization": "Bearer one", "X-A": "1"}},
		{bare, map[string]string{}},
	} {
		if o := send(t, s, tc.to, int64(i)); o.Class != deliver.OK {
			t.Fatalf("outcome %+v", o)
		}
		got := map[string]string{}
		h := r.Requests()[i].Header
		for _, name := range []string{"Authorization", "X-A", "Accept"} {
			if v, ok := h[name]; ok {
				got[name] = strings.Join(v, "|")
			}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("request %d (-want +got):\n%s", i, diff)
		}
		if h.Get("Content-Type") != "application/json" || h.Get("User-Agent") != "grapnel/test" || h.Get(sign.HeaderSignature) == "" {
			t.Errorf("request %d lacks headers of ours: %v", i, h)
		}
	}
}

func TestNewTargetChecksHeadersAndSecrets(t *testing.T) {
	good := deliver.Endpoint{ID: "ep_1", URL: "https://example.com/", Secrets: []deliver.Secret{{Secret: sign.NewSecret()}}}
	forged, ending := good, good
	forged.Headers = headers("Webhook-Id", "canary")
	ending.Secrets = []deliver.Secret{{Secret: sign.NewSecret(), ExpiresAt: time.Now().Add(time.Hour)}}
	for _, e := range []deliver.Endpoint{forged, ending} {
		if _, err := deliver.NewTarget(e); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("error %v", err)
		}
	}
}

func TestSEC23_HeaderValuesDoNotShow(t *testing.T) {
	v := deliver.NewHeaderValue("Bearer canary")
	type hidden struct{ v deliver.HeaderValue }
	var out bytes.Buffer
	for _, v := range []any{v, &v, []deliver.HeaderValue{v}, hidden{v}, &hidden{v}, deliver.Header{Name: "X", Value: v}, deliver.Endpoint{Headers: []deliver.Header{{Name: "X", Value: v}}, Secrets: []deliver.Secret{{Secret: sign.NewSecret()}}}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		if err := json.NewEncoder(&out).Encode(v); err != nil {
			t.Fatal(err)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "v", v)
	}
	for _, leak := range []string{"canary", fmt.Sprintf("%x", "canary"), "whsec_"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("the output holds %s", leak)
		}
	}
}

// What CheckHeaders lets through is read as it was written, under that name and
// nothing else.
func FuzzCheckHeaders(f *testing.F) {
	f.Add("Authorization", "Bearer x", "X-A", "")
	f.Add("host", "a", "x-a\r\n", "b\r\nc")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		got, err := deliver.CheckHeaders(headers(name1, value1, name2, value2))
		if e := (*deliver.HeaderError)(nil); err != nil && !errors.As(err, &e) {
			t.Fatalf("error of type %T", err)
		}
		if err != nil {
			return
		}
		text, want := "POST / HTTP/1.1\r\nHost: a\r\n", http.Header{}
		for _, h := range got {
			text += h.Name + ": " + h.Value.Reveal() + "\r\n"
			want[h.Name] = []string{h.Value.Reveal()}
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text + "\r\n")))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if diff := cmp.Diff(want, r.Header); diff != "" {
			t.Fatalf("headers (-checked +read):\n%s", diff)
		}
		if again, err := deliver.CheckHeaders(got); err != nil || cmp.Diff(got, again) != "" {
			t.Fatalf("checking again changes something: %v", err)
		}
	})
}
