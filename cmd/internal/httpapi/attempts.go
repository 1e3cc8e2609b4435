package httpapi

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// AttemptLog is the part of a Service that shows what was sent.
type AttemptLog interface {
	// Requests are the requests of a delivery's attempts, one for each, as they
	// were sent. What cannot be told any more is left out, and Note says so.
	Requests(ctx context.Context, d deliver.Delivery, attempts []deliver.Attempt) ([]SentRequest, error)
}

// SentRequest is a request as it was sent, without anything secret.
type SentRequest struct {
	deliver.ShownRequest
	Note string // what is missing of it, and why
}

// RequestBody is a request as it was sent.
type RequestBody struct {
	Method    string            `json:"method,omitempty" example:"POST"`
	URL       string            `json:"url,omitempty" example:"https://hooks.example/invoices?key=[redacted]" doc:"Values of its query are never shown"`
	Headers   map[string]string `json:"headers,omitempty" example:"{\"webhook-id\":\"evt_4S7T0N3M8Q1V5X2Z6B9C0D4F7G\",\"webhook-signature\":\"[redacted]\"}" doc:"Signatures, credentials and values of the endpoint's own headers are never shown"`
	Body      string            `json:"body,omitempty" doc:"Its first 64 KiB, after redaction"`
	Truncated bool              `json:"truncated,omitempty"`
	Note      string            `json:"note,omitempty" doc:"What is missing, and why"`
}

// TimingsBody is where the time of an attempt went. Parts that it did not have
// are 0.
type TimingsBody struct {
	DNSMS       float64 `json:"dns_ms" example:"1.204"`
	ConnectMS   float64 `json:"connect_ms" example:"8.41"`
	TLSMS       float64 `json:"tls_ms" example:"17.92"`
	FirstByteMS float64 `json:"first_byte_ms" example:"31.5" doc:"From having the connection to the first byte of the answer"`
	Reused      bool    `json:"reused" doc:"The connection was there already"`
}

// timingsBody is nil when nothing is known beside the duration.
func timingsBody(t deliver.Timings) *TimingsBody {
	if t == (deliver.Timings{}) {
		return nil
	}
	return &TimingsBody{milliseconds(t.DNS), milliseconds(t.Connect), milliseconds(t.TLS), milliseconds(t.FirstByte), t.Reused}
}

func requestBody(r SentRequest) *RequestBody {
	b := &RequestBody{
		Method: r.Method, URL: r.URL, Body: strings.ToValidUTF8(string(r.Body), "�"), Truncated: r.Truncated, Note: r.Note,
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if b.Headers == nil {
			b.Headers = make(map[string]string, len(r.Header))
		}
		b.Headers[strings.ToLower(name)] = strings.Join(r.Header[name], ", ")
	}
	return b
}

// shownAttempt is an attempt in an answer to who asks in that context. Where
// endpoints are reached is for operators: to a tenant it would tell of the
// network that the daemon is in.
func shownAttempt(ctx context.Context, k deliver.Key, t deliver.Attempt, r SentRequest) AttemptBody {
	b := attemptBody(k, t)
	b.Request, b.Timings = requestBody(r), timingsBody(t.Timings)
	if CallerOf(ctx).Operator() {
		b.RemoteAddress = t.Address
	}
	return b
}

// showDelivery is a delivery with its attempts.
func (a *api) showDelivery(ctx context.Context, in *DeliveryPath) (*answer[DeliveryDetail], error) {
	key, err := in.key()
	if err != nil {
		return nil, err
	}
	d, attempts, err := a.svc.Delivery(ctx, in.Org, key)
	if err != nil {
		return nil, err
	}
	requests, err := a.svc.Requests(ctx, d, attempts)
	if err != nil {
		return nil, err
	}
	out := DeliveryDetail{deliveryBody(d), make([]AttemptBody, len(attempts))}
	for i, t := range attempts {
		out.Attempts[i] = shownAttempt(ctx, d.Key, t, requests[i])
	}
	return &answer[DeliveryDetail]{out}, nil
}
