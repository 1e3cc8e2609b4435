// Package catalogue is the list of event types that an installation knows, and
// the judgement whether an event is one of them. It is pure: nothing is read
// from a file or the network, and the same event gets the same answer from the
// same catalogue.
//
// # The model
//
// A [Type] is one version of one event type: what it is called, what it is for,
// the JSON Schema of its data, and an example that keeps to it. A [Catalogue] is
// many of them, compiled; it is never changed, [Catalogue.With] and
// [Catalogue.Without] make another one.
//
//	invoice.paid ─┬─ "1"  schema, example, group, description, deprecated
//	              └─ "2"  …                    an event names its version (default 1)
//
// An event keeps to the catalogue when its type is in it, when the type has the
// event's schema version, and when the data keep to that version's schema. A
// version without a schema takes any data. Whether an event that does not is
// refused is decided elsewhere (strict).
//
// # What a schema may be
//
// JSON Schema 2020-12, or an earlier draft (04, 06, 07, 2019-09) that $schema
// names. Three things differ from the standard:
//
//   - format, contentEncoding and contentMediaType say something to people only.
//   - Regular expressions are Go's (RE2): without look-around and back-references.
//   - $dynamicRef and $recursiveRef are refused, as is a $ref to anything outside
//     of the document: put it under $defs.
//
// # What checking may cost
//
// Whoever writes a schema is not always who must wait for it, and a few lines of
// one can ask for more steps than there is time. Two bounds stand against that. The
// schema's own: its size, depth, number of subschemas, how many of them apply to
// one value one after the other, and the size of its regular expressions. And
// a budget of steps for each event ([MaxSteps], well below a second): every
// subschema that is applied takes from it, in proportion to what it looks at.
// An event that would take more is one that cannot be checked, and what cannot
// be checked does not keep to the catalogue.
//
// Numbers keep their precision; one of more than 400 characters, or beyond
// 10^±400, cannot be checked. Neither can an object that names a member twice: it
// depends on the parser which of them counts.
package catalogue
