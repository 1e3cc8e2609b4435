package sqlite

import (
	"context"
	"database/sql/driver"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/mattn/go-sqlite3"
)

// recorder is a connection that remembers its queries.
type recorder struct {
	*sqlite3.SQLiteConn
	mu      *sync.Mutex
	queries map[string]bool
}

func (r recorder) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	r.mu.Lock()
	r.queries[query] = true
	r.mu.Unlock()
	return r.SQLiteConn.QueryContext(ctx, query, args)
}

// exercise calls every method of a store that reads or writes, and returns the
// statements that it used: the readers' and the writer's.
func exercise(t *testing.T) (s *Store, read, written []string) {
	t.Helper()
	rec := recorder{mu: new(sync.Mutex), queries: make(map[string]bool)}
	c := newClock()
	s = open(t, Options{Dir: t.TempDir(), runSize: 32, segment: 16, Synchronous: "NORMAL", Clock: c.read, wrap: func(conn driver.Conn) driver.Conn {
		return recorder{conn.(*sqlite3.SQLiteConn), rec.mu, rec.queries}
	}})
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	w := newWalker(t, s, "acme", 2)
	p := w.next(70)
	ev := w.commit(p)
	w.deliverAll(ev[:65])
	w.record(c.outcome(deliver.Key{Event: ev[65].Event, Endpoint: 1}, 1, deliver.Pending),
		c.outcome(deliver.Key{Event: ev[66].Event, Endpoint: 1}, 1, deliver.Dead))
	awaitRuns(t, s, 2)
	w.commit(w.twice(p))
	again := p
	again.From, again.To = w.pos, w.pos
	again.Rejected = append(again.Rejected, rejectedAt(200))
	w.commit(again)

	list, _ := s.ListEndpoints(ctx, "acme")
	dead := deliver.Key{Event: ev[66].Event, Endpoint: 1}
	for _, f := range []Filter{{}, {Endpoint: list[0].ID}, {Type: "invoice.*"}, {Endpoint: list[0].ID, Type: "x", Since: c.read().Add(-time.Hour), Until: c.read().Add(time.Hour)}} {
		for _, state := range []*deliver.State{nil, ptr(deliver.Pending), ptr(deliver.Dead), ptr(deliver.Delivered)} {
			f.State = state
			for _, s.o.pendingScan = range []int64{0, pendingScan} {
				_, _, err := s.ListDeliveries(ctx, "acme", f, 10, deliver.Key{})
				must(nil, err)
				_, _, err = s.ListDeliveries(ctx, "acme", f, 10, deliver.Key{Event: ev[2].Event, Endpoint: 1})
				must(nil, err)
			}
			f := f
			f.Event = w.id(3)
			_, _, err := s.ListDeliveries(ctx, "acme", f, 10, deliver.Key{Event: ev[2].Event, Endpoint: 1})
			must(nil, err)
		}
	}
	_, _, err := s.GetDelivery(ctx, "acme", dead)
	must(nil, err)
	must(s.GetEvent(ctx, "acme", w.id(3)))
	must(s.Explain(ctx, "acme", Subject{ID: w.id(3)}))
	must(s.Explain(ctx, "acme", Subject{Seq: 200}))
	must(s.EndpointStats(ctx, "acme", list[0].ID))
	must(nil, s.flushFares())
	must(s.Cursors(ctx))
	must(s.Cursor(ctx, "acme"))
	must(s.CursorsAfter(ctx, "a", 10))
	must(s.CursorMoves(ctx, "acme", 10))
	must(s.EndPauses(ctx))
	must(s.Incarnations(ctx, "acme"))
	must(s.StreamStats())
	must(s.Pending(ctx, deliver.Place{}, deliver.Place{Due: 1 << 60}, nil, 100))
	must(s.Pending(ctx, deliver.Place{}, deliver.Place{Due: 1 << 60}, []int64{1, 2}, 100))
	must(s.Backlogs(ctx, nil))
	must(s.Backlogs(ctx, []int64{1}))
	must(s.NextDue(ctx, 0))
	must(s.Payloads(ctx, []int64{1, 2}))
	must(s.EventPlaces(ctx, []int64{1, 2}))
	must(s.ListRejected(ctx, "acme", Place{}, 10))
	must(s.ListGaps(ctx, "acme", Place{}, 10))
	must(s.SubscriptionHistory(ctx, "acme"))
	must(s.RetryDelivery(ctx, "acme", dead))
	must(nil, s.CancelDelivery(ctx, "acme", dead))
	must(s.ReplayEvent(ctx, "acme", w.id(3), ""))
	must(s.ReplayEvent(ctx, "acme", w.id(3), list[0].ID))
	for _, states := range [][]deliver.State{{deliver.Dead}, {deliver.Dead, deliver.Cancelled}, {deliver.Delivered}} {
		f := ReplayFilter{States: states, Since: c.read().Add(-time.Hour), From: 1}
		must(s.CountReplay(ctx, "acme", list[0].ID, f, Readable{}))
		r, err := s.StartReplay(ctx, "acme", list[0].ID, f, 0, 100)
		must(nil, err)
		must(s.ListReplays(ctx, "acme", "", 10))
		must(s.RunningReplays(ctx))
		must(s.PauseReplay(ctx, "acme", r.ID))
		must(s.ResumeReplay(ctx, "acme", r.ID))
		must(s.CountAhead(ctx, r, Ahead{}))
		for err == nil && !r.State.Finished() {
			r, err = s.StepReplay(ctx, r, Readable{}, 10)
		}
		must(nil, err)
	}
	late := addEndpoint(t, s, "acme")
	lacks, err := s.StartReplay(ctx, "acme", late.ID, ReplayFilter{States: []deliver.State{Missing}}, 0, 100)
	must(nil, err)
	err = s.CountMissing(ctx, "acme", late.ID, lacks.ReplayFilter, []stream.Event{p.Events[3].Event}, &MissingCount{})
	must(nil, err)
	_, _, err = s.MissingFrom(ctx, "acme")
	must(nil, err)
	must(s.FillReplay(ctx, lacks, []stream.Event{p.Events[3].Event, p.Events[4].Event}, 1<<40, 100))
	must(nil, s.RemoveEndpoint(ctx, "acme", late.ID))
	must(s.DisableEndpoint(ctx, "acme", list[0].ID, "manual"))
	must(s.EnableEndpoint(ctx, "acme", list[0].ID))
	audit, err := s.Audit(ctx, "acme")
	must(nil, err)
	for _, err := range audit.Pieces(ctx) {
		must(nil, err)
	}
	must(audit.Booked(ctx, []stream.ID{w.id(3)}))
	for _, err := range audit.Exceptions(ctx) {
		must(nil, err)
	}
	must(nil, audit.Close())
	c.add(100 * day)
	must(s.Retain(ctx, RetainOptions{FinishedBefore: c.read(), DeadBefore: c.read()}))
	must(s.CountReplay(ctx, "acme", list[0].ID, ReplayFilter{States: []deliver.State{deliver.Delivered}}, Readable{})) // where retention has been
	for _, e := range list {
		must(nil, s.RemoveEndpoint(ctx, "acme", e.ID))
	}
	must(s.Retain(ctx, RetainOptions{FinishedBefore: c.read(), DeadBefore: c.read()}))
	must(nil, s.RemoveOrg(ctx, "acme"))
	err = s.w.do(ctx, func(x *txn) error {
		written = slices.Collect(maps.Keys(x.c.stmts))
		return nil
	})
	must(nil, err)
	return s, slices.Collect(maps.Keys(rec.queries)), written
}

