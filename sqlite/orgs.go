package sqlite

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/stream"
)

// Org is an organization.
type Org struct {
	ID        string // see stream.CheckOrg
	Name      string
	Plan      string         // "": none
	Payload   stream.Payload // what its publishers send
	Subjects  []string       // extra subjects that its stream binds
	CreatedAt time.Time      // to the millisecond
}

// orgState is an org as memory has it.
type orgState struct {
	row    int64
	commit sync.Mutex // held during Commit, so that looking up IDs before it is exact

	// Guarded by Store.mu.
	org       Org
	set       *fanout.Set        // nil: to be compiled
	version   int64              // of the subscriptions
	endpoints []int64            // rows, ascending, without the removed ones
	paused    bool               // nothing of its stream is read
	listeners map[int64]struct{} // rows of endpoints that are told of dead deliveries

	// Owned by the writer's goroutine.
	lastEvent int64
	events    int64   // that it had since ever
	segment   segment // the open one

	pending, dead atomic.Int64 // deliveries
	pace          meter        // of fan-out
}

func (s *Store) loadOrgs() error {
	return s.w.c.query(func(r row) error {
		o, err := scanOrg(r)
		if err != nil {
			return err
		}
		s.keepOrg(&orgState{row: r.int(0), org: o, version: r.int(7), lastEvent: r.int(8),
			events: r.int(9), segment: unknownSegment(r.int(10)), paused: r.int(11) != 0})
		return nil
	}, `SELECT o.id, o.org, o.name, o.plan, o.payload, o.subjects, o.created_at, c.version, c.last_event, c.events,
			ifnull((SELECT max(event) FROM segments WHERE org=o.id), 0), c.paused
		FROM orgs o JOIN cursors c ON c.org = o.id WHERE o.removed_at IS NULL`)
}

func scanOrg(r row) (Org, error) {
	o := Org{
		ID:        r.text(1),
		Name:      r.text(2),
		Plan:      r.text(3),
		Payload:   stream.Payload(r.text(4)),
		CreatedAt: fromMillis(r.int(6)),
	}
	if err := json.Unmarshal([]byte(r.text(5)), &o.Subjects); err != nil {
		return o, fmt.Errorf("subjects of organization %s: %w", o.ID, err)
	}
	return o, nil
}

func (s *Store) keepOrg(o *orgState) {
	s.orgs[o.org.ID] = o
	s.orgRows[o.row] = o
}

// find returns the live org of that id.
func (s *Store) find(org string) (*orgState, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if o := s.orgs[org]; o != nil {
		return o, nil
	}
	return nil, fmt.Errorf("%w: %q", fanout.ErrNoOrg, org)
}

// AddOrg makes an organization that was never read. It wraps [ErrExists].
func (s *Store) AddOrg(ctx context.Context, o Org) (Org, error) {
	if err := stream.CheckOrg(o.ID); err != nil {
		return Org{}, err
	}
	payload, err := stream.ParsePayload(string(o.Payload))
	if err != nil {
		return Org{}, err
	}
	o.Payload, o.Subjects = payload, slices.Clone(o.Subjects)
	err = s.w.do(ctx, func(t *txn) error {
		o.CreatedAt = t.now.Truncate(time.Millisecond).UTC()
		found, err := t.c.one(make(row, 1), "SELECT id FROM orgs WHERE org = ? AND removed_at IS NULL", o.ID)
		if err != nil {
			return err
		}
		if found {
			return fmt.Errorf("organization %q: %w", o.ID, ErrExists)
		}
		_, err = t.c.exec("INSERT INTO orgs(org, name, plan, payload, subjects, created_at) VALUES(?,?,?,?,?,?)",
			o.ID, o.Name, o.Plan, string(o.Payload), jsonList(o.Subjects), toMillis(o.CreatedAt))
		if err != nil {
			return err
		}
		r := make(row, 1)
		if _, err := t.c.one(r, "SELECT last_insert_rowid()"); err != nil {
			return err
		}
		state := &orgState{row: r.int(0), org: o, version: 1, segment: emptySegment(0)}
		if _, err := t.c.exec("INSERT INTO cursors(org, stream) VALUES(?,?)", state.row, s.o.Names.Stream(o.ID)); err != nil {
			return err
		}
		if err := t.audited(state, "org.add", o.ID, Changes{"plan": {nil, o.Plan}, "payload": {nil, o.Payload}, "subjects": {nil, o.Subjects}}); err != nil {
			return err
		}
		t.made = o
		t.after = append(t.after, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.keepOrg(state)
		})
		return nil
	})
	return o, err
}

