package httpapi

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

// The page /docs is the OpenAPI document for people. It is made of the document
// itself, without a script and without anything from another host, so that it can
// be read where there is no other network, and its policy can forbid all else.

//go:embed docspage.html
var docsHTML string

//go:embed docspage.css
var docsStyle string

var docsTemplate = template.Must(template.New("docs").Parse(docsHTML))

// docs adds the page. It is made when somebody first asks for it.
func (a *api) docs(mux *http.ServeMux) {
	page := sync.OnceValues(a.docsPage)
	sum := sha256.Sum256([]byte(docsStyle))
	policy := fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		base64.StdEncoding.EncodeToString(sum[:]))
	mux.HandleFunc("GET /docs", func(w http.ResponseWriter, r *http.Request) {
		text, err := page()
		if err != nil {
			a.log.Error("the page of the API's document cannot be made", "error", err)
			writeProblem(w, newProblem(http.StatusInternalServerError, "the page cannot be made; /openapi.json has the same"))
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", policy)
		w.Write(text) // the caller is gone if this fails
	})
}

type docsView struct {
	Title, Version, OpenAPI, Description string
	Style                                template.CSS
	Scopes                               []Scope
	Problem                              string
	Kinds                                []docsKind
	Groups                               []docsGroup
}

type docsKind struct {
	Status      int
	Type, Means string
}

type docsGroup struct {
	Name       string
	Operations []docsOperation
}

type docsOperation struct {
	ID, Method, Path, Summary string
	Description               []docsText
	Parameters, Asks, Answers []docsField
	Sent, Got                 string // examples
	Status                    string // of success
	Errors                    []string
}

// docsText is a piece of a sentence; code is what stands between backticks.
type docsText struct {
	Text string
	Code bool
}

type docsField struct {
	Name, Kind, Means string
	Required          bool
}

func (a *api) docsPage() ([]byte, error) {
	doc := a.huma.OpenAPI()
	view := docsView{
		Title: doc.Info.Title, Version: doc.Info.Version, OpenAPI: doc.OpenAPI, Description: doc.Info.Description,
		Style: template.CSS(docsStyle), Scopes: Scopes, Groups: docsGroups(doc),
		Problem: indented(badOnce("must be at most 200 printable ASCII characters")),
	}
	for _, status := range slices.Sorted(maps.Keys(kinds)) {
		view.Kinds = append(view.Kinds, docsKind{status, newProblem(status, "").Type, meanings[status]})
	}
	var out bytes.Buffer
	err := docsTemplate.Execute(&out, view)
	return out.Bytes(), err
}

// meanings are the kinds of problems, for people.
var meanings = map[int]string{
	http.StatusBadRequest:            "The request cannot be read, or has something that is not known.",
	http.StatusUnauthorized:          "There is no token, or it does not hold: unknown, expired or revoked.",
	http.StatusPaymentRequired:       "The organization's plan lacks the feature that feature_key names.",
	http.StatusForbidden:             "The token lacks the scope that is named, or is no operator's.",
	http.StatusNotFound:              "There is no such thing, or it is another organization's.",
	http.StatusMethodNotAllowed:      "The path is right, the method is not; Allow names those that are.",
	http.StatusRequestTimeout:        "The body took too long.",
	http.StatusConflict:              "It exists already, or its present state does not allow this.",
	http.StatusPreconditionFailed:    "It was changed since the version that If-Match names.",
	http.StatusRequestEntityTooLarge: "The body is too large.",
	http.StatusUnsupportedMediaType:  "The body is not application/json, or is encoded.",
	http.StatusUnprocessableEntity:   "errors names each field that is not as it must be.",
	http.StatusTooManyRequests:       "Too often, or too much is waiting: try again after Retry-After seconds.",
	http.StatusServiceUnavailable:    "The broker does not answer: try again after Retry-After seconds.",
	http.StatusInsufficientStorage:   "There is no room left; nothing was stored.",
}

// docsGroups are the operations by tag, in the order of their paths.
func docsGroups(doc *huma.OpenAPI) []docsGroup {
	var groups []docsGroup
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		operations := operationsOf(doc.Paths[path])
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
			op := operations[method]
			if op == nil {
				continue
			}
			name := op.Tags[0]
			i := slices.IndexFunc(groups, func(g docsGroup) bool { return g.Name == name })
			if i < 0 {
				i, groups = len(groups), append(groups, docsGroup{Name: name})
			}
			groups[i].Operations = append(groups[i].Operations, docsOperationOf(doc.Components.Schemas, path, method, op))
		}
	}
	slices.SortStableFunc(groups, func(a, b docsGroup) int { return cmp.Compare(a.Name, b.Name) })
	return groups
}

