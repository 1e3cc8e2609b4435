package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/oklog/ulid/v2"
)

// EndpointChange is what SetEndpoint changes; nil leaves a setting alone.
type EndpointChange struct {
	URL         *string
	Description *string
	EventTypes  []string
	Workspace   *string
	Headers     *[]deliver.Header         // see deliver.ChangeHeaders
	Credentials deliver.CredentialsChange // see its Apply
	Timeout     *time.Duration
	Retry       *deliver.Policy
	Concurrency *int
	Options     func(*deliver.Options) // makes the change, and may be called more than once; nil: there is none
	Secret      sign.Secret            // takes the place of all that sign now; zero: there is none
	Disabled    *bool                  // true: by hand; false enables it, whatever had disabled it
	// Revision is the one that the change is meant for; 0 means any.
	Revision int64
}

// apply makes the change of settings. Enabling and disabling is left to the
// caller. It fails as [deliver.ChangeHeaders] does.
func (c EndpointChange) apply(e *deliver.Endpoint) error {
	moved := c.URL != nil && !deliver.SameOrigin(e.URL, *c.URL)
	headers, err := deliver.ChangeHeaders(e.Headers, c.Headers, moved)
	if err != nil {
		return err
	}
	e.Headers = headers
	if c.Options != nil {
		e.Options = e.Options.Clone()
		c.Options(&e.Options)
		if err := e.Options.Check(); err != nil {
			return err
		}
	}
	set(&e.URL, c.URL)
	set(&e.Description, c.Description)
	set(&e.Workspace, c.Workspace)
	set(&e.Timeout, c.Timeout)
	set(&e.Retry, c.Retry)
	set(&e.Concurrency, c.Concurrency)
	if c.EventTypes != nil {
		e.EventTypes = slices.Clone(c.EventTypes)
	}
	return nil
}

func set[T any](dst, src *T) {
	if src != nil {
		*dst = *src
	}
}

const endpointColumns = `p.id, p.ulid, p.org, p.url, p.description, p.event_types, p.workspace, p.headers, p.timeout,
	p.retry_initial, p.retry_multiplier, p.retry_max, p.retry_attempts, p.concurrency,
	p.disabled_reason, p.disabled_at, p.health, p.created_at, p.updated_at, p.revision, p.options, p.credentials`

// scanEndpoint reads endpointColumns. The org's id and the secrets are left to
// the caller.
func (s *Store) scanEndpoint(r row) (deliver.Endpoint, error) {
	multiplier, _ := r[10].(float64)
	e := deliver.Endpoint{
		Row:            r.int(0),
		ID:             r.text(1),
		URL:            r.text(3),
		Description:    r.text(4),
		Workspace:      r.text(6),
		Timeout:        time.Duration(r.int(8)),
		Retry:          deliver.Policy{Initial: time.Duration(r.int(9)), Multiplier: multiplier, MaxInterval: time.Duration(r.int(11)), Attempts: int(r.int(12))},
		Concurrency:    int(r.int(13)),
		DisabledReason: r.text(14),
		DisabledAt:     fromMillis(r.int(15)),
		CreatedAt:      fromMillis(r.int(17)),
		UpdatedAt:      fromMillis(r.int(18)),
		Revision:       r.int(19),
	}
	if err := json.Unmarshal([]byte(r.text(5)), &e.EventTypes); err != nil {
		return e, fmt.Errorf("event types of endpoint %s: %w", e.ID, err)
	}
	if err := json.Unmarshal([]byte(r.text(20)), &e.Options); err != nil {
		return e, fmt.Errorf("options of endpoint %s: %w", e.ID, err)
	}
	if err := json.Unmarshal([]byte(r.text(16)), &e.Health); err != nil {
		return e, fmt.Errorf("health of endpoint %s: %w", e.ID, err)
	}
	var err error
	if e.Headers, err = s.openHeaders(r.int(2), r.int(0), r.blob(7)); err != nil {
		return e, fmt.Errorf("endpoint %s: %w", e.ID, err)
	}
	if e.Credentials, err = s.openCredentials(r.int(2), r.int(0), r.blob(21)); err != nil {
		return e, fmt.Errorf("endpoint %s: %w", e.ID, err)
	}
	return e, nil
}

