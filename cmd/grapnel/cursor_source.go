package main

import (
	"context"
	"math"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/pflag"
)

// stateOffline is the state of a cursor that is read from the database alone: the
// broker was not asked.
const stateOffline = "offline"

// cursorSource is where commands read cursors from: the daemon, or the database
// of one that does not run.
type cursorSource struct {
	db string // --db
}

func (s *cursorSource) define(f *pflag.FlagSet) {
	f.StringVar(&s.db, "db", "", "read this database `file`, or the one in this directory, instead of asking a daemon; nothing is written")
}

// offline reports that nobody can be asked but the database.
func (s *cursorSource) offline() bool { return s.db != "" }

// cursorDetail is one cursor with what is shown beside it, and the JSON of
// "cursor show".
type cursorDetail struct {
	httpapi.CursorBody
	GapList      []httpapi.GapBody      `json:"gap_list"`
	RejectedList []httpapi.RejectedBody `json:"rejected_list"`
	more         bool                   // of either
}

// newest is how many gaps and rejected messages are shown with a cursor.
const newest = 10

// cursors are those of all organizations, by id.
func (s *cursorSource) cursors(ctx context.Context, a *app) ([]httpapi.CursorBody, error) {
	if s.offline() {
		return s.readCursors(ctx)
	}
	all, err := collect(ctx, listFlags{limit: math.MaxInt}, a.client().Cursors)
	return all.Data, err
}

// picked is the cursor of the organization that args names, or all of them.
func (s *cursorSource) picked(ctx context.Context, a *app, args []string) ([]httpapi.CursorBody, error) {
	if len(args) == 0 {
		return s.cursors(ctx, a)
	}
	one, err := s.cursor(ctx, a, args[0])
	return []httpapi.CursorBody{one.CursorBody}, err
}

func (s *cursorSource) cursor(ctx context.Context, a *app, org string) (d cursorDetail, err error) {
	if s.offline() {
		return s.readCursor(ctx, org)
	}
	api := a.client()
	if d.CursorBody, err = api.Cursor(ctx, org); err != nil {
		return d, err
	}
	gaps, err := api.Gaps(ctx, org, client.Page{Limit: newest})
	if err != nil {
		return d, err
	}
	rejected, err := api.Rejected(ctx, org, client.Page{Limit: newest})
	d.GapList, d.RejectedList = gaps.Data, rejected.Data
	d.more = gaps.NextCursor != nil || rejected.NextCursor != nil
	return d, err
}

func (s *cursorSource) gaps(ctx context.Context, a *app, org string, l listFlags) (httpapi.List[httpapi.GapBody], error) {
	if s.offline() {
		return s.readGaps(ctx, org, l)
	}
	return collect(ctx, l, func(ctx context.Context, p client.Page) (httpapi.List[httpapi.GapBody], error) {
		return a.client().Gaps(ctx, org, p)
	})
}

// unasked has what only the broker or a daemon knows, and nobody asked them: it
// takes the place of the fields of those names in JSON.
type unasked struct {
	FirstSeq        *uint64  `json:"first_seq"`
	LastSeq         *uint64  `json:"last_seq"`
	StreamCheckedAt *string  `json:"stream_checked_at"`
	VerifiedAt      *string  `json:"verified_at"`
	Lag             *uint64  `json:"lag"`
	AgeSeconds      *float64 `json:"age_seconds"`
	Rate1m          *float64 `json:"rate_1m"`
	Rate5m          *float64 `json:"rate_5m"`
	Rate1h          *float64 `json:"rate_1h"`
}

type offlineBooks struct{ httpapi.CursorBody }

type offlineCursor struct {
	offlineBooks
	unasked
}

type offlineDetail struct {
	offlineBooks
	unasked
	GapList      []httpapi.GapBody      `json:"gap_list"`
	RejectedList []httpapi.RejectedBody `json:"rejected_list"`
}

func (d cursorDetail) withoutBroker() offlineDetail {
	return offlineDetail{offlineBooks{d.CursorBody}, unasked{}, d.GapList, d.RejectedList}
}

func (t cursorTable) withoutBroker() any {
	data := make([]offlineCursor, len(t.Data))
	for i, b := range t.Data {
		data[i].CursorBody = b
	}
	return struct {
		Data       []offlineCursor `json:"data"`
		NextCursor *string         `json:"next_cursor"`
		Total      cursorTotal     `json:"total"`
	}{data, nil, t.Total}
}
