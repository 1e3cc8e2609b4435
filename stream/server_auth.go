package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Limits of publishers that sign in.
const (
	maxConnections     = 4096 // in all
	maxOrgConnections  = 256  // of one organization
	maxOrgSubjects     = 64   // of one publisher
	maxSubscriptions   = 64   // of one connection; a client needs one, for its answers
	inboxes            = "_INBOX.>"
	publisherAccount   = "org-" // and the organization: no account of the server's own begins so
	signInTries        = 3
	prunePublishersFor = 64
)

// ErrSignIn: the organization and the token do not belong together, or the
// token may not publish (any more).
var ErrSignIn = errors.New("sign-in refused")

// Publisher is what a token lets its bearer do at the embedded server.
type Publisher struct {
	Org      string
	Token    string    // the token's id, never the token itself
	Until    time.Time // when the connection ends; zero: only by [Server.Disconnect]
	Subjects []string  // filters of what may be published, such as events.acme.>
}

// SignIn says who it is that wants to publish for the organization (the user
// name) with the token (the password). It wraps [ErrSignIn] when nobody may;
// any other error is a fault of our own, which is logged and not held against
// the caller. It is called by many goroutines.
type SignIn func(org, token string) (Publisher, error)

// Disconnect closes the connections of the publishers for whom f is true, and
// returns how many that were. Whoever signs in at this moment is asked again
// who they are, so a token that was revoked before is refused. It does not
// wait; f must be quick.
func (s *Server) Disconnect(f func(Publisher) bool) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.running == nil || s.running.door == nil {
		return 0
	}
	return s.running.door.disconnect(f)
}

// door is where publishers of one life of the server sign in. It implements
// server.Authentication.
//
// Each organization has an account of its own at the NATS server: a space of
// subjects in which there is nobody else. One thing leads out of it, a service
// import of the organization's event subjects from the daemon's account, where
// the streams are. So the acknowledgements of others, wake-ups and JetStream's
// API are not forbidden to a publisher: they are not there.
type door struct {
	signIn  SignIn
	strikes *strikes
	log     *slog.Logger
	ns      *server.Server // set before the server listens

	mu       sync.Mutex
	tenants  map[string]*tenant   // by org
	present  map[uint64]Publisher // by connection; may hold some that have gone
	prune    int                  // look for those when there are so many
	revision int                  // counts calls of disconnect
}

// tenant is one organization's account.
type tenant struct {
	account  *server.Account
	subjects map[string]bool // what it imports
	told     time.Time       // when its being crowded was last logged
}

// crowdedError: the organization has all the connections that it may have.
type crowdedError struct {
	org string
	n   int
	log bool // it was not logged within strikeWindow
}

func (e *crowdedError) Error() string {
	return fmt.Sprintf("organization %s has %d connections already, which is the limit", e.org, e.n)
}

func newDoor(ask SignIn, s *strikes, log *slog.Logger) *door {
	return &door{
		signIn: ask, strikes: s, log: log, prune: prunePublishersFor,
		tenants: make(map[string]*tenant), present: make(map[uint64]Publisher),
	}
}

// Check decides about one connection. The daemon's own have no network address
// and are let in: nobody can come by a network and look like that.
func (d *door) Check(c server.ClientAuthentication) bool {
	if c.Kind() != server.CLIENT {
		return false
	}
	from := c.RemoteAddress()
	if from == nil {
		return false // gone
	}
	if from.Network() == inProcess {
		return true
	}
	address := hostOf(from)
	o := c.GetOpts()
	var crowded *crowdedError
	err := d.admit(c, o.Username, o.Password)
	o.Password = "" // nothing needs it from here on
	switch {
	case err == nil:
		return true
	case errors.As(err, &crowded):
		if crowded.log {
			d.log.Warn("publisher was refused: its organization has all the connections that it may have; share them in the publishing service. "+
				"More refusals of this organization are not logged for a minute", "org", crowded.org, "connections", crowded.n, "address", address)
		}
	case !errors.Is(err, ErrSignIn):
		d.log.Error("publisher could not sign in", "address", address, "error", err)
	case d.strikes.strike(address):
		// The user name is not logged: a token could have been put there.
		d.log.Warn("publisher was refused: give the organization as user and a valid token with events:write as password; "+
			"more refusals of this address are not logged for a minute", "address", address)
	}
	return false
}

// openDoor lets everybody of this machine in as they come, and to what they need with
// the tools of NATS, but for one thing: a single message is taken out of a stream
// by the daemon alone ([Client.Erase]). A hole that it did not make in what is not
// fanned out yet would be an event that is lost and that nobody misses. It implements
// server.Authentication.
type openDoor struct{}

