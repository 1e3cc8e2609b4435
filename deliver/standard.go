package deliver

import (
	"bytes"
	"encoding/json"
	"time"
)

// standardBody is a body of the format standard, as stream.AppendStandard writes
// it, taken apart. Texts are as they stand in the JSON, between their quotes; nil
// when there is none. All are parts of the body.
type standardBody struct {
	id, typ, time, org, workspace, version, source, dedupe []byte

	data     []byte // nil: there is none
	dataAt   int    // where data begins
	dedupeAt int    // where the member of dedupe begins, with its comma; it ends before that of data
}

// dataMember stands before data.
const dataMember = `,"data":`

// parseStandard takes a body apart. It knows the order of the members and wants
// no other: what is not ours is not ok. It does not look into data, which was
// checked when the event was read.
func parseStandard(b []byte) (s standardBody, ok bool) {
	if len(b) < 2 || b[0] != '{' || b[len(b)-1] != '}' {
		return s, false
	}
	i := 1
	for _, m := range [...]struct {
		name string
		text *[]byte
	}{
		{`"id":"`, &s.id}, {`"type":"`, &s.typ}, {`"timestamp":"`, &s.time}, {`"organization_id":"`, &s.org},
		{`"workspace_id":"`, &s.workspace}, {`"schema_version":"`, &s.version}, {`"source":"`, &s.source}, {`"dedupe_key":"`, &s.dedupe},
	} {
		at := i
		if i > 1 {
			if b[i] != ',' {
				break
			}
			at++
		}
		if !bytes.HasPrefix(b[at:], []byte(m.name)) {
			continue
		}
		start := at + len(m.name)
		end := stringEnd(b, start-1)
		if end < 0 {
			return s, false
		}
		*m.text = b[start : end-1]
		s.dedupeAt = i // of the last one
		i = end
	}
	if i == 1 || s.id == nil {
		return s, false
	}
	if bytes.HasPrefix(b[i:], []byte(dataMember)) {
		s.dataAt = i + len(dataMember)
		s.data = b[s.dataAt : len(b)-1]
		return s, len(s.data) > 0
	}
	return s, i == len(b)-1
}

// when is the timestamp, or the zero time.
func (s *standardBody) when() time.Time {
	t, err := time.Parse(time.RFC3339Nano, string(s.time))
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

// plain is a text without the escapes of JSON.
func plain(text []byte) string {
	if bytes.IndexByte(text, '\\') < 0 {
		return string(text)
	}
	var s string
	if json.Unmarshal(append(append([]byte{'"'}, text...), '"'), &s) != nil {
		return ""
	}
	return s
}

// stringEnd returns the index after the string whose opening quote is b[i], or
// -1 when it does not end.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			i++
		case c < ' ':
			return -1
		}
	}
	return -1
}

// valueEnd returns the index after the JSON value that begins at b[i], or -1
// when it does not end, so that who takes something out notices. What is inside
// is not checked.
func valueEnd(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			if i = stringEnd(b, i); i < 0 {
				return -1
			}
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return -1
			}
			i++
			continue
		default: // a number, true, false or null
			for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] > ' ' {
				i++
			}
		}
		if depth <= 0 {
			if depth < 0 {
				return -1
			}
			return i
		}
	}
	return -1
}
