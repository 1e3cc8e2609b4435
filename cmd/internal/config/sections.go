package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// section is a key of the file that is no flag.
type section struct {
	key    string
	usage  string
	see    string // the page of docs/ that says more
	want   string // what it holds
	absent string // what holds without it
	reload bool   // it can change while the daemon runs
	read   func(*file, ast.Node) error
	take   func(c, from *Serve)
	show   func(*Serve) []string // what it holds, in short; two that differ are shown differently
}

// sections are all of them. It is a function's value, since reading one looks
// the names of all up.
var sections []section

func init() {
	sections = []section{
		{key: "plans", usage: "the features of each plan", want: "plan: [features]; the feature is `outgoing_webhooks`", absent: "every organization has every feature", reload: true,
			read: func(f *file, n ast.Node) (err error) {
				f.plans, err = plans(n)
				return err
			},
			take: func(c, from *Serve) { c.Plans = from.Plans },
			show: func(c *Serve) []string {
				var out []string
				for _, plan := range slices.Sorted(maps.Keys(c.Plans)) {
					out = append(out, fmt.Sprintf("%s: [%s]", plan, strings.Join(c.Plans[plan], ", ")))
				}
				return out
			}},
		{key: "retention", see: "operating.md#retention", usage: "how long deliveries are kept once they are finished (delivered or cancelled), and once they are dead; and how large the database may become before finished ones go sooner, the oldest first", want: "`finished`, `dead`: at least 1h each; `max_size`: at least 16MiB", absent: "30d, 90d and any size", reload: true,
			read: (*file).retention,
			take: func(c, from *Serve) {
				c.KeepFinished, c.KeepDead, c.KeepBytes = from.KeepFinished, from.KeepDead, from.KeepBytes
			},
			show: func(c *Serve) (out []string) {
				if c.KeepFinished > 0 {
					out = append(out, "finished: "+c.KeepFinished.String())
				}
				if c.KeepDead > 0 {
					out = append(out, "dead: "+c.KeepDead.String())
				}
				if c.KeepBytes > 0 {
					out = append(out, fmt.Sprintf("max_size: %d", c.KeepBytes))
				}
				return out
			}},
		{key: "event_types", see: "event-types.md", usage: "event types that are put into the catalogue at each start and reload", want: "a list, or the name of a file with one", absent: "the catalogue is left as it is", reload: true,
			read: func(f *file, n ast.Node) (err error) {
				f.eventTypes, err = eventTypes(f.name, n)
				return err
			},
			take: func(c, from *Serve) { c.EventTypes = from.EventTypes },
			show: func(c *Serve) []string { return digests(c.EventTypes) }},
		{key: "formats", see: "formats.md", usage: "wire formats beside the built-in ones", want: "name: {scheme, headers, body}", absent: "the built-in ones", reload: true,
			read: func(f *file, n ast.Node) (err error) {
				f.formats, err = formats(n)
				return err
			},
			take: func(c, from *Serve) { c.Formats = from.Formats },
			show: func(c *Serve) []string { return digests(c.Formats) }},
	}
}

// find is what the file says of the section.
func (s section) find(c *Serve, f file) saying {
	line, ok := f.sections[s.key]
	if !ok {
		return saying{source: Default}
	}
	return saying{s.show(c), File, fmt.Sprintf("%s:%d", f.name, line), s.key}
}

// digests are the names of things, each with the first bytes of its SHA-256.
func digests[T any](all []T) []string {
	out := make([]string, len(all))
	for i, v := range all {
		text, _ := json.Marshal(v) // of strings and maps of them: it does not fail
		var named struct{ Name string }
		json.Unmarshal(text, &named) // without a name it is shown by its digest alone
		sum := sha256.Sum256(text)
		out[i] = strings.TrimSpace(named.Name + " (" + hex.EncodeToString(sum[:4]) + ")")
	}
	return out
}
