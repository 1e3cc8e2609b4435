package httpapi

import (
	"context"
	"net/http"
)

// Structures is the part of a Service that holds the rows of the books against each
// other, without the streams.
type Structures interface {
	// Structure counts what is wrong between the rows of the books, of all
	// organizations. It may take minutes, and holds nobody up.
	Structure(ctx context.Context) ([]Broken, error)
	// MendStructure takes out the rows that lead nowhere, and says how many of
	// each kind they were. It may be repeated.
	MendStructure(ctx context.Context, reason string) ([]Broken, error)
}

// Broken is a way in which rows contradict each other.
type Broken struct {
	Breaks string
	Rows   int64
	Event  int64 // the number of the first event concerned
	Stray  bool  // they lead nowhere, and can be taken out
}

// StructureBody is the answer of GET /fsck/structure and POST /fsck/structure/repair.
type StructureBody struct {
	Broken []BrokenBody `json:"broken" nullable:"false"`
}

// BrokenBody is a way in which rows contradict each other.
type BrokenBody struct {
	Breaks     string `json:"breaks" example:"an attempt has no delivery"`
	Rows       int64  `json:"rows" example:"2"`
	Event      int64  `json:"event_number" example:"17" doc:"The first event concerned, by its number in the database"`
	Repairable bool   `json:"repairable" example:"true" doc:"The rows lead nowhere, and a repair takes them out"`
}

// MendBody is the body of POST /fsck/structure/repair.
type MendBody struct {
	Reason string `json:"reason" minLength:"1" maxLength:"500" example:"left behind when rows were deleted by hand" doc:"For the audit"`
}

func (a *api) structures() {
	handle(a, route{id: "fsck-structure", method: http.MethodGet, path: base + "/fsck/structure", tag: "cursors", access: access{scope: CursorsRead, operator: true},
		summary: "Hold the rows of the database against each other; may take minutes", describe: patient},
		func(ctx context.Context, _ *struct{}) (*answer[StructureBody], error) {
			return structureAnswer(a.svc.Structure(ctx))
		})
	handle(a, route{id: "repair-structure", method: http.MethodPost, path: base + "/fsck/structure/repair", tag: "cursors", access: access{scope: CursorsManage, operator: true},
		summary: "Take out rows of the database that lead nowhere", describe: patient},
		func(ctx context.Context, in *Write[MendBody]) (*answer[StructureBody], error) {
			return structureAnswer(a.svc.MendStructure(ctx, in.Body.Reason))
		})
}

func structureAnswer(broken []Broken, err error) (*answer[StructureBody], error) {
	if err != nil {
		return nil, err
	}
	return &answer[StructureBody]{StructureBody{Broken: shaped(broken, func(b Broken) BrokenBody {
		return BrokenBody{Breaks: b.Breaks, Rows: b.Rows, Event: b.Event, Repairable: b.Stray}
	})}}, nil
}
