package sqlite

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// maxRevisions is how many of an endpoint's settings of requests are kept: the
// newest. Whoever changes them more often does not see what was sent before that.
const maxRevisions = 100

// keepRequestSettings notes what requests of e look like from its revision on, if
// that has changed. An attempt knows the revision it was made by, and the one at
// or below that in the table is right for it.
func (t *txn) keepRequestSettings(e *deliver.Endpoint) error {
	text := jsonText(e.RequestSettings())
	r := make(row, 2)
	found, err := t.c.one(r, "SELECT revision, settings FROM endpoint_revisions WHERE endpoint=? ORDER BY revision DESC LIMIT 1", e.Row)
	if err != nil {
		return err
	}
	if found && r.text(1) == text {
		return nil
	}
	if found {
		if _, err := t.c.exec("UPDATE endpoint_revisions SET until=? WHERE endpoint=? AND revision=?", toMillis(t.now), e.Row, r.int(0)); err != nil {
			return err
		}
	}
	if _, err := t.c.exec("INSERT INTO endpoint_revisions(endpoint, revision, until, settings) VALUES(?,?,0,?)", e.Row, e.Revision, text); err != nil {
		return err
	}
	_, err = t.c.exec(`DELETE FROM endpoint_revisions WHERE endpoint=?1 AND revision <=
		(SELECT revision FROM endpoint_revisions WHERE endpoint=?1 ORDER BY revision DESC LIMIT 1 OFFSET ?2)`, e.Row, int64(maxRevisions))
	return err
}

// endRequestSettings notes that a removed endpoint makes no requests any more.
func (t *txn) endRequestSettings(endpoint int64) error {
	_, err := t.c.exec("UPDATE endpoint_revisions SET until=? WHERE endpoint=? AND until=0", toMillis(t.now), endpoint)
	return err
}

// retainRequestSettings removes the oldest that no attempt can refer to: those of
// deliveries that are still pending excepted, which then do not tell any more.
func (t *txn) retainRequestSettings(r *retention) (int64, error) {
	return t.c.exec(`DELETE FROM endpoint_revisions WHERE (endpoint, revision) IN
		(SELECT endpoint, revision FROM endpoint_revisions INDEXED BY endpoint_revisions_until WHERE until>0 AND until<? ORDER BY until LIMIT ?)`,
		min(r.finished, r.dead), int64(r.step))
}

// RequestSettings are those of an endpoint of the org over the time.
type RequestSettings struct {
	ofs []revisionSettings // ascending
}

type revisionSettings struct {
	revision int64
	settings deliver.RequestSettings
}

// At are the settings by which an endpoint of that revision made its requests;
// false when they are not known any more.
func (s RequestSettings) At(revision int64) (deliver.RequestSettings, bool) {
	for i := len(s.ofs) - 1; i >= 0 && revision > 0; i-- {
		if s.ofs[i].revision <= revision {
			return s.ofs[i].settings, true
		}
	}
	return deliver.RequestSettings{}, false
}

// GetRequestSettings reads what requests of the endpoint looked like, also of one
// that was removed.
func (s *Store) GetRequestSettings(_ context.Context, org string, endpoint int64) (RequestSettings, error) {
	var list RequestSettings
	o, err := s.find(org)
	if err != nil {
		return list, err
	}
	err = s.read(func(scan func(...any) error) error {
		var of revisionSettings
		var text []byte
		if err := scan(&of.revision, &text); err != nil {
			return err
		}
		list.ofs = append(list.ofs, of)
		return json.Unmarshal(text, &list.ofs[len(list.ofs)-1].settings)
	}, `SELECT v.revision, v.settings FROM endpoints p JOIN endpoint_revisions v ON v.endpoint=p.id
		WHERE p.id=? AND p.org=? ORDER BY v.revision`, endpoint, o.row)
	if err != nil {
		return list, fmt.Errorf("settings of requests of endpoint %d: %w", endpoint, err)
	}
	return list, nil
}