// settings are the columns that people set, without the sealed ones.
func settings(e *deliver.Endpoint) []driver.Value {
	return []driver.Value{e.URL, e.Description, jsonList(e.EventTypes), e.Workspace, int64(e.Timeout),
		int64(e.Retry.Initial), e.Retry.Multiplier, int64(e.Retry.MaxInterval), int64(e.Retry.Attempts), int64(e.Concurrency),
		jsonText(e.Options), toMillis(e.UpdatedAt), e.Revision}
}

func (s *Store) loadEndpoints() error {
	secrets, err := s.loadSecrets()
	if err != nil {
		return err
	}
	live := func(r row) error {
		o := s.orgRows[r.int(2)]
		if o == nil {
			return fmt.Errorf("endpoint %s has no organization", r.text(1))
		}
		e, err := s.scanEndpoint(r)
		if err != nil {
			return err
		}
		e.Org, e.Secrets = o.org.ID, secrets[e.Row]
		s.keepEndpoint(o, e)
		return nil
	}
	if err := s.w.c.query(live, "SELECT "+endpointColumns+" FROM endpoints p WHERE p.removed_at IS NULL ORDER BY p.id"); err != nil {
		return err
	}
	return s.w.c.query(func(r row) error {
		s.removed[r.int(0)] = r.int(1)
		return nil
	}, "SELECT id, org FROM endpoints WHERE removed_at IS NOT NULL")
}

// keepEndpoint puts e into memory, or replaces it. Store.mu is held, or nobody
// else is there yet.
func (s *Store) keepEndpoint(o *orgState, e deliver.Endpoint) {
	if s.endpoints[e.Row] == nil {
		s.ids[e.ID] = e.Row
		o.endpoints = append(o.endpoints, e.Row) // rows ascend
	}
	s.endpoints[e.Row] = &e
	if listensForDead(&e) {
		if o.listeners == nil {
			o.listeners = map[int64]struct{}{}
		}
		o.listeners[e.Row] = struct{}{}
	} else {
		delete(o.listeners, e.Row)
	}
}

// changed puts e into memory once it is durable, and tells of it.
func (t *txn) changed(o *orgState, e deliver.Endpoint) {
	t.after = append(t.after, func() {
		t.s.mu.Lock()
		t.s.keepEndpoint(o, e)
		t.s.mu.Unlock()
		t.s.tell(e)
	})
}

// OnEndpointChanged sets the function that is told of each endpoint that was
// added, changed, disabled or enabled, or that was removed
// ([deliver.DisabledRemoved]), once that is durable; not of its health, which the
// lanes know before the store does. The function is called by the writer: it must
// be quick and must not call the store.
func (s *Store) OnEndpointChanged(f func(deliver.Endpoint)) { s.onEndpoint.Store(&f) }

func (s *Store) tell(e deliver.Endpoint) {
	if f := s.onEndpoint.Load(); f != nil {
		(*f)(e)
	}
}

// MaxEndpoints is how many endpoints an organization can have. Each takes memory,
// and every event is matched against all of them.
const MaxEndpoints = 20_000

