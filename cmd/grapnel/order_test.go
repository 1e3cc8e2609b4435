package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
)

// customers is a receiver that notes what it takes of each customer, in order, and
// that fails for one of them.
type customers struct {
	*httptest.Server
	mu    sync.Mutex
	fails string
	tried map[string]int   // requests
	took  map[string][]int // answered with success
}

func newCustomers(t *testing.T) *customers {
	c := &customers{tried: map[string]int{}, took: map[string][]int{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var e struct {
			Data struct {
				Customer string
				N        int
			}
		}
		if err := json.Unmarshal(body, &e); err != nil {
			t.Errorf("body %s: %v", body, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.tried[e.Data.Customer]++
		if e.Data.Customer == c.fails {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		c.took[e.Data.Customer] = append(c.took[e.Data.Customer], e.Data.N)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *customers) fail(customer string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fails = customer
}

func (c *customers) of(customer string) (tried int, took []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tried[customer], slices.Clone(c.took[customer])
}

// An endpoint ordered by customer gets each customer's events in their order. A
// customer whose events fail holds back nobody else's, and gets all of his in
// order once they succeed, also after a restart.
func TestOrderedByCustomer(t *testing.T) {
	const each = 60
	dir, ctx := shortDir(t), t.Context()
	d, end := parkingDaemon(t, dir)
	defer func() { end() }()
	if _, err := d.AddOrg(ctx, httpapi.Org{ID: "acme", Payload: "data"}); err != nil {
		t.Fatal(err)
	}
	c := newCustomers(t)
	c.fail("mallory")
	retry := deliver.Policy{Initial: time.Second, Multiplier: 1, MaxInterval: time.Second, Attempts: 100}
	_, err := d.AddEndpoint(ctx, httpapi.NewEndpoint{
		Org: "acme", URL: c.URL, EventTypes: []string{"*"}, Timeout: deliver.DefaultTimeout, Retry: retry, Concurrency: 4,
		Options: deliver.Options{OrderedBy: "/data/customer"},
	})
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"alice", "mallory", "bob"}
	publish := func(from int) {
		t.Helper()
		var batch []httpapi.NewEvent
		for n := from; n < from+each; n++ {
			for _, name := range names {
				batch = append(batch, httpapi.NewEvent{Type: "order.changed", Data: fmt.Appendf(nil, `{"customer":%q,"n":%d}`, name, n)})
			}
		}
		if _, err := d.Append(ctx, "acme", batch); err != nil {
			t.Fatal(err)
		}
	}
	// in waits until so many of the customer's events were taken, in their order.
	in := func(customer string, n int) {
		t.Helper()
		await(t, fmt.Sprintf("%d events of %s", n, customer), func() bool { _, took := c.of(customer); return len(took) >= n })
		_, took := c.of(customer)
		for i, got := range took {
			if got != i {
				t.Fatalf("%s got %v", customer, took)
			}
		}
	}
	publish(0)
	in("alice", each)
	in("bob", each)
	await(t, "an attempt for mallory", func() bool { tried, _ := c.of("mallory"); return tried > 0 })
	end()
	d, end = parkingDaemon(t, dir)
	publish(each)
	in("alice", 2*each)
	in("bob", 2*each)
	if _, took := c.of("mallory"); took != nil {
		t.Errorf("mallory got %v", took)
	}
	c.fail("")
	in("mallory", 2*each)
	for _, name := range names {
		if _, took := c.of(name); len(took) != 2*each {
			t.Errorf("%s got %d events, want %d", name, len(took), 2*each)
		}
	}
	books, err := d.Fsck(ctx, "acme")
	if err != nil || len(books) != 1 || books[0].Wrong != 0 {
		t.Errorf("the books: %+v, %v", books, err)
	}
}
