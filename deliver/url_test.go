package deliver

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func TestCheckURL(t *testing.T) {
	long := "https://example.com/" + strings.Repeat("a", MaxURL-len("https://example.com/"))
	for _, tc := range []struct {
		name, raw, want, err string
	}{
		{"plain", "https://example.com/hook", "https://example.com/hook", ""},
		{"no path", "https://example.com", "https://example.com/", ""},
		{"query", "https://example.com/h?a=1&b=%20", "https://example.com/h?a=1&b=%20", ""},
		{"upper case", "HTTPS://Example.COM/Hook", "https://example.com/Hook", ""},
		{"default port", "https://example.com:443/h", "https://example.com/h", ""},
		{"empty port", "https://example.com:/h", "https://example.com/h", ""},
		{"another port", "https://example.com:08443/h", "https://example.com:8443/h", ""},
		{"any port is allowed", "https://example.com:25/", "https://example.com:25/", ""},
		{"http's port on https", "https://example.com:80/", "https://example.com:80/", ""},
		{"largest port", "https://example.com:65535/", "https://example.com:65535/", ""},
		{"dot at the end", "https://example.com./h", "https://example.com/h", ""},
		{"underscore", "https://my_service.internal/h", "https://my_service.internal/h", ""},
		{"Punycode", "https://xn--mnchen-3ya.example/h", "https://xn--mnchen-3ya.example/h", ""},
		{"IPv4", "https://93.184.215.14/h", "https://93.184.215.14/h", ""},
		{"IPv6", "https://[2606:2800:021F::1]:8443/h", "https://[2606:2800:21f::1]:8443/h", ""},
		{"path beyond ASCII", "https://example.com/ü", "https://example.com/%C3%BC", ""},
		{"query beyond ASCII", "https://example.com/?q=ü", "https://example.com/?q=%C3%BC", ""},
		{"at sign in the path", "https://example.com/@me", "https://example.com/@me", ""},
		{"longest", long, long, ""},
		{"a number in a name", "https://1.example/", "https://1.example/", ""},
		{"hexadecimal in a name", "https://0xcafe.example/", "https://0xcafe.example/", ""},

		{"too long", long + "a", "", "is 2049 bytes long, want at most 2048"},
		{"too long once escaped", "https://example.com/" + strings.Repeat("ü", 900), "", "once its characters are escaped"},
		{"empty", "", "", "want https://…"},
		{"no scheme", "example.com/h", "", "want https://…"},
		{"relative", "//example.com/h", "", "want https://…"},
		{"another scheme", "ftp://example.com/", "", "want https://…"},
		{"javascript", "javascript:alert(1)", "", "want https://…"},
		{"http", "http://example.com/", "", "http is not allowed, want https://…"},
		{"opaque", "https:example.com", "", "has no host"},
		{"no host", "https:///h", "", "has no host"},
		{"port without host", "https://:443/h", "", "has no host"},
		{"only a dot", "https://./", "", "has no host"},
		{"user", "https://u@example.com/", "", "user information"},
		{"user and password", "https://u:p@example.com/", "", "user information"},
		{"empty user", "https://@example.com/", "", "user information"},
		{"fragment", "https://example.com/#a", "", "fragment"},
		{"empty fragment", "https://example.com/#", "", "fragment"},
		{"port 0", "https://example.com:0/", "", "port is not 1 to 65535"},
		{"port 65536", "https://example.com:65536/", "", "port is not 1 to 65535"},
		{"port 99999", "https://example.com:99999/", "", "port is not 1 to 65535"},
		{"port with a letter", "https://example.com:8o/", "", "invalid port"},
		{"newline", "https://example.com/\n", "", "control character or a space"},
		{"tab in the host", "https://exam\tple.com/", "", "control character or a space"},
		{"NUL", "https://example.com/\x00", "", "control character or a space"},
		{"DEL", "https://example.com/\x7f", "", "control character or a space"},
		{"space", "https://example.com/a b", "", "control character or a space"},
		{"line break, escaped, in the host", "https://example.com%0d%0a/", "", "invalid URL escape"},
		{"backslash", `https://example.com\@127.0.0.1/`, "", "invalid"},
		{"full-width digits", "https://１２７.０.０.１/", "", "Punycode"},
		{"umlaut", "https://münchen.example/", "", "Punycode"},
		{"escaped umlaut", "https://m%C3%BCnchen.example/", "", "Punycode"},
		{"ideographic full stop", "https://127。0。0。1/", "", "Punycode"},
		{"soft hyphen", "https://exam\u00adple.com/", "", "Punycode"},
		{"one number", "https://2130706433/", "", "looks like an IPv4 address"},
		{"hexadecimal", "https://0x7f000001/", "", "looks like an IPv4 address"},
		{"hexadecimal, upper case", "https://0X7F.1/", "", "looks like an IPv4 address"},
		{"bare 0x", "https://127.0.0.0x/", "", "looks like an IPv4 address"},
		{"octal", "https://0177.0.0.1/", "", "looks like an IPv4 address"},
		{"leading zero", "https://127.0.0.01/", "", "looks like an IPv4 address"},
		{"two parts", "https://127.1/", "", "looks like an IPv4 address"},
		{"five parts", "https://1.2.3.4.5/", "", "looks like an IPv4 address"},
		{"part above 255", "https://1.2.3.256/", "", "looks like an IPv4 address"},
		{"a name that ends in a number", "https://example.1/", "", "looks like an IPv4 address"},
		{"zone", "https://[fe80::1%25eth0]/", "", "IPv6 address without a zone"},
		{"IPv4 in brackets", "https://[127.0.0.1]/", "", "invalid IP-literal"},
		{"junk in brackets", "https://[::g]/", "", "invalid host"},
		{"empty label", "https://a..b/", "", "label"},
		{"label too long", "https://" + strings.Repeat("a", 64) + ".example/", "", "label"},
		{"label begins with a hyphen", "https://-a.example/", "", "label"},
		{"name too long", "https://" + strings.Repeat("a.", 127) + "example/", "", "longer than 253"},
		{"star", "https://*.example.com/", "", "holds '*'"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := CheckURL(tc.raw, false)
			if tc.err == "" {
				if err != nil || got != tc.want {
					t.Errorf("got %q, %v; want %q", got, err, tc.want)
				}
				return
			}
			if err == nil || !strings.HasPrefix(err.Error(), "url: ") || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got %q, %v; want an error with %q", got, err, tc.err)
			}
		})
	}
}

