package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
)

// Tenantx is hospital software, among others: its plans, two of an organization's
// workspaces, and the events of its kernel and products.
const (
	tenantxPlans = "plans:\n  trial: []\n  starter: []\n  pro: []\n  enterprise: [outgoing_webhooks]\n"
	berlin       = "5f0c8a52-6f5e-4b58-9d52-6f1a2a3d9a01"
	hamburg      = "b7a6cc0e-24a1-4f0a-8d13-0e2f4a8f7c02"
)

// platform is a running daemon and who calls it.
type platform struct {
	t      *testing.T
	url    string // of the HTTP API
	socket *http.Client
	tcp    *http.Client
}

// startPlatform runs "grapnel serve" with that configuration until the test ends.
func startPlatform(t *testing.T, config string) *platform {
	t.Helper()
	dir := shortDir(t)
	file := filepath.Join(dir, "grapnel.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	ctx, stop := context.WithCancel(context.Background())
	log, ended := &lineWriter{hit: make(chan string, 1)}, make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{
			"serve", "--data", data, "--config", file, "--listen", "127.0.0.1:0", "--nats-listen", "off",
			"--allow-http", "--allow-network", "127.0.0.0/8",
		}, nil, io.Discard, log)
	}()
	unix := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(data, client.SocketName))
	}}
	p := &platform{t: t, socket: &http.Client{Transport: unix}, tcp: &http.Client{Transport: &http.Transport{}}}
	t.Cleanup(func() {
		p.socket.CloseIdleConnections()
		p.tcp.CloseIdleConnections()
		stop()
		if status := <-ended; status != 0 {
			t.Errorf("the daemon ended with %d:\n%s", status, log)
		}
	})
	select {
	case line := <-log.hit:
		var ready struct{ Health string }
		if err := json.Unmarshal([]byte(line), &ready); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		p.url = strings.TrimSuffix(ready.Health, "/healthz")
	case status := <-ended:
		ended <- status
		t.Fatalf("it ended with %d:\n%s", status, log)
	}
	return p
}

