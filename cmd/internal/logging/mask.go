package logging

import (
	"fmt"
	"log/slog"
	"regexp"
	"strings"
)

// The last line of defence: what writes a log has no business with secrets, and
// hides those that it has. Here goes what looks like one all the same (SEC-23).

const masked = "[redacted]"

// secretNames are parts of names whose values are never logged.
var secretNames = []string{"token", "secret", "password", "authorization", "cookie", "signature"}

// secretTexts are how grapnel's own secrets begin: of endpoints, of the API, of the
// database.
var secretTexts = regexp.MustCompile(`(whsec_|whsk_|gk_|gkey_)[A-Za-z0-9+/=_-]{16,}`)

// mask hides the value of an attribute that is a secret by its name, or holds
// something that begins as one.
func mask(a slog.Attr) slog.Attr {
	var text string
	switch v := a.Value; v.Kind() {
	case slog.KindString:
		text = v.String()
	case slog.KindAny:
		switch of := v.Any().(type) {
		case error:
			text = of.Error()
		case fmt.Stringer, []byte, []string, map[string]string, map[string][]string:
			text = fmt.Sprint(of)
		default:
			if named(a.Key) {
				return slog.String(a.Key, masked)
			}
			return a
		}
	default:
		return a // numbers, times and durations are no secrets
	}
	if named(a.Key) && text != "" && !strings.HasPrefix(text, "tok_") { // the id of a token is none
		return slog.String(a.Key, masked)
	}
	if strings.Contains(text, "wh") || strings.Contains(text, "gk") {
		if hidden := secretTexts.ReplaceAllString(text, "$1"+masked); hidden != text {
			return slog.String(a.Key, hidden)
		}
	}
	return a
}

// named reports whether that is a secret's name.
func named(key string) bool {
	key = strings.ToLower(key)
	for _, n := range secretNames {
		if strings.Contains(key, n) {
			return true
		}
	}
	return false
}