const (
	anybody      = "anybody"
	eraseMessage = "$JS.API.STREAM.MSG.DELETE.>"
)

// Check lets a connection in.
func (openDoor) Check(c server.ClientAuthentication) bool {
	from := c.RemoteAddress()
	if from == nil || c.Kind() != server.CLIENT {
		return false
	}
	if from.Network() != inProcess {
		c.RegisterUser(&server.User{
			Username:    anybody,
			Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{eraseMessage}}},
		})
	}
	return true
}

// inProcess is the network of net.Pipe's addresses.
const inProcess = "pipe"

// hostOf is the address without its port.
func hostOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// admit lets the connection publish as the token allows.
func (d *door) admit(c server.ClientAuthentication, org, token string) error {
	if CheckOrg(org) != nil || token == "" {
		return ErrSignIn
	}
	for range signInTries {
		revision := d.now()
		p, err := d.signIn(org, token)
		if err != nil {
			return err
		}
		if err := p.check(org); err != nil {
			return err
		}
		if done, err := d.enter(c, p, revision); done || err != nil {
			return err
		}
	}
	return errors.New("publishers are being disconnected all the time")
}

// check says whether what SignIn has answered can be.
func (p Publisher) check(org string) error {
	switch {
	case p.Org != org:
		return fmt.Errorf("sign-in for %s: the answer is about another organization", org)
	case len(p.Subjects) == 0 || len(p.Subjects) > maxOrgSubjects:
		return fmt.Errorf("sign-in for %s: %d subjects to publish to: want 1 to %d", org, len(p.Subjects), maxOrgSubjects)
	case !p.Until.IsZero() && !p.Until.After(time.Now()):
		return ErrSignIn
	}
	return nil
}

func (d *door) now() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.revision
}

// enter registers the connection with its organization's account. It does not
// when somebody was disconnected since the revision: the publisher may be one of
// those.
func (d *door) enter(c server.ClientAuthentication, p Publisher, revision int) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.revision != revision {
		return false, nil
	}
	t, err := d.tenant(p)
	if err != nil {
		return false, err
	}
	if n := t.account.NumLocalConnections(); n >= maxOrgConnections {
		crowded := &crowdedError{org: p.Org, n: n, log: time.Since(t.told) >= strikeWindow}
		if crowded.log {
			t.told = time.Now()
		}
		return false, crowded
	}
	d.keep(c.GetID(), p)
	c.RegisterUser(&server.User{
		Username:           p.Org,
		Account:            t.account,
		ConnectionDeadline: p.Until,
		Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: p.Subjects, Deny: operationalSubjects(p.Subjects)},
			Subscribe: &server.SubjectPermission{Allow: []string{inboxes}},
		},
	})
	return true, nil
}

// tenant is the organization's account, with a way to the publisher's subjects.
// Ways that are not needed any more stay until the server is started again; to use
// one needs a permission. d.mu is held.
func (d *door) tenant(p Publisher) (*tenant, error) {
	t := d.tenants[p.Org]
	if t == nil {
		a, _ := d.ns.LookupOrRegisterAccount(publisherAccount + p.Org)
		t = &tenant{account: a, subjects: make(map[string]bool)}
		d.tenants[p.Org] = t
	}
	for _, s := range p.Subjects {
		if t.subjects[s] {
			continue
		}
		events := d.ns.GlobalAccount()
		if err := events.AddServiceExport(s, []*server.Account{t.account}); err != nil {
			return nil, fmt.Errorf("let %s publish to %s: %w", p.Org, s, err)
		}
		if err := t.account.AddServiceImport(events, s, s); err != nil {
			return nil, fmt.Errorf("let %s publish to %s: %w", p.Org, s, err)
		}
		t.subjects[s] = true
	}
	return t, nil
}

// keep notes whose connection that is. Now and then it forgets those that have gone.
// d.mu is held.
func (d *door) keep(id uint64, p Publisher) {
	if len(d.present) >= d.prune {
		for id := range d.present {
			if d.ns.GetClient(id) == nil {
				delete(d.present, id)
			}
		}
		d.prune = max(prunePublishersFor, 2*len(d.present))
	}
	p.Subjects = slices.Clone(p.Subjects)
	d.present[id] = p
}

func (d *door) disconnect(f func(Publisher) bool) int {
	d.mu.Lock()
	d.revision++
	var ids []uint64
	for id, p := range d.present {
		if f(p) {
			ids = append(ids, id)
			delete(d.present, id)
		}
	}
	d.mu.Unlock()
	n := 0
	for _, id := range ids {
		if d.ns.DisconnectClientByID(id) == nil { // an error: it has gone by itself
			n++
		}
	}
	return n
}
