package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
)

// The table of routes in docs/access.md is that of the API's own description.
// -update writes it.
func TestDocsAccess(t *testing.T) {
	const begin, end = "-update -->\n", "<!-- end -->"
	file := filepath.Join(house, "docs", "access.md")
	page := read(t, file)
	before, rest, ok := strings.Cut(page, begin)
	got, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the table", file)
	}
	want := routesTable(t)
	if *updateGoldens {
		if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got, -update to accept):\n%s", file, diff)
	}
}

// routesTable lists what each scope opens, from the OpenAPI document.
func routesTable(t *testing.T) string {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]struct {
			Description string
			Security    []map[string][]string
		}
	}
	answer := httptest.NewRecorder()
	api := httpapi.Public(httpapi.Options{Service: httpapitest.New(), Log: slog.New(slog.DiscardHandler)})
	api.ServeHTTP(answer, httptest.NewRequest("GET", "/openapi.json", nil))
	if err := json.Unmarshal(answer.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	var rows [][4]string // scope, path, method, what else
	for path, methods := range doc.Paths {
		for method, op := range methods {
			if len(op.Security) == 0 {
				continue
			}
			var also []string
			if strings.Contains(op.Description, "of an operator.") && !strings.Contains(op.Description, "or of an operator.") {
				also = append(also, "operator")
			}
			if strings.Contains(op.Description, "of an organization:") {
				also = append(also, "an organization's own token")
			}
			if strings.Contains(op.Description, "outgoing_webhooks") {
				also = append(also, "plan")
			}
			rows = append(rows, [4]string{op.Security[0]["token"][0], path, strings.ToUpper(method), strings.Join(also, ", ")})
		}
	}
	order := map[string]int{}
	for i, s := range httpapi.Scopes {
		order[string(s)] = i
	}
	slices.SortFunc(rows, func(a, b [4]string) int {
		return cmp.Or(cmp.Compare(order[a[0]], order[b[0]]), cmp.Compare(a[1], b[1]), cmp.Compare(a[2], b[2]))
	})
	var b strings.Builder
	b.WriteString("\n| scope | route | besides |\n| --- | --- | --- |\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| `%s` | %s `%s` | %s |\n", r[0], r[2], strings.TrimPrefix(r[1], "/api/v1"), r[3])
	}
	if len(rows) < 20 || len(slices.Collect(maps.Keys(order))) != len(httpapi.Scopes) {
		t.Errorf("found only %d routes", len(rows))
	}
	b.WriteString("\n")
	return b.String()
}