func docsOperationOf(schemas huma.Registry, path, method string, op *huma.Operation) docsOperation {
	o := docsOperation{ID: op.OperationID, Method: method, Path: path, Summary: op.Summary, Description: docsTexts(op.Description)}
	for _, p := range op.Parameters {
		o.Parameters = append(o.Parameters, docsField{
			Name: p.Name, Kind: docsKindOf(schemas, p.Schema), Means: p.Description, Required: p.Required,
		})
	}
	if op.RequestBody != nil {
		o.Asks, o.Sent = docsBody(schemas, op.RequestBody.Content)
	}
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		if strings.HasPrefix(status, "2") {
			o.Status = status
			o.Answers, o.Got = docsBody(schemas, op.Responses[status].Content)
			for i := range o.Answers {
				o.Answers[i].Required = false // nobody has to send it
			}
		} else {
			o.Errors = append(o.Errors, status)
		}
	}
	return o
}

func docsTexts(s string) []docsText {
	var out []docsText
	for i, part := range strings.Split(s, "`") {
		out = append(out, docsText{part, i%2 == 1})
	}
	return out
}

func docsBody(schemas huma.Registry, content map[string]*huma.MediaType) (fields []docsField, example string) {
	media, ok := content["application/json"]
	if !ok || media.Schema == nil {
		return nil, ""
	}
	if media.Example != nil {
		example = indented(media.Example)
	}
	return docsFields(schemas, "", media.Schema, nil), example
}

// docsFields adds the fields of a schema, those that are required first, and of
// the schemas in it: retry.initial, data[].id.
func docsFields(schemas huma.Registry, prefix string, s *huma.Schema, fields []docsField) []docsField {
	const deepest = 4
	s = resolved(schemas, s)
	if len(s.OneOf) > 0 {
		s = resolved(schemas, s.OneOf[0])
	}
	if s.Type == huma.TypeArray {
		return docsFields(schemas, prefix+"[]", s.Items, fields)
	}
	if strings.Count(prefix, ".") >= deepest {
		return fields
	}
	required := func(name string) bool { return slices.Contains(s.Required, name) }
	names := slices.Sorted(maps.Keys(s.Properties))
	slices.SortStableFunc(names, func(a, b string) int {
		switch {
		case required(a) == required(b):
			return 0
		case required(a):
			return -1
		}
		return 1
	})
	for _, name := range names {
		p := s.Properties[name]
		full := strings.TrimPrefix(prefix+"."+name, ".")
		fields = append(fields, docsField{
			Name: full, Kind: docsKindOf(schemas, p), Means: p.Description, Required: required(name),
		})
		if inner := resolved(schemas, p); len(inner.Properties) > 0 || inner.Type == huma.TypeArray {
			fields = docsFields(schemas, full, inner, fields)
		}
	}
	return fields
}

func resolved(schemas huma.Registry, s *huma.Schema) *huma.Schema {
	for s.Ref != "" {
		s = schemas.SchemaFromRef(s.Ref)
	}
	return s
}

// docsKindOf says in words what a value must be.
func docsKindOf(schemas huma.Registry, s *huma.Schema) string {
	s = resolved(schemas, s)
	words := []string{cmp.Or(s.Type, "any JSON")}
	switch {
	case s.Type == huma.TypeArray:
		words[0] = "array of " + docsKindOf(schemas, s.Items)
	case s.Format == "date-time":
		words[0] = "time"
	case s.PatternDescription != "":
		words[0] = "string: " + s.PatternDescription
	}
	if s.Nullable {
		words[0] += " or null"
	}
	if len(s.Enum) > 0 {
		texts := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			texts[i] = fmt.Sprint(v)
		}
		words = append(words, strings.Join(texts, " | "))
	}
	for _, limit := range []struct {
		least, most *float64
		unit        string
	}{{s.Minimum, s.Maximum, ""}, {number(s.MinLength), number(s.MaxLength), " characters"}, {number(s.MinItems), number(s.MaxItems), " entries"}} {
		switch {
		case limit.least != nil && limit.most != nil:
			words = append(words, fmt.Sprintf("%g to %g%s", *limit.least, *limit.most, limit.unit))
		case limit.most != nil:
			words = append(words, fmt.Sprintf("at most %g%s", *limit.most, limit.unit))
		case limit.least != nil:
			words = append(words, fmt.Sprintf("at least %g%s", *limit.least, limit.unit))
		}
	}
	if s.Default != nil {
		words = append(words, fmt.Sprintf("default %v", s.Default))
	}
	return strings.Join(words, ", ")
}

func number(n *int) *float64 {
	if n == nil {
		return nil
	}
	f := float64(*n)
	return &f
}

// indented is v as JSON for people.
func indented(v any) string {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return ""
	}
	return strings.TrimSpace(out.String())
}
