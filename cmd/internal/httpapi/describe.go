package httpapi

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// What the document says beside what huma makes of the types: who may use an
// operation, what it can be refused with, and examples that can be sent as they
// are.

// description says who may use the route.
func (r route) description() string {
	var b strings.Builder
	b.WriteString("Needs a token with the scope `" + string(r.scope) + "`")
	if resource, is := strings.CutSuffix(string(r.scope), ":read"); is {
		b.WriteString(" (or `" + resource + ":manage`, or `admin`)")
	} else if r.scope != Admin {
		b.WriteString(" (or `admin`)")
	}
	switch {
	case r.operator:
		b.WriteString(" of an operator.")
	case strings.Contains(r.path, "{org}"):
		b.WriteString(" of the organization or of an operator.")
	case r.tenant:
		b.WriteString(" of an organization: it is the organization that this is about.")
	default:
		b.WriteString(" of any organization or of an operator.")
	}
	if r.gated {
		b.WriteString(" The organization's plan needs the feature `outgoing_webhooks`.")
	}
	return b.String()
}

// refusals are the errors that the route can answer with, beside 422 and 500,
// which huma adds.
func (r route) refusals() []int {
	all := []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests, http.StatusServiceUnavailable}
	if r.gated {
		all = append(all, http.StatusPaymentRequired)
	}
	if r.method != http.MethodGet {
		all = append(all, http.StatusConflict, http.StatusInsufficientStorage)
	}
	if r.method == http.MethodPost || r.method == http.MethodPut || r.method == http.MethodPatch {
		all = append(all, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	return all
}

// describe completes the document when all operations are in it.
func (a *api) describe() {
	doc := a.huma.OpenAPI()
	a.describeProblems()
	for _, item := range doc.Paths {
		for _, op := range operationsOf(item) {
			if op.RequestBody != nil {
				describeExamples(doc.Components.Schemas, op.RequestBody.Content, true)
			}
			for status, response := range op.Responses {
				if strings.HasPrefix(status, "2") {
					describeExamples(doc.Components.Schemas, response.Content, false)
				}
			}
		}
	}
}

// describeProblems puts the shape of our problems in the document, where huma
// has that of its own.
func (a *api) describeProblems() {
	schemas := a.huma.OpenAPI().Components.Schemas
	if s, ok := schemas.Map()["ErrorModel"]; ok {
		*s = *huma.SchemaFromType(schemas, typeOf[Problem]())
	}
}

// operationsOf are the operations of a path, by method.
func operationsOf(item *huma.PathItem) map[string]*huma.Operation {
	all := map[string]*huma.Operation{
		http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put,
		http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
	}
	maps.DeleteFunc(all, func(_ string, op *huma.Operation) bool { return op == nil })
	return all
}

// describeExamples gives bodies without an example the one that their fields'
// examples make together. One that is to be sent has only the times that it
// needs: those of an example are soon in the past.
func describeExamples(schemas huma.Registry, content map[string]*huma.MediaType, sent bool) {
	for _, media := range content {
		if media.Example == nil && media.Schema != nil {
			media.Example = exampleOf(schemas, media.Schema, sent)
		}
	}
}

// exampleOf is the example of a schema: its own, else what its parts give. nil
// means that there is none.
func exampleOf(schemas huma.Registry, s *huma.Schema, sent bool) any {
	s = resolved(schemas, s)
	switch {
	case len(s.Examples) > 0:
		return s.Examples[0]
	case s.Default != nil:
		return s.Default
	case len(s.Enum) > 0:
		return s.Enum[0]
	case len(s.OneOf) > 0:
		return exampleOf(schemas, s.OneOf[0], sent)
	case s.Type == huma.TypeArray:
		if one := exampleOf(schemas, s.Items, sent); one != nil {
			return []any{one}
		}
		return []any{}
	case s.Type == huma.TypeBoolean:
		return false
	case s.Format == "date-time":
		return "2026-11-21T10:00:00Z"
	case s.Type == huma.TypeObject:
		object := map[string]any{}
		for name, p := range s.Properties {
			required := slices.Contains(s.Required, name)
			if sent && !required && p.Format == "date-time" {
				continue
			}
			v := exampleOf(schemas, p, sent)
			if v != nil || required && p.Nullable {
				object[name] = v
			}
		}
		return object
	}
	return nil
}