func TestCheckURLAllowsHTTP(t *testing.T) {
	got, err := CheckURL("http://Example.com:80", true)
	if err != nil || got != "http://example.com/" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := CheckURL("http://example.com:443/", true); err != nil || got != "http://example.com:443/" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestCheckURLErrorsKeepTheURLToThemselves(t *testing.T) {
	const secret = "s3cr3t"
	for _, raw := range []string{
		"https://example.com:99999/" + secret, "https://u:" + secret + "@example.com/", "https://[::g]/" + secret,
		"https://example.com/%zz" + secret, "http://example.com/" + secret, "https://1.2.3.256/" + secret,
	} {
		if _, err := CheckURL(raw, false); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

func TestGuardCheckURL(t *testing.T) {
	office := NewGuard(GuardOptions{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8")}})
	for _, tc := range []struct {
		name, raw string
		g         *Guard
		ok        bool
	}{
		{"a name is not looked up", "https://intranet.example/", nil, true},
		{"public", "https://93.184.215.14/", nil, true},
		{"private", "https://10.1.2.3/", nil, false},
		{"private, allowed", "https://10.1.2.3/", office, true},
		{"loopback", "https://[::1]/", nil, false},
		{"mapped", "https://[::ffff:10.1.2.3]/", nil, false},
		{"mapped, allowed", "https://[::ffff:10.1.2.3]/", office, true},
		{"metadata", "https://169.254.169.254/latest/", office, false},
		{"localhost", "https://localhost:8443/", nil, false},
		{"below localhost", "https://a.LocalHost./", nil, false},
		{"localhost, allowed", "https://localhost:8443/", office, true},
		{"not a URL", "https://", nil, false},
		{"usual port", "https://hooks.example:8443/", nil, true},
		{"SEC-07 another port", "https://hooks.example:6379/", nil, false},
		{"SEC-07 another port of an address", "https://93.184.215.14:6379/", nil, false},
		{"another port of a name that may be in an allowed network", "https://hooks.example:6379/", office, true},
		{"another port in an allowed network", "https://10.1.2.3:6379/", office, true},
		{"another port of an address outside of it", "https://93.184.215.14:6379/", office, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := tc.g.CheckURL(tc.raw, false); (err == nil) != tc.ok {
				t.Errorf("got %v, want ok %v", err, tc.ok)
			}
		})
	}
}

// What is wrong is said: the network or the port.
func TestGuardCheckURLSaysWhatIsWrong(t *testing.T) {
	g := NewGuard(GuardOptions{AllowHTTP: true, Ports: []uint16{9000}})
	for raw, want := range map[string]string{
		"https://hooks.example:22/": "url: port not allowed: it is 22, want 80, 443, 8080, 8443 or 9000",
		"https://93.184.215.14:22/": "url: port not allowed: it is 22, want 80, 443, 8080, 8443 or 9000",
		"https://10.1.2.3:22/":      "url: destination not allowed",
		"https://10.1.2.3/":         "url: destination not allowed",
	} {
		_, err := g.CheckURL(raw, true)
		if err == nil || err.Error() != want || errors.Is(err, ErrPort) == errors.Is(err, ErrBlocked) {
			t.Errorf("%s: %v, want %s", raw, err, want)
		}
	}
}

func FuzzCheckURL(f *testing.F) {
	for _, s := range []string{
		"https://example.com/h?a=1", "http://EXAMPLE.com:80", "https://[::1]:99", "https://0x7f.1/", "https://u:p@h/#f",
		"https://１２７.０.０.１/", "https://a%2eb/", "https://h:0443/%2f", "https://127.0.0.1./", "https://[::ffff:7f00:1]/",
	} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, raw string, http bool) {
		got, err := CheckURL(raw, http)
		if err != nil {
			return
		}
		if again, err := CheckURL(got, http); err != nil || again != got {
			t.Fatalf("canonical form %q of %q becomes %q, %v", got, raw, again, err)
		}
		u, err := url.Parse(got)
		if err != nil || len(got) > MaxURL || u.User != nil || u.Fragment != "" || u.Hostname() == "" {
			t.Fatalf("%q of %q: %v", got, raw, err)
		}
		if u.Scheme != "https" && !(http && u.Scheme == "http") {
			t.Fatalf("scheme of %q", got)
		}
		if strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Fatalf("%q holds a character that it must not", got)
		}
	})
}
