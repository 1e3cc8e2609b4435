package main

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/sqlite"
)

// effects shows of each setting that can be reloaded that it has another effect
// afterwards, and no restart was needed.
var effects = map[string]func(t *testing.T){
	"log_level": func(t *testing.T) {
		r := reloadableDaemon(t, "")
		r.daemon.log.Debug("unheard")
		r.say("log_level: debug\n")
		r.daemon.log.Debug("heard")
		if text := r.log.String(); strings.Contains(text, "unheard") || !strings.Contains(text, `"heard"`) {
			t.Errorf("the log has:\n%s", text)
		}
	},
	"rate_limit": func(t *testing.T) {
		r := reloadableDaemon(t, "rate_limit: 1\n")
		token := r.token()
		refused := func() bool {
			for range 10 {
				if r.request("GET", "/api/v1/orgs", token, "").Code == http.StatusTooManyRequests {
					return true
				}
			}
			return false
		}
		if !refused() {
			t.Error("ten requests at once are not too many for one a second")
		}
		r.say("rate_limit: 1000\n")
		if refused() {
			t.Error("ten requests at once are too many for a thousand a second")
		}
	},
	"trusted_proxy": func(t *testing.T) {
		r := reloadableDaemon(t, "")
		token := r.token()
		from := func(org string) string {
			if w := r.request("POST", "/api/v1/orgs", token, `{"id":"`+org+`"}`, "X-Forwarded-For", "203.0.113.9"); w.Code != http.StatusCreated {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			entries, err := r.Audit(t.Context(), org, 0, 1)
			if err != nil || len(entries) != 1 {
				t.Fatal(entries, err)
			}
			return entries[0].Address
		}
		if a := from("one"); a != "192.0.2.1" {
			t.Errorf("the proxy that is not trusted is %s in the audit", a)
		}
		r.say("trusted_proxy: 192.0.2.0/24\n")
		if a := from("two"); a != "203.0.113.9" {
			t.Errorf("behind the trusted proxy there is %s in the audit", a)
		}
	},
	"max_event_size": func(t *testing.T) {
		r := reloadableDaemon(t, "max_event_size: 1024\n")
		receiver := delivertest.NewReceiver()
		if _, err := r.AddEndpoint(t.Context(), newEndpoint(receiver.Start(t))); err != nil {
			t.Fatal(err)
		}
		if err := r.append("a", 2000); err == nil {
			t.Error("2000 bytes were taken")
		}
		r.say("max_event_size: 4096\n")
		if err := r.append("a", 2000); err != nil {
			t.Error(err)
		}
		came(t, receiver, 1) // fan-out goes by it, too
	},
	"strict": func(t *testing.T) {
		r := reloadableDaemon(t, "")
		if err := r.append("unknown", 10); err != nil {
			t.Error(err)
		}
		r.say("strict: true\n")
		if err := r.append("unknown", 10); err == nil {
			t.Error("an unknown type was taken")
		}
	},
	"max_in_flight_per_org": func(t *testing.T) {
		r := reloadableDaemon(t, "max_in_flight_per_org: 1\n")
		receiver, release := delivertest.NewReceiver(), make(chan struct{})
		receiver.Otherwise(delivertest.Hold(release, delivertest.Status(http.StatusNoContent)))
		defer close(release)
		url := receiver.Start(t)
		for range 3 {
			if _, err := r.AddEndpoint(t.Context(), newEndpoint(url)); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.append("a", 10); err != nil {
			t.Fatal(err)
		}
		until(t, "all deliveries are in their lanes", func() bool {
			s := r.lanes.Stats()
			return s.InFlight+s.Queued == 3 && s.InFlight > 0
		})
		if n := r.lanes.Stats().InFlight; n != 1 {
			t.Errorf("%d are in flight", n)
		}
		r.say("max_in_flight_per_org: 100\n")
		came(t, receiver, 3)
	},
	"allow_http": func(t *testing.T) {
		r := reloadableDaemon(t, "")
		receiver := delivertest.NewReceiver()
		made, err := r.AddEndpoint(t.Context(), newEndpoint(receiver.Start(t)))
		if err != nil {
			t.Fatal(err)
		}
		r.write("allow_network: [127.0.0.0/8]\n")
		if _, err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.AddEndpoint(t.Context(), newEndpoint(made.Endpoint.URL)); err == nil {
			t.Error("an http URL was taken")
		}
		if a, err := r.TestEndpoint(t.Context(), "acme", made.Endpoint.ID); err != nil || a.Class != deliver.BlockedAddress {
			t.Errorf("the attempt at the endpoint that was there ends as %v, %v", a.Class, err)
		}
		r.say("")
		if a, err := r.TestEndpoint(t.Context(), "acme", made.Endpoint.ID); err != nil || a.Class != deliver.OK {
			t.Errorf("the attempt ends as %v, %v when it is allowed again", a.Class, err)
		}
	},
	"allow_network": func(t *testing.T) {
		r := reloadableDaemon(t, "")
		receiver := delivertest.NewReceiver()
		made, err := r.AddEndpoint(t.Context(), newEndpoint(receiver.Start(t)))
		if err != nil {
			t.Fatal(err)
		}
		try := func() deliver.Class {
			a, err := r.TestEndpoint(t.Context(), "acme", made.Endpoint.ID)
			if err != nil {
				t.Fatal(err)
			}
			return a.Class
		}
		if class := try(); class != deliver.OK { // and leaves a connection behind
			t.Errorf("before: %v", class)
		}
		r.write("allow_http: true\n")
		if _, err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if class := try(); class != deliver.BlockedAddress {
			t.Errorf("on a connection that was there already: %v", class)
		}
	},
	"allow_port": func(t *testing.T) {
		r := reloadableDaemon(t, "")
		if _, err := r.guard.CheckURL("https://93.184.215.14:9443/", true); !errors.Is(err, deliver.ErrPort) {
			t.Errorf("port 9443: %v", err)
		}
		r.say("allow_port: 9443\n")
		if _, err := r.guard.CheckURL("https://93.184.215.14:9443/", true); err != nil {
			t.Errorf("port 9443 is allowed: %v", err)
		}
	},
	"nat64_prefix": func(t *testing.T) {
		r := reloadableDaemon(t, "")
		private := netip.MustParseAddrPort("[2606:4700:64::10.0.0.1]:443")
		if err := r.guard.Check(private); err != nil {
			t.Errorf("a public address: %v", err)
		}
		r.say("nat64_prefix: 2606:4700:64::/96\n")
		if err := r.guard.Check(private); err == nil {
			t.Error("behind the prefix there is a private address, which was let through")
		}
	},
	"park_after": func(t *testing.T) {
		r := reloadableDaemon(t, "park_after: 0\n")
		e := newEndpoint("http://127.0.0.1:9/")
		e.Options.Paused = true
		if _, err := r.AddEndpoint(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := r.append("a", 10); err != nil {
				t.Fatal(err)
			}
		}
		passed(t, r.daemon, 3)
		if n := r.store.CatchupStats().Parked; n != 0 {
			t.Errorf("%d endpoints are parked without a limit", n)
		}
		r.say("park_after: 2\n")
		if err := r.append("a", 10); err != nil {
			t.Fatal(err)
		}
		until(t, "the endpoint is parked", func() bool { return r.store.CatchupStats().Parked == 1 })
	},
	"max_pending_per_org": func(t *testing.T) {
		r := reloadableDaemon(t, "")
		e := newEndpoint("http://127.0.0.1:9/")
		e.Options.Paused = true
		if _, err := r.AddEndpoint(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if err := r.append("a", 10); err != nil {
			t.Fatal(err)
		}
		passed(t, r.daemon, 1)
		r.say("max_pending_per_org: 1\n")
		if err := r.room("acme"); !errors.Is(err, fanout.ErrNoRoom) {
			t.Errorf("one is pending, and one may be: %v", err)
		}
	},
	"min_free": func(t *testing.T) {
		r := reloadableDaemon(t, "min_free: off\n")
		r.say("min_free: 4096TiB\n")
		r.lookAtSpace()
		if err := r.room("acme"); !errors.Is(err, fanout.ErrNoRoom) {
			t.Errorf("no disk has so much: %v", err)
		}
	},
	"store_max_bytes": func(t *testing.T) {
		r := reloadableDaemon(t, "min_free: off\n")
		if got := r.limits(1).maxUsed; got != 0 {
			t.Errorf("the database may have %d bytes", got)
		}
		r.say("min_free: off\nstore_max_bytes: 16MiB\n")
		if got := r.limits(1).maxUsed; got != 16<<20 {
			t.Errorf("the database may have %d bytes", got)
		}
	},
	"ballast": func(t *testing.T) {
		r := reloadableDaemon(t, "ballast: off\nmin_free: off\n")
		if n := sqlite.Ballast(r.cfg.Data); n != 0 {
			t.Errorf("there are %d bytes of ballast", n)
		}
		r.say("ballast: 1MiB\nmin_free: off\n")
		r.keepBallast()
		if n := sqlite.Ballast(r.cfg.Data); n != 1<<20 {
			t.Errorf("there are %d bytes of ballast", n)
		}
	},
	"plans": func(t *testing.T) {
		r := reloadableDaemon(t, "plans: {trial: [outgoing_webhooks]}\n")
		trial := "trial"
		if _, err := r.ChangeOrg(t.Context(), "acme", httpapi.OrgChange{Plan: &trial}); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"plans: {trial: []}\n", "plans: {trial: [outgoing_webhooks]}\n"} {
			r.say(text)
			if gated, err := r.Gated(t.Context(), "acme"); err != nil || gated != strings.Contains(text, "[]") {
				t.Errorf("%s: gated is %v, %v", text, gated, err)
			}
		}
	},
	"retention": func(t *testing.T) {
		r := reloadableDaemon(t, "")
		now := time.Now()
		r.say("retention: {finished: 2h, dead: 3h}\n")
		if o := r.retention(now); now.Sub(o.FinishedBefore) != 2*time.Hour || now.Sub(o.DeadBefore) != 3*time.Hour {
			t.Errorf("retention is %+v", o)
		}
	},
	"event_types": func(t *testing.T) {
		r := reloadableDaemon(t, "")
		r.say("event_types: [{name: task.done}]\n")
		if _, err := r.EventType(t.Context(), "task.done", "1"); err != nil {
			t.Error(err)
		}
	},
	"formats": func(t *testing.T) {
		format := func(header string) string {
			return "formats: {acme: {scheme: sha256-hex, headers: {signature: " + header + "}, body: data}}\n"
		}
		r := reloadableDaemon(t, format("X-A"))
		receiver := delivertest.NewReceiver()
		e := newEndpoint(receiver.Start(t))
		e.Options.Format = "acme"
		made, err := r.AddEndpoint(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		for i, header := range []string{"X-A", "X-B"} {
			r.say(format(header))
			if err := r.append("a", 10); err != nil {
				t.Fatal(err)
			}
			if q := came(t, receiver, i+1); q.Header.Get(header) == "" {
				t.Errorf("no %s in %v", header, q.Header)
			}
		}
		r.say("")
		if why := r.Held(made.Endpoint); why == "" {
			t.Error("its format is gone, and it is not held")
		}
		if err := r.append("a", 10); err != nil {
			t.Fatal(err)
		}
		passed(t, r.daemon, 3)
		r.say(format("X-C"))
		if q := came(t, receiver, 3); q.Header.Get("X-C") == "" {
			t.Errorf("when the format was back: %v", q.Header)
		}
	},
}
