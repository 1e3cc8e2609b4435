package httpapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

type OrgPage struct {
	OrgPath
	Page
}

// place reads the place that the page's cursor stands for.
func (p OrgPage) place(list string) (at Place, err error) {
	return at, p.after(list, "%d.%d", &at.Incarnation, &at.Seq)
}

func (a *api) cursors() {
	const tag = "cursors"
	a.cursorMoves()
	a.cursorClaims()
	handle(a, route{id: "get-cursor", method: http.MethodGet, path: base + "/orgs/{org}/cursor", tag: tag, access: access{scope: CursorsRead},
		summary: "Show how far the organization's stream is fanned out"},
		func(ctx context.Context, in *OrgPath) (*answer[CursorBody], error) {
			c, err := a.svc.Cursor(ctx, in.Org)
			if err != nil {
				return nil, err
			}
			return &answer[CursorBody]{cursorFor(ctx, c)}, nil
		})
	handle(a, route{id: "list-cursors", method: http.MethodGet, path: base + "/cursors", tag: tag, access: access{scope: CursorsRead, operator: true},
		summary: "List the cursors of all organizations"},
		func(ctx context.Context, in *struct{ Page }) (*answer[List[CursorBody]], error) {
			var after string
			if err := in.after("cursor", "%s", &after); err != nil {
				return nil, err
			}
			found, err := a.svc.Cursors(ctx, after, in.more())
			if err != nil {
				return nil, err
			}
			return listed(found, in.Limit, cursorBody, func(c Cursor) *string { return cursorAt("cursor", "%s", c.Org) }), nil
		})
	handle(a, route{id: "list-gaps", method: http.MethodGet, path: base + "/orgs/{org}/gaps", tag: tag, access: access{scope: CursorsRead},
		summary: "List sequences that were never fanned out, newest first"},
		func(ctx context.Context, in *OrgPage) (*answer[List[GapBody]], error) {
			before, err := in.place("gap")
			if err != nil {
				return nil, err
			}
			found, err := a.svc.Gaps(ctx, in.Org, before, in.more())
			if err != nil {
				return nil, err
			}
			return listed(found, in.Limit, gapBody, func(g Gap) *string {
				return cursorAt("gap", "%d.%d", g.Incarnation, uint64(g.From))
			}), nil
		})
	handle(a, route{id: "list-rejected", method: http.MethodGet, path: base + "/orgs/{org}/rejected", tag: tag, access: access{scope: WebhooksRead},
		summary: "List messages that are no events, with the reason, newest first"},
		func(ctx context.Context, in *OrgPage) (*answer[List[RejectedBody]], error) {
			before, err := in.place("rejected")
			if err != nil {
				return nil, err
			}
			found, err := a.svc.Rejected(ctx, in.Org, before, in.more())
			if err != nil {
				return nil, err
			}
			shape := func(r Rejected) RejectedBody { return rejectedBody(in.Org, r) }
			return listed(found, in.Limit, shape, func(r Rejected) *string {
				return cursorAt("rejected", "%d.%d", r.Incarnation, uint64(r.Seq))
			}), nil
		})
	handle(a, route{id: "fsck", method: http.MethodGet, path: base + "/fsck", tag: tag, access: access{scope: CursorsRead, operator: true},
		summary:  "Read the streams again and prove the books; may take minutes",
		describe: patient}, a.fsck)
}

// patient lets an operation's answer take as long as it needs.
func patient(op *huma.Operation) {
	op.Middlewares = append(op.Middlewares, func(ctx huma.Context, next func(huma.Context)) {
		_, w := humago.Unwrap(ctx)
		unhurried(w)
		next(ctx)
	})
}

type fsckQuery struct {
	Org string `query:"org" maxLength:"64" doc:"Only this organization"`
}

func (in *fsckQuery) thing() string { return "organization " + in.Org }

func (a *api) fsck(ctx context.Context, in *fsckQuery) (*answer[FsckBody], error) {
	books, err := a.svc.Fsck(context.WithValue(ctx, orgKey{}, in.Org), in.Org)
	if err != nil {
		return nil, problemOf(context.WithValue(ctx, orgKey{}, in.Org), a.log, "fsck", in.thing(), "query", err)
	}
	out := FsckBody{Proven: true, Orgs: shaped(books, booksBody)}
	for _, b := range out.Orgs {
		out.Proven = out.Proven && b.Proven
	}
	return &answer[FsckBody]{out}, nil
}

func gapBody(g Gap) GapBody {
	reason := "lost"
	if g.Skipped {
		reason = "skipped"
	}
	return GapBody{Incarnation: g.Incarnation, From: uint64(g.From), To: uint64(g.To), Count: g.Count(), Reason: reason, At: utc(g.At)}
}

func rejectedBody(org string, r Rejected) RejectedBody {
	return RejectedBody{
		Org: org, Incarnation: r.Incarnation, Seq: uint64(r.Seq), Subject: r.Subject, StoredAt: utc(r.Stored),
		Code: r.Code, Detail: r.Detail, Data: strings.ToValidUTF8(string(r.Data), "�"),
	}
}

func booksBody(b Books) BooksBody {
	return BooksBody{
		Org: b.Org, Proven: b.Wrong == 0 && len(b.Problems) == 0, Through: uint64(b.Through),
		Events: b.Events, Endpoints: b.Endpoints, Delivered: b.Delivered, Pending: b.Pending, Dead: b.Dead,
		Cancelled: b.Cancelled, NotSubscribed: b.NotSubscribed, Duplicates: b.Duplicates, Rejected: b.Rejected,
		Gated: b.Gated, InGaps: b.InGaps, Missing: b.Missing, FirstMissing: uint64(b.FirstMissing), Wrong: b.Wrong, Problems: append([]string{}, b.Problems...),
	}
}