// AddEndpoint makes an endpoint of the organization e.Org with the settings
// of e. ID, Row, Revision and times are given by the store. It gets the events
// after start; with a DisabledReason it gets none until it is enabled. It fails
// as [deliver.CheckHeaders] and [deliver.CheckCredentials] do, and wraps [ErrState] when there are
// [MaxEndpoints], or [MaxFiltered] with a filter.
func (s *Store) AddEndpoint(ctx context.Context, e deliver.Endpoint, start Start) (deliver.Endpoint, error) {
	o, err := s.find(e.Org)
	if err != nil {
		return deliver.Endpoint{}, err
	}
	if e.Headers, err = deliver.CheckHeaders(e.Headers); err != nil {
		return deliver.Endpoint{}, fmt.Errorf("add endpoint to %s: %w", e.Org, err)
	}
	if err := e.Options.Check(); err != nil {
		return deliver.Endpoint{}, fmt.Errorf("add endpoint to %s: %w", e.Org, err)
	}
	if c := e.Credentials; c != nil {
		given := deliver.CredentialsChange{Auth: &c.Auth, TLS: &c.TLS}
		if e.Credentials, err = given.Apply(nil, false, s.now()); err == nil {
			err = checkTogether(&e)
		}
		if err != nil {
			return deliver.Endpoint{}, fmt.Errorf("add endpoint to %s: %w", e.Org, err)
		}
	}
	e.Options = e.Options.Clone()
	e.EventTypes, e.Secrets = slices.Clone(e.EventTypes), slices.Clone(e.Secrets)
	err = s.w.do(ctx, func(t *txn) error {
		at, err := t.place(o)
		if err != nil {
			return err
		}
		s.mu.RLock()
		n := len(o.endpoints)
		s.mu.RUnlock()
		if n >= s.o.endpoints {
			return fmt.Errorf("there are %d already, the most that there may be; remove those that nobody needs: %w", n, ErrState)
		}
		if err := s.roomForFilter(o, &e, ""); err != nil {
			return err
		}
		now := t.now.Truncate(time.Millisecond).UTC()
		e.CreatedAt, e.UpdatedAt, e.DisabledAt, e.Health, e.Revision = now, now, time.Time{}, deliver.Health{}, 1
		if !e.Enabled() {
			e.DisabledAt = now
		}
		id, err := ulid.New(ulid.Timestamp(now), rand.Reader)
		if err != nil {
			return fmt.Errorf("make endpoint id: %w", err)
		}
		e.ID = "ep_" + id.String()
		args := append(settings(&e), e.ID, o.row, e.DisabledReason, toMillis(e.DisabledAt), jsonText(e.Health), toMillis(now))
		if _, err := t.c.exec(`INSERT INTO endpoints(url, description, event_types, workspace, timeout,
			retry_initial, retry_multiplier, retry_max, retry_attempts, concurrency, options, updated_at, revision,
			ulid, org, disabled_reason, disabled_at, health, created_at)
			VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`, args...); err != nil {
			return err
		}
		r := make(row, 1)
		if _, err := t.c.one(r, "SELECT last_insert_rowid()"); err != nil {
			return err
		}
		e.Row = r.int(0)
		if err := t.writeHeaders(o, &e); err != nil {
			return err
		}
		if err := t.keepRequestSettings(&e); err != nil {
			return err
		}
		if err := t.writeCredentials(o, &e); err != nil {
			return err
		}
		for i := range e.Secrets {
			e.Secrets[i].Row, e.Secrets[i].CreatedAt = 0, now
		}
		if err := t.addSecrets(o, &e); err != nil {
			return err
		}
		if err := t.begin(o, &e, at, start); err != nil {
			return err
		}
		t.changed(o, e)
		t.made = e
		return t.audited(o, "endpoint.add", e.ID, endpointChanges(deliver.Endpoint{}, e).made())
	})
	if err != nil {
		return deliver.Endpoint{}, fmt.Errorf("add endpoint to %s: %w", e.Org, err)
	}
	return e, nil
}

// GetEndpoint reads one endpoint of the org. It wraps [ErrNotFound].
func (s *Store) GetEndpoint(_ context.Context, org, id string) (deliver.Endpoint, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.endpoints[s.ids[id]]; e != nil && e.Org == org {
		return *e, nil
	}
	return deliver.Endpoint{}, fmt.Errorf("endpoint %s: %w", id, ErrNotFound)
}

// ListEndpoints lists the org's endpoints, oldest first.
func (s *Store) ListEndpoints(_ context.Context, org string) ([]deliver.Endpoint, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	o := s.orgs[org]
	if o == nil {
		return nil, fmt.Errorf("%w: %q", fanout.ErrNoOrg, org)
	}
	list := make([]deliver.Endpoint, len(o.endpoints))
	for i, row := range o.endpoints {
		list[i] = *s.endpoints[row]
	}
	return list, nil
}

// FindEndpointByRow reads the endpoint of that row, of whatever org. It wraps
// [ErrNotFound]. For the lanes and for operators, never for a tenant.
func (s *Store) FindEndpointByRow(_ context.Context, row int64) (deliver.Endpoint, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.endpoints[row]; e != nil {
		return *e, nil
	}
	return deliver.Endpoint{}, fmt.Errorf("endpoint %d: %w", row, ErrNotFound)
}

// AllEndpoints lists the endpoints of all orgs, by row. For the start, and for operators.
func (s *Store) AllEndpoints(context.Context) ([]deliver.Endpoint, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]deliver.Endpoint, 0, len(s.endpoints))
	for _, e := range s.endpoints {
		list = append(list, *e)
	}
	slices.SortFunc(list, func(a, b deliver.Endpoint) int { return int(a.Row - b.Row) })
	return list, nil
}

