package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/nats-io/nats.go/jetstream"
)

const personal = "CANARY-of-a-person-7d793037"

// counter is a receiver that answers with what it was sent, and counts by event.
type counter struct {
	*httptest.Server
	mu   sync.Mutex
	seen map[string]int
}

func newCounter(t *testing.T, status int) *counter {
	c := &counter{seen: map[string]int{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.seen[r.Header.Get("webhook-id")]++
		c.mu.Unlock()
		w.WriteHeader(status)
		var body bytes.Buffer
		body.ReadFrom(r.Body)
		w.Write(body.Bytes())
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *counter) got(event string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[event]
}

// holders are the files of a data directory that hold the text.
func holders(t *testing.T, dir, text string) (names []string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(text)) {
			name, _ := filepath.Rel(dir, path)
			names = append(names, name)
		}
		return err
	})
	if err != nil || files < 3 {
		t.Fatalf("%d files: %v", files, err)
	}
	return names
}

// What is expunged is in no file any more, is shown nowhere and is never sent again:
// not as the stream is read again, nor to an endpoint that begins at its beginning.
// Where the stream denies deletes, the message stays in it, and all else holds.
func TestExpungeEndToEnd(t *testing.T) {
	for name, denies := range map[string]bool{"erasable": false, "deletes denied": true} {
		t.Run(name, func(t *testing.T) {
			s := serveNow(t)
			if denies {
				js := connect(t, s.nats)
				if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
					Name: "EVENTS_acme", Subjects: []string{"events.acme.>"}, DenyDelete: true, AllowDirect: true,
				}); err != nil {
					t.Fatal(err)
				}
			}
			well, ill, late := newCounter(t, http.StatusOK), newCounter(t, http.StatusInternalServerError), newCounter(t, http.StatusOK)
			s.try("org", "add", "acme") // unless it was made because its stream is there
			s.run("endpoint", "add", "acme", well.URL, "--type", "person.*")
			s.run("endpoint", "add", "acme", ill.URL, "--type", "person.*")
			add := func(eventType, data string) string {
				var e httpapi.AppendedBody
				if err := json.Unmarshal([]byte(s.run("event", "append", "acme", eventType, data, "--json")), &e); err != nil {
					t.Fatal(err)
				}
				return e.ID
			}
			content := fmt.Sprintf(`{"name":%q}`, personal)
			sent, unmatched, other := add("person.added", content), add("nobody.wants", content), add("person.added", `{}`)
			await(t, "the first attempts", func() bool {
				return strings.Count(s.run("delivery", "list", "acme", "--event", sent, "--json"), `"attempt_count": 1`) == 2 && well.got(other) == 1
			})
			if in := holders(t, s.dir, personal); len(in) < 2 {
				t.Errorf("before, the content is only in %v", in)
			}
			if plan := s.run("event", "expunge", "acme", sent); !strings.Contains(plan, "Nothing is changed") {
				t.Errorf("the plan:\n%s", plan)
			}
			wantStatus, wantMessage := 0, httpapi.MessageErased
			if denies {
				wantStatus, wantMessage = exitFailed, httpapi.MessageDenied
			}
			expunge := func(event string) (x httpapi.ExpungedBody) {
				t.Helper()
				out, status := s.try("event", "expunge", "acme", event, "--execute", "--reason", "case 4711", "--json")
				if err := json.Unmarshal([]byte(out), &x); err != nil || status != wantStatus || x.Message != wantMessage || !x.Executed {
					t.Fatalf("status %d, %v:\n%s", status, err, out)
				}
				return x
			}
			if x := expunge(sent); x.Cancelled != 1 || x.Payloads != 1 || x.Answers != 2 || x.Before {
				t.Errorf("expunged %+v", x)
			}
			expunge("2") // to whom nobody was subscribed
			if denies {
				if x := expunge(sent); !x.Before || x.Cancelled != 0 {
					t.Errorf("again: %+v", x)
				}
			}

			tries := ill.got(sent)
			hidden := func() {
				t.Helper()
				for _, c := range [][]string{
					{"event", "show", "acme", sent}, {"event", "show", "acme", unmatched}, {"event", "list", "acme"}, {"event", "list", "acme", "--json"},
					{"delivery", "list", "acme", "--json"}, {"audit", "acme", "--json"}, {"event", "explain", "acme", "1", "--json"},
				} {
					if out, _ := s.try(c...); strings.Contains(out, personal) {
						t.Errorf("grapnel %s:\n%s", strings.Join(c, " "), out)
					}
				}
				if out, status := s.try("event", "show", "acme", sent); status == 0 {
					t.Errorf("it is shown:\n%s", out)
				}
				if list := s.run("event", "list", "acme", "--json"); !strings.Contains(list, other) {
					t.Errorf("the other event is not listed:\n%s", list)
				}
			}
			hidden()

			// Nothing brings it back.
			s.run("endpoint", "add", "acme", late.URL, "--type", "person.*", "--type", "nobody.wants", "--start", "beginning")
			await(t, "the other event", func() bool { return late.got(other) == 1 })
			var at httpapi.CursorBody
			if err := json.Unmarshal([]byte(s.run("cursor", "show", "acme", "--json")), &at); err != nil {
				t.Fatal(err)
			}
			s.run("cursor", "reset", "acme", "--to-earliest", "--execute", "--reason", "once more", "--expect-position", fmt.Sprint(at.Position))
			await(t, "the stream to be read again", func() bool {
				var now httpapi.CursorBody
				return json.Unmarshal([]byte(s.run("cursor", "show", "acme", "--json")), &now) == nil && now.Position >= at.Position
			})
			if f, status := s.fsck(); status != 0 {
				t.Errorf("fsck: %+v", f)
			}
			hidden()
			s.stop()

			s = serveIn(t, s.dir)
			after := add("person.added", `{}`)
			await(t, "what comes after", func() bool { return well.got(after) == 1 && late.got(after) == 1 })
			if f, status := s.fsck("--repair"); status != 0 {
				t.Errorf("fsck after a restart: %+v", f)
			}
			hidden()
			if audit := s.run("audit", "acme", "--json"); strings.Count(audit, "event.expunge") != 2 {
				t.Errorf("audit:\n%s", audit)
			}
			log := s.log.String()
			s.stop()
			if strings.Contains(log, personal) {
				t.Errorf("the log has it:\n%s", log)
			}
			if diff := cmp.Diff([]int{1, tries, 0, 0, 0, 0}, []int{well.got(sent), ill.got(sent), late.got(sent), well.got(unmatched), ill.got(unmatched), late.got(unmatched)}); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			for _, name := range holders(t, s.dir, personal) {
				if !denies || !strings.HasPrefix(name, "nats") {
					t.Errorf("the content is in %s", name)
				}
			}
		})
	}
}
