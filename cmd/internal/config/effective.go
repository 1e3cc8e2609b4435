package config

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/grapnel-hooks/grapnel/cmd/internal/suggest"
)

// Source is where the value of a setting comes from.
type Source string

// The sources, the strongest first.
const (
	Flag     Source = "flag"
	Variable Source = "variable"
	File     Source = "file"
	Default  Source = "default"
)

// hidden stands for a secret.
const hidden = "[redacted]"

// saying is what was said of a setting, and where.
type saying struct {
	values []string
	source Source
	where  string // "--listen", "GRAPNEL_LISTEN", "grapnel.yaml:3"; "": nowhere
	key    string // in the file
}

// place is where, as errors have it.
func (s saying) place() string {
	if s.key != "" {
		return s.where + ": " + s.key
	}
	return s.where
}

// Value is one setting as it holds, fit to be shown: secrets are hidden.
type Value struct {
	Key    string   `json:"key"`   // as in the file: nats_url
	Values []string `json:"value"` // what it is: of a setting that takes one value, one; none: it is not set
	Source Source   `json:"source"`
	Where  string   `json:"where"`  // "--listen", "GRAPNEL_LISTEN", "grapnel.yaml:3"; "" for a default
	Reload bool     `json:"reload"` // it can change while the daemon runs
}

// Effective is every setting as it holds, in the order of the help, and where each
// was said. There are no secrets in it: of URLs the user and the password are
// hidden, of keys everything. Only what [Load] made knows it; of others it is empty.
func (c Serve) Effective() []Value {
	if c.said == nil {
		return nil
	}
	var all []Value
	for _, s := range settings {
		said := c.said[s.key()]
		v := Value{Key: s.key(), Values: []string{}, Source: said.source, Where: said.where, Reload: s.reload}
		for _, text := range said.values {
			if s.hide != nil {
				text = s.hide(text)
			}
			if text != "" {
				v.Values = append(v.Values, text)
			}
		}
		all = append(all, v)
	}
	if c.SecretsKeys != nil {
		all = append(all, Value{Key: "secrets_key", Values: []string{hidden}, Source: Variable, Where: secretsKeyVariable})
	}
	for _, s := range sections {
		said := c.said[s.key]
		all = append(all, Value{Key: s.key, Values: append([]string{}, said.values...), Source: said.source, Where: said.where, Reload: s.reload})
	}
	return all
}

// Change is a setting that is different in two readings of the configuration.
type Change struct {
	Key    string   `json:"key"`
	From   []string `json:"from"` // fit to be shown: two secrets look the same
	To     []string `json:"to"`
	Where  string   `json:"where"`  // it is said that it is To; "" for a default
	Reload bool     `json:"reload"` // it can change while the daemon runs
}

// Changes are the settings that next has otherwise, in the order of the help. Both
// were made by [Load].
func (c Serve) Changes(next Serve) []Change {
	var changes []Change
	was, is := c.Effective(), next.Effective()
	for _, to := range is {
		if slices.Equal(c.said[to.Key].values, next.said[to.Key].values) {
			continue
		}
		from := []string{}
		if i := slices.IndexFunc(was, func(v Value) bool { return v.Key == to.Key }); i >= 0 {
			from = was[i].Values
		}
		changes = append(changes, Change{Key: to.Key, From: from, To: to.Values, Where: to.Where, Reload: to.Reload})
	}
	return changes
}

// Take is c with what next says of the settings that can change while the daemon
// runs. Both were made by [Load].
func (c Serve) Take(next Serve) (Serve, error) {
	taken := c
	taken.said = maps.Clone(c.said)
	for _, s := range settings {
		if !s.reload {
			continue
		}
		said := next.said[s.key()]
		if err := s.set(&taken, said.values); err != nil {
			return c, &Error{Where: said.place(), Err: err}
		}
		taken.said[s.key()] = said
	}
	for _, s := range sections {
		if s.reload {
			s.take(&taken, &next)
			taken.said[s.key] = next.said[s.key]
		}
	}
	return taken, nil
}

// urlSchemes are those of URLs that settings have.
var urlSchemes = []string{"nats", "tls", "ws", "wss", "http", "https"}

// hideUser hides the user and password of a URL, or of several with commas
// between, and what stands in a query.
func hideUser(s string) string {
	parts := strings.Split(s, ",")
	for i, part := range parts {
		u, err := url.Parse(strings.TrimSpace(part))
		if err != nil || !slices.Contains(urlSchemes, u.Scheme) || u.Host == "" || strings.Contains(u.Path+u.RawQuery+u.Fragment, "@") {
			return hideUntilAt(s)
		}
		shown := u.Scheme + "://"
		if u.User != nil {
			shown += hidden + "@"
		}
		shown += u.Host + u.EscapedPath()
		if u.RawQuery != "" || u.Fragment != "" {
			shown += "?" + hidden
		}
		parts[i] = shown
	}
	return strings.Join(parts, ",")
}

// hideUntilAt is for what cannot be read as a URL: everything up to the last @ may
// be a password, and without one nobody knows.
func hideUntilAt(s string) string {
	at := strings.LastIndexByte(s, '@')
	if at < 0 || strings.ContainsAny(s, "?#") || strings.Contains(s[at:], ",") {
		return hidden
	}
	return hidden + s[at:]
}

// UnknownVariable is one of the environment that looks like a setting and is none.
type UnknownVariable struct {
	Name    string
	Nearest string // the one that was probably meant, or ""
}

// otherVariables are those of the commands, which are no settings of the daemon.
var otherVariables = []string{"GRAPNEL_CONFIG", secretsKeyVariable, "GRAPNEL_URL", "GRAPNEL_TOKEN", "GRAPNEL_TOKEN_FILE", "GRAPNEL_FAILPOINT"}

// UnknownVariables are those of the environment ("NAME=value") that begin with
// GRAPNEL_ and are no setting. They are no error, unlike an unknown key of the file:
// who starts the daemon does not always choose the environment alone. A container
// platform adds some of its own for a service of that name (GRAPNEL_SERVICE_HOST,
// GRAPNEL_PORT_8480_TCP), which are left out here.
func UnknownVariables(environ []string) []UnknownVariable {
	known := slices.Clone(otherVariables)
	for _, s := range settings {
		known = append(known, s.env())
		if s.hide != nil {
			known = append(known, s.env()+fileSuffix)
		}
	}
	var unknown []UnknownVariable
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "GRAPNEL_") || slices.Contains(known, name) ||
			name == "GRAPNEL_PORT" || strings.HasPrefix(name, "GRAPNEL_PORT_") || strings.HasPrefix(name, "GRAPNEL_SERVICE_") {
			continue
		}
		unknown = append(unknown, UnknownVariable{name, suggest.Nearest(name, known)})
	}
	slices.SortFunc(unknown, func(a, b UnknownVariable) int { return strings.Compare(a.Name, b.Name) })
	return unknown
}