// SetEndpoint changes settings of an endpoint, all of them or none. A change of
// types, workspace or filter holds for the events after the org's position. It wraps
// [ErrNotFound], and [ErrRevision] when the endpoint has another revision than
// the change is meant for, and fails as [deliver.ChangeHeaders] does.
func (s *Store) SetEndpoint(ctx context.Context, org, id string, c EndpointChange) (deliver.Endpoint, error) {
	return s.edit(ctx, org, id, func(t *txn, o *orgState, e *deliver.Endpoint) (bool, error) {
		if c.Revision != 0 && c.Revision != e.Revision {
			return false, fmt.Errorf("%w: it is at revision %d, not %d", ErrRevision, e.Revision, c.Revision)
		}
		before := *e
		if err := c.changeCredentials(e, t.now); err != nil {
			return false, err
		}
		if err := c.apply(e); err != nil {
			return false, err
		}
		if err := s.roomForFilter(o, e, before.Filter); err != nil {
			return false, err
		}
		if before.Paused && !e.Paused {
			e.Health = e.Renewed()
		}
		if err := checkTogether(e); err != nil {
			return false, err
		}
		changes := endpointChanges(before, *e)
		changed := len(changes) > 0
		if changed {
			if err := t.audited(o, "endpoint.change", e.ID, changes); err != nil {
				return false, err
			}
		}
		if !c.Secret.IsZero() {
			if err := t.rotate(o, e, c.Secret, 0); err != nil {
				return false, err
			}
			changed = true
		}
		if c.Disabled != nil && *c.Disabled == e.Enabled() {
			if *c.Disabled {
				return true, t.disableByHand(o, e, deliver.DisabledManual)
			}
			return true, t.enable(o, e)
		}
		if e.Enabled() && (e.Workspace != before.Workspace || e.Filter != before.Filter || !slices.Equal(e.EventTypes, before.EventTypes)) {
			if err := t.resubscribe(o, e); err != nil {
				return false, err
			}
		}
		return changed, nil
	})
}

// DisableEndpoint ends the endpoint's subscription at the org's position. Its
// pending deliveries are held. Disabling a disabled endpoint changes nothing,
// the first reason stays.
func (s *Store) DisableEndpoint(ctx context.Context, org, id, reason string) (deliver.Endpoint, error) {
	if reason == "" {
		return deliver.Endpoint{}, errors.New("disable endpoint: a reason is needed")
	}
	return s.edit(ctx, org, id, func(t *txn, o *orgState, e *deliver.Endpoint) (bool, error) {
		return e.Enabled(), t.disableByHand(o, e, reason)
	})
}

// EnableEndpoint lets the endpoint go on with what it had pending, and
// subscribes it again from the org's position on. Enabling an enabled endpoint
// changes nothing.
func (s *Store) EnableEndpoint(ctx context.Context, org, id string) (deliver.Endpoint, error) {
	return s.edit(ctx, org, id, func(t *txn, o *orgState, e *deliver.Endpoint) (bool, error) {
		if e.Enabled() {
			return false, nil
		}
		return true, t.enable(o, e)
	})
}

func (t *txn) enable(o *orgState, e *deliver.Endpoint) error {
	reason := e.DisabledReason
	e.DisabledReason, e.DisabledAt, e.Health = "", time.Time{}, e.Renewed()
	if err := t.resubscribe(o, e); err != nil {
		return err
	}
	if err := t.announceEnabled(o, e, reason); err != nil {
		return err
	}
	return t.audited(o, "endpoint.enable", e.ID, Changes{"disabled_reason": {reason, ""}})
}

// disableByHand disables e because somebody asks for it.
func (t *txn) disableByHand(o *orgState, e *deliver.Endpoint, reason string) error {
	if !e.Enabled() {
		return nil
	}
	if err := t.disable(o, e, reason); err != nil {
		return err
	}
	return t.announceDisabled(o, e)
}

func (t *txn) disable(o *orgState, e *deliver.Endpoint, reason string) error {
	if !e.Enabled() {
		return nil
	}
	e.DisabledReason, e.DisabledAt = reason, t.now.Truncate(time.Millisecond).UTC()
	if err := t.unsubscribe(o, e.Row); err != nil {
		return err
	}
	return t.audited(o, "endpoint.disable", e.ID, Changes{"disabled_reason": {"", reason}})
}

