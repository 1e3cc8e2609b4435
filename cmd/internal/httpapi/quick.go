package httpapi

import (
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/grapnel-hooks/grapnel/stream"
)

// quickEvents reads the body of an append that is in order and usual, in one
// pass over what is JSON. Everything else (ok is false) is for carefulEvents,
// which takes five passes and finds the words: what quickEvents takes,
// carefulEvents takes as the same events. Their Data is part of body.
func quickEvents(body []byte) (events []NewEvent, many, ok bool) {
	if !shallow(body) || !json.Valid(body) {
		return nil, false, false
	}
	i := skipSpace(body, 0)
	if body[i] != '[' {
		e, _, ok := quickEvent(body, i)
		return []NewEvent{e}, false, ok
	}
	for i = skipSpace(body, i+1); body[i] != ']'; i = skipSpace(body, i) {
		if body[i] == ',' {
			i = skipSpace(body, i+1)
		}
		e, end, ok := quickEvent(body, i)
		if !ok || len(events) == MaxAppend {
			return nil, true, false
		}
		if events == nil {
			events = make([]NewEvent, 0, min(len(body)/max(end-i, 1)+1, MaxAppend))
		}
		events = append(events, e)
		i = end
	}
	return events, true, len(events) > 0
}

// quickEvent reads the object that begins at b[i], in what is JSON.
func quickEvent(b []byte, i int) (e NewEvent, end int, ok bool) {
	if b[i] != '{' {
		return e, 0, false
	}
	var seen uint // a bit per field
	for i = skipSpace(b, i+1); b[i] != '}'; i = skipSpace(b, i) {
		if b[i] == ',' {
			i = skipSpace(b, i+1)
		}
		end := valueEnd(b, i)
		name := b[i+1 : end-1]
		i = skipSpace(b, skipSpace(b, end)+1) // after the colon
		end = valueEnd(b, i)
		field, ok := e.take(string(name), b[i:end])
		if !ok || seen&field != 0 {
			return e, 0, false
		}
		seen |= field
		i = end
	}
	return e, i + 1, seen&(fieldType|fieldData) == fieldType|fieldData
}

// The fields of an event, as bits.
const (
	fieldType = 1 << iota
	fieldData
	fieldWorkspace
	fieldDedupeKey
	fieldSchemaVersion
	fieldSource
	fieldTime
)

// take sets a field to what the JSON value says, if that is surely right.
func (e *NewEvent) take(name string, value []byte) (field uint, ok bool) {
	switch name {
	case "data":
		e.Data = value
		return fieldData, true
	case "type":
		e.Type, ok = quickText(value, stream.MaxType)
		return fieldType, ok && stream.CheckType(e.Type) == nil
	case "workspace_id":
		e.Workspace, ok = quickText(value, stream.MaxWorkspace)
		return fieldWorkspace, ok && (e.Workspace == "" || stream.CheckWorkspace(e.Workspace) == nil)
	case "dedupe_key":
		e.DedupeKey, ok = quickText(value, stream.MaxDedupeKey)
		return fieldDedupeKey, ok
	case "schema_version":
		e.SchemaVersion, ok = quickText(value, maxSchemaVersion)
		return fieldSchemaVersion, ok
	case "source":
		e.Source, ok = quickText(value, maxSource)
		return fieldSource, ok
	case "time":
		s, ok := quickText(value, len(time.RFC3339Nano))
		return fieldTime, ok && e.Time.UnmarshalText([]byte(s)) == nil
	}
	return 0, false
}

// The longest texts of EventCreate, in bytes.
const (
	maxSchemaVersion = 64
	maxSource        = 256
)

// quickText is what a JSON string spells that has at most so many bytes.
func quickText(value []byte, most int) (s string, ok bool) {
	if value[0] != '"' {
		return "", false
	}
	text := value[1 : len(value)-1]
	for _, c := range text {
		if c == '\\' || c >= utf8.RuneSelf {
			ok := json.Unmarshal(value, &s) == nil && utf8.Valid(text) && len(s) <= most
			return s, ok
		}
	}
	return string(text), len(text) <= most
}

// shallow reports whether arrays and objects lie at most maxDepth deep inside
// each other, as decodeJSON wants it.
func shallow(b []byte) bool {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = stringEnd(b, i) - 1
		case '{', '[':
			if depth++; depth > maxDepth {
				return false
			}
		case '}', ']':
			depth--
		}
	}
	return true
}

// valueEnd is the index after the value that begins at b[i], in what is JSON.
func valueEnd(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			i = stringEnd(b, i)
			if depth == 0 {
				return i
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth <= 0 {
				return i + 1 + min(depth, 0) // a number or a word ends before it
			}
		case ',', ':', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
		i++
	}
	return i
}

// stringEnd is the index after the string that begins at b[i], or after b when
// nothing ends it.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}