// ask makes a request: by the network with a token, by the operator's socket
// without one.
func (p *platform) ask(token, method, path string, in any) (status int, answer []byte) {
	p.t.Helper()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			p.t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	c, url := p.socket, "http://grapnel"
	if token != "" {
		c, url = p.tcp, p.url
	}
	req, err := http.NewRequestWithContext(p.t.Context(), method, url+path, body)
	if err != nil {
		p.t.Fatal(err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// must is ask for what has to go well, and reads the answer into out.
func (p *platform) must(token, method, path string, in, out any) {
	p.t.Helper()
	status, answer := p.ask(token, method, path, in)
	if status >= 300 {
		p.t.Fatalf("%s %s: %d %s", method, path, status, answer)
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			p.t.Fatalf("%s %s: %v in %s", method, path, err, answer)
		}
	}
}

// org makes an organization of that plan, and a token of it.
func (p *platform) org(id, plan string, scopes ...httpapi.Scope) (token string) {
	p.t.Helper()
	p.must("", "POST", "/api/v1/orgs", httpapi.OrgCreate{ID: id, Plan: plan}, nil)
	var made httpapi.TokenCreated
	p.must("", "POST", "/api/v1/orgs/"+id+"/tokens", httpapi.TokenCreate{Scopes: scopes}, &made)
	return made.Token
}

// event is one that a product appends.
type platformEvent struct{ typ, workspace, data string }

func (p *platform) append(token, org string, events ...platformEvent) {
	p.t.Helper()
	var in []httpapi.EventCreate
	for _, e := range events {
		in = append(in, httpapi.EventCreate{Type: e.typ, WorkspaceID: e.workspace, Data: json.RawMessage(e.data)})
	}
	p.must(token, "POST", "/api/v1/orgs/"+org+"/events", in, nil)
}

// cursor waits until fan-out has read the org's stream up to a sequence.
func (p *platform) cursor(org string, position uint64) httpapi.CursorBody {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		var c httpapi.CursorBody
		p.must("", "GET", "/api/v1/orgs/"+org+"/cursor", nil, &c)
		if c.Position >= position {
			return c
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.t.Fatalf("the cursor of %s stays at %d, want %d", org, c.Position, position)
		}
	}
}

// told are the events that came to a receiver, in words, sorted; it waits for as
// many as the books have deliveries of its endpoint.
func (p *platform) told(token, org, endpoint string, r *delivertest.Receiver) []string {
	p.t.Helper()
	var booked httpapi.List[httpapi.DeliveryBody]
	p.must(token, "GET", "/api/v1/orgs/"+org+"/deliveries?endpoint_id="+endpoint, nil, &booked)
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	requests, err := r.Wait(ctx, len(booked.Data))
	if err != nil {
		p.t.Fatalf("%d deliveries, %d requests: %v", len(booked.Data), len(requests), err)
	}
	var told []string
	for _, req := range requests {
		var b struct {
			Type  string `json:"type"`
			Org   string `json:"organization_id"`
			Place string `json:"workspace_id"`
		}
		if err := json.Unmarshal(req.Body, &b); err != nil || b.Org != org {
			p.t.Errorf("of organization %s: %v %s", b.Org, err, req.Body)
		}
		told = append(told, strings.TrimSpace(b.Type+" "+placeName(b.Place)))
	}
	slices.Sort(told)
	return told
}

func placeName(workspace string) string {
	return map[string]string{berlin: "berlin", hamburg: "hamburg"}[workspace]
}

// An organization-wide endpoint gets the organization's events and those of all
// its workspaces; one of a workspace only that workspace's, and never the
// organization's own.
func TestTenantxWorkspaces(t *testing.T) {
	p := startPlatform(t, tenantxPlans)
	token := p.org("clinic", "enterprise", httpapi.WebhooksManage, httpapi.EventsWrite)
	type subscriber struct {
		name, workspace string
		types           []string
		want            []string
	}
	all := []string{
		"inventory.low berlin", "inventory.low hamburg", "invitation.accepted", "organization.registered",
		"patient.admitted berlin", "patient.admitted hamburg", "subscription.updated",
	}
	subscribers := []subscriber{
		{"everything", "", []string{"*"}, all},
		{"everything, by default", "", nil, all},
		{"everything of berlin", berlin, []string{"*"}, []string{"inventory.low berlin", "patient.admitted berlin"}},
		{"everything of hamburg", hamburg, []string{"*"}, []string{"inventory.low hamburg", "patient.admitted hamburg"}},
		{"patients of berlin", berlin, []string{"patient.admitted"}, []string{"patient.admitted berlin"}},
		{"patients of all workspaces", "", []string{"patient.admitted"}, []string{"patient.admitted berlin", "patient.admitted hamburg"}},
		{"the subscription", "", []string{"subscription.updated"}, []string{"subscription.updated"}},
		{"the subscription, asked for by a workspace", berlin, []string{"subscription.updated", "organization.*"}, nil},
		{"stock and people", "", []string{"inventory.*", "invitation.accepted"}, []string{"inventory.low berlin", "inventory.low hamburg", "invitation.accepted"}},
		{"a workspace without events", "0b7c3f6e-0000-4000-8000-000000000003", []string{"*"}, nil},
	}
	receivers, ids := make([]*delivertest.Receiver, len(subscribers)), make([]string, len(subscribers))
	for i, s := range subscribers {
		receivers[i] = delivertest.NewReceiver()
		in := httpapi.EndpointCreate{URL: receivers[i].Start(t), EventTypes: s.types}
		if s.workspace != "" {
			in.WorkspaceID = httpapi.Text(s.workspace)
		}
		var made httpapi.EndpointCreated
		p.must(token, "POST", "/api/v1/orgs/clinic/endpoints", in, &made)
		ids[i] = made.ID
	}
	// Another organization with a workspace of the same id.
	other := p.org("laboratory", "enterprise", httpapi.WebhooksManage, httpapi.EventsWrite)
	p.append(other, "laboratory", platformEvent{"patient.admitted", berlin, `{"patient_reference":"p-0"}`})

	p.append(token, "clinic",
		platformEvent{"organization.registered", "", `{"organization_id":"clinic","name":"Clinic am Park"}`},
		platformEvent{"invitation.accepted", "", `{"invitation_id":"inv_204","user_id":"usr_17"}`},
		platformEvent{"subscription.updated", "", `{"plan":"enterprise","previous_plan":"pro"}`},
		platformEvent{"patient.admitted", berlin, `{"patient_reference":"p-83f1c0","admitted_at":"2026-11-21T09:57:12Z"}`},
		platformEvent{"patient.admitted", hamburg, `{"patient_reference":"p-19aa47","admitted_at":"2026-11-21T09:58:30Z"}`},
		platformEvent{"inventory.low", berlin, `{"sku":"GLV-NITRIL-M","quantity":38,"location_code":"BER-OR-2","trigger":"reorder-point"}`},
		platformEvent{"inventory.low", hamburg, `{"sku":"GLV-NITRIL-M","quantity":4,"location_code":"HAM-ER-1","trigger":"count"}`})
	p.cursor("clinic", 7)
	for i, s := range subscribers {
		if diff := cmp.Diff(s.want, p.told(token, "clinic", ids[i], receivers[i])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.name, diff)
		}
	}
}

