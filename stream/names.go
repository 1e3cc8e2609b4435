package stream

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of names (contract, section 1), in bytes.
const (
	MaxOrg       = 64
	MaxWorkspace = 64
	MaxType      = 128
	MaxDedupeKey = 256
	maxPrefix    = 32
)

// CheckOrg says whether s can name an organization: 1 to 64 of A-Z, a-z, 0-9,
// _ and -. A UUID fits. Organizations that differ only in case need a
// case-sensitive file system, since a stream is a directory.
func CheckOrg(s string) error { return checkName("organization id", s, MaxOrg) }

// CheckWorkspace says whether s can name a workspace; the form is that of an
// organization's id. No workspace is not a name: the empty string is refused.
func CheckWorkspace(s string) error { return checkName("workspace id", s, MaxWorkspace) }

// CheckType says whether s can be the type of an event: tokens of A-Z, a-z,
// 0-9, _ and -, joined by single dots, at most 128 bytes in all.
func CheckType(s string) error {
	if s == "" {
		return errors.New("event type is empty: want words joined by dots, such as invoice.paid")
	}
	if len(s) > MaxType {
		return fmt.Errorf("event type %s is %d bytes long: use at most %d", clip(s), len(s), MaxType)
	}
	start := true // at the start of a token
	for i := range len(s) {
		switch c := s[i]; {
		case nameByte(c):
			start = false
		case c == '.' && !start && i < len(s)-1:
			start = true
		case c == '.':
			return fmt.Errorf("event type %s has an empty word: put one dot between words and none around them", clip(s))
		default:
			return fmt.Errorf("event type %s: use A-Z, a-z, 0-9, _ and -, with dots between words", clip(s))
		}
	}
	return nil
}

// CheckDedupeKey says whether s can be a dedupe key: 1 to 256 bytes of
// printable UTF-8. Spaces are allowed inside, not at its ends, where transports
// are free to drop them.
func CheckDedupeKey(s string) error {
	switch {
	case s == "":
		return errors.New("dedupe key is empty: leave it out, or say what the event is called")
	case len(s) > MaxDedupeKey:
		return fmt.Errorf("dedupe key %s is %d bytes long: use at most %d", clip(s), len(s), MaxDedupeKey)
	case !printable(s):
		return fmt.Errorf("dedupe key %s has characters that cannot be printed: use printable UTF-8", clip(s))
	case s[0] == ' ' || s[len(s)-1] == ' ':
		return fmt.Errorf("dedupe key %s begins or ends with a space: take it away", clip(s))
	}
	return nil
}

func checkName(what, s string, limit int) error {
	if s == "" {
		return fmt.Errorf("%s is empty: use 1 to %d of A-Z, a-z, 0-9, _ and -", what, limit)
	}
	if len(s) > limit {
		return fmt.Errorf("%s %s is %d bytes long: use at most %d", what, clip(s), len(s), limit)
	}
	for i := range len(s) {
		if !nameByte(s[i]) {
			return fmt.Errorf("%s %s: use only A-Z, a-z, 0-9, _ and -", what, clip(s))
		}
	}
	return nil
}

func nameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

// printable reports whether s is UTF-8 without control, format and other
// invisible characters; the ASCII space is printable.
func printable(s string) bool {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c < ' ' || c == 0x7f {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || !unicode.IsPrint(r) {
			return false
		}
		i += n
	}
	return true
}

