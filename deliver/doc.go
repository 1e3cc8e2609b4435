// Package deliver brings events to endpoints: one signed HTTP request per
// attempt, retried until it is delivered or dead.
//
// # The model
//
// An [Endpoint] is where an organization wants its events. A delivery is the
// intent to bring one event to one endpoint; its [Key] is that pair, so there
// is at most one, for ever. An [Attempt] is one request made for it, an
// [Outcome] what came of the request, and [Next] the pure function that turns
// policy, history and outcome into the delivery's next [State]:
//
//	          2xx ┌───────────▶ delivered
//	              │
//	pending ──────┤ failure, attempts left: pending, due after the backoff
//	 ▲  │         │
//	 │  │         └ failure, none left; or 410 ───▶ dead
//	 │  └ endpoint deleted ──▶ cancelled
//	 └─────────── retried by hand, from any of the three
//
// # Health
//
// Above its deliveries an endpoint has a [Health]: after some failures in a row
// its circuit opens, one probe at a time is sent while all else waits and uses
// no attempts, and the first success releases what waits, the oldest event
// first and with a ramp. [Health.After] is the pure function that says so; the
// lane obeys it, the books keep it.
//
// # Formats
//
// Every event has one body, that of the format standard, which is what is kept and
// shared. What an endpoint is sent is made from it when the request is: in the
// endpoint's [Format] (names of headers, signature, body), and without what it
// redacts ([Redaction]). So nothing of a format is stored with a delivery, and a
// retry is in the format that the endpoint has then. An endpoint whose format is
// not there ([Formats]) has no lane: its deliveries wait.
//
// # Lanes
//
// Each endpoint has a lane: a bounded queue in memory with its own
// concurrency, so that nobody waits for somebody else's endpoint ([Lanes]).
// The books (a SQLite file in production, see [Books]) hold every pending
// delivery; memory holds only the front of each lane. What does not fit stays
// in the books and is paged in when there is room; on start every lane is
// empty and is paged in the same way. There are no claims: one process owns the
// books, and a delivery whose outcome was not booked before a crash is sent
// again (at least once, and rarely twice).
//
// # Order
//
// An endpoint may want its deliveries one after the other, or those of the same
// [Line]. Its lane then sends the next of a line only when the outcome of the one
// before is durable. Those behind one that waits for its retry are held back: they
// stand in their line in the books, without an attempt, and are read from there
// when their turn comes, so that the lane's fronts go on for all other lines.
//
// # Crash points
//
//	after commit, before the lane has it   paged in from the books at start
//	request sent, outcome not booked       sent again, same webhook-id
//	outcome booked                         never sent again unless due again
//	circuit closed, not all is released    released again at start
package deliver