// An endpoint that is moved to a workspace, or out of it, gets what its new place
// gets, from then on.
func TestTenantxEndpointMoves(t *testing.T) {
	p := startPlatform(t, tenantxPlans)
	token := p.org("clinic", "enterprise", httpapi.WebhooksManage, httpapi.EventsWrite)
	r := delivertest.NewReceiver()
	var made httpapi.EndpointCreated
	p.must(token, "POST", "/api/v1/orgs/clinic/endpoints", httpapi.EndpointCreate{URL: r.Start(t), WorkspaceID: httpapi.Text(berlin)}, &made)
	admitted := platformEvent{"patient.admitted", hamburg, `{"patient_reference":"p-19aa47"}`}
	var want []string
	for i, move := range []struct {
		to  string
		has bool
	}{{berlin, false}, {hamburg, true}, {"", true}, {berlin, false}} {
		p.must(token, "PATCH", "/api/v1/orgs/clinic/endpoints/"+made.ID, httpapi.EndpointUpdate{WorkspaceID: httpapi.Text(move.to)}, nil)
		p.append(token, "clinic", admitted)
		p.cursor("clinic", uint64(i+1))
		if move.has {
			want = append(want, "patient.admitted hamburg")
		}
		if diff := cmp.Diff(want, p.told(token, "clinic", made.ID, r)); diff != "" {
			t.Fatalf("after the move to %q (-want +got):\n%s", placeName(move.to), diff)
		}
	}
}

// trial, starter and pro have no outgoing webhooks: 402, naming the feature.
// enterprise has them.
func TestTenantxPlans(t *testing.T) {
	p := startPlatform(t, tenantxPlans)
	for _, plan := range []string{"trial", "starter", "pro", "enterprise"} {
		token := p.org(plan+"-clinic", plan, httpapi.WebhooksManage, httpapi.EventsWrite)
		base := "/api/v1/orgs/" + plan + "-clinic"
		for _, r := range [][2]string{
			{"GET", base + "/endpoints"}, {"POST", base + "/endpoints"}, {"GET", base + "/deliveries"}, {"GET", base + "/events"},
			{"POST", "/api/v1/portal/webhooks/subscribe"}, {"GET", "/api/v1/integrations/webhooks"}, {"GET", "/api/admin/webhooks"},
		} {
			var in any
			if r[0] == "POST" {
				in = map[string]any{} // the gate comes before the form
			}
			status, answer := p.ask(token, r[0], r[1], in)
			var problem httpapi.Problem
			json.Unmarshal(answer, &problem) // a list has neither field
			switch {
			case plan == "enterprise" && status == http.StatusPaymentRequired,
				plan != "enterprise" && (status != http.StatusPaymentRequired || problem.FeatureKey != "outgoing_webhooks"):
				t.Errorf("%s: %s %s: %d %s", plan, r[0], r[1], status, answer)
			}
		}
		// Whatever the plan, what happened is appended.
		p.append(token, plan+"-clinic", platformEvent{"subscription.updated", "", `{"plan":"` + plan + `"}`})
	}
}

