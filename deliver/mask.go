package deliver

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strings"
)

// A receiver that shows requests in its answers would make what only the
// endpoint's owner knows readable for all who may read deliveries, and put it into
// the database in plain text. So it is taken out of what is kept of an answer.
// What the receiver has encoded in another way than JSON does is not found.

// minMasked is the least of a header's value that is taken out, in bytes. What is
// shorter keeps no secret, and occurs in any text.
const minMasked = 6

var mask = []byte(redacted)

// masked are the texts that are not kept, the longest first: values of headers,
// secrets. Each is there as it is, as a JSON string has it (PHP writes / as \/), and
// without the scheme before it ("Bearer ").
func masked(values []string) (texts [][]byte) {
	add := func(s string) {
		if len(s) >= minMasked && !slices.ContainsFunc(texts, func(t []byte) bool { return string(t) == s }) {
			texts = append(texts, []byte(s))
		}
	}
	for _, value := range values {
		value = strings.TrimSpace(value)
		_, credentials, _ := strings.Cut(value, " ")
		for _, s := range []string{value, credentials} {
			add(s)
			add(quoted(s, true))
			add(quoted(s, false))
			add(strings.ReplaceAll(quoted(s, false), "/", `\/`))
		}
	}
	return longestFirst(texts)
}

// longestFirst sorts texts: one may be a part of another.
func longestFirst(texts [][]byte) [][]byte {
	slices.SortStableFunc(texts, func(a, b []byte) int { return cmp.Compare(len(b), len(a)) })
	return texts
}

// quoted is s as it stands in a JSON string, with or without < > & escaped, as
// some libraries do.
func quoted(s string, html bool) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(html)
	if e.Encode(s) != nil {
		return s
	}
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(b.String()), `"`), `"`)
}

// mask is text without the values of the endpoint's own headers and without its
// signing secrets. It is text itself if there is none of them.
func (t *Target) mask(text []byte) []byte {
	for _, m := range t.masked {
		if bytes.Contains(text, m) {
			text = bytes.ReplaceAll(text, m, mask)
		}
	}
	if bytes.Contains(text, []byte(secretPrefix)) { // rarely, so that nobody waits for the rest
		for _, m := range t.signing() {
			text = bytes.ReplaceAll(text, m, mask)
		}
	}
	return text
}

// maskEnd is masked text, which goes on where it was not read, without the
// beginning of a value at its end.
func (t *Target) maskEnd(text []byte) []byte {
	least := len(text)
	for _, texts := range [][][]byte{t.masked, t.signing()} {
		for _, m := range texts {
			for n := min(len(m)-1, len(text)); n >= minMasked; n-- {
				if bytes.HasSuffix(text, m[:n]) {
					least = min(least, len(text)-n)
					break
				}
			}
		}
	}
	if least == len(text) {
		return text
	}
	return append(slices.Clone(text[:least]), mask...)
}

// signing are the secrets that sign, as a text can have them.
func (t *Target) signing() (texts [][]byte) {
	for _, s := range t.secrets {
		texts = append(texts, []byte(s.Reveal()), []byte(strings.ReplaceAll(s.Reveal(), "/", `\/`)))
	}
	return texts
}

// secretPrefix begins the secrets that we make, but for those of Ed25519.
const secretPrefix = "whsec_"
