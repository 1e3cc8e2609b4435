package stream

import (
	"time"
	"unicode/utf8"
)

// AppendStandard appends the body of the format standard (contract, section 4)
// and returns the extended slice. Members are in a fixed order, those without a
// value are left out, and data is byte for byte ev.Data, which must be valid
// JSON. The timestamp is RFC 3339 in UTC, with fractions only when it has any.
//
//	{"id":"evt_…","type":"invoice.paid","timestamp":"2026-11-21T10:00:00Z","organization_id":"acme",
//	 "workspace_id":"berlin","schema_version":"1","source":"billing","dedupe_key":"in_1-paid","data":{}}
func AppendStandard(dst []byte, ev *Event) []byte {
	dst = append(dst, `{"id":"`...)
	dst = append(dst, ev.ID.String()...)
	dst = append(dst, '"')
	dst = appendMember(dst, "type", ev.Type)
	if !ev.Time.IsZero() {
		dst = append(dst, `,"timestamp":"`...)
		dst = ev.Time.UTC().AppendFormat(dst, time.RFC3339Nano)
		dst = append(dst, '"')
	}
	dst = appendMember(dst, "organization_id", ev.Org)
	dst = appendMember(dst, "workspace_id", ev.Workspace)
	dst = appendMember(dst, "schema_version", ev.SchemaVersion)
	dst = appendMember(dst, "source", ev.Source)
	dst = appendMember(dst, "dedupe_key", ev.DedupeKey)
	if len(ev.Data) > 0 {
		dst = append(dst, `,"data":`...)
		dst = append(dst, ev.Data...)
	}
	return append(dst, '}')
}

func appendMember(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	return AppendJSONString(dst, value)
}

// AppendJSONString appends s as a JSON string (RFC 8259, section 7): quotes,
// backslashes and control characters are escaped, bytes that are not UTF-8
// become U+FFFD, and everything else stays as it is.
func AppendJSONString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0 // of what is not yet appended
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
		}
		dst = append(dst, s[start:i]...)
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c < ' ':
			dst = append(dst, `\u00`...)
			dst = append(dst, hex[c>>4], hex[c&15])
		default:
			dst = append(dst, "\ufffd"...)
		}
		i++
		start = i
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