// clip quotes s for an error, cut to a length that a log line bears.
func clip(s string) string {
	const limit = 80
	if len(s) <= limit {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q…", s[:limit])
}

// Names says how organizations, streams and subjects are called on the broker.
// The zero value uses the prefix "events":
//
//	stream    EVENTS_acme
//	subjects  events.acme.>          what it binds
//	wake-ups  wake.acme.>            what it republishes, headers only
//
// Two daemons can share a broker under two prefixes. Their wake-ups share
// subjects, which is harmless: a wake-up is a hint.
type Names struct {
	Prefix string // "": events
}

const (
	defaultPrefix = "events"
	wakePrefix    = "wake"
)

// Check says whether the prefix can be used: 1 to 32 of a-z, 0-9 and -. The
// first underscore of a stream's name ends its prefix, and upper-casing must not make two
// prefixes one, so neither underscores nor capitals are allowed. The word
// "wake" is taken.
func (n Names) Check() error {
	p := n.prefix()
	if len(p) > maxPrefix {
		return fmt.Errorf("prefix %s is %d bytes long: use at most %d", clip(p), len(p), maxPrefix)
	}
	for i := range len(p) {
		if c := p[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return fmt.Errorf("prefix %s: use only a-z, 0-9 and -", clip(p))
		}
	}
	if p == wakePrefix {
		return fmt.Errorf("prefix %q is what wake-ups use: choose another", p)
	}
	return nil
}

func (n Names) prefix() string {
	if n.Prefix == "" {
		return defaultPrefix
	}
	return n.Prefix
}

// Stream is the name of the org's stream: EVENTS_acme.
func (n Names) Stream(org string) string { return strings.ToUpper(n.prefix()) + "_" + org }

// Org is the organization whose stream has this name; false when the name is
// not one that Stream makes.
func (n Names) Org(streamName string) (string, bool) {
	org, ok := strings.CutPrefix(streamName, strings.ToUpper(n.prefix())+"_")
	if !ok || CheckOrg(org) != nil {
		return "", false
	}
	return org, true
}

// Subjects are what the org's stream binds by itself: events.acme.>. Extra
// subjects of an organization come on top.
func (n Names) Subjects(org string) []string { return []string{n.prefix() + "." + org + ".>"} }

// Subject is where events of the type are appended: events.acme.invoice.paid.
func (n Names) Subject(org, typ string) string { return n.prefix() + "." + org + "." + typ }

// Type is the inverse of Subject: what follows events.<org>. in the subject;
// false when the subject is not the org's. The type is not checked.
func (n Names) Type(org, subject string) (string, bool) {
	rest, ok := strings.CutPrefix(subject, n.prefix())
	if !ok {
		return "", false
	}
	if rest, ok = strings.CutPrefix(rest, "."); !ok {
		return "", false
	}
	if rest, ok = strings.CutPrefix(rest, org); !ok {
		return "", false
	}
	if rest, ok = strings.CutPrefix(rest, "."); !ok {
		return "", false
	}
	return rest, true
}

// WakeSource is the part of the org's stream that wakes: events.acme.>, or
// everything when it binds extra subjects too, since a stream republishes from
// one source only.
func (n Names) WakeSource(org string, extra []string) string {
	if len(extra) > 0 {
		return ">"
	}
	return n.Subjects(org)[0]
}

// WakeSubject is where the org's stream republishes to: wake.acme.>.
func (n Names) WakeSubject(org string) string { return wakePrefix + "." + org + ".>" }

// WakeFilter is the one subscription that hears the wake-ups of all
// organizations: wake.*.>.
func (n Names) WakeFilter() string { return wakePrefix + ".*.>" }

// WakeOrg is the organization that a wake-up on the subject is for.
func (n Names) WakeOrg(subject string) (string, bool) {
	rest, ok := strings.CutPrefix(subject, wakePrefix+".")
	if !ok {
		return "", false
	}
	org, _, ok := strings.Cut(rest, ".")
	if !ok || CheckOrg(org) != nil {
		return "", false
	}
	return org, true
}

// CheckBinding says whether an organization's stream may bind the extra
// subject: at most 128 bytes of words joined by dots, of which at least one is a
// wildcard (* for one word, > at the end for all that follow), because what the
// wildcards match is the event's type. It must begin with a word, and not with
// one that the broker (_INBOX) or the daemon uses itself.
func (n Names) CheckBinding(binding string) error {
	if len(binding) > MaxType {
		return fmt.Errorf("subject %s is %d bytes long: use at most %d", clip(binding), len(binding), MaxType)
	}
	wild := false
	words := strings.Split(binding, ".")
	for i, w := range words {
		switch {
		case i == 0 && (w == "*" || w == ">"):
			return fmt.Errorf("subject %s: begin it with a word, such as webhook.>", clip(binding))
		case i == 0 && (w == n.prefix() || w == wakePrefix):
			return fmt.Errorf("subject %s: %s.> belongs to the daemon, bind another", clip(binding), w)
		case i == 0 && strings.HasPrefix(w, "_"):
			return fmt.Errorf("subject %s: NATS keeps subjects that begin with _ for itself, such as answers to requests; bind another", clip(binding))
		case w == "*", w == ">" && i == len(words)-1:
			wild = true
		case w == ">":
			return fmt.Errorf("subject %s: > can stand only at the end", clip(binding))
		case checkName("word", w, MaxType) != nil:
			return fmt.Errorf("subject %s: use words of A-Z, a-z, 0-9, _ and -, joined by dots", clip(binding))
		}
	}
	if !wild {
		return fmt.Errorf("subject %s has no wildcard to take the event's type from: end it with .>", clip(binding))
	}
	return nil
}

// bound matches a subject with a binding and returns what its wildcards
// matched, joined by dots: webhook.> makes webhook.invoice.paid invoice.paid.
func bound(binding, subject string) (string, bool) {
	if base, ok := strings.CutSuffix(binding, ".>"); ok && !strings.Contains(base, "*") { // the usual form
		rest, ok := strings.CutPrefix(subject, base)
		if !ok {
			return "", false
		}
		rest, ok = strings.CutPrefix(rest, ".")
		return rest, ok && rest != ""
	}
	var typ []string
	for {
		b, bRest, bMore := strings.Cut(binding, ".")
		s, sRest, sMore := strings.Cut(subject, ".")
		switch {
		case b == ">":
			return strings.Join(append(typ, subject), "."), subject != ""
		case b == "*":
			typ = append(typ, s)
		case b != s:
			return "", false
		}
		if bMore != sMore {
			return "", false
		}
		if !bMore {
			return strings.Join(typ, "."), len(typ) > 0
		}
		binding, subject = bRest, sRest
	}
}
