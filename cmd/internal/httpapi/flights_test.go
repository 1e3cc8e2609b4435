package httpapi_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
	"github.com/grapnel-hooks/grapnel/stream"
)

// slowBroker is a Service whose appends wait.
type slowBroker struct {
	*httpapitest.Service
	answer chan struct{}
}

func (s *slowBroker) Append(ctx context.Context, org string, events []httpapi.NewEvent) ([]httpapi.Appended, error) {
	<-s.answer
	return s.Service.Append(ctx, org, events)
}

// Appends that the broker does not take fill what one organization may have in
// flight, then what all may; who comes then is told to come again, and there is
// room as soon as one is answered.
func TestAppendsInFlight(t *testing.T) {
	for _, c := range []struct {
		name      string
		size      int // bytes of a request's body
		own, both int // requests that one organization may have, and all
	}{
		{"small ones", 100, 128, 256},
		{"large ones", 4 << 20, 8, 16},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &slowBroker{httpapitest.New(), make(chan struct{})}
				for _, org := range []string{"acme", "beta", "gamma"} {
					if _, err := s.AddOrg(t.Context(), httpapi.Org{ID: org, Payload: "data"}); err != nil {
						t.Fatal(err)
					}
				}
				h := operator(s)
				body := `{"type":"a","data":"` + strings.Repeat("x", c.size-22) + `"}`
				done := make(chan int, 2*c.both)
				waiting := 0
				// post reports whether the request is let in.
				post := func(org string) bool {
					go func() {
						w := request(t, h, http.MethodPost, "/api/v1/orgs/"+org+"/events", body)
						if w.Code == http.StatusTooManyRequests && w.Header().Get("Retry-After") == "" {
							t.Error("refused without a word about when to come again")
						}
						done <- w.Code
					}()
					synctest.Wait()
					select {
					case code := <-done:
						if code != http.StatusTooManyRequests {
							t.Errorf("%s: %d", org, code)
						}
						return false
					default:
						waiting++
						return true
					}
				}
				fill := func(org string) (n int) {
					for n <= c.both && post(org) {
						n++
					}
					return n
				}
				if n := fill("acme"); n != c.own {
					t.Errorf("one organization has %d in flight, want %d", n, c.own)
				}
				if n := fill("beta"); n != c.both-c.own {
					t.Errorf("another one has %d, want %d", n, c.both-c.own)
				}
				if post("gamma") {
					t.Error("there was room for a third")
				}
				if got := ask(t, h, http.MethodGet, "/api/v1/orgs/acme/events", ""); !strings.HasPrefix(got, "200\n") {
					t.Errorf("another route: %s", got)
				}
				s.answer <- struct{}{}
				if code := <-done; code != http.StatusCreated {
					t.Errorf("the first: %d", code)
				}
				waiting--
				if !post("gamma") {
					t.Error("no room after one was answered")
				}
				for range waiting {
					s.answer <- struct{}{}
					<-done
				}
			})
		})
	}
}

// slowStream is a Service whose events are read slowly.
type slowStream struct {
	*httpapitest.Service
	answer chan struct{}
}

func (s *slowStream) Events(context.Context, string, httpapi.EventFilter, stream.Seq, int) ([]stream.Event, stream.Seq, error) {
	<-s.answer
	return nil, 0, nil
}

// SEC-28: one organization goes through its stream eight times at once, by
// whichever path, and leaves the others their room.
func TestSearchesInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowStream{httpapitest.New(), make(chan struct{})}
		for _, org := range []string{"acme", "beta"} {
			if _, err := s.AddOrg(t.Context(), httpapi.Org{ID: org, Payload: "data"}); err != nil {
				t.Fatal(err)
			}
		}
		h := operator(s)
		codes := make(chan int, 100)
		for range 20 {
			go func() { codes <- request(t, h, "GET", "/api/v1/orgs/acme/events", "").Code }()
		}
		synctest.Wait()
		if n := len(codes); n != 12 {
			t.Errorf("%d of 20 requests were answered at once, want 12", n)
		}
		for _, path := range []string{"events/1/explain", "events/1", "deliveries/dlv_01M7YRRT8000000002M0000007"} {
			if w := request(t, h, "GET", "/api/v1/orgs/acme/"+path, ""); w.Code != http.StatusTooManyRequests {
				t.Errorf("another way through the stream, %s: %d", path, w.Code)
			}
		}
		if w := request(t, h, "POST", "/api/v1/orgs/acme/filters/dry-run", `{"filter":"true"}`); w.Code != http.StatusTooManyRequests {
			t.Errorf("another way through the stream, a trial: %d", w.Code)
		}
		go func() { codes <- request(t, h, "GET", "/api/v1/orgs/beta/events", "").Code }()
		synctest.Wait()
		if n := len(codes); n != 12 {
			t.Error("another organization was refused")
		}
		close(s.answer)
	})
}

// SEC-28: bodies that stop in the middle fill what one organization may have in
// flight, not the memory; with an Idempotency-Key, too.
func TestSlowBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := httpapitest.New()
		for _, org := range []string{"acme", "beta"} {
			if _, err := s.AddOrg(t.Context(), httpapi.Org{ID: org, Payload: "data"}); err != nil {
				t.Fatal(err)
			}
		}
		h := operator(s)
		var ends []*io.PipeWriter
		codes := make(chan int, 100)
		slowly := func(org, key string) {
			body, end := io.Pipe()
			ends = append(ends, end)
			r := httptest.NewRequest("POST", "/api/v1/orgs/"+org+"/endpoints", body)
			r.ContentLength = 1 << 20
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Idempotency-Key", key)
			go func() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				codes <- w.Code
			}()
		}
		for i := range 30 {
			slowly("acme", []string{"", "k"}[i%2])
		}
		synctest.Wait()
		if n := len(codes); n != 22 {
			t.Errorf("%d of 30 requests were answered at once, want 22", n)
		}
		slowly("beta", "k")
		synctest.Wait()
		if n := len(codes); n != 22 {
			t.Error("another organization was refused")
		}
		for _, end := range ends {
			end.Close()
		}
	})
}

// What an Idempotency-Key makes the door read is not more than the route takes.
func TestLargeBodyWithAKey(t *testing.T) {
	h := operator(world(t))
	body := `{"url":"https://a.example","description":"` + strings.Repeat("x", 2<<20) + `"}`
	if w := request(t, h, "POST", "/api/v1/orgs/acme/endpoints", body, "Idempotency-Key", "k"); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("%d, want 413", w.Code)
	}
}
