// Package httpapi is the HTTP API of the daemon: routes, limits, JSON shapes
// and problem documents, and nothing that decides about events.
//
// # The model
//
// A request is checked for its form here (path, query, fields, sizes) and then
// becomes one call of a [Service], which is what the daemon must bring. The
// shapes of requests and answers (types.go) are shared with package client, so
// the commands and the daemon cannot drift apart.
//
//	grapnel.sock (0600)  ──▶ Operator: every route, no token
//	--listen host:port   ──▶ Public: the API for tokens; healthz, readyz, metrics,
//	                         /openapi.json and /docs for everybody
//
// Each operation stands behind a door (door.go), which asks, in this order: is the
// request's rate within bounds, whose token is it (identify.go), is it about the
// token's organization, does it need an operator, which scope, which feature of
// the plan. Only then its form is looked at. The OpenAPI document is made of the
// same declarations, with examples that can be sent as they are (describe.go);
// package doortest drives every operation of it.
//
// # Rules
//
//   - A write with a field that the API does not know is refused; nothing that
//     was asked for is silently left out.
//   - Every error is an RFC 9457 problem. It names the bad fields and never
//     repeats their values: they may be secrets or payloads.
//   - A secret is shown by the answer that creates it, and by no other.
//   - Everything has a limit: header and body sizes, JSON depth, list lengths,
//     time to read and to write (server.go), requests in a second (rates.go).
//   - The log has the route of a request, never its path, query, headers or body.
//   - Lists of things that happen (events, deliveries, rejected, gaps) start with
//     the newest; lists of things that are (orgs, endpoints, cursors) ascend by
//     name. next_cursor is opaque to callers.
package httpapi
