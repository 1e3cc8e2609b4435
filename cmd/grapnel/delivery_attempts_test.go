package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// An attempt is shown as it went, and what others have sent cannot take over the
// terminal.
func TestPrintAttempt(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out}
	a.printAttempt(httpapi.AttemptBody{
		Number: 2, Trigger: "retry", Time: time.Date(2026, 11, 21, 10, 0, 0, 5e6, time.UTC), StatusCode: 503, ErrorClass: "http_5xx", DurationMS: 40.04,
		Timings: &httpapi.TimingsBody{DNSMS: 1.204, ConnectMS: 8.41, TLSMS: 17.92, FirstByteMS: 12.5}, RemoteAddress: "203.0.113.7:443",
		Request: &httpapi.RequestBody{
			Method: "POST", URL: "https://hooks.example/in?key=[redacted]",
			Headers: map[string]string{"webhook-signature": "[redacted]", "content-type": "application/json"}, Body: "{\"a\":\"\x1b[2J\"}",
		},
		ResponseHeaders: map[string]string{"server": "x\x1b[2J"}, ResponseBody: "try later\x07", ResponseTruncated: true,
	})
	want := `
Attempt 2 (retry) at 2026-11-21T10:00:00.005Z: 503 http_5xx after 40ms
  dns 1.2ms, connect 8.41ms, tls 17.92ms, first byte 12.5ms
  reached 203.0.113.7:443

The request:
  POST https://hooks.example/in?key=[redacted]
  content-type: application/json
  webhook-signature: [redacted]

{"a":"�[2J"}

To send it again by hand, with what is [redacted] put in:
  curl -X POST 'https://hooks.example/in?key=[redacted]' -H 'content-type: application/json' -H 'webhook-signature: [redacted]' --data-binary '{"a":"�[2J"}'

The answer:
  server: x�[2J

try later�
(there was more)
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	out.Reset()
	a.printAttempt(httpapi.AttemptBody{Number: 1, Trigger: "first", StatusCode: 204, Timings: &httpapi.TimingsBody{Reused: true, FirstByteMS: 2},
		Request: &httpapi.RequestBody{Method: "POST", URL: "https://hooks.example/", Note: noteGone}})
	want = `
Attempt 1 (first) at 0001-01-01T00:00:00.000Z: 204 after 0s
  on a connection that was there, first byte 2ms

The request:
  POST https://hooks.example/

(` + noteGone + `)
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
