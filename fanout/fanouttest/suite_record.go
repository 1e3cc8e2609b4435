package fanouttest

import (
	"slices"
	"sync"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// ms is when a delay after started ends, as a Ticket's Due.
func ms(delay time.Duration) int64 { return started.Add(delay).UnixMilli() }

var recordTests = map[string]func(*suite){
	"Record/a success": func(s *suite) {
		ep := s.endpoint("*")
		ts := s.fresh(ep, "a", "b")
		r := attempted(ts[0], success, 0)
		s.book(r)
		d, attempts := s.delivery(ts[0].Key)
		if d.State != deliver.Delivered || d.Reason != deliver.NoReason || !d.Due.IsZero() {
			s.Errorf("delivery %+v, want delivered", d)
		}
		s.equal("attempts", []deliver.Attempt{r.Attempt}, attempts)
		s.equal("pending", ts[1:], s.pending(ep.Row))
	},

	"Record/a failure": func(s *suite) {
		ep := s.endpoint("*")
		t := s.fresh(ep, "a")[0]
		r := attempted(t, failure, 5*time.Second)
		s.book(r)
		want := deliver.Ticket{Key: t.Key, Due: ms(5 * time.Second), Attempts: 1, Spent: 1, Trigger: deliver.Retry}
		s.equal("pending", []deliver.Ticket{want}, s.pending(ep.Row))
		d, attempts := s.delivery(t.Key)
		if d.State != deliver.Pending || d.Due.UnixMilli() != want.Due {
			s.Errorf("delivery %+v, want pending, due at %d", d, want.Due)
		}
		s.equal("attempts", []deliver.Attempt{r.Attempt}, attempts)
	},

	"Record/a fault of our own does not count": func(s *suite) {
		ep := s.endpoint("*")
		t := s.fresh(ep, "a")[0]
		r := attempted(t, deliver.Outcome{Class: deliver.Ours, Error: "shutting down"}, time.Second)
		r.Next.Spent = 0
		s.book(r)
		s.equal("pending", []deliver.Ticket{{Key: t.Key, Due: ms(time.Second), Attempts: 1, Trigger: deliver.Retry}}, s.pending(ep.Row))
	},

	"Record/attempts in their order": func(s *suite) {
		ep := s.endpoint("*")
		t := s.fresh(ep, "a")[0]
		var rs []deliver.Record
		for range 5 {
			r := attempted(t, failure, time.Hour)
			t.Attempts, t.Spent, t.Trigger, t.Due = r.Attempt.Number, r.Next.Spent, deliver.Retry, ms(time.Hour)
			rs = append(rs, r)
		}
		last := attempted(t, success, 0)
		s.book(append(rs, last)...)
		if got := s.state(t.Key); got != "delivered 6" {
			s.Errorf("delivery is %s", got)
		}
		_, attempts := s.delivery(t.Key)
		for i, a := range attempts {
			if a.Number != i+1 {
				s.Errorf("attempt %d has number %d", i+1, a.Number)
			}
		}
	},

	"Record/the same twice is booked once": func(s *suite) {
		ep := s.endpoint("*")
		t := s.fresh(ep, "a")[0]
		r := attempted(t, failure, time.Minute)
		s.book(r)
		before := s.pending(ep.Row)
		other := attempted(t, success, 0) // the same number
		s.book(r, other)
		s.equal("pending", before, s.pending(ep.Row))
		if got := s.state(t.Key); got != "pending 1" {
			s.Errorf("delivery is %s", got)
		}
		_, attempts := s.delivery(t.Key)
		s.equal("attempts", []deliver.Attempt{r.Attempt}, attempts)
	},

	"Record/dead, and retried by hand": func(s *suite) {
		ep := s.endpoint("*")
		t := s.fresh(ep, "a")[0]
		s.book(died(t))
		if got := s.state(t.Key); got != "dead 1 exhausted" {
			s.Errorf("delivery is %s", got)
		}
		if ts := s.pending(ep.Row); len(ts) != 0 {
			s.Errorf("pending: %+v", ts)
		}
		before := time.Now()
		again, err := s.RetryDelivery(s.ctx, "acme", t.Key)
		s.must(err)
		if again.Due < before.UnixMilli() || again.Due > time.Now().UnixMilli() {
			s.Errorf("due at %d, want now", again.Due)
		}
		want := deliver.Ticket{Key: t.Key, Due: again.Due, Attempts: 1, Spent: 0, Trigger: deliver.Manual}
		s.equal("ticket", want, again)
		s.equal("pending", []deliver.Ticket{want}, s.pending(ep.Row))
		s.book(attempted(again, success, 0))
		if got := s.state(t.Key); got != "delivered 2" {
			s.Errorf("delivery is %s", got)
		}
		_, attempts := s.delivery(t.Key)
		if attempts[1].Trigger != deliver.Manual {
			s.Errorf("the second attempt's trigger is %v", attempts[1].Trigger)
		}
	},

	"Record/delivered, and retried by hand": func(s *suite) {
		ep := s.endpoint("*")
		t := s.fresh(ep, "a")[0]
		s.book(attempted(t, success, 0))
		again, err := s.RetryDelivery(s.ctx, "acme", t.Key)
		s.must(err)
		s.book(attempted(again, failure, time.Minute))
		want := deliver.Ticket{Key: t.Key, Due: ms(time.Minute), Attempts: 2, Spent: 1, Trigger: deliver.Retry}
		s.equal("pending", []deliver.Ticket{want}, s.pending(ep.Row))
	},

	"Record/one that is unknown cannot be retried": func(s *suite) {
		ep := s.endpoint("*")
		if _, err := s.RetryDelivery(s.ctx, "acme", deliver.Key{Event: 999, Endpoint: ep.Row}); err == nil {
			s.Error("a delivery that does not exist was retried")
		}
	},

	"Record/after the endpoint was removed": func(s *suite) {
		ep := s.endpoint("*")
		ts := s.fresh(ep, "a", "b", "c")
		s.must(s.RemoveEndpoint(s.ctx, "acme", ep.ID))
		// Requests that were in flight meanwhile.
		s.book(attempted(ts[0], success, 0), attempted(ts[1], failure, time.Minute))
		for i, want := range []string{"cancelled 1 endpoint_deleted", "cancelled 1 endpoint_deleted", "cancelled 0 endpoint_deleted"} {
			if got := s.state(ts[i].Key); got != want {
				s.Errorf("delivery %d is %s, want %s", i, got, want)
			}
		}
		if ts := s.pending(); len(ts) != 0 {
			s.Errorf("pending: %+v", ts)
		}
	},

	"Record/a 410 disables": func(s *suite) {
		ep, other := s.endpoint("*"), s.endpoint("*")
		ts := s.fresh(ep, "a", "b")
		before, err := s.Subscriptions(s.ctx, "acme")
		s.must(err)
		s.book(attempted(ts[0], gone, 0))
		if got := s.state(ts[0].Key); got != "dead 1 gone" {
			s.Errorf("delivery is %s", got)
		}
		now, err := s.FindEndpointByRow(s.ctx, ep.Row)
		s.must(err)
		if now.DisabledReason != "gone" || now.DisabledAt.IsZero() {
			s.Errorf("endpoint disabled because of %q at %v", now.DisabledReason, now.DisabledAt)
		}
		after, err := s.Subscriptions(s.ctx, "acme")
		s.must(err)
		if after.Version() <= before.Version() {
			s.Errorf("subscriptions have version %d, before %d", after.Version(), before.Version())
		}
		s.append("c")
		if w := s.walk(); !slices.Equal(w[0].Endpoints, []int64{other.Row}) {
			s.Errorf("a disabled endpoint gets an event: %+v", w)
		}
		s.equal("kept", ts[1:], s.pending(ep.Row))
	},

	"Record/payloads are kept from the first failure on, once": func(s *suite) {
		a, b := s.endpoint("*"), s.endpoint("*")
		s.fresh(a, "a", "b", "c")
		at, bt := s.pending(a.Row), s.pending(b.Row)
		s.book(
			attempted(at[0], success, 0), attempted(bt[0], success, 0),
			attempted(at[1], failure, time.Minute), attempted(bt[1], failure, time.Minute),
			attempted(at[2], success, 0), died(bt[2]),
		)
		events := []int64{at[0].Event, at[1].Event, at[2].Event, 999_999}
		want := map[int64]*deliver.Payload{at[1].Event: payload(at[1].Event), at[2].Event: payload(at[2].Event)}
		for _, when := range []string{"booked", "opened again"} {
			got, err := s.Payloads(s.ctx, events)
			s.must(err)
			if len(got) != len(want) {
				s.Errorf("%s: %d payloads, want %d", when, len(got), len(want))
			}
			for event, p := range want {
				g := got[event]
				if g == nil || g.Event != p.Event || g.ID != p.ID || g.Org != p.Org || g.Type != p.Type ||
					g.TraceParent != p.TraceParent || !g.Stored.Equal(p.Stored) || string(g.Body) != string(p.Body) {
					s.Errorf("%s: payload %+v, want %+v", when, g, p)
				}
			}
			s.restart()
		}
	},

	"Record/many at once": func(s *suite) {
		var rows []int64
		for range 30 {
			rows = append(rows, s.endpoint("*").Row)
		}
		for range 100 {
			s.append("a")
		}
		s.walk()
		var wg sync.WaitGroup
		for _, row := range rows {
			ts := s.pending(row)
			wg.Go(func() {
				for i, t := range ts {
					outcome := success
					if i%3 == 0 {
						outcome = failure
					}
					if err := s.Record(s.ctx, attempted(t, outcome, time.Duration(i)*time.Second)); err != nil {
						s.Error(err)
					}
				}
			})
		}
		wg.Wait()
		seen := map[deliver.Key]int{}
		for _, r := range s.await(manyRecords) {
			seen[r.Key]++
		}
		if len(seen) != manyRecords {
			s.Errorf("%d deliveries were reported, want %d", len(seen), manyRecords)
		}
		s.restart()
		if n := len(s.pending()); n != 30*34 {
			s.Errorf("%d pending, want %d", n, 30*34)
		}
	},

	"Record/what was reported is there after a restart": func(s *suite) {
		ep := s.endpoint("*")
		ts := s.fresh(ep, "a", "b", "c", "d")
		s.book(attempted(ts[0], success, 0), attempted(ts[1], failure, time.Minute), attempted(ts[2], gone, 0))
		want := []string{"delivered 1", "pending 1", "dead 1 gone", "pending 0"}
		s.restart()
		for i, w := range want {
			if got := s.state(ts[i].Key); got != w {
				s.Errorf("delivery %d is %s, want %s", i, got, w)
			}
		}
		if ep, err := s.FindEndpointByRow(s.ctx, ep.Row); err != nil || ep.DisabledReason != "gone" {
			s.Errorf("endpoint %+v, %v, want it disabled", ep, err)
		}
	},

	"Pending/order, bounds and limit": func(s *suite) {
		a, b := s.endpoint("*"), s.endpoint("x.*")
		s.fresh(a, "x.1", "x.2", "x.3", "x.4", "x.5")
		at, bt := s.pending(a.Row), s.pending(b.Row)
		s.book(
			attempted(at[3], failure, 1*time.Second), // later event, earlier due
			attempted(at[1], failure, 2*time.Second),
			attempted(bt[4], failure, 2*time.Second),
			attempted(bt[0], failure, 3*time.Second),
		)
		type line struct {
			Due      int64
			Event    int64 // 1 to 5
			Endpoint string
		}
		list := func(from, to deliver.Place, limit int, rows ...int64) []line {
			s.Helper()
			ts, err := s.Pending(s.ctx, from, to, rows, limit)
			s.must(err)
			var ls []line
			for _, t := range ts {
				l := line{Event: t.Event - at[0].Event + 1, Endpoint: "a"}
				if t.Due != 0 {
					l.Due = (t.Due - ms(0)) / 1000
				}
				if t.Endpoint == b.Row {
					l.Endpoint = "b"
				}
				ls = append(ls, l)
			}
			return ls
		}
		all := []line{
			{0, 1, "a"}, {0, 2, "b"}, {0, 3, "a"}, {0, 3, "b"}, {0, 4, "b"}, {0, 5, "a"},
			{1, 4, "a"}, {2, 2, "a"}, {2, 5, "b"}, {3, 1, "b"},
		}
		first, last := everything[0], everything[1]
		fresh := func(i int) deliver.Place { return at[i-1].Place() }
		retry := func(sec int, event int) deliver.Place {
			return deliver.Place{Due: ms(time.Duration(sec) * time.Second), Event: at[event-1].Event}
		}
		s.equal("all", all, list(first, last, 100))
		s.equal("a limit", all[:4], list(first, last, 4))
		s.equal("of one endpoint", []line{{0, 2, "b"}, {0, 3, "b"}, {0, 4, "b"}, {2, 5, "b"}, {3, 1, "b"}}, list(first, last, 100, b.Row))
		s.equal("of one endpoint, limited", []line{{0, 2, "b"}, {0, 3, "b"}}, list(first, last, 2, b.Row))
		s.equal("of both", all, list(first, last, 100, a.Row, b.Row))
		s.equal("of nobody", []line(nil), list(first, last, 100, 999_999))
		s.equal("fresh ones only", all[:6], list(first, deliver.Place{Event: 1 << 60}, 100))
		s.equal("fresh ones from one on, itself included", all[2:6], list(fresh(3), deliver.Place{Event: 1 << 60}, 100))
		s.equal("fresh ones up to one, itself included", all[:4], list(first, fresh(3), 100))
		s.equal("retries only", all[6:], list(deliver.Place{Due: 1}, last, 100))
		s.equal("retries up to a place", all[6:8], list(deliver.Place{Due: 1}, retry(2, 2), 100))
		s.equal("retries up to a time", all[6:9], list(deliver.Place{Due: 1}, deliver.Place{Due: ms(2 * time.Second), Event: 1 << 60}, 100))
		s.equal("retries from a place on", all[8:], list(retry(2, 5), last, 100))
		s.equal("from fresh into retries", all[5:8], list(fresh(5), retry(2, 2), 100))
		s.equal("an end before the start", []line(nil), list(retry(3, 1), retry(1, 4), 100))
	},

	"Pending/after a restart as before": func(s *suite) {
		ep := s.endpoint("*")
		ts := s.fresh(ep, "a", "b", "c")
		s.book(attempted(ts[1], failure, time.Minute))
		before := s.pending()
		s.restart()
		s.equal("pending", before, s.pending())
	},

	"NextDue": func(s *suite) {
		ep := s.endpoint("*")
		next := func(after int64) int64 {
			s.Helper()
			due, err := s.NextDue(s.ctx, after)
			s.must(err)
			return due
		}
		if got := next(0); got != 0 {
			s.Errorf("empty books: next due at %d", got)
		}
		ts := s.fresh(ep, "a", "b", "c")
		if got := next(0); got != 0 {
			s.Errorf("fresh ones only: next due at %d", got)
		}
		s.book(attempted(ts[0], failure, 9*time.Second), attempted(ts[1], failure, 4*time.Second))
		for _, tt := range []struct{ after, want int64 }{
			{0, ms(4 * time.Second)},
			{ms(4*time.Second) - 1, ms(4 * time.Second)},
			{ms(4 * time.Second), ms(9 * time.Second)},
			{ms(9 * time.Second), 0},
		} {
			if got := next(tt.after); got != tt.want {
				s.Errorf("next due after %d is %d, want %d", tt.after, got, tt.want)
			}
		}
	},

	"Backlogs": func(s *suite) {
		a, b, c := s.endpoint("*"), s.endpoint("*"), s.endpoint("x")
		list := func(rows ...int64) []deliver.Backlog {
			s.Helper()
			bs, err := s.Backlogs(s.ctx, rows)
			s.must(err)
			slices.SortFunc(bs, func(a, b deliver.Backlog) int { return int(a.Endpoint - b.Endpoint) })
			return bs
		}
		s.equal("empty books", []deliver.Backlog(nil), list())
		s.fresh(a, "a", "b", "c")
		at, bt := s.pending(a.Row), s.pending(b.Row)
		s.book(attempted(at[0], failure, 7*time.Second), attempted(at[2], failure, 3*time.Second))
		for _, t := range bt {
			s.book(attempted(t, failure, 2*time.Second))
		}
		want := []deliver.Backlog{
			{Endpoint: a.Row, Fresh: at[1].Event, Due: deliver.Place{Due: ms(3 * time.Second), Event: at[2].Event}},
			{Endpoint: b.Row, Due: deliver.Place{Due: ms(2 * time.Second), Event: bt[0].Event}},
		}
		s.equal("of all", want, list())
		s.equal("of one", want[1:], list(b.Row))
		s.equal("of one that has nothing", []deliver.Backlog(nil), list(c.Row))
		s.restart()
		s.equal("opened again", want, list())
		s.book(attempted(at[1], success, 0))
		want[0].Fresh = 0
		s.equal("without fresh ones", want[:1], list(a.Row))
	},
}
