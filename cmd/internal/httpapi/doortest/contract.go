package doortest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// problemSchema is where the document has the shape of errors.
const problemSchema = "#/components/schemas/ErrorModel"

// Contract drives each operation by its examples, with a token that has just the
// scope it needs: the answer is the documented one, what is malformed is refused
// by field, lists have pages, and a change writes one entry of the audit, by the
// id of the request. (SEC-20)
func Contract(t *testing.T, a *API) {
	a.begin(t)
	doc := a.document(t)
	operations := doc.operations()
	inTable(t, operations)
	for _, o := range operations {
		acc, ok := accesses[o.name]
		if !ok {
			continue
		}
		t.Run(o.name, func(t *testing.T) {
			c := &conversation{API: a, doc: doc, op: o, access: acc, org: own}
			if o.method == http.MethodDelete && strings.HasSuffix(o.path, "{org}") {
				c.org = "leaving"
				a.must(t, http.MethodPost, "/api/v1/orgs", map[string]any{"id": c.org})
			}
			holder := c.org
			if acc.operator {
				holder = ""
			}
			c.token = a.token(t, holder, acc.scope)
			c.path = o.at(c.org, a.object(t, o, acc, c.org))
			c.refusesWhatItDoesNotKnow(t)
			c.refusesWrongTypes(t)
			c.refusesMissing(t)
			c.hasPages(t)
			c.refusesOldRevisions(t)
			c.succeeds(t)
		})
	}
}

// conversation is an operation that is being tried.
type conversation struct {
	*API
	doc    *document
	op     operation
	access access
	org    string
	path   string // with an object that is there
	token  string
}

func (c *conversation) ask(t *testing.T, path string, body any, header ...string) answer {
	t.Helper()
	return c.API.ask(t, c.op.method, path, c.token, body, header...)
}

// succeeds sends the example as it is: once, however often, where that can be
// asked for.
func (c *conversation) succeeds(t *testing.T) {
	t.Helper()
	if c.op.asks != "" && c.op.body == nil {
		t.Fatal("the document has no example of the body: give the fields an example tag")
	}
	var header []string
	if c.op.once {
		header = []string{"Idempotency-Key", c.op.name}
	}
	revision := ""
	if c.op.revised {
		revision = c.API.ask(t, http.MethodGet, c.path, c.operator, nil).header.Get("ETag")
		header = append(header, "If-Match", revision)
	}
	got := c.ask(t, c.path, c.sendable(c.op), header...)
	if got.status != c.op.status {
		t.Fatalf("%s: %d, the document says %d\n%s", c.path, got.status, c.op.status, got.body)
	}
	if c.op.answers == "" {
		if len(got.body) > 0 {
			t.Errorf("an answer without documented body has one: %s", got.body)
		}
	} else {
		if err := c.doc.check(c.op.answers, got.body); err != nil {
			t.Errorf("the answer is not of the documented shape: %v\n%s", err, got.body)
		}
		example, _ := json.Marshal(c.op.answered)
		if err := c.doc.check(c.op.answers, example); err != nil {
			t.Errorf("the example of the answer is not of its shape: %v\n%s", err, example)
		}
	}
	if c.op.revised && (revision == "" || got.header.Get("ETag") == "" || got.header.Get("ETag") == revision) {
		t.Errorf("the ETag was %q and is %q", revision, got.header.Get("ETag"))
	}
	c.audited(t, got, c.access.entries)
	if c.op.once {
		again := c.ask(t, c.path, c.sendable(c.op), header...)
		if again.status != got.status || string(again.body) != string(got.body) || again.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("repeated with its Idempotency-Key: %d %v %s", again.status, again.header, again.body)
		}
		c.audited(t, again, 0)
	}
}

// refusesOldRevisions asks for a change of what is there no more.
func (c *conversation) refusesOldRevisions(t *testing.T) {
	t.Helper()
	if !c.op.revised {
		return
	}
	c.refused(t, c.ask(t, c.path, c.sendable(c.op), "If-Match", `"0"`), "", http.StatusPreconditionFailed)
}

