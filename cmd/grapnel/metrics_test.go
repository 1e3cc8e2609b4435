package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cursor"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/prometheus/client_golang/prometheus"
)

// idleDaemon is a daemon that is open and does not run.
func idleDaemon(t *testing.T) *daemon {
	t.Helper()
	d, err := openDaemon(t.Context(), daemonOptions{
		Data: shortDir(t), Version: "test", NATSListen: "off", NATSSync: time.Second, Synchronous: "NORMAL", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return d
}

// exercise makes everything happen that a metric tells of, as often as there are
// labels for it, with organizations behind.
func exercise(d *daemon, behind int) {
	for class := deliver.OK; class <= deliver.Ours; class++ {
		for status := 0; status <= 600; status += 100 {
			for _, stopping := range []bool{false, true} {
				d.draining.Store(stopping)
				payload := &deliver.Payload{Stored: time.Now()}
				a := &deliver.Attempt{Number: 1, Revision: 1, Started: time.Now(), Outcome: deliver.Outcome{Class: class, Status: status}}
				d.metrics.observe(&deliver.Ticket{Payload: payload}, a, &deliver.Transition{State: deliver.Delivered})
			}
		}
	}
	for r := deliver.NoReason; r <= deliver.ByHand; r++ {
		d.metrics.observe(&deliver.Ticket{}, &deliver.Attempt{}, &deliver.Transition{State: deliver.Dead, Reason: r})
	}
	d.metrics.removed(sqlite.Removed{Deliveries: 1})
	for route := range 200 {
		for _, status := range []int{0, 200, 204, 304, 401, 404, 429, 500, 503} {
			d.metrics.perRequest.observe(httpapi.Ended{Route: fmt.Sprintf("GET /api/v1/%d", route), Status: status})
		}
	}
	var cursors []httpapi.Cursor
	for i := range behind {
		cursors = append(cursors, httpapi.Cursor{Position: cursor.Position{Org: fmt.Sprintf("org%d", i)}, Lag: uint64(i + 1), Age: time.Minute, State: "behind"})
	}
	s := d.metrics.survey
	s.last = s.last.ofCursors(cursors, time.Now(), s.excused)
	s.last.at = time.Now()
	s.counts = map[deliver.State]int64{deliver.Delivered: 1, deliver.Cancelled: 1}
}

// metricsNamed is every metric that a text names, with what its name ends in if it
// is a histogram's series.
var metricsNamed = regexp.MustCompile(`\bgrapnel_[a-z][a-z0-9_]*[a-z0-9]\b`)

// monitoring are the files that monitoring is set up with, by their path in the
// house.
func monitoring(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(house, "docs", "monitoring", "*"))
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, file := range files {
		texts[strings.TrimPrefix(filepath.ToSlash(file), house+"/")] = read(t, file)
	}
	return texts
}

// OPS-02: whatever names a metric, names one that exists, and each that exists is
// explained in docs/metrics.md.
func TestDocsMetrics(t *testing.T) {
	d := idleDaemon(t)
	exercise(d, 3)
	families, err := prometheus.Gatherers{d.registry, d.perOrg}.Gather()
	if err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{}
	var own []string
	for _, f := range families {
		exists[f.GetName()] = true
		if f.GetType().String() == "HISTOGRAM" {
			for _, series := range []string{"_bucket", "_sum", "_count"} {
				exists[f.GetName()+series] = true
			}
		}
		if strings.HasPrefix(f.GetName(), "grapnel_") {
			own = append(own, f.GetName())
		}
	}
	if len(own) < 50 {
		t.Errorf("found only %d metrics", len(own))
	}
	texts := documents(t)
	for file, text := range monitoring(t) {
		texts[file] = text
	}
	for file, text := range texts {
		for _, name := range metricsNamed.FindAllString(text, -1) {
			if !exists[name] {
				t.Errorf("%s: there is no metric %s", file, name)
			}
		}
	}
	table := texts["docs/metrics.md"]
	for _, name := range own {
		if !regexp.MustCompile("(?m)^\\|.*`" + name + "[`{].*\\|$").MatchString(table) {
			t.Errorf("the tables of docs/metrics.md do not explain %s", name)
		}
	}
}

// OPS-01: the number of series is bounded, however many organizations and endpoints
// there are, and whatever is asked of the API.
func TestOPS01_MetricsAreBounded(t *testing.T) {
	const orgs, endpoints, most = 1000, 10_000, 2000
	d := idleDaemon(t)
	var busy sync.WaitGroup
	limit := make(chan struct{}, 64)
	for i := range orgs {
		limit <- struct{}{}
		busy.Go(func() {
			defer func() { <-limit }()
			org := fmt.Sprintf("org%d", i)
			if _, err := d.store.AddOrg(t.Context(), sqlite.Org{ID: org}); err != nil {
				t.Error(err)
			}
			for n := range endpoints / orgs {
				ep := deliver.Endpoint{
					Org: org, URL: fmt.Sprintf("https://127.0.0.1/%d", n), EventTypes: []string{"*"}, Secrets: []deliver.Secret{{Secret: sign.NewSecret()}},
					Timeout: time.Second, Retry: deliver.DefaultPolicy, Concurrency: 1,
				}
				made, err := d.store.AddEndpoint(t.Context(), ep, sqlite.Start{})
				if err == nil {
					err = d.lanes.Set(made)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	busy.Wait()
	exercise(d, orgs)
	began := time.Now()
	families, err := prometheus.Gatherers{d.registry, d.perOrg}.Gather()
	if err != nil {
		t.Fatal(err)
	}
	took, series := time.Since(began), 0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			n := 1
			if h := m.GetHistogram(); h != nil {
				n = len(h.GetBucket()) + 3 // +Inf, sum and count
			}
			if s := m.GetSummary(); s != nil {
				n = len(s.GetQuantile()) + 2
			}
			series += n
			for _, label := range m.GetLabel() {
				if label.GetName() == "org" && !strings.HasPrefix(f.GetName(), "grapnel_org_") || strings.Contains(label.GetValue(), "ep_") {
					t.Errorf("%s names an organization or endpoint: %v", f.GetName(), label)
				}
			}
		}
	}
	t.Logf("%d series, gathered in %v", series, took)
	if series >= most {
		t.Errorf("%d series, want fewer than %d", series, most)
	}
	if lanes := d.lanes.Stats().Lanes; lanes != endpoints {
		t.Errorf("%d lanes", lanes)
	}
}
