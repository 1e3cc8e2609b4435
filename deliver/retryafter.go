package deliver

import (
	"net/http"
	"strings"
	"time"
)

// retryAfter reads the value of a Retry-After header (RFC 9110, section
// 10.2.3): seconds, or an HTTP date, which is measured from now. Past, negative
// and unreadable values are 0, longer ones [MaxRetryAfter].
func retryAfter(v string, now time.Time) time.Duration {
	v = strings.TrimSpace(v)
	if d, ok := seconds(v); ok {
		return d
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), MaxRetryAfter)
}

// seconds reads a decimal number, capped at MaxRetryAfter however long it is.
func seconds(v string) (time.Duration, bool) {
	if v == "" {
		return 0, false
	}
	var n time.Duration
	for _, c := range []byte(v) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+time.Duration(c-'0')*time.Second, MaxRetryAfter)
	}
	return n, true
}
