package main

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// alertRule is one of docs/monitoring/alerts.yaml; of a recording rule only Expr
// is set.
type alertRule struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func alertRules(t *testing.T) (alerts []alertRule, all []string) {
	t.Helper()
	var file struct {
		Groups []struct{ Rules []alertRule }
	}
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join(house, "docs/monitoring/alerts.yaml"))), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			all = append(all, r.Expr)
			if r.Alert != "" {
				alerts = append(alerts, r)
			}
		}
	}
	return alerts, all
}

const runbooks = "https://github.com/grapnel-hooks/grapnel/blob/main/docs/runbooks.md#"

// OPS-03: each alert says how urgent it is and has a runbook, which has every part
// that somebody needs at night; and no runbook is of an alert that there is not.
func TestOPS03_AlertsHaveRunbooks(t *testing.T) {
	page := documents(t)["docs/runbooks.md"]
	_, text, _ := strings.Cut(page, "\n## Alerts\n")
	sections := map[string]string{}
	var order []string
	for _, section := range strings.Split(text, "\n### ")[1:] {
		name, body, _ := strings.Cut(section, "\n")
		sections[name] = body
		order = append(order, name)
	}
	alerts, _ := alertRules(t)
	var names []string
	for _, a := range alerts {
		names = append(names, a.Alert)
		if s := a.Labels["severity"]; s != "page" && s != "ticket" || len(a.Labels) != 1 {
			t.Errorf("%s: labels %v, want severity page or ticket", a.Alert, a.Labels)
		}
		if a.Annotations["summary"] == "" || a.Annotations["runbook_url"] != runbooks+strings.ToLower(a.Alert) {
			t.Errorf("%s: annotations %v", a.Alert, a.Annotations)
		}
		at := 0
		for _, part := range []string{"**Customers:**", "**Look:**", "**Do:**", "**Not:**", "**Over:**"} {
			i := strings.Index(sections[a.Alert], "\n"+part)
			if i < at {
				t.Errorf("%s: its runbook lacks %s, or has it in another place", a.Alert, part)
			}
			at = max(i, at)
		}
	}
	if diff := cmp.Diff(names, order); diff != "" {
		t.Errorf("alerts and sections, in their order (-alerts +runbooks):\n%s", diff)
	}
	if len(names) < 20 {
		t.Errorf("found only %d alerts", len(names))
	}
}

// OPS-03: of each alert promtool tests that it fires, and that it does not.
func TestOPS03_AlertsAreTested(t *testing.T) {
	var file struct {
		Tests []struct {
			Name           string
			AlertRuleTests []struct {
				Alertname string
				ExpAlerts []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join(house, "docs/monitoring/alerts_test.yaml"))), &file); err != nil {
		t.Fatal(err)
	}
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, group := range file.Tests {
		for _, c := range group.AlertRuleTests {
			fires[c.Alertname] = fires[c.Alertname] || len(c.ExpAlerts) > 0
			silent[c.Alertname] = silent[c.Alertname] || len(c.ExpAlerts) == 0
		}
	}
	alerts, _ := alertRules(t)
	for _, a := range alerts {
		if !fires[a.Alert] || !silent[a.Alert] {
			t.Errorf("%s: it fires in a test: %v; it is silent in one: %v", a.Alert, fires[a.Alert], silent[a.Alert])
		}
	}
}

// dashboardPanel is what the dashboard's tests look at.
type dashboardPanel struct {
	ID         int
	Type       string
	Title      string
	Datasource struct{ Type, UID string }
	GridPos    struct{ H, W, X, Y int }
	Targets    []struct {
		RefID, Expr string
		Datasource  struct{ UID string }
	}
}

func dashboardPanels(t *testing.T) []dashboardPanel {
	t.Helper()
	var file struct {
		SchemaVersion int
		Panels        []dashboardPanel
		Templating    struct{ List []struct{ Name, Type string } }
	}
	if err := json.Unmarshal([]byte(read(t, filepath.Join(house, "docs/monitoring/dashboard.json"))), &file); err != nil {
		t.Fatal(err)
	}
	if file.SchemaVersion < 39 {
		t.Errorf("schema %d", file.SchemaVersion)
	}
	var variables []string
	for _, v := range file.Templating.List {
		variables = append(variables, v.Name)
	}
	if diff := cmp.Diff([]string{"datasource", "job", "instance"}, variables); diff != "" {
		t.Errorf("variables: %s", diff)
	}
	return file.Panels
}

// The dashboard can be imported anywhere: its panels have ids and places of their
// own, and ask the data source that is chosen for the daemons that are chosen.
func TestDashboard(t *testing.T) {
	panels := dashboardPanels(t)
	ids, taken := map[int]string{}, map[[2]int]string{}
	var rows []string
	for _, p := range panels {
		if other := ids[p.ID]; other != "" {
			t.Errorf("%q and %q have the same id", p.Title, other)
		}
		ids[p.ID] = p.Title
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%q lies over %q, or outside", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		if p.Title == "" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q: data source %q, %d queries", p.ID, p.Title, p.Datasource.UID, len(p.Targets))
		}
		for _, q := range p.Targets {
			if q.Datasource.UID != "${datasource}" || strings.Count(q.Expr, "{") == 0 ||
				strings.Count(q.Expr, `job=~"$job", instance=~"$instance"`) != strings.Count(q.Expr, "{") {
				t.Errorf("%q: not of the daemons that are chosen: %s", p.Title, q.Expr)
			}
		}
	}
	want := []string{"Is it well?", "Cursors", "Deliveries", "Endpoints", "Store", "Broker", "API", "Process"}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Error(diff)
	}
}

// Rules and dashboard name only values of labels that the daemon gives.
func TestMonitoringLabels(t *testing.T) {
	d := idleDaemon(t)
	exercise(d, 3)
	families, err := d.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]string{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				values[l.GetName()] = append(values[l.GetName()], l.GetValue())
			}
		}
	}
	_, queries := alertRules(t)
	for _, p := range dashboardPanels(t) {
		for _, q := range p.Targets {
			queries = append(queries, q.Expr)
		}
	}
	n := 0
	matcher := regexp.MustCompile(`\b([a-z_]+)=(~?)"([^"]*)"`)
	for _, q := range queries {
		for _, m := range matcher.FindAllStringSubmatch(q, -1) {
			if m[1] == "job" || m[1] == "instance" || m[1] == "le" {
				continue
			}
			for value := range strings.SplitSeq(m[3], "|") {
				if n++; !slices.Contains(values[m[1]], value) {
					t.Errorf("no %s is %q: %s", m[1], value, q)
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("found only %d values", n)
	}
}
