package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// printAttempt shows one attempt as it went: the request, where the time went,
// and the answer.
func (a *app) printAttempt(at httpapi.AttemptBody) {
	a.printf("\n%s\n", a.ink().bold(fmt.Sprintf("Attempt %d (%s) at %s: %s after %s", at.Number, at.Trigger,
		at.Time.UTC().Format("2006-01-02T15:04:05.000Z"), result(at), took(at))))
	if at.Error != "" {
		a.printf("  %s\n", oneLine(at.Error))
	}
	if line := timingsLine(at.Timings); line != "" {
		a.printf("  %s\n", line)
	}
	if at.RemoteAddress != "" {
		a.printf("  reached %s\n", oneLine(at.RemoteAddress))
	}
	if r := at.Request; r != nil {
		a.printRequest(*r)
	}
	a.printAnswer("\nThe answer:\n", at)
}

// timingsLine is where the time went: dns 1.2ms, connect 8.4ms, …
func timingsLine(t *httpapi.TimingsBody) string {
	if t == nil {
		return ""
	}
	var parts []string
	if t.Reused {
		parts = append(parts, "on a connection that was there")
	}
	for _, p := range []struct {
		name string
		ms   float64
	}{{"dns", t.DNSMS}, {"connect", t.ConnectMS}, {"tls", t.TLSMS}, {"first byte", t.FirstByteMS}} {
		if p.ms > 0 {
			parts = append(parts, p.name+" "+time.Duration(p.ms*float64(time.Millisecond)).Round(10*time.Microsecond).String())
		}
	}
	return strings.Join(parts, ", ")
}

func (a *app) printRequest(r httpapi.RequestBody) {
	if r.Method != "" {
		a.printf("\nThe request:\n  %s %s\n", r.Method, oneLine(r.URL))
		for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
			a.printf("  %s: %s\n", name, oneLine(r.Headers[name]))
		}
	}
	if r.Body != "" {
		a.printf("\n%s\n", printable(r.Body))
	}
	if r.Truncated {
		a.printf("%s\n", a.ink().faint("(there was more)"))
	}
	if r.Note != "" {
		a.printf("\n%s\n", a.ink().faint("("+r.Note+")"))
	}
	if line := curlLine(r); line != "" {
		a.printf("\nTo send it again by hand, with what is [redacted] put in:\n  %s\n", line)
	}
}

// curlLine is the request as a command; "" when the body is not whole.
func curlLine(r httpapi.RequestBody) string {
	if r.Method == "" || r.Truncated || r.Note != "" {
		return ""
	}
	words := []string{"curl", "-X", r.Method, shellWord(r.URL)}
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		words = append(words, "-H", shellWord(name+": "+r.Headers[name]))
	}
	return strings.Join(append(words, "--data-binary", shellWord(r.Body)), " ")
}

// shellWord is s as one word of a shell. What could take over a terminal is
// replaced, as everywhere: JSON has no such bytes.
func shellWord(s string) string {
	return "'" + strings.ReplaceAll(printable(s), "'", `'\''`) + "'"
}
