package main

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	surveyEvery = 10 * time.Second
	censusEvery = time.Hour
	// surveyRest is how many times as long as a survey took nothing is looked up after
	// it, so that with ten thousand organizations, or millions of pending deliveries,
	// it costs 2 % of a core at the most.
	surveyRest   = 50
	surveyWithin = time.Minute // else it is given up
	censusPart   = 10_000      // deliveries that are read together
	orgsShown    = 20          // organizations that have metrics of their own
)

// survey looks up in the background what a scrape must not: cursors beside their
// streams, and what is due. What it tells are moments (since when is the oldest
// delivery due), so that ages go on growing if it should stand still, which the time
// of the last one shows.
type survey struct {
	d *daemon

	mu     sync.Mutex
	last   findings
	counts map[deliver.State]int64 // nil: not counted yet

	lag, unread, due, oldestDue, states, at, degraded *prometheus.Desc
	deliveries                                        *prometheus.Desc
}

// findings are those of one survey.
type findings struct {
	at       time.Time // when it ended; zero: there was none
	lag      uint64
	unread   time.Time // when the oldest event was stored that waits to be fanned out; zero: none does
	states   map[string]int
	behind   []laggard // the furthest first
	due      int64
	dueSince time.Time // of what does not wait for its own endpoint; zero: nothing does
	degraded int       // reasons
}

// laggard is an organization whose cursor is behind.
type laggard struct {
	org   string
	lag   uint64
	since time.Time // when its oldest unread event was stored; zero: nobody knows
}

func newSurvey(d *daemon) *survey {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("grapnel_"+name, help, labels, nil)
	}
	return &survey{
		d:          d,
		lag:        desc("cursor_lag_events", "Events that wait to be fanned out, of all organizations."),
		unread:     desc("oldest_unfanned_age_seconds", "How long ago the oldest event was stored that waits to be fanned out; those of paused cursors do not count."),
		states:     desc("streams", "Organizations by the state of their cursor.", "state"),
		due:        desc("deliveries_due", "Pending deliveries whose time has come."),
		oldestDue:  desc("oldest_due_age_seconds", "For how long the oldest delivery is due that does not wait for its own endpoint."),
		at:         desc("survey_timestamp_seconds", "When cursors and what is due were looked up last; 0: not yet."),
		degraded:   desc("degraded_reasons", "For how many reasons /readyz says degraded."),
		deliveries: desc("deliveries", "Deliveries in the books by state; delivered and cancelled ones are counted anew once in a while.", "state"),
	}
}

// Run surveys until ctx ends.
func (s *survey) Run(ctx context.Context) error {
	for {
		began := time.Now()
		s.look(ctx)
		rest := time.NewTimer(max(surveyEvery, surveyRest*time.Since(began)))
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
			return nil
		}
	}
}

// look surveys once. What cannot be found out stays as it was.
func (s *survey) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, surveyWithin)
	defer cancel()
	s.mu.Lock()
	f := s.last
	s.mu.Unlock()
	cursors, err := s.d.Cursors(ctx, "", math.MaxInt)
	now := time.Now()
	if err == nil {
		f = f.ofCursors(cursors, now, s.excused)
		f.due, f.dueSince, err = s.lookDue(ctx, now)
	}
	if err != nil {
		if ctx.Err() == nil {
			s.d.log.Warn("cursors and due deliveries could not be looked up for the metrics; it is tried again", "error", err)
		}
		return
	}
	f.degraded = len(s.d.Health().Degraded)
	f.at = time.Now()
	s.mu.Lock()
	s.last = f
	s.mu.Unlock()
}

// ofCursors is what the cursors show at now. While the broker is away nobody knows
// how old the oldest unread event is: then it is the one that was known before.
// Events of an organization that is excused may wait.
func (f findings) ofCursors(cursors []httpapi.Cursor, now time.Time, excused func(org string) bool) findings {
	before := make(map[string]time.Time, len(f.behind))
	for _, l := range f.behind {
		before[l.org] = l.since
	}
	f.lag, f.unread, f.behind, f.states = 0, time.Time{}, nil, make(map[string]int)
	for _, c := range cursors {
		f.states[c.State]++
		if c.Lag == 0 {
			continue
		}
		l := laggard{org: c.Org, lag: c.Lag}
		if c.Age > 0 {
			l.since = now.Add(-c.Age)
		} else {
			l.since = before[c.Org]
		}
		f.lag += c.Lag
		f.behind = append(f.behind, l)
		if c.State != "paused" && !excused(c.Org) {
			f.unread = earlier(f.unread, l.since)
		}
	}
	slices.SortFunc(f.behind, func(a, b laggard) int {
		return cmp.Or(cmp.Compare(b.lag, a.lag), cmp.Compare(a.org, b.org))
	})
	return f
}

