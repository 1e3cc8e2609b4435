package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"pgregory.net/rapid"
)

func TestPickCursors(t *testing.T) {
	all := []httpapi.CursorBody{
		{Org: "acme", State: "live"},
		{Org: "crm-1", State: "behind", Lag: 10, AgeSeconds: 20},
		{Org: "crm-2", State: "paused", Lag: 10, AgeSeconds: 300},
		{Org: "zoo", State: "behind", Lag: 500, AgeSeconds: 20},
	}
	for _, c := range []struct {
		name string
		pick cursorPick
		rows int
		want []string
		left int
	}{
		{"by org", cursorPick{sort: "org"}, math.MaxInt, []string{"acme", "crm-1", "crm-2", "zoo"}, 0},
		{"by lag, then age", cursorPick{sort: "lag"}, math.MaxInt, []string{"zoo", "crm-2", "crm-1", "acme"}, 0},
		{"by age, then lag", cursorPick{sort: "age"}, math.MaxInt, []string{"crm-2", "zoo", "crm-1", "acme"}, 0},
		{"the worst two", cursorPick{sort: "lag", limit: 2}, math.MaxInt, []string{"zoo", "crm-2"}, 2},
		{"a small screen", cursorPick{sort: "lag", limit: 2}, 1, []string{"zoo"}, 3},
		{"no screen", cursorPick{sort: "lag"}, 0, []string{"zoo"}, 3},
		{"part of an id", cursorPick{org: "m-", sort: "org"}, math.MaxInt, []string{"crm-1", "crm-2"}, 0},
		{"a pattern", cursorPick{org: "?oo", sort: "org"}, math.MaxInt, []string{"zoo"}, 0},
		{"a pattern is of all of it", cursorPick{org: "c*m", sort: "org"}, math.MaxInt, nil, 0},
		{"states", cursorPick{states: []string{"paused", "live"}, sort: "org"}, math.MaxInt, []string{"acme", "crm-2"}, 0},
		{"both", cursorPick{states: []string{"behind"}, org: "crm", sort: "org"}, math.MaxInt, []string{"crm-1"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.pick.check(); err != nil {
				t.Fatal(err)
			}
			got := c.pick.from(all, c.rows)
			var orgs []string
			for _, b := range got.Data {
				orgs = append(orgs, b.Org)
			}
			if diff := cmp.Diff(c.want, orgs); diff != "" || got.left != c.left {
				t.Errorf("%d left, want %d; (-want +got):\n%s", got.left, c.left, diff)
			}
		})
	}
}

// The total is of all that was picked, whatever the limit, and nothing is
// picked twice.
func TestCursorTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) httpapi.CursorBody {
			return httpapi.CursorBody{
				State: rapid.SampledFrom(cursorStates).Draw(t, "state"), Lag: rapid.Uint64Range(0, 1000).Draw(t, "lag"),
				AgeSeconds: float64(rapid.IntRange(0, 1000).Draw(t, "age")), Pending: rapid.Int64Range(0, 9).Draw(t, "pending"),
			}
		}), 0, 30).Draw(t, "cursors")
		for i := range all {
			all[i].Org = fmt.Sprintf("org-%02d", i)
		}
		p := cursorPick{
			states: rapid.SliceOfDistinct(rapid.SampledFrom(cursorStates), rapid.ID).Draw(t, "states"),
			sort:   rapid.SampledFrom([]string{"lag", "age", "org"}).Draw(t, "sort"), limit: rapid.IntRange(0, 40).Draw(t, "limit"),
		}
		got := p.from(all, math.MaxInt)
		var want cursorTotal
		want.Of, want.States = len(all), map[string]int{}
		for _, b := range all {
			if len(p.states) == 0 || slices.Contains(p.states, b.State) {
				want.count(b)
			}
		}
		if diff := cmp.Diff(want, got.Total); diff != "" {
			t.Errorf("total (-want +got):\n%s", diff)
		}
		if p.limit > 0 && len(got.Data) > p.limit || len(got.Data)+got.left != want.Cursors {
			t.Errorf("%d shown and %d left of %d, with limit %d", len(got.Data), got.left, want.Cursors, p.limit)
		}
		seen := map[string]bool{}
		for _, b := range got.Data {
			if seen[b.Org] {
				t.Errorf("%s is there twice", b.Org)
			}
			seen[b.Org] = true
		}
	})
}

// --watch shows a block an interval, outlives a daemon that is away, and ends well
// when it is interrupted.
func TestCursorETA(t *testing.T) {
	for state, want := range map[string]string{"behind": "10s", "gap": "10s", "paused": "", "stream-missing": "", "unclaimed": "", "unreachable": ""} {
		if got := cursorETA(httpapi.CursorBody{State: state, Lag: 100, Rate1m: 10}); got != want {
			t.Errorf("%s: %q, want %q", state, got, want)
		}
	}
	if got := cursorETA(httpapi.CursorBody{State: "live", Rate1m: 10}); got != "" {
		t.Errorf("without a lag: %q", got)
	}
}

func TestWatchCursors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		a := &app{out: &out}
		ctx, interrupt := context.WithCancel(t.Context())
		n := 0
		err := a.watch(ctx, 2*time.Second, func(_ context.Context, out io.Writer, rows int) error {
			if rows != math.MaxInt {
				t.Errorf("%d rows without a screen", rows)
			}
			n++
			if n == 2 {
				return errors.New("no grapnel is running")
			}
			fmt.Fprintf(out, "block %d\n", n)
			if n == 3 {
				time.AfterFunc(time.Second, interrupt)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff("block 1\n\ngrapnel: no grapnel is running\n\nblock 3\n", out.String()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		err := (&app{out: &out}).watch(t.Context(), time.Second, func(context.Context, io.Writer, int) error { return io.EOF })
		if !errors.Is(err, io.EOF) || out.Len() > 0 {
			t.Errorf("%v and %q, of what did not work even once", err, out.String())
		}
	})
}