func ptr[T any](v T) *T { return &v }

var space = regexp.MustCompile(`\s+`)

// No statement reads a table from end to end whose size is that of history. The
// exceptions are bounded by what is pending or dead, and say so by INDEXED BY, or
// by a LIMIT.
func TestNoStatementScansHistory(t *testing.T) {
	s, read, written := exercise(t)
	bounded := []string{
		"SCAN deliveries USING COVERING INDEX deliveries_pending", // what is pending
		"SCAN deliveries USING COVERING INDEX deliveries_failed",  // at the start
	}
	checked := 0
	for _, query := range append(read, written...) {
		if !strings.ContainsAny(query, " ") || strings.HasPrefix(query, "PRAGMA") || strings.HasPrefix(query, "SAVEPOINT") ||
			strings.HasPrefix(query, "ROLLBACK") || strings.HasPrefix(query, "RELEASE") || strings.HasPrefix(query, "BEGIN") {
			continue
		}
		checked++
		plan, err := plan(s, query)
		if err != nil {
			t.Errorf("%s: %v", query, err)
		}
		for _, line := range plan {
			for _, table := range []string{"events", "deliveries", "attempts", "payloads", "key_chunks", "rejected", "segments", "audit", "endpoint_slots", "replays", "e", "d", "a"} {
				if (line == "SCAN "+table || strings.HasPrefix(line, "SCAN "+table+" ")) &&
					!(slices.Contains(bounded, line) && strings.Contains(query, "INDEXED BY")) && !strings.Contains(query, "ORDER BY id LIMIT ?") {
					t.Errorf("%s\nof %s", line, space.ReplaceAllString(query, " "))
				}
			}
			if strings.Contains(line, "AUTOMATIC") || strings.Contains(line, "TEMP B-TREE") && !sortsLittle(query, line) {
				t.Errorf("%s\nof %s", line, space.ReplaceAllString(query, " "))
			}
		}
	}
	if checked < 60 {
		t.Errorf("only %d statements were seen", checked)
	}
}

