package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

// A file can be a sound database and still not be the books: torn between two of
// its tables by a copy that was made wrong, or changed by hand. What must hold
// between rows at every commit is looked at before a backup is trusted. Whether the
// books agree with the streams is not asked here; that is fsck's.

// claims are what holds after every commit: each query finds one row that breaks
// it. They walk two trees side by side, in the order of their keys.
var claims = []struct{ breaks, query string }{
	{"a delivery has no event",
		`SELECT d.event FROM deliveries d WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.id=d.event) LIMIT 1`},
	{"a delivery is another organization's than its event",
		`SELECT d.event FROM deliveries d JOIN events e ON e.id=d.event WHERE e.org<>d.org LIMIT 1`},
	{"a delivery has no endpoint",
		`SELECT d.event FROM deliveries d WHERE NOT EXISTS (SELECT 1 FROM endpoints p WHERE p.id=d.endpoint AND p.org=d.org) LIMIT 1`},
	{"an attempt has no delivery",
		`SELECT a.event FROM attempts a WHERE NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.event=a.event AND d.endpoint=a.endpoint) LIMIT 1`},
	{"an event lies after its organization's cursor",
		`SELECT e.id FROM events e JOIN cursors c ON c.org=e.org WHERE e.incarnation=c.incarnation AND e.seq>max(c.position, c.furthest) LIMIT 1`},
	{"an event's organization has no cursor",
		`SELECT e.id FROM events e WHERE NOT EXISTS (SELECT 1 FROM cursors c WHERE c.org=e.org) LIMIT 1`},
}

// checkClaims fails with [ErrCorrupt], naming the claim and the number of an event for
// which it does not hold.
func checkClaims(ctx context.Context, db *sql.DB) error {
	for _, c := range claims {
		var event int64
		switch err := db.QueryRowContext(ctx, c.query).Scan(&event); err {
		case sql.ErrNoRows:
		case nil:
			return fmt.Errorf("%w: %s (event number %d)", ErrCorrupt, c.breaks, event)
		default:
			return fmt.Errorf("look whether %s: %w", c.breaks, err)
		}
	}
	return nil
}
