package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

func TestFilterCommands(t *testing.T) {
	golden(t, "commands/filter.txt", transcript(t, pretend(t, httpapitest.New()),
		"org add acme",
		"endpoint try-filter acme data.amount>10",
		`event append acme invoice.paid {"amount":12}`,
		`event append acme invoice.paid {"amount":9}`,
		`event append acme invoice.void {}`,
		`event append acme lead_won {"amount":"12"}`,
		"endpoint try-filter acme data.amount>10",
		"endpoint try-filter acme data.amount>10 --type invoice.* --last 2",
		"endpoint try-filter acme data.amount>10 --type invoice.paid --json",
		"endpoint try-filter acme data.amount=10",
		"endpoint try-filter acme data.amount>10 --last 1001",
		"endpoint try-filter acme",
	))
}

// arrivals is a receiver that tells of the events it gets.
func arrivals(t *testing.T) (url string, got chan string) {
	got = make(chan string, 100)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("webhook-id") }))
	t.Cleanup(s.Close)
	return s.URL, got
}

func TestFilters(t *testing.T) {
	everything, all := arrivals(t)
	url, some := arrivals(t)
	dir, ctx := shortDir(t), t.Context()
	d, end := strictDaemon(t, dir, false)
	if _, err := d.AddOrg(ctx, httpapi.Org{ID: "acme", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	endpoint := func(url, filter string) (deliver.Endpoint, error) {
		made, err := d.AddEndpoint(ctx, httpapi.NewEndpoint{
			Org: "acme", URL: url, EventTypes: []string{"*"}, Options: deliver.Options{Filter: filter},
			Timeout: deliver.DefaultTimeout, Retry: deliver.DefaultPolicy, Concurrency: deliver.DefaultConcurrency,
		})
		return made.Endpoint, err
	}
	refused := func(err error, says string) {
		t.Helper()
		var bad *httpapi.Invalid
		if !errors.As(err, &bad) || bad.Field != "filter" || !strings.Contains(bad.Detail, says) {
			t.Errorf("%v, want the filter refused for %q", err, says)
		}
	}
	refilter := func(id, filter string) error {
		_, err := d.ChangeEndpoint(ctx, "acme", id, httpapi.EndpointChange{Options: func(o *deliver.Options) { o.Filter = filter }})
		return err
	}
	arrived := func(from chan string, want ...string) {
		t.Helper()
		var got []string
		late := time.After(20 * time.Second)
		for len(got) < len(want) {
			select {
			case id := <-from:
				got = append(got, id)
			case <-late:
				t.Fatalf("got %v, want %v", got, want)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	ids := map[int]string{}
	publish := func(ns ...int) (sent []string) {
		t.Helper()
		for _, n := range ns {
			key := fmt.Sprint("event ", n)
			if _, err := d.broker.Append(ctx, "acme", stream.Append{Type: "a", DedupeKey: key, Data: fmt.Appendf(nil, `{"n":%d}`, n)}); err != nil {
				t.Fatal(err)
			}
			ids[n] = stream.KeyID("acme", key).String()
			sent = append(sent, ids[n])
		}
		return sent
	}

	_, err := endpoint(url, `data.n =`)
	refused(err, "column 8: = is not known")
	if _, err := endpoint(everything, ""); err != nil {
		t.Fatal(err)
	}
	ep, err := endpoint(url, `data.n > 2`)
	if err != nil {
		t.Fatal(err)
	}
	refused(refilter(ep.ID, `n > 2`), "column 1: n is not known")

	arrived(all, publish(1, 2, 3)...)
	arrived(some, ids[3])
	tried, err := d.TryFilter(ctx, "acme", httpapi.FilterTrial{Filter: `data.n == 2`, EventTypes: []string{"*"}, Last: 2})
	if err != nil || tried.Events != 2 || tried.Matched != 1 || !tried.All || len(tried.Samples) != 1 || tried.Samples[0].Seq != 3 {
		t.Errorf("%+v, %v", tried.Trial, err)
	}
	_, err = d.TryFilter(ctx, "acme", httpapi.FilterTrial{Filter: `data.n ==`, EventTypes: []string{"*"}, Last: 2})
	refused(err, "column 10")
	x, err := d.Explain(ctx, "acme", stream.ID{}, 1)
	if err != nil || len(x.Answers) != 2 || x.Answers[1].Why != fanout.WhyFiltered || x.Answers[1].Part != `data.n > 2 is false` {
		t.Errorf("%+v, %v", x.Answers, err)
	}

	// Another version of the program has saved what this one cannot read.
	if _, err := d.store.SetEndpoint(ctx, "acme", ep.ID, sqlite.EndpointChange{Options: func(o *deliver.Options) { o.Filter = `data.n ~ 2` }}); err != nil {
		t.Fatal(err)
	}
	arrived(all, publish(4)...)
	end()
	d, end = strictDaemon(t, dir, false)
	defer func() { end() }()
	arrived(all, publish(5)...)
	passed(t, d, 5)
	if len(some) > 0 {
		t.Fatal("what should be held was sent")
	}
	name := "renamed"
	if _, err := d.ChangeEndpoint(ctx, "acme", ep.ID, httpapi.EndpointChange{Description: &name}); err != nil {
		t.Errorf("nothing else can be changed: %v", err)
	}
	if err := refilter(ep.ID, `data.n > 6`); err != nil {
		t.Fatal(err)
	}
	arrived(all, publish(6, 7)...)
	arrived(some, ids[4], ids[5], ids[7])
}
