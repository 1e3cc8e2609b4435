package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/sqlite"
)

// What --db reads: the database of a daemon that does not run, or a backup.

// withBooks opens the database, reads it and closes it.
func (s *cursorSource) withBooks(ctx context.Context, read func(*sqlite.Offline) error) error {
	file := s.db
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		file = filepath.Join(file, sqlite.FileName)
	}
	books, err := sqlite.OpenOffline(ctx, file, daemonLives(filepath.Dir(file)))
	if err != nil {
		return err
	}
	return errors.Join(read(books), books.Close())
}

// daemonLives reports whether a daemon answers in the directory. Its socket is
// asked, and not its lock: to try that would keep a daemon from starting.
func daemonLives(dir string) bool {
	c, err := net.DialTimeout("unix", filepath.Join(dir, client.SocketName), time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func (s *cursorSource) readCursors(ctx context.Context) (all []httpapi.CursorBody, err error) {
	err = s.withBooks(ctx, func(books *sqlite.Offline) error {
		list, err := books.Cursors(ctx)
		for _, c := range list {
			all = append(all, httpapi.ShowCursor(bookedCursor(c)))
		}
		return err
	})
	return all, err
}

func (s *cursorSource) readCursor(ctx context.Context, org string) (d cursorDetail, err error) {
	err = s.withBooks(ctx, func(books *sqlite.Offline) error {
		found, err := books.Cursor(ctx, org)
		if err != nil {
			return fmt.Errorf("there is no organization %s in %s", org, s.db)
		}
		c := bookedCursor(found)
		endpoints, err := books.Backlogged(ctx, org, backloggedShown)
		if err != nil {
			return err
		}
		for _, e := range endpoints {
			c.Endpoints = append(c.Endpoints, httpapi.Backlogged(e))
		}
		moves, err := books.CursorMoves(ctx, org, movesShown)
		if err != nil {
			return err
		}
		for _, m := range moves {
			c.Moves = append(c.Moves, httpapi.CursorMoved(m))
		}
		incarnations, err := books.Incarnations(ctx, org)
		if err != nil {
			return err
		}
		for _, i := range incarnations[:min(len(incarnations), incarnationsShown)] {
			c.Incarnations = append(c.Incarnations, httpapi.Incarnation(i))
		}
		d.CursorBody = httpapi.ShowCursor(c)
		d.GapList, d.RejectedList = []httpapi.GapBody{}, []httpapi.RejectedBody{}
		gaps, err := books.ListGaps(ctx, org, sqlite.Place{}, newest+1)
		if err != nil {
			return err
		}
		for _, g := range gaps[:min(newest, len(gaps))] {
			d.GapList = append(d.GapList, httpapi.ShowGap(httpapi.Gap(g)))
		}
		rejected, err := books.ListRejected(ctx, org, sqlite.Place{}, newest+1)
		if err != nil {
			return err
		}
		for _, r := range rejected[:min(newest, len(rejected))] {
			d.RejectedList = append(d.RejectedList, httpapi.ShowRejected(org, httpapi.Rejected{Incarnation: r.Incarnation, Rejected: r.Rejected}))
		}
		d.more = len(gaps) > newest || len(rejected) > newest
		return nil
	})
	return d, err
}

func (s *cursorSource) readGaps(ctx context.Context, org string, l listFlags) (list httpapi.List[httpapi.GapBody], err error) {
	list.Data = []httpapi.GapBody{}
	if l.cursor != "" || l.limit < 1 || l.limit > sqlite.MaxPage {
		return list, &usageError{fmt.Errorf("with --db want a --limit from 1 to %d and no --cursor", sqlite.MaxPage)}
	}
	err = s.withBooks(ctx, func(books *sqlite.Offline) error {
		gaps, err := books.ListGaps(ctx, org, sqlite.Place{}, l.limit)
		for _, g := range gaps {
			list.Data = append(list.Data, httpapi.ShowGap(httpapi.Gap(g)))
		}
		return err
	})
	return list, err
}

// bookedCursor is what the books alone say of a cursor.
func bookedCursor(c sqlite.Cursor) httpapi.Cursor {
	shown := httpapi.Cursor{
		Position: c.Position, UpdatedAt: c.UpdatedAt,
		Pending: c.Pending, Due: c.Due, Dead: c.Dead, Rejected: int64(c.Rejected), Gaps: int64(c.Gaps),
		State: stateOffline,
	}
	if !c.OldestDue.IsZero() {
		shown.OldestDue = max(time.Since(c.OldestDue), time.Millisecond)
	}
	if c.Pause != nil {
		shown.Pause = &httpapi.CursorPause{By: c.Pause.By, Reason: c.Pause.Reason, At: c.Pause.At, Until: c.Pause.Until}
		v := standing{now: time.Now(), org: c.Org, pause: shown.Pause}.judge()
		shown.State, shown.Why, shown.Since = v.state, v.why, v.since
	}
	return shown
}