// GetOrg reads one organization. It wraps [fanout.ErrNoOrg].
func (s *Store) GetOrg(_ context.Context, org string) (Org, error) {
	o, err := s.find(org)
	if err != nil {
		return Org{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return o.org, nil
}

// ListOrgs lists all organizations by id.
func (s *Store) ListOrgs(context.Context) ([]Org, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]Org, 0, len(s.orgs))
	for _, o := range s.orgs {
		list = append(list, o.org)
	}
	slices.SortFunc(list, func(a, b Org) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}

// SetOrg changes name, plan, payload and subjects of the organization o.ID. Plans
// made before are stale from then on.
func (s *Store) SetOrg(ctx context.Context, o Org) (Org, error) {
	payload, err := stream.ParsePayload(string(o.Payload))
	if err != nil {
		return Org{}, err
	}
	state, err := s.find(o.ID)
	if err != nil {
		return Org{}, err
	}
	o.Payload, o.Subjects = payload, slices.Clone(o.Subjects)
	err = s.w.do(ctx, func(t *txn) error {
		n, err := t.c.exec("UPDATE orgs SET name=?, plan=?, payload=?, subjects=? WHERE id=? AND removed_at IS NULL",
			o.Name, o.Plan, string(o.Payload), jsonList(o.Subjects), state.row)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%w: %q", fanout.ErrNoOrg, o.ID)
		}
		if err := t.audited(state, "org.change", o.ID, orgChanges(state.org, o)); err != nil {
			return err
		}
		t.after = append(t.after, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			o.CreatedAt = state.org.CreatedAt
			state.org = o
		})
		return t.bump(state) // last: whoever sees the new version sees the new organization
	})
	return o, err
}

func orgChanges(before, after Org) Changes {
	c := Changes{}
	changed(c, "name", before.Name, after.Name)
	changed(c, "plan", before.Plan, after.Plan)
	changed(c, "payload", before.Payload, after.Payload)
	if !slices.Equal(before.Subjects, after.Subjects) {
		c["subjects"] = [2]any{before.Subjects, after.Subjects}
	}
	return c
}

// RemoveOrg removes an organization that has no endpoints left; else it fails
// with [ErrInUse]. Its name is free at once, and a new organization of that name
// starts from nothing. Deliveries and events go with retention, as anybody's.
func (s *Store) RemoveOrg(ctx context.Context, org string) error {
	state, err := s.find(org)
	if err != nil {
		return err
	}
	err = s.w.do(ctx, func(t *txn) error {
		r := make(row, 1)
		if _, err := t.c.one(r, "SELECT count(*) FROM endpoints WHERE org=? AND removed_at IS NULL", state.row); err != nil {
			return err
		}
		if r.int(0) > 0 {
			return fmt.Errorf("organization %q has %d endpoints: %w", org, r.int(0), ErrInUse)
		}
		n, err := t.c.exec("UPDATE orgs SET removed_at=? WHERE id=? AND removed_at IS NULL", toMillis(t.now), state.row)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%w: %q", fanout.ErrNoOrg, org)
		}
		// Whoever has a plan for it finds no position to commit to.
		if _, err := t.c.exec("DELETE FROM cursors WHERE org=?", state.row); err != nil {
			return err
		}
		if err := t.endTokens(state); err != nil {
			return err
		}
		if err := t.audited(state, "org.remove", org, nil); err != nil {
			return err
		}
		t.after = append(t.after, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.orgs, org)
			delete(s.orgRows, state.row)
			s.outbox.add(state.row, -s.outbox.of(state.row))
		})
		return nil
	})
	if err != nil {
		return err
	}
	return s.sweep(ctx)
}

// Orgs implements [fanout.Books].
func (s *Store) Orgs(context.Context) ([]fanout.Org, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]fanout.Org, 0, len(s.orgs))
	for _, id := range slices.Sorted(maps.Keys(s.orgs)) {
		list = append(list, s.fanoutOrg(s.orgs[id]))
	}
	return list, nil
}

// Org implements [fanout.Books].
func (s *Store) Org(ctx context.Context, org string) (fanout.Org, error) {
	o, err := s.find(org)
	if err != nil {
		return fanout.Org{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.fanoutOrg(o), nil
}

// fanoutOrg is called with mu held.
func (s *Store) fanoutOrg(state *orgState) fanout.Org {
	o := state.org
	return fanout.Org{ID: o.ID, Payload: o.Payload, Subjects: o.Subjects, Gated: s.o.Gated(o.Plan), Paused: state.paused}
}

// bump makes all plans of the org stale that were made before.
func (t *txn) bump(o *orgState) error {
	if _, err := t.c.exec("UPDATE cursors SET version = version + 1 WHERE org=?", o.row); err != nil {
		return err
	}
	r := make(row, 1)
	if _, err := t.c.one(r, "SELECT version FROM cursors WHERE org=?", o.row); err != nil {
		return err
	}
	version := r.int(0)
	t.after = append(t.after, func() {
		t.s.mu.Lock()
		defer t.s.mu.Unlock()
		o.version, o.set = version, nil
	})
	return nil
}
