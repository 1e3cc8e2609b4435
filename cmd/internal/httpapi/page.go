package httpapi

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
)

// Page is the query of every list. Like the other parts of inputs it is exported
// because huma passes over what is not.
type Page struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"250" default:"50" doc:"How many at most"`
	Cursor string `query:"cursor" maxLength:"200" doc:"next_cursor of the page before"`
}

// after reads the place that a cursor of the named list stands for, in the verbs of
// fmt.Sscanf. Without a cursor it leaves the place as it is.
func (p Page) after(list, format string, place ...any) error {
	if p.Cursor == "" {
		return nil
	}
	text, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	rest, ok := strings.CutPrefix(string(text), list+":")
	if err == nil && ok {
		if n, err := fmt.Sscanf(rest, format, place...); err == nil && n == len(place) {
			return nil
		}
	}
	bad := newProblem(http.StatusUnprocessableEntity, "the request cannot be accepted")
	bad.Errors = []FieldError{{Location: "query.cursor", Message: "not a next_cursor of this list"}}
	return bad
}

// cursorAt is the cursor that Page.after reads.
func cursorAt(list, format string, place ...any) *string {
	s := base64.RawURLEncoding.EncodeToString([]byte(list + ":" + fmt.Sprintf(format, place...)))
	return &s
}

// maxLimit is the most that a page holds, and that a Service is asked for.
const maxLimit = 250

// more is how many to ask for, to learn whether there is a next page.
func (p Page) more() int { return min(p.Limit+1, maxLimit) }

// listed is the answer of a list of which page.more() were asked for: one more
// than the page holds says that there is a next one, after the place of the
// last. After a full page of the largest size there may be none.
func listed[T, B any](all []T, limit int, shape func(T) B, next func(last T) *string) *answer[List[B]] {
	out := &answer[List[B]]{Body: List[B]{Data: shaped(all[:min(len(all), limit)], shape)}}
	if len(all) > limit || len(all) == maxLimit {
		out.Body.NextCursor = next(all[limit-1])
	}
	return out
}

func shaped[T, B any](in []T, shape func(T) B) []B {
	out := make([]B, len(in))
	for i, v := range in {
		out[i] = shape(v)
	}
	return out
}

// answer is an output with nothing but a body.
type answer[T any] struct{ Body T }
