package httpapi

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func FuzzBearer(f *testing.F) {
	for _, s := range []string{"Bearer gk_x", "bearer  gk_x ", "Basic x", "Bearer", "Bearer ", "Bearer a b", "\tBearer x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		token, ok := bearer(header)
		if ok && (token == "" || token != strings.TrimSpace(token) || !strings.Contains(header, token) || !strings.EqualFold(header[:7], "bearer ")) {
			t.Errorf("%q gave %q", header, token)
		}
	})
}

// A cursor is one of ours or refused, and ours are read as they were written.
func FuzzCursor(f *testing.F) {
	f.Add(*cursorAt("delivery", "%d.%d", 7, 9), int64(7), int64(9))
	f.Add(*cursorAt("delivery", "%d.%d", -1, 1), int64(-1), int64(0))
	f.Add("ZGVsaXZlcnk6", int64(0), int64(0))
	f.Add("delivery:1.2", int64(1), int64(2))
	f.Fuzz(func(t *testing.T, text string, a, b int64) {
		var x, y int64
		if err := (Page{Cursor: text}).after("delivery", "%d.%d", &x, &y); err != nil {
			var p *Problem
			if !errors.As(err, &p) || p.Status != 422 || p.Errors[0].Location != "query.cursor" {
				t.Errorf("%q: %v", text, err)
			}
		}
		if err := (Page{Cursor: *cursorAt("delivery", "%d.%d", a, b)}).after("delivery", "%d.%d", &x, &y); err != nil || x != a || y != b {
			t.Errorf("%d.%d was read as %d.%d: %v", a, b, x, y, err)
		}
		if err := (Page{Cursor: *cursorAt("event", "%d.%d", a, b)}).after("delivery", "%d.%d", &x, &y); err == nil {
			t.Error("a cursor of another list was taken")
		}
	})
}

// Bodies are read as encoding/json reads them, unless they are too deep.
func FuzzDecodeJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,"]"]}`, `"\"[["`, strings.Repeat("[", 70), strings.Repeat("[", 64) + strings.Repeat("]", 64), `{"a":1,"a":2}`, `nul`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got, want any
		err := decodeJSON(body, &got)
		plain := json.Unmarshal(body, &want)
		switch deep := depth(want); {
		case plain != nil && err == nil:
			t.Errorf("took what is not JSON")
		case plain == nil && (err == nil) != (deep <= maxDepth):
			t.Errorf("%d deep: %v", deep, err)
		case err == nil && !reflect.DeepEqual(got, want):
			t.Errorf("read %v, want %v", got, want)
		}
	})
}

func depth(v any) int {
	deepest := 0
	switch v := v.(type) {
	case []any:
		for _, in := range v {
			deepest = max(deepest, depth(in))
		}
		return deepest + 1
	case map[string]any:
		for _, in := range v {
			deepest = max(deepest, depth(in))
		}
		return deepest + 1
	}
	return 0
}

// What is at fault is named, and nothing but names is repeated.
func FuzzStrictly(f *testing.F) {
	for _, s := range []string{`{"url":"x"}`, `{"url":null,"URL":1,"retry":{"x":1}}`, `{"retry":{"attempts":null}}`, `{"a":1,"a":2}`, `[]`, `{`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		errs := strictly(typeOf[EndpointCreate](), body, "body")
		if !json.Valid(body) && len(errs) > 0 {
			t.Errorf("judged what is not JSON: %v", errs)
		}
		if again := strictly(typeOf[EndpointCreate](), body, "body"); len(again) != len(errs) {
			t.Errorf("%d errors, then %d", len(errs), len(again))
		}
		if json.Unmarshal(body, new(map[string]json.RawMessage)) == nil && len(repeated(body)) > 0 && len(errs) == 0 {
			t.Error("took a field that is there twice")
		}
	})
}
