package httpapitest

import (
	"context"
	"net/http"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
)

// Requests shows made-up requests.
func (s *Service) Requests(_ context.Context, d deliver.Delivery, attempts []deliver.Attempt) ([]httpapi.SentRequest, error) {
	requests := make([]httpapi.SentRequest, len(attempts))
	for i := range attempts {
		r := &requests[i]
		r.Method, r.URL, r.Body = http.MethodPost, "https://hooks.example/in", []byte(`{"id":"`+d.EventID.String()+`"}`)
		r.Header = http.Header{"Webhook-Id": {d.EventID.String()}, "Webhook-Signature": {"[redacted]"}}
	}
	return requests, nil
}
