package deliver

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// MaxURL is how long an endpoint's URL may be, in bytes.
const MaxURL = 2048

// CheckURL checks the URL of an endpoint and returns its canonical form, which
// is what is stored and called: scheme and host in lower case, no default or
// empty port, no dot at the end of the host, at least "/" as path (SEC-08).
//
// It wants https (or http, if allowed), at most [MaxURL] bytes, a host, no user
// information, no fragment, no control characters or spaces, and any port from
// 1 to 65535. The host is an IP address or a name of letters, digits, "-"
// and "_"; international names are given in Punycode. Numbers that some
// resolvers take for an IPv4 address (2130706433, 0x7f.1, 0177.0.0.1, 127.1)
// are neither.
//
// Which addresses are allowed is not asked here, but by [Guard.CheckURL].
// Errors never repeat the URL, which may hold a secret.
func CheckURL(raw string, allowHTTP bool) (canonical string, err error) {
	u, err := parseURL(raw, allowHTTP)
	if err != nil {
		return "", fmt.Errorf("url: %w", err)
	}
	return u.String(), nil
}

// CheckURL is [CheckURL], and refuses at once a host that is an address (or
// localhost) to which the guard would never let a delivery go ([ErrBlocked]),
// and a port that is not allowed ([ErrPort]). It is a kindness to whoever types
// the URL: what protects is the check when dialing. A name may turn out to be in
// an allowed network, where any port will do, so with such networks the port of
// a name is left to that.
func (g *Guard) CheckURL(raw string, allowHTTP bool) (canonical string, err error) {
	u, err := parseURL(raw, allowHTTP)
	if err != nil {
		return "", fmt.Errorf("url: %w", err)
	}
	r := g.rules()
	port := portOf(u)
	host := u.Hostname()
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		host = "127.0.0.1"
	}
	a, err := netip.ParseAddr(host)
	switch {
	case err != nil && (r.allowsPort(port) || len(r.allow) > 0):
	case err == nil && g.Check(netip.AddrPortFrom(a, port)) == nil:
	case err == nil && (r.allowsPort(port) || g.Check(netip.AddrPortFrom(a, usualPorts[0])) != nil):
		return "", fmt.Errorf("url: %w", ErrBlocked)
	default:
		return "", fmt.Errorf("url: %w: it is %d, want %s", ErrPort, port, g.portList())
	}
	return u.String(), nil
}

// portOf is the port of a canonical URL.
func portOf(u *url.URL) uint16 {
	if n, err := strconv.ParseUint(u.Port(), 10, 16); err == nil {
		return uint16(n)
	}
	if u.Scheme == "http" {
		return 80
	}
	return 443
}

// portList is the allowed ports for people: "443, 8080 or 8443".
func (g *Guard) portList() string {
	ports := slices.Compact(slices.Sorted(slices.Values(g.rules().ports)))
	texts := make([]string, len(ports))
	for i, p := range ports {
		texts[i] = strconv.Itoa(int(p))
	}
	last := len(texts) - 1
	return strings.Join(texts[:last], ", ") + " or " + texts[last]
}

func parseURL(raw string, allowHTTP bool) (*url.URL, error) {
	if len(raw) > MaxURL {
		return nil, fmt.Errorf("is %d bytes long, want at most %d", len(raw), MaxURL)
	}
	for _, c := range []byte(raw) {
		if c <= ' ' || c == 0x7f {
			return nil, errors.New("holds a control character or a space")
		}
	}
	if strings.Contains(raw, "#") {
		return nil, errors.New("has a fragment (#…), which is never sent")
	}
	u, err := url.Parse(raw)
	if err != nil {
		var e *url.Error // whose text repeats the URL
		if errors.As(err, &e) {
			err = e.Err
		}
		return nil, err
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("want https://…")
	case u.Scheme == "http" && !allowHTTP:
		return nil, errors.New("http is not allowed, want https://…")
	case u.Opaque != "" || u.Host == "":
		return nil, errors.New("has no host")
	case u.User != nil:
		return nil, errors.New("holds user information (user:password@), which is not sent")
	}
	host, err := canonicalHost(u.Hostname(), strings.HasPrefix(u.Host, "["))
	if err != nil {
		return nil, err
	}
	port, err := canonicalPort(u.Port(), u.Scheme)
	if err != nil {
		return nil, err
	}
	u.Host = host + port
	if u.Path == "" {
		u.Path = "/"
	}
	u.RawQuery = escapeBeyondASCII(u.RawQuery) // which net/url leaves as it is
	if len(u.String()) > MaxURL {
		return nil, fmt.Errorf("is longer than %d bytes once its characters are escaped", MaxURL)
	}
	return u, nil
}

func escapeBeyondASCII(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 }) {
		return s
	}
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < 0x80 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// canonicalHost is the host as it stands in a canonical URL, in brackets if it
// is an IPv6 address.
func canonicalHost(host string, bracketed bool) (string, error) {
	if bracketed {
		a, err := netip.ParseAddr(host)
		if err != nil || !a.Is6() || a.Zone() != "" {
			return "", errors.New("host in brackets is not an IPv6 address without a zone")
		}
		return "[" + a.String() + "]", nil
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" {
		return "", errors.New("has no host")
	}
	if len(host) > 253 {
		return "", errors.New("host is longer than 253 bytes")
	}
	for _, c := range []byte(host) {
		switch {
		case c >= 0x80:
			return "", errors.New("host holds characters beyond ASCII: write international names in Punycode (xn--…)")
		case !isNameByte(c) && c != '.':
			return "", fmt.Errorf("host holds %q", c)
		}
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", errors.New("host has a label that is empty, longer than 63 bytes, or begins or ends with '-'")
		}
	}
	if endsInNumber(host) {
		if a, err := netip.ParseAddr(host); err != nil || !a.Is4() {
			return "", errors.New("host looks like an IPv4 address, but is not four decimal numbers from 0 to 255")
		}
	}
	return host, nil
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// endsInNumber reports whether the last label is a decimal, octal or
// hexadecimal number. No top-level domain is one, but a resolver or a library
// in between may read such a host as an IPv4 address (WHATWG URL, "ends in a
// number checker").
func endsInNumber(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	digits := "0123456789"
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		last, digits = hex, "0123456789abcdef"
	}
	return strings.Trim(last, digits) == ""
}

// canonicalPort is ":" and the port, or "" for the scheme's own.
func canonicalPort(port, scheme string) (string, error) {
	if port == "" {
		return "", nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", errors.New("port is not 1 to 65535")
	}
	if n == 443 && scheme == "https" || n == 80 && scheme == "http" {
		return "", nil
	}
	return ":" + strconv.FormatUint(n, 10), nil
}
