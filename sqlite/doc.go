// Package sqlite is the books: one SQLite file that is the only truth about
// positions and deliveries. It implements [fanout.Books] and [deliver.Books].
//
// # The stored shape
//
// Rows have integer keys. A delivery's key is (event, endpoint); its public id
// is computed from that and costs nothing.
//
//	orgs ─── cursors          one position each, and counts
//	  │
//	  ├──── endpoints ─┬─ subscriptions   who wanted what, in which span of the stream
//	  │         │      └─ secrets         sealed
//	  └─ events ┴─ deliveries ─── attempts
//	        │
//	        └─ payloads      only after a first failure
//
//	rejected, gated, gaps    sequences that made no deliveries, and why (gaps: lost, or skipped by hand)
//	key_runs, key_chunks     from an event's ID to its number
//	event_types              the catalogue; compiled in memory, see event_types.go
//	segments                 what lies in 512 events of an org, for lists
//	endpoint_slots           how endpoints fared, for a day
//	catchups, endpoint_gaps  endpoints that are behind, see catchup.go
//	replays                  jobs that send again what matches, see replays.go
//
// Events and deliveries are only ever appended at the right edge of their
// trees: numbers ascend, and the event comes first in every key. There is no
// index by endpoint, since each insert would touch a page of it for each
// endpoint. Two partial indexes hold the few rows that somebody looks for:
// the pending ones, by when they are due, and the dead and cancelled ones, by org. Each event knows how far
// back the org's event before it lies, so that one org's newest events can be listed without an index
// by org.
//
// # Finding an event by its ID
//
// An index in the random order of IDs would cost a page for each event. The
// newest 65,536 IDs are therefore in memory only; each full block of them is sorted
// once and sealed as a run, with a Bloom filter that stays in memory (two bytes
// for each event kept). Opening reads the IDs after the last run again. See
// keys.go.
//
// # Sealed
//
// Secrets, header values and answers that show a secret are sealed with a key
// that is not in the database (package seal), each for its own place. A probe
// proves at each start that the key is the right one. See sealing.go.
//
// # One writer
//
// All changes go through one goroutine with one connection. It takes what waits
// (outcomes, plans, changes by people), runs it in one transaction, each
// operation in its own savepoint, and commits: a flush of the disk is shared by
// all. Readers have connections of their own and see the last commit.
//
//	Commit, AddEndpoint, … ──▶ operations ─┐
//	                                       ├─▶ BEGIN … COMMIT ─▶ answers, OnBooked
//	Record ──────────────────▶ records ────┘
//
// # Crash points
//
//	before COMMIT    nothing of the group happened
//	after COMMIT     all of it happened, whoever was told or not
//
// When the disk is full, operations fail with [fanout.ErrFull]; records stay in
// memory and are tried again each second, and Record blocks when too many wait.
//
// # What is in memory only
//
// All of it is rebuilt by [Open]: endpoints and organizations, the newest IDs
// and the filters, and how many deliveries of each endpoint are pending and dead. Only what
// was counted for endpoint_slots during the last minute is lost in a crash.
package sqlite
