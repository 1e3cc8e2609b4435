// Package fanout turns one event into one delivery for each subscribed
// endpoint.
//
// # The model
//
// A [Subscription] is what an endpoint wants, and from where in the stream on.
// [Set.Match] and [Make] are pure: messages and subscriptions in, a [Plan] out.
// [Loop] is the walk: it waits for organizations that have something to read,
// asks the cursor for the next batch, plans it, commits plan and position in
// one transaction, and hands the fresh deliveries to the lanes.
//
//	wake-up, sweep ─▶ dirty orgs ─▶ cursor.Next ─▶ decode ─▶ match ─▶ plan
//	                                                                   │
//	            lanes ◀── hand over ◀── COMMIT (deliveries + position) ◀┘
//
// # Crash points
//
//	before the commit   nothing happened; the same batch is read again
//	after the commit    deliveries are pending in the books; lanes page them in
//
// Each sequence at or below the position is accounted for: it became
// deliveries, matched nobody, was a duplicate of an earlier event, was
// rejected, was gated by the org's plan, lies in a recorded gap, or was skipped
// by hand. [Check] proves that from the stream and the books.
//
// # Moves
//
// People can move the position ([Move]). How far it has ever been, the furthest
// place, stays: everything up to there stays accounted for while the stream is
// read again, and new subscriptions begin there.
//
//	1 ─────────── position ──────────── furthest ─────────── end of the stream
//	              read again: makes     read for the
//	              what is missing       first time
package fanout
