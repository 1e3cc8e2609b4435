package deliver

import (
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

// Target is an [Endpoint] prepared for sending: make one whenever the endpoint
// changes. It does not change.
type Target struct {
	url     *url.URL
	secrets []sign.Secret // newest first
	ends    []time.Time   // of the secrets, zero: not; nil when none ends
	headers []targetHeader
	masked  [][]byte // what is not kept of an answer
	timeout time.Duration
}

// targetHeader is a header of the endpoint's own, in the form that http.Header
// takes. Nobody changes it.
type targetHeader struct {
	name  string
	value []string
}

// NewTarget prepares an endpoint. It fails if the URL is not one that
// [CheckURL] accepts, if there is no secret to sign with or the newest one
// ends, if the headers are not as [CheckHeaders] wants them, or if the timeout
// is negative; 0 means [DefaultTimeout].
func NewTarget(e Endpoint) (*Target, error) {
	u, err := parseURL(e.URL, true) // whether http is allowed is the Sender's to say
	if err != nil {
		return nil, fmt.Errorf("endpoint %s: url: %w", e.ID, err)
	}
	if len(e.Secrets) == 0 || slices.ContainsFunc(e.Secrets, func(s Secret) bool { return s.IsZero() }) {
		return nil, fmt.Errorf("endpoint %s: has no signing secret", e.ID)
	}
	if !e.Secrets[0].ExpiresAt.IsZero() {
		return nil, fmt.Errorf("endpoint %s: the newest signing secret has an end", e.ID)
	}
	headers, err := CheckHeaders(e.Headers)
	if err != nil {
		return nil, fmt.Errorf("endpoint %s: %w", e.ID, err)
	}
	if e.Timeout < 0 {
		return nil, fmt.Errorf("endpoint %s: timeout is %v", e.ID, e.Timeout)
	}
	t := &Target{url: u, timeout: e.Timeout}
	if t.timeout == 0 {
		t.timeout = DefaultTimeout
	}
	for i, s := range e.Secrets {
		t.secrets = append(t.secrets, s.Secret)
		if !s.ExpiresAt.IsZero() && t.ends == nil {
			t.ends = make([]time.Time, len(e.Secrets))
		}
		if t.ends != nil {
			t.ends[i] = s.ExpiresAt
		}
	}
	for _, h := range headers {
		t.headers = append(t.headers, targetHeader{h.Name, []string{h.Value.Reveal()}})
	}
	t.masked = masked(t.headers)
	return t, nil
}

// live are the secrets that sign at now, newest first. They are appended to dst
// unless they are all.
func (t *Target) live(dst []sign.Secret, now time.Time) []sign.Secret {
	if t.ends == nil {
		return t.secrets
	}
	for i, s := range t.secrets {
		if (Secret{ExpiresAt: t.ends[i]}).Live(now) {
			dst = append(dst, s)
		}
	}
	return dst
}
