package httpapi

import (
	"context"
	"net/http"
	"time"
)

// HoldStatus says whether the daemon holds still, since its books come from a
// backup, and what it would do again.
type HoldStatus struct {
	Held         bool
	BackupMadeAt time.Time // zero: not held
	Reason       string    // backup, older, alone; "": not held
	Unread       uint64    // events in the streams after the cursors
	Pending      int64     // deliveries of the backup
	Unknown      []string  // organizations whose streams could not be asked
}

// Holds is the part of a Service that starts again after a restore.
type Holds interface {
	Hold(ctx context.Context) (HoldStatus, error)
	// Resume lets reading and sending begin. It changes nothing when nothing is held.
	Resume(ctx context.Context) error
}

// HoldBody is the answer of GET /hold.
type HoldBody struct {
	Held         bool       `json:"held" example:"true"`
	BackupMadeAt *time.Time `json:"backup_made_at" doc:"null: not held"`
	Reason       string     `json:"reason" enum:"backup,older,alone," example:"backup" doc:"Why: it comes from a backup; it is older than the database that was last used in this directory, or another; it came without the files beside it. Empty: not held"`
	Unread       uint64     `json:"unread" example:"1200" doc:"Events in the streams after the cursors: those that were fanned out after the backup was made are read again"`
	Pending      int64      `json:"pending" example:"3" doc:"Deliveries that were pending in the backup: those that were delivered since are sent again, with the same webhook-id"`
	Unknown      []string   `json:"unknown" nullable:"false" example:"[]" doc:"Organizations whose streams cannot be asked now; they count in no number"`
}

func (a *api) holds() {
	operators := access{scope: Admin, operator: true}
	handle(a, route{id: "get-hold", method: http.MethodGet, path: base + "/hold", tag: "installation", access: operators,
		summary: "Say whether the daemon holds still after a restore, and what it would do again"},
		func(ctx context.Context, _ *struct{}) (*answer[HoldBody], error) {
			h, err := a.svc.Hold(ctx)
			if err != nil {
				return nil, err
			}
			return &answer[HoldBody]{HoldBody{
				Held: h.Held, BackupMadeAt: optional(h.BackupMadeAt), Reason: h.Reason, Unread: h.Unread, Pending: h.Pending,
				Unknown: append([]string{}, h.Unknown...),
			}}, nil
		})
	handle(a, route{id: "resume", method: http.MethodPost, path: base + "/hold/resume", status: http.StatusNoContent, tag: "installation", access: operators,
		summary: "Let reading and sending begin after a restore"},
		func(ctx context.Context, _ *struct{}) (*struct{}, error) {
			return &struct{}{}, a.svc.Resume(ctx)
		})
}
