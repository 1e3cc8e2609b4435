package doortest

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// operation is one operation of the document.
type operation struct {
	name   string // "GET /api/v1/orgs": its key in accesses
	method string
	path   string
	status int // of success
	body   any // the example of its body; nil if it takes none

	fields   map[string]any // schemas of the body's fields, by name
	asks     string         // where in the document the body's schema is; "" without a body
	answers  string         // where that of the answer is; "" if it has no body
	answered any            // the example of the answer
	pages    bool           // it has ?limit= and ?cursor=
	once     bool           // it honours an Idempotency-Key
	revised  bool           // it honours If-Match
}

func (o operation) has(param string) bool { return strings.Contains(o.path, "{"+param+"}") }

// document is the API's own description.
type document struct {
	tree     any
	compiler *jsonschema.Compiler
}

const documentURL = "http://127.0.0.1/openapi.json"

// document asks the API for its description.
func (a *API) document(t *testing.T) *document {
	t.Helper()
	got := a.ask(t, http.MethodGet, "/openapi.json", "", nil)
	tree, err := jsonschema.UnmarshalJSON(bytes.NewReader(got.body))
	if got.status != http.StatusOK || err != nil {
		t.Fatalf("GET /openapi.json: %d, %v", got.status, err)
	}
	d := &document{tree: tree, compiler: jsonschema.NewCompiler()}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource(documentURL, tree); err != nil {
		t.Fatal(err)
	}
	return d
}

// at is what the document has at that place, nil if there is nothing.
func (d *document) at(pointer string) any {
	v := d.tree
	for _, key := range strings.Split(strings.TrimPrefix(pointer, "#/"), "/") {
		m, _ := v.(map[string]any)
		v = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(key)]
		if m, ok := v.(map[string]any); ok {
			if ref, ok := m["$ref"].(string); ok {
				v = d.at(ref)
			}
		}
	}
	return v
}

// check says how the JSON text differs from the schema at that place.
func (d *document) check(pointer string, text []byte) error {
	schema, err := d.compiler.Compile(documentURL + pointer)
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return schema.Validate(v)
}

// operations are all of them, by path and method.
func (d *document) operations() []operation {
	paths, _ := d.at("#/paths").(map[string]any)
	var all []operation
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		for _, method := range slices.Sorted(maps.Keys(paths[path].(map[string]any))) {
			all = append(all, d.operation(path, method))
		}
	}
	return all
}

func (d *document) operation(path, method string) operation {
	const content = "/content/application~1json"
	here := "#/paths/" + strings.ReplaceAll(path, "/", "~1") + "/" + method
	o := operation{method: strings.ToUpper(method), path: path}
	o.name = o.method + " " + path
	if d.at(here+"/requestBody") != nil {
		o.asks = here + "/requestBody" + content + "/schema"
		o.body = plainly(d.at(here + "/requestBody" + content + "/example"))
		for _, place := range []string{o.asks, o.asks + "/oneOf"} {
			schema, _ := d.at(place).(map[string]any)
			if list, ok := d.at(place).([]any); ok {
				schema = d.resolved(list[0])
			}
			if fields, ok := schema["properties"].(map[string]any); ok {
				o.fields = fields
			}
		}
	}
	responses, _ := d.at(here + "/responses").(map[string]any)
	for status := range responses {
		if n, err := strconv.Atoi(status); err == nil && n < 300 {
			o.status = n
			if answer := here + "/responses/" + status + content; d.at(answer) != nil {
				o.answers, o.answered = answer+"/schema", d.at(answer+"/example")
			}
		}
	}
	params, _ := d.at(here + "/parameters").([]any)
	for _, p := range params {
		switch p.(map[string]any)["name"] {
		case "limit":
			o.pages = true
		case "Idempotency-Key":
			o.once = true
		case "If-Match":
			o.revised = true
		}
	}
	return o
}

// resolved follows a schema that only refers to another.
func (d *document) resolved(schema any) map[string]any {
	m, _ := schema.(map[string]any)
	if ref, ok := m["$ref"].(string); ok {
		m, _ = d.at(ref).(map[string]any)
	}
	return m
}

// plainly is a copy of v in the types of encoding/json.
func plainly(v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // it came from JSON
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		panic(err)
	}
	return out
}
