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

// checkClaims fails with [ErrCorrupt], naming the claim and the number of an event for
// which it does not hold.
func checkClaims(ctx context.Context, db *sql.DB) error {
	for _, c := range claims {
		var event int64
		switch err := db.QueryRowContext(ctx, "SELECT r."+c.key+" FROM "+c.table+" r WHERE "+c.where+" LIMIT 1").Scan(&event); err {
		case sql.ErrNoRows:
		case nil:
			return fmt.Errorf("%w: %s (event number %d)", ErrCorrupt, c.breaks, event)
		default:
			return fmt.Errorf("look whether %s: %w", c.breaks, err)
		}
	}
	return nil
}