// Upgrading starts delivery from then on, downgrading stops it; what came while the
// plan lacked webhooks is counted as gated, and is never sent.
func TestTenantxUpgrade(t *testing.T) {
	p := startPlatform(t, tenantxPlans)
	token := p.org("clinic", "enterprise", httpapi.WebhooksManage, httpapi.EventsWrite)
	r := delivertest.NewReceiver()
	var made httpapi.EndpointCreated
	p.must(token, "POST", "/api/v1/orgs/clinic/endpoints", httpapi.EndpointCreate{URL: r.Start(t)}, &made)
	var want []string
	for i, step := range []struct {
		plan, state string
		sent        bool
	}{
		{"enterprise", "live", true}, {"pro", "gated", false}, {"starter", "gated", false},
		{"enterprise", "live", true}, {"trial", "gated", false}, {"enterprise", "live", true},
	} {
		p.must("", "PATCH", "/api/v1/orgs/clinic", httpapi.OrgUpdate{Plan: &step.plan}, nil)
		typ := fmt.Sprintf("subscription.step_%d", i)
		p.append(token, "clinic", platformEvent{typ, "", `{"plan":"` + step.plan + `"}`})
		if c := p.cursor("clinic", uint64(i+1)); c.State != step.state || c.Lag != 0 {
			t.Errorf("%s: the cursor is %s, %d behind; want %s", step.plan, c.State, c.Lag, step.state)
		}
		if step.sent {
			want = append(want, typ)
			if diff := cmp.Diff(want, p.told(token, "clinic", made.ID, r)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", step.plan, diff)
			}
		}
	}
	if n := len(r.Requests()); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
	var books httpapi.FsckBody
	p.must("", "GET", "/api/v1/fsck?org=clinic", nil, &books)
	if !books.Proven || books.Orgs[0].Gated != 3 || books.Orgs[0].Events != 6 {
		t.Errorf("the books: %+v", books)
	}
}

// Who subscribes asks for everything, or for names that the catalogue has; whatever
// path is taken, the fault is in the field that was sent.
func TestTenantxCatalogue(t *testing.T) {
	file, err := filepath.Abs(filepath.Join(house, "testdata/catalogues/tenantx.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p := startPlatform(t, tenantxPlans+"strict: true\nevent_types: "+file+"\n")
	token := p.org("clinic", "enterprise", httpapi.WebhooksManage, httpapi.EventsWrite)
	const hook = `"url":"http://127.0.0.1:9/"`
	for _, c := range []struct{ path, body, want string }{
		{"/api/v1/orgs/clinic/endpoints", `{` + hook + `,"event_types":["*"]}`, "201"},
		{"/api/v1/orgs/clinic/endpoints", `{` + hook + `,"event_types":["inventory.low","patient.*"]}`, "201"},
		{"/api/v1/orgs/clinic/endpoints", `{` + hook + `,"event_types":["inventory.low","patient.dismissed"]}`, "422 body.event_types"},
		{"/api/v1/portal/webhooks/subscribe", `{` + hook + `,"event_types":["patient.dismissed"]}`, "422 body.event_types"},
		{"/api/v1/portal/webhooks/subscribe", `{` + hook + `,"events":["patient.dismissed"]}`, "422 body.events"},
		{"/api/admin/webhooks", `{` + hook + `,"events":["patient.dismissed"]}`, "422 body.events"},
		{"/api/v1/orgs/clinic/events", `{"type":"patient.dismissed","data":{}}`, "422 body.type"},
		{"/api/v1/orgs/clinic/events", `{"type":"subscription.updated","data":{"plan":{"previous":"pro","current":"enterprise"}}}`, "201"},
	} {
		status, answer := p.ask(token, "POST", c.path, json.RawMessage(c.body))
		want, location, _ := strings.Cut(c.want, " ")
		if fmt.Sprint(status) != want || !bytes.Contains(answer, []byte(`"location":"`+location)) && location != "" {
			t.Errorf("%s %s: want %s, got %d %s", c.path, c.body, c.want, status, answer)
		}
	}
}
