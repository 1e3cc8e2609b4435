// Package testdata is data that several packages share: here, events as real
// services publish them, for the demonstration and for tests.
//
// The go tool leaves directories of this name out of "./...", but they can be
// imported.
package testdata

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
)

//go:embed events/*.json
var files embed.FS

// Event is a sample event.
type Event struct {
	Org         string          `json:"org"`
	Type        string          `json:"type"`
	WorkspaceID string          `json:"workspace_id"` // "": an organization-level event
	DedupeKey   string          `json:"dedupe_key"`
	Source      string          `json:"source"`
	Data        json.RawMessage `json:"data"`
	File        string          `json:"-"` // its name in events/
}

// Events are all sample events, by file name.
func Events() ([]Event, error) {
	names, err := fs.Glob(files, "events/*.json")
	if err != nil {
		return nil, err
	}
	var all []Event
	for _, name := range names {
		raw, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		e := Event{File: name}
		if err := json.Unmarshal(raw, &e); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, e)
	}
	return all, nil
}
