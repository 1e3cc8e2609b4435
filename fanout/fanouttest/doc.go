// Package fanouttest is books in memory, and the suite that they and the real
// ones both pass.
//
// # The model
//
// A [Disk] is what survives a crash. [Books] are a process's view of it, and
// implement [fanout.Books], [deliver.Books] and [fanout.SourceBooks]; they hold
// records that were taken and not booked yet, which a crash forgets.
//
//	Disk ◀── commit, book ── Books ◀── Record, Commit, AddEndpoint …
//	  │                        ╳ Crash
//	  └────────── Open ──────▶ Books
//
// The books are as slow and as simple as a rule can be written down: maps and
// loops, one lock. Tests that need a store take these, make them fail where they
// want ([Books.Fault]), or break a rule on purpose ([Broken]) to see that the
// break is noticed.
package fanouttest