// edit reads an endpoint, lets f change it, and writes it if f says that it did,
// in one operation.
func (s *Store) edit(ctx context.Context, org, id string, f func(*txn, *orgState, *deliver.Endpoint) (bool, error)) (deliver.Endpoint, error) {
	o, err := s.find(org)
	if err != nil {
		return deliver.Endpoint{}, err
	}
	var e deliver.Endpoint
	err = s.w.do(ctx, func(t *txn) error {
		var err error
		if e, err = t.endpoint(o, "p.ulid = ?", id); err != nil {
			return err
		}
		written, err := f(t, o, &e)
		if err == nil && written {
			err = t.write(o, &e)
		}
		t.made = e
		return err
	})
	if err != nil {
		return deliver.Endpoint{}, fmt.Errorf("endpoint %s: %w", id, err)
	}
	return e, nil
}

// endpoint reads the org's endpoint for which where holds.
func (t *txn) endpoint(o *orgState, where string, arg driver.Value) (deliver.Endpoint, error) {
	r := make(row, 22)
	found, err := t.c.one(r, "SELECT "+endpointColumns+" FROM endpoints p WHERE "+where+" AND p.org = ? AND p.removed_at IS NULL", arg, o.row)
	if err != nil {
		return deliver.Endpoint{}, err
	}
	if !found {
		return deliver.Endpoint{}, ErrNotFound
	}
	e, err := t.s.scanEndpoint(r)
	if err != nil {
		return e, err
	}
	e.Org = o.org.ID
	e.Secrets, err = t.secrets(e.Row)
	return e, err
}

// write stores all of e that can change but its secrets, as its next revision.
func (t *txn) write(o *orgState, e *deliver.Endpoint) error {
	e.UpdatedAt = t.now.Truncate(time.Millisecond).UTC()
	e.Revision++
	if err := t.writeHeaders(o, e); err != nil {
		return err
	}
	if err := t.writeCredentials(o, e); err != nil {
		return err
	}
	if err := t.keepRequestSettings(e); err != nil {
		return err
	}
	args := append(settings(e), e.DisabledReason, toMillis(e.DisabledAt), jsonText(e.Health), e.Row)
	if _, err := t.c.exec(`UPDATE endpoints SET url=?, description=?, event_types=?, workspace=?, timeout=?,
		retry_initial=?, retry_multiplier=?, retry_max=?, retry_attempts=?, concurrency=?, options=?, updated_at=?, revision=?,
		disabled_reason=?, disabled_at=?, health=? WHERE id=?`, args...); err != nil {
		return err
	}
	t.changed(o, *e)
	return nil
}

// RemoveEndpoint removes an endpoint: its subscription ends at the org's
// position, its secrets, headers and credentials are deleted, and its pending deliveries are cancelled,
// in steps beside the traffic. When it returns without error, all are; when it
// fails after the removal itself, the next start does the rest.
func (s *Store) RemoveEndpoint(ctx context.Context, org, id string) error {
	o, err := s.find(org)
	if err != nil {
		return err
	}
	err = s.w.do(ctx, func(t *txn) error {
		e, err := t.endpoint(o, "p.ulid = ?", id)
		if err != nil {
			return err
		}
		if err := t.unsubscribe(o, e.Row); err != nil {
			return err
		}
		if err := t.forgetCatchup(e.Row); err != nil {
			return err
		}
		if _, err := t.c.exec("UPDATE endpoints SET removed_at=?1, headers=NULL, credentials=NULL, updated_at=?1 WHERE id=?2", toMillis(t.now), e.Row); err != nil {
			return err
		}
		if _, err := t.c.exec("DELETE FROM secrets WHERE endpoint=?", e.Row); err != nil {
			return err
		}
		if err := t.endRequestSettings(e.Row); err != nil {
			return err
		}
		if err := t.audited(o, "endpoint.remove", e.ID, Changes{"url": {withoutQuery(e.URL), nil}}); err != nil {
			return err
		}
		e.Secrets, e.Headers, e.Credentials, e.DisabledReason, e.DisabledAt = nil, nil, nil, deliver.DisabledRemoved, t.now.Truncate(time.Millisecond).UTC()
		t.after = append(t.after, func() {
			s.mu.Lock()
			delete(s.endpoints, e.Row)
			delete(s.ids, e.ID)
			delete(o.listeners, e.Row)
			s.removed[e.Row] = o.row
			o.endpoints = slices.DeleteFunc(slices.Clone(o.endpoints), func(row int64) bool { return row == e.Row })
			s.mu.Unlock()
			s.tell(e)
		})
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove endpoint %s: %w", id, err)
	}
	if err := s.sweep(ctx); err != nil {
		return fmt.Errorf("endpoint %s is removed; cancel its deliveries: %w", id, err)
	}
	return nil
}
