package deliver

import (
	"crypto/sha256"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

// Target is an [Endpoint] prepared for sending: make one whenever the endpoint
// changes. It does not change.
type Target struct {
	id      string // the endpoint's
	url     *url.URL
	format  *layout
	redact  *redactor     // nil: nothing
	plain   bool          // the body is the standard one, as it is
	secrets []sign.Secret // newest first
	ends    []time.Time   // of the secrets, zero: not; nil when none ends
	headers []targetHeader
	masked  [][]byte // what is not kept of an answer
	timeout time.Duration
	// untraced endpoints are sent no trace context.
	untraced bool
	// credentials are the endpoint's, nil if it has none; those of the types basic
	// and bearer are among the headers.
	credentials *Credentials
	auth        [sha256.Size]byte // of credentials.Auth; with credentials only, as what follows
	identity    [sha256.Size]byte // of credentials.TLS
	token       string            // that was fetched

	revision int64 // of the endpoint
}

// targetHeader is a header of the endpoint's own, in the form that http.Header
// takes. Nobody changes it.
type targetHeader struct {
	name  string
	value []string
}

// NewTarget prepares an endpoint whose format is built in: see [Formats.Target].
func NewTarget(e Endpoint) (*Target, error) { return (*Formats)(nil).Target(e) }

// Target prepares an endpoint. It fails if the URL is not one that [CheckURL]
// accepts, if there is no secret to sign with or the newest one ends, if the
// headers are not as [CheckHeaders] wants them, or if the timeout is negative; 0
// means [DefaultTimeout]. It fails with [ErrFormat] if the endpoint's format is not
// among fs, or signs by a scheme that the newest secret does not fit; older ones
// that do not fit do not sign.
func (fs *Formats) Target(e Endpoint) (*Target, error) {
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
	format := fs.layout(e.Format)
	switch {
	case format == nil:
		return nil, fmt.Errorf("endpoint %s: %w: there is no format %.100q", e.ID, ErrFormat, e.Format)
	case !format.Scheme.Fits(e.Secrets[0].Secret):
		return nil, fmt.Errorf("endpoint %s: %w: %s signs by %s, which the newest secret does not fit", e.ID, ErrFormat, format.Name, format.Scheme)
	}
	t := &Target{id: e.ID, revision: e.Revision, untraced: e.TraceParent == TraceParentOff, url: u, timeout: e.Timeout, format: format, redact: newRedactor(e.Redact)}
	t.plain = format.standard && !format.typed && t.redact == nil
	if t.timeout == 0 {
		t.timeout = DefaultTimeout
	}
	var silent []Secret // that do not sign, or are not found by their first letters
	for _, s := range e.Secrets {
		if !format.Scheme.Fits(s.Secret) || !strings.HasPrefix(s.Reveal(), secretPrefix) {
			silent = append(silent, s)
		}
	}
	signing := slices.DeleteFunc(slices.Clone(e.Secrets), func(s Secret) bool { return !format.Scheme.Fits(s.Secret) })
	for i, s := range signing {
		t.secrets = append(t.secrets, s.Secret)
		if !s.ExpiresAt.IsZero() && t.ends == nil {
			t.ends = make([]time.Time, len(signing))
		}
		if t.ends != nil {
			t.ends[i] = s.ExpiresAt
		}
	}
	for _, h := range headers {
		if !format.owns(h.Name) { // which was refused, but the format may have come later
			t.headers = append(t.headers, targetHeader{h.Name, []string{h.Value.Reveal()}})
		}
	}
	hidden := make([]string, 0, len(headers)+len(silent))
	for _, h := range headers {
		hidden = append(hidden, h.Value.Reveal())
	}
	for _, s := range silent {
		hidden = append(hidden, s.Reveal())
	}
	if e.Credentials != nil && !e.Credentials.IsZero() {
		if err := e.Credentials.CheckTogether(e.URL, headers); err != nil {
			return nil, fmt.Errorf("endpoint %s: %w", e.ID, err)
		}
		t.credentials = e.Credentials
		hidden = append(hidden, t.authorize()...)
	}
	t.masked = masked(hidden)
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
