package stream

import (
	"bytes"
	"encoding/base64"
	"mime"
	"strconv"
	"strings"
)

// structured reports whether the message is a CloudEvent in structured mode,
// which its content type says (CloudEvents NATS Protocol Binding, section 3).
// Parameters such as charset may follow; the charset must be UTF-8, as JSON's
// is.
func (k *known) structured() (bool, *Rejected) {
	ct := k[hContentType]
	const prefix = "application/cloudevents"
	if len(ct) < len(prefix) || !strings.EqualFold(ct[:len(prefix)], prefix) {
		return false, nil
	}
	media, params, err := mime.ParseMediaType(ct)
	switch {
	case err != nil:
		return false, reject(CodeBadHeader, "%s %s: %v", HeaderContentType, clip(ct), err)
	case media == prefix+"-batch" || strings.HasPrefix(media, prefix+"-batch+"):
		return false, reject(CodeBadHeader, "%s %s: append each event of the batch by itself", HeaderContentType, clip(ct))
	case media != prefix && media != prefix+"+json":
		return false, reject(CodeBadHeader, "%s %s: of the event formats only %s+json can be read", HeaderContentType, clip(ct), prefix)
	}
	if cs := strings.ToLower(params["charset"]); cs != "" && cs != "utf-8" && cs != "utf8" && cs != "us-ascii" {
		return false, reject(CodeBadHeader, "%s %s: send the charset utf-8", HeaderContentType, clip(ct))
	}
	return true, nil
}

// cloudEvent reports whether the message has CloudEvents attributes as headers:
// binary mode.
func (k *known) cloudEvent() bool {
	return k[hCESpecVersion] != "" || k[hCEID] != "" || k[hCESource] != "" || k[hCEType] != "" || k[hCETime] != ""
}

// attributes are the context attributes of CloudEvents 1.0 that an Event has a
// place for. Others, extensions too, are left out.
type attributes struct {
	specVersion, id, source, typ, time string
}

// apply checks the attributes and puts them into ev. The dedupe key is the id
// alone, as the contract has it, so ids must be unique in the organization and
// not only per source.
func (a *attributes) apply(ev *Event) *Rejected {
	switch {
	case a.specVersion == "":
		return reject(CodeBadCloudEvent, "specversion is missing: send 1.0")
	case a.specVersion != "1.0":
		return reject(CodeBadCloudEvent, "specversion %s: only 1.0 can be read", clip(a.specVersion))
	case a.id == "":
		return reject(CodeBadCloudEvent, "id is missing: CloudEvents requires it")
	case a.source == "":
		return reject(CodeBadCloudEvent, "source is missing: CloudEvents requires it")
	case a.typ == "":
		return reject(CodeBadCloudEvent, "type is missing: CloudEvents requires it")
	case a.typ != ev.Type:
		return mismatch("the CloudEvent's type", a.typ, ev.Type)
	case len(a.source) > maxSource || !printable(a.source):
		return reject(CodeBadCloudEvent, "source %s: use at most %d printable bytes", clip(a.source), maxSource)
	}
	if err := CheckDedupeKey(a.id); err != nil {
		return reject(CodeBadCloudEvent, "id: %v", err)
	}
	if a.time != "" {
		t, ok := parseTime(a.time)
		if !ok {
			return reject(CodeBadCloudEvent, "time %s: use RFC 3339, such as 2026-11-21T10:00:00Z", clip(a.time))
		}
		ev.Time = t
	}
	ev.DedupeKey, ev.Source = a.id, a.source
	return nil
}

// fromBinary reads a CloudEvent whose attributes are headers and whose data is
// the payload. Without a payload, which CloudEvents allows, the data is null.
func (d Decoding) fromBinary(ev *Event, k *known, b []byte) *Rejected {
	a := attributes{
		specVersion: unpercent(k[hCESpecVersion]), id: unpercent(k[hCEID]), source: unpercent(k[hCESource]),
		typ: unpercent(k[hCEType]), time: unpercent(k[hCETime]),
	}
	if rej := a.apply(ev); rej != nil {
		return rej
	}
	if len(b) == 0 {
		b = []byte("null")
	}
	return d.setData(ev, b)
}

// fromStructured reads a CloudEvent in the JSON event format: attributes and
// data are members of one object. The data is in data, or as base64 in
// data_base64, or absent, which is null.
func (d Decoding) fromStructured(ev *Event, b []byte) *Rejected {
	if rej := d.checkWrapped(b); rej != nil {
		return rej
	}
	v, twice, ok := pick(b, "specversion", "id", "source", "type", "time", "data", "data_base64")
	if !ok {
		return reject(CodeBadCloudEvent, "the payload is not an object, as the CloudEvents JSON format is")
	}
	if twice != "" {
		return reject(CodeBadCloudEvent, "the CloudEvent has %q twice: send it once", twice)
	}
	var a attributes
	for i, to := range []*string{&a.specVersion, &a.id, &a.source, &a.typ, &a.time} {
		if absent(v[i]) {
			continue
		}
		if *to, ok = text(v[i]); !ok {
			return reject(CodeBadCloudEvent, "an attribute is %s, not a string", clip(string(v[i])))
		}
	}
	if rej := a.apply(ev); rej != nil {
		return rej
	}
	data, encoded := v[5], v[6]
	if absent(encoded) {
		if data == nil {
			data = []byte("null")
		}
		return d.setMember(ev, data)
	}
	if !absent(data) {
		return reject(CodeBadCloudEvent, "the CloudEvent has data and data_base64: send one of them")
	}
	s, ok := text(encoded)
	if !ok {
		return reject(CodeBadCloudEvent, "data_base64 is not a string")
	}
	decoded, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return reject(CodeBadCloudEvent, "data_base64: %v", err)
	}
	return d.setData(ev, bytes.Trim(decoded, jsonSpace))
}

// unpercent undoes the percent-encoding of attributes in headers (CloudEvents
// HTTP Protocol Binding, section 3.1.3.2). A % that encodes nothing stays.
func unpercent(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b = append(b, byte(c))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}