// excused reports whether the organization is not fanned out for a reason of its own,
// which has an alert of its own: too much of what it has already is not taken.
func (s *survey) excused(org string) bool {
	_, over := s.d.space.quota.Load(org)
	return over
}

// earlier is the earlier of two times; the zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (s *survey) lookDue(ctx context.Context, now time.Time) (count int64, since time.Time, err error) {
	due, err := s.d.store.DueDeliveries(ctx, now)
	if err != nil {
		return 0, time.Time{}, err
	}
	rows := make([]int64, len(due))
	for i := range due {
		rows[i] = due[i].Endpoint
	}
	count, since = oursSince(due, s.d.lanes.Kept(rows, now), now)
	return count, since, nil
}

// oursSince counts what is due, and says since when the oldest of it could have been
// sent as far as its own endpoint is concerned.
func oursSince(due []sqlite.Due, kept map[int64]time.Time, now time.Time) (count int64, since time.Time) {
	for _, d := range due {
		count += d.Count
		could := d.Since
		if until := kept[d.Endpoint]; until.After(could) {
			could = until
		}
		if could.Before(now) {
			since = earlier(since, could)
		}
	}
	return count, since
}

// census counts the deliveries that are over, for they are too many to be counted
// with each change. It reads a little at a time and rests in between.
func (s *survey) census(ctx context.Context) error {
	rest := func(d time.Duration) bool {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for rest(surveyEvery) {
		began := time.Now()
		var c sqlite.Census
		for !c.Done {
			part := time.Now()
			var err error
			if c, err = s.d.store.Count(ctx, c, censusPart); err != nil {
				if ctx.Err() == nil {
					s.d.log.Warn("deliveries could not be counted for the metrics; it is tried again", "error", err)
				}
				break
			}
			if !rest(surveyRest * time.Since(part) / 5) {
				return nil
			}
		}
		if c.Done {
			s.mu.Lock()
			s.counts = map[deliver.State]int64{
				deliver.Delivered: c.States[deliver.Delivered], deliver.Cancelled: c.States[deliver.Cancelled],
			}
			s.mu.Unlock()
		}
		if !rest(max(censusEvery, time.Since(began))) {
			return nil
		}
	}
	return nil
}

// tell tells what was found.
func (s *survey) tell(c scrape) {
	s.mu.Lock()
	f, counts := s.last, s.counts
	s.mu.Unlock()
	now := time.Now()
	c.gauge(s.at, unixSeconds(f.at))
	for state, n := range counts {
		c.gauge(s.deliveries, float64(n), state.String())
	}
	if f.at.IsZero() {
		return // nothing is known: a zero would say that all is well
	}
	c.gauge(s.lag, float64(f.lag))
	c.gauge(s.unread, age(f.unread, now))
	c.gauge(s.due, float64(f.due))
	c.gauge(s.oldestDue, age(f.dueSince, now))
	c.gauge(s.degraded, float64(f.degraded))
	for _, state := range cursorStates { // zeros too: alerts compare with them
		c.gauge(s.states, float64(f.states[state]), state)
	}
	for state, n := range f.states {
		if !slices.Contains(cursorStates, state) {
			c.gauge(s.states, float64(n), state)
		}
	}
}

// age is how long ago t was, in seconds; 0 for the zero time.
func age(t, now time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return max(now.Sub(t).Seconds(), 0)
}

// orgMetrics name organizations, at most orgsShown of them: those whose cursors are
// the furthest behind. Everybody can read /metrics who reaches its address, so these
// are told on the socket, on --admin-listen and on loopback only.
type orgMetrics struct {
	s           *survey
	lag, unread *prometheus.Desc
}

func newOrgMetrics(s *survey) *orgMetrics {
	return &orgMetrics{
		s:      s,
		lag:    prometheus.NewDesc("grapnel_org_cursor_lag_events", "Events that wait to be fanned out, of the 20 organizations that have the most of them.", []string{"org"}, nil),
		unread: prometheus.NewDesc("grapnel_org_oldest_unfanned_age_seconds", "How long ago the oldest event was stored that waits to be fanned out, of the same organizations.", []string{"org"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *orgMetrics) Describe(ch chan<- *prometheus.Desc) { ch <- m.lag; ch <- m.unread }

// Collect implements prometheus.Collector.
func (m *orgMetrics) Collect(ch chan<- prometheus.Metric) {
	m.s.mu.Lock()
	behind := m.s.last.behind
	m.s.mu.Unlock()
	c, now := scrape{ch}, time.Now()
	for _, l := range behind[:min(len(behind), orgsShown)] {
		c.gauge(m.lag, float64(l.lag), l.org)
		if !l.since.IsZero() {
			c.gauge(m.unread, age(l.since, now), l.org)
		}
	}
}
