package sqlite

import (
	"encoding/json"
	"time"
)

// Times are stored as integers: milliseconds since 1970 where they are shown
// to people, nanoseconds where they identify something. Zero stands for the
// zero time.

func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func toNanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// jsonText is v, which can be encoded, as JSON.
func jsonText(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // what is not JSON was refused
	}
	return string(b)
}

// jsonList is list as a JSON array; nil and empty are both [].
func jsonList(list []string) string {
	if len(list) == 0 {
		return "[]"
	}
	return jsonText(list)
}
