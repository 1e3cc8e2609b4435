package httpapi_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"html"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
)

// The page has every operation of the document, and loads nothing: neither from
// another host nor by a script. It needs no token.
func TestDocsPage(t *testing.T) {
	h := public(httpapitest.New())
	w := request(t, h, "GET", "/docs", "")
	page := w.Body.String()
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%d %s", w.Code, w.Header())
	}
	shown := html.UnescapeString(page)
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID, Summary string
			Responses            map[string]any
		}
	}
	if err := json.Unmarshal(request(t, h, "GET", "/openapi.json", "").Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	for path, operations := range doc.Paths {
		for method, op := range operations {
			for _, part := range []string{`<section id="` + op.OperationID + `">`, "<code>" + path + "</code>", op.Summary + "."} {
				if !strings.Contains(shown, part) {
					t.Errorf("%s %s: the page lacks %s", method, path, part)
				}
			}
		}
	}
	if len(doc.Paths) < 10 {
		t.Errorf("only %d paths", len(doc.Paths))
	}

	var style string
	for d := xml.NewDecoder(strings.NewReader(strings.Replace(page, "<!DOCTYPE html>", "", 1))); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		switch element.Name.Local {
		case "script", "link", "img", "iframe", "object", "embed", "base", "form":
			t.Errorf("the page has a <%s>", element.Name.Local)
		case "style":
			text, err := d.Token()
			if err != nil {
				t.Fatal(err)
			}
			style = string(text.(xml.CharData))
		}
		for _, a := range element.Attr {
			if name := a.Name.Local; name == "style" || strings.HasPrefix(name, "on") || name == "src" {
				t.Errorf("<%s> has %s", element.Name.Local, name)
			} else if name == "href" && !strings.HasPrefix(a.Value, "#") && !regexp.MustCompile(`^/[a-z]`).MatchString(a.Value) {
				t.Errorf("a link leads to %s", a.Value)
			}
		}
	}
	if style == "" || strings.Contains(style, "url(") || strings.Contains(style, "@import") {
		t.Errorf("the style loads something, or there is none:\n%s", style)
	}
	sum := sha256.Sum256([]byte(style))
	policy := w.Header().Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'; style-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"';") {
		t.Errorf("the policy does not name the style: %s", policy)
	}
}

// What a page of another site can do with an answer: nothing. (SEC-28)
func TestHeadersForBrowsers(t *testing.T) {
	h := public(httpapitest.New())
	for _, path := range []string{"/api/v1/orgs", "/openapi.json", "/openapi.yaml", "/healthz", "/metrics", "/nowhere"} {
		got := request(t, h, "GET", path, "").Header()
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store",
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
		} {
			if v := got.Get(name); v != want {
				t.Errorf("%s: %s is %q, want %q", path, name, v, want)
			}
		}
		for name := range got {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: has %s", path, name)
			}
		}
	}
}