// audited counts the entries of a request.
func (c *conversation) audited(t *testing.T, got answer, want int) {
	t.Helper()
	entries, err := c.Service.Audit(t.Context(), "", 0, 20)
	if err != nil {
		t.Fatal(err)
	}
	id, n := got.header.Get("X-Request-Id"), 0
	for _, e := range entries {
		if e.Request != id {
			continue
		}
		n++
		if !strings.HasPrefix(e.Actor, "tok_") || e.Action == "" || e.Target == "" || e.At.IsZero() {
			t.Errorf("an entry of the audit lacks who did what to what: %+v", e)
		}
	}
	if n != want {
		t.Errorf("it wrote %d entries of the audit, want %d", n, want)
	}
}

// refused checks a problem and that it names what is at fault.
func (c *conversation) refused(t *testing.T, got answer, location string, statuses ...int) {
	t.Helper()
	if !slices.Contains(statuses, got.status) {
		t.Errorf("%s at fault: %d, want %v\n%s", location, got.status, statuses, got.body)
		return
	}
	if err := c.doc.check(problemSchema, got.body); err != nil {
		t.Errorf("%s at fault: not a problem: %v\n%s", location, err, got.body)
		return
	}
	var p httpapi.Problem
	if err := json.Unmarshal(got.body, &p); err != nil {
		t.Error(err)
	}
	named := slices.ContainsFunc(p.Errors, func(e httpapi.FieldError) bool {
		return strings.HasPrefix(e.Location, location) || strings.HasPrefix(e.Location, strings.Replace(location, "body.", "body[0].", 1))
	})
	if location != "" && !named {
		t.Errorf("%s at fault, and it is not named: %s", location, got.body)
	}
}

func (c *conversation) refusesWhatItDoesNotKnow(t *testing.T) {
	t.Helper()
	c.refused(t, c.ask(t, c.path+"?unheard_of=1", c.sendable(c.op)), "query.unheard_of", http.StatusBadRequest)
	if body, ok := c.sendable(c.op).(map[string]any); ok && c.op.fields != nil {
		body["unheard_of"] = 1
		c.refused(t, c.ask(t, c.path, body), "body.unheard_of", http.StatusBadRequest)
	}
}

// refusesWrongTypes sends each field of the body with a value of another type.
func (c *conversation) refusesWrongTypes(t *testing.T) {
	t.Helper()
	for name, schema := range c.op.fields {
		kind := c.doc.resolved(schema)["type"]
		if kind == nil {
			continue // any JSON
		}
		body, ok := c.sendable(c.op).(map[string]any)
		if !ok {
			return
		}
		body[name] = map[string]any{"a": []any{true}}
		if kind == "object" {
			body[name] = []any{true}
		}
		c.refused(t, c.ask(t, c.path, body), "body."+name, http.StatusUnprocessableEntity, http.StatusBadRequest)
	}
}

// refusesMissing asks for an object and for an organization that do not exist.
func (c *conversation) refusesMissing(t *testing.T) {
	t.Helper()
	body := c.sendable(c.op)
	if c.op.has("id") {
		path := c.op.at(c.org, "none")
		c.refused(t, c.ask(t, path, body), "", http.StatusNotFound)
	}
	if c.op.has("org") {
		got := c.API.ask(t, c.op.method, c.op.at(missing, "none"), c.operator, body)
		c.refused(t, got, "", http.StatusNotFound)
	}
}

// hasPages reads a list one by one, and finds no entry twice.
func (c *conversation) hasPages(t *testing.T) {
	t.Helper()
	if !c.op.pages {
		return
	}
	const most = 1000
	seen, next := map[string]bool{}, ""
	for range most {
		got := c.ask(t, c.path+"?limit=1&cursor="+url.QueryEscape(next), nil)
		var page httpapi.List[json.RawMessage]
		if err := json.Unmarshal(got.body, &page); err != nil || got.status != http.StatusOK {
			t.Fatalf("a page of one: %d %s", got.status, got.body)
		}
		for _, v := range page.Data {
			if seen[string(v)] {
				t.Fatalf("twice in the list: %s", v)
			}
			seen[string(v)] = true
		}
		if len(page.Data) > 1 {
			t.Fatalf("%d entries on a page of one", len(page.Data))
		}
		if page.NextCursor == nil {
			c.refused(t, c.ask(t, c.path+"?cursor=bm90aGluZzox", nil), "query.cursor", http.StatusUnprocessableEntity)
			c.refused(t, c.ask(t, c.path+"?limit=0", nil), "query.limit", http.StatusUnprocessableEntity)
			return
		}
		next = *page.NextCursor
	}
	t.Fatalf("the list has no end after %d pages", most)
}
