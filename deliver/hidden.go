package deliver

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// Hidden is a text that only an endpoint's owner knows: the value of a header, a
// password, a token, a key. However it is printed, logged or marshalled, it shows
// as [redacted]; only [Hidden.Reveal] tells it. The zero Hidden is none, which is
// not the empty one.
type Hidden struct {
	text func() string // a function, so that no printer finds what lies behind
}

const redacted = "[redacted]"

// NewHidden hides text.
func NewHidden(text string) Hidden { return Hidden{func() string { return text }} }

// Reveal is the text itself, for the request and the store.
func (v Hidden) Reveal() string {
	if v.text == nil {
		return ""
	}
	return v.text()
}

// IsZero reports whether there is none.
func (v Hidden) IsZero() bool { return v.text == nil }

// Equal reports whether both are the same.
func (v Hidden) Equal(w Hidden) bool {
	return v.IsZero() == w.IsZero() && subtle.ConstantTimeCompare([]byte(v.Reveal()), []byte(w.Reveal())) == 1
}

// String implements fmt.Stringer.
func (Hidden) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (Hidden) GoString() string { return redacted }

// Format implements fmt.Formatter, for the verbs that String and GoString do
// not serve.
func (Hidden) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalJSON implements json.Marshaler.
func (Hidden) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText implements encoding.TextMarshaler.
func (Hidden) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements slog.LogValuer.
func (Hidden) LogValue() slog.Value { return slog.StringValue(redacted) }
