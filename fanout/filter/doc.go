// Package filter is the language of content filters: the condition that an
// event has to fulfil, beside its type and workspace, before an endpoint gets
// it. It is pure: the same text and event give the same answer for ever.
//
// # The language
//
//	data.amount >= 1000 && data.currency in ["EUR", "CHF"]
//	type == "invoice.paid" || data.items.exists(i, i.sku.startsWith("PRO-"))
//	!has(data.test) && !data.customer["e-mail"].matches(r"@example\.com$")
//
//	condition = and { "||" and }
//	and       = not { "&&" not }
//	not       = "!" not | "(" condition ")" | test
//	test      = value | "has" "(" value "." name ")"
//	          | value ("==" | "!=" | "<" | "<=" | ">" | ">=") constant, or the other way round
//	          | value "in" "[" constant { "," constant } "]" | constant "in" value
//	          | value "." ("startsWith" | "endsWith" | "contains" | "matches") "(" string ")"
//	          | value "." "exists" "(" variable "," test ")"
//	value     = "type" | "workspace" | "source" | "schema_version" | "time"
//	          | ("data" | variable) { "." name | "[" string "]" }
//	constant  = string | number | "true" | "false" | "null" | "timestamp" "(" string ")"
//
// It is a part of the Common Expression Language (CEL, cel.dev): each filter is a
// CEL expression and means the same, except that what is an error there is
// false here, and that numbers are not rounded. After ! a comparison needs
// parentheses. The test within exists is one of its variable, without &&, || and !;
// of an object it goes over the names of the members, as in CEL.
//
// # What cannot go wrong
//
// All that can be wrong is wrong when a filter is compiled. A test of something
// that is not there is false, also !=, and so is one that cannot be made, such
// as whether a string is less than 5: only ! turns it around. Numbers are compared exactly, however
// long, and as what they are worth: 1, 1.0 and 1e0 are one number. Of a member
// that is named twice in its object the first counts.
//
// # What it may cost
//
// The data of an event are not decoded. They are passed over once, at about a
// gigabyte a second, and what the paths of all filters in a [Group] lead to
// is noted on the way:
//
//	paths of all filters ─▶ one tree ─┐
//	event's data ──── one pass ───────┴─▶ places in the data ─▶ filter 1, 2, 3 …
//
// Since a path has no index and no "anywhere below", each value of the data is
// at most at one place of the tree, and the pass is as long as the data,
// however many filters and paths there are. Then each filter looks at the values it
// named, within [MaxWork]. An event that would take more than that is one that
// the filter cannot judge: it matches, since nothing may be lost for a bound of
// ours. Both together take less than 1 ms for 256 KiB, whatever they hold.
//
// A general language on decoded data, such as CEL itself, cannot keep to that:
// decoding alone takes several milliseconds for the same data.
package filter
