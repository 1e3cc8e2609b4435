package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/grapnel-hooks/grapnel/stream"
)

// CursorClaims is the part of a Service by which a stream is taken over that is
// marked as read by another database.
type CursorClaims interface {
	// ClaimCursor makes the org's stream this database's, with the cursor where c
	// says. A stream that is this database's already is left as it is. It is
	// audited. An *Invalid names "from" when the cursor cannot begin there.
	ClaimCursor(ctx context.Context, org string, c CursorClaim) (CursorClaimed, error)
}

// CursorClaim says where the cursor is to begin: one of the four.
type CursorClaim struct {
	Earliest bool        // before the stream's first event
	Latest   bool        // at its last one: what is there already is not sent
	Seq      *stream.Seq // after this one
	Stay     bool        // where it is: the database has read the stream before

	Reason string
}

// CursorClaimed is what came of it.
type CursorClaimed struct {
	Org      string
	Claimed  bool   // false: the stream was this database's already
	Was      string // the installation that it was marked as read for; "" when it was ours
	Position stream.Seq
}

// CursorClaimBody is the body of POST /orgs/{org}/cursor/claim.
type CursorClaimBody struct {
	From   string `json:"from" pattern:"^(beginning|end|position|[0-9]{1,19})$" patternDescription:"beginning, end, position or a sequence" example:"end" doc:"Where the cursor begins: beginning (all events of the stream are sent), end (none of those that are there), a sequence (those after it), or position (where it is, if this database has read the stream before)"`
	Reason string `json:"reason" minLength:"1" maxLength:"500" example:"the old database is lost" doc:"For the audit"`
}

// CursorClaimedBody is the answer to POST /orgs/{org}/cursor/claim.
type CursorClaimedBody struct {
	Org      string `json:"org" example:"acme"`
	Claimed  bool   `json:"claimed" doc:"false: the stream was this database's already, and nothing was changed"`
	Was      string `json:"installation_was,omitempty" example:"01KAE5Z0V2M6H8W3Q9RXC7YB4T" doc:"Whose the stream was"`
	Position uint64 `json:"position" example:"42" doc:"Where the cursor is"`
}

type claimCursor struct {
	OrgPath
	Write[CursorClaimBody]
}

func (a *api) cursorClaims() {
	handle(a, route{id: "claim-cursor", method: http.MethodPost, path: base + "/orgs/{org}/cursor/claim", tag: "cursors", access: access{scope: CursorsManage, operator: true},
		summary: "Take the organization's stream over from another database"},
		func(ctx context.Context, in *claimCursor) (*answer[CursorClaimedBody], error) {
			c := CursorClaim{Reason: in.Body.Reason}
			switch from := in.Body.From; from {
			case "beginning":
				c.Earliest = true
			case "end":
				c.Latest = true
			case "position":
				c.Stay = true
			default:
				n, err := strconv.ParseInt(from, 10, 64)
				if err != nil {
					return nil, &Invalid{Field: "from", Detail: "is larger than any sequence"}
				}
				seq := stream.Seq(n)
				c.Seq = &seq
			}
			done, err := a.svc.ClaimCursor(ctx, in.Org, c)
			if err != nil {
				return nil, err
			}
			return &answer[CursorClaimedBody]{CursorClaimedBody{Org: done.Org, Claimed: done.Claimed, Was: done.Was, Position: uint64(done.Position)}}, nil
		})
}
