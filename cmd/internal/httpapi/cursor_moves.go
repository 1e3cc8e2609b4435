package httpapi

import (
	"context"
	"net/http"
)

// CursorMoves is the part of a Service by which people hold and move cursors.
// Each call that changes something is audited.
type CursorMoves interface {
	// PauseCursor stops the reading of the org's stream: when it returns, the
	// position no longer moves, also after a restart, until ResumeCursor.
	// Deliveries that exist go on. Repeating either changes nothing.
	PauseCursor(ctx context.Context, org string) (Cursor, error)
	ResumeCursor(ctx context.Context, org string) (Cursor, error)
}

func (a *api) cursorMoves() {
	const tag = "cursors"
	handle(a, route{id: "pause-cursor", method: http.MethodPost, path: base + "/orgs/{org}/cursor/pause", tag: tag, access: access{scope: CursorsManage},
		summary: "Stop reading the organization's stream; deliveries that exist go on"},
		func(ctx context.Context, in *OrgPath) (*answer[CursorBody], error) {
			return shapedCursor(a.svc.PauseCursor(ctx, in.Org))
		})
	handle(a, route{id: "resume-cursor", method: http.MethodPost, path: base + "/orgs/{org}/cursor/resume", tag: tag, access: access{scope: CursorsManage},
		summary: "Read the organization's stream again"},
		func(ctx context.Context, in *OrgPath) (*answer[CursorBody], error) {
			return shapedCursor(a.svc.ResumeCursor(ctx, in.Org))
		})
}

func shapedCursor(c Cursor, err error) (*answer[CursorBody], error) {
	if err != nil {
		return nil, err
	}
	return &answer[CursorBody]{cursorBody(c)}, nil
}
