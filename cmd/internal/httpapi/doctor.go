package httpapi

import (
	"context"
	"net/http"

	"github.com/grapnel-hooks/grapnel/cmd/internal/doctor"
)

// Examination says what is to be looked at beyond what always is.
type Examination struct {
	Resolve string // a name to be looked up; "": none
	Egress  string // "host:port" to connect to, as an attempt would; "": none
}

// Doctors is the part of a Service that looks whether all is well.
type Doctors interface {
	// Examine takes at most half a minute, and changes nothing.
	Examine(ctx context.Context, e Examination) ([]doctor.Finding, error)
}

// FindingBody is what one check has found.
type FindingBody struct {
	Check  string `json:"check" example:"disk" doc:"What was looked at"`
	Status string `json:"status" enum:"ok,warn,fail" example:"warn"`
	What   string `json:"what" example:"1.2 GiB of 40.0 GiB are free (3 %)" doc:"What was seen"`
	Do     string `json:"do" example:"make room, or shorten the retention" doc:"What to do about it; empty when it is ok"`
}

type examineQuery struct {
	Resolve string `query:"resolve" maxLength:"253" doc:"A name that is looked up; without it no name server is asked"`
	Egress  string `query:"egress" maxLength:"300" doc:"host:port that is connected to, without a request, if the guard allows it; without it nothing is"`
}

func (a *api) doctor() {
	handle(a, route{id: "examine", method: http.MethodGet, path: base + "/doctor", tag: "installation", access: access{scope: Admin, operator: true}, flights: a.searches,
		summary: "Look whether the daemon's machine, configuration and broker are well; nothing is changed"},
		func(ctx context.Context, in *examineQuery) (*answer[List[FindingBody]], error) {
			found, err := a.svc.Examine(ctx, Examination(*in))
			if err != nil {
				return nil, err
			}
			return &answer[List[FindingBody]]{List[FindingBody]{Data: shaped(found, func(f doctor.Finding) FindingBody {
				return FindingBody{Check: f.Check, Status: string(f.Status), What: f.What, Do: f.Do}
			})}}, nil
		})
}