// sortsLittle reports whether what a query brings into order is bounded.
func sortsLittle(query, line string) bool {
	return slices.ContainsFunc([]string{
		"INDEXED BY deliveries_pending", // run counts them first, or a lane asks for a page
		"AND state=2 GROUP BY endpoint", // at the start
		"FROM json_each(?)",             // as many events as were asked for
		"FROM subscriptions WHERE org=", // one org's
		"FROM attempts WHERE event=?",   // one delivery's, newest first and turned round
		"UNION ALL",                     // the audit's exceptions
		"WHERE id IN (SELECT",           // a step
	}, func(known string) bool { return strings.Contains(query, known) }) ||
		strings.Contains(line, "LAST TERM OF ORDER BY") && strings.Contains(query, "INDEXED BY deliveries_failed") // endpoints of one event
}

// plan is SQLite's plan for a query, one step a line.
func plan(s *Store, query string) (lines []string, err error) {
	rows, err := s.readDB.Query("EXPLAIN QUERY PLAN "+query, make([]any, strings.Count(query, "?"))[:arguments(s, query)]...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var line string
		if err := rows.Scan(&id, &parent, &unused, &line); err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return lines, rows.Err()
}

// arguments is how many the query takes.
func arguments(s *Store, query string) (n int) {
	c, err := s.readDB.Conn(context.Background())
	if err != nil {
		return 0
	}
	defer c.Close()
	c.Raw(func(dc any) error {
		st, err := dc.(recorder).Prepare("EXPLAIN QUERY PLAN " + query)
		if err == nil {
			n = st.NumInput()
			st.Close()
		}
		return err
	})
	return n
}

// Every reading of a tenant's tables says whose rows it wants, except where the
// daemon itself asks by number. (SEC-19)
func TestEveryReadingNamesTheOrg(t *testing.T) {
	_, read, _ := exercise(t)
	daemons := []string{
		"FROM deliveries INDEXED BY deliveries_pending",        // lanes, counts of all orgs
		"FROM json_each(?) j JOIN payloads",                    // Payloads: by numbers the books gave to lanes
		"SELECT org, count(*)",                                 // the counts themselves
		"SELECT id FROM events WHERE id BETWEEN",               // retention
		"FROM attempts WHERE event=? AND endpoint=?",           // after the delivery was found in the org
		"FROM events WHERE id>=? ORDER BY id LIMIT 1",          // lists: where a time lies among all events
		"(SELECT min(id) FROM events)",                         // the same
		"FROM events WHERE id>? AND id<=? ORDER BY id LIMIT 1", // replays: what retention has left
		"FROM replays r INDEXED BY replays_open",               // the daemon carries on those of all orgs
		"FROM json_each(?) j CROSS JOIN",                       // the audit: looks for what belongs to others
		"FROM endpoints WHERE removed_at IS NOT NULL",          // sweeping
		"SELECT ifnull(sum(gap_events), 0), (SELECT count(*)",  // metrics
	}
	tables := regexp.MustCompile(`\b(FROM|JOIN) (deliveries|events|attempts|payloads|endpoints|subscriptions|rejected|gaps|gated|cursors)\b`)
	named := regexp.MustCompile(`\borg\s*=\s*\?`)
	for _, query := range read {
		query = space.ReplaceAllString(query, " ")
		if !tables.MatchString(query) || named.MatchString(query) {
			continue
		}
		if !slices.ContainsFunc(daemons, func(known string) bool { return strings.Contains(query, known) }) &&
			!strings.Contains(query, "ORDER BY o.org") && !strings.Contains(query, "JOIN orgs o ON o.id = e.org") {
			t.Errorf("no org: %s", query)
		}
	}
}
