package sqlite

import (
	"context"
	"fmt"
)

// Claim notes in the audit that the org's stream is taken over from the books of
// another installation.
func (s *Store) Claim(ctx context.Context, org, was, reason string) error {
	o, err := s.find(org)
	if err != nil {
		return err
	}
	err = s.w.do(ctx, func(t *txn) error {
		return t.audited(o, "cursor.claim", org, Changes{"installation": {was, s.installation}, "reason": {nil, reason}})
	})
	if err != nil {
		return fmt.Errorf("claim the stream of %s: %w", org, err)
	}
	return nil
}
