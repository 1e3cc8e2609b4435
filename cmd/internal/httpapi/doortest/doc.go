// Package doortest tries every operation of the API's own document: at a Service
// in memory, and at the whole daemon.
//
// # The model
//
// An [API] is the handlers under test and the Service behind them. What there is
// to try comes from their document, /openapi.json; who may do what is written by
// hand once more in access.go, so that a slip in a route's declaration shows.
//
//	Matrix    who may not, gets the right refusal, and changes nothing
//	Contract  who may, gets what the document says; and one audit entry
//
// An operation that access.go does not have fails both, as does one that the
// document does not have. A request is made of the document's examples and of
// objects that are made for it through the API: endpoints, events, deliveries,
// tokens (world.go). A new kind of object needs a line there.
package doortest
