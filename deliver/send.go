package deliver

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// SenderOptions are what a [Sender] is made from.
type SenderOptions struct {
	Guard        *Guard // nil: public addresses only
	AllowHTTP    bool
	UserAgent    string                                                               // grapnel/<version>
	MaxIdleConns int                                                                  // 0: 4096
	Resolver     Resolver                                                             // nil: the machine's
	Dial         func(ctx context.Context, network, address string) (net.Conn, error) // nil: TCP
}

// Resolver looks up names. [net.Resolver] is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Sender makes attempts.
type Sender struct{}

// NewSender makes a Sender.
func NewSender(o SenderOptions) *Sender { return &Sender{} }

// Close closes idle connections.
func (s *Sender) Close() {}

// Target is an Endpoint, prepared for sending.
type Target struct {
	Endpoint Endpoint
}

// NewTarget prepares an endpoint.
func NewTarget(e Endpoint) (*Target, error) { return &Target{Endpoint: e}, nil }

// Send makes one attempt.
func (s *Sender) Send(ctx context.Context, t *Target, p *Payload, k Key, attempt int, now time.Time) Outcome {
	return Outcome{}
}
