package httpapi

import (
	"context"
	"net/http"
	"time"
)

// Configuration is what a daemon was told, fit to be shown.
type Configuration struct {
	File     string // "": none
	ReadAt   time.Time
	Settings []Setting
	Differs  []SettingChange // what is said by now, and does not hold yet
	Problem  string          // why what is said by now cannot be used; "": it can
}

// Configurations is the part of a Service that tells of its settings, and takes
// new ones.
type Configurations interface {
	Configuration(ctx context.Context) (Configuration, error)
	// Reload reads the configuration again, and takes all of it that can be
	// taken while the daemon runs, or, with an error that wraps ErrState, nothing.
	Reload(ctx context.Context) (Reloaded, error)
}

// Reloaded is what a reload has changed.
type Reloaded struct {
	Changed []SettingChange // hold now
	Restart []SettingChange // hold after a restart only
}

// Setting is one setting in an answer.
type Setting struct {
	Key    string   `json:"key" example:"rate_limit" doc:"As in the configuration file"`
	Value  []string `json:"value" nullable:"false" example:"[\"50\"]" doc:"Of a setting that takes one value, one; none: it is not set. Secrets are hidden"`
	Source string   `json:"source" enum:"flag,variable,file,default"`
	Where  string   `json:"where" example:"grapnel.yaml:3" doc:"The flag, the variable, or the line of the file; empty for a default"`
	Reload bool     `json:"reload" doc:"It can change while the daemon runs"`
}

// SettingChange is a setting that is said otherwise by now.
type SettingChange struct {
	Key    string   `json:"key" example:"rate_limit"`
	From   []string `json:"from" nullable:"false" example:"[\"50\"]" doc:"Two secrets look the same"`
	To     []string `json:"to" nullable:"false" example:"[\"100\"]"`
	Where  string   `json:"where" example:"grapnel.yaml:3"`
	Reload bool     `json:"reload" doc:"It can change while the daemon runs"`
}

// ConfigurationBody is the answer of GET /config.
type ConfigurationBody struct {
	File     string          `json:"file" example:"/etc/grapnel/grapnel.yaml" doc:"Empty: there is none"`
	ReadAt   time.Time       `json:"read_at" doc:"When what holds was read"`
	Settings []Setting       `json:"settings" nullable:"false"`
	Differs  []SettingChange `json:"differs" nullable:"false" doc:"What is said by now and does not hold yet"`
	Problem  string          `json:"problem" example:"grapnel.yaml:3: log_level: want one of debug, info, warn, error" doc:"Why what is said by now cannot be used; empty: it can"`
}

// ReloadBody is the answer of POST /config/reload.
type ReloadBody struct {
	Changed []SettingChange `json:"changed" nullable:"false" doc:"Hold from now on"`
	Restart []SettingChange `json:"needs_restart" nullable:"false" doc:"Hold once the daemon is started again"`
}

func (a *api) configuration() {
	operators := access{scope: Admin, operator: true}
	handle(a, route{id: "get-config", method: http.MethodGet, path: base + "/config", tag: "installation", access: operators,
		summary: "Show the daemon's settings, where each was said, and what is said otherwise by now"},
		func(ctx context.Context, _ *struct{}) (*answer[ConfigurationBody], error) {
			c, err := a.svc.Configuration(ctx)
			if err != nil {
				return nil, err
			}
			return &answer[ConfigurationBody]{ConfigurationBody{
				File: c.File, ReadAt: utc(c.ReadAt), Problem: c.Problem,
				Settings: append([]Setting{}, c.Settings...), Differs: append([]SettingChange{}, c.Differs...),
			}}, nil
		})
	handle(a, route{id: "reload-config", method: http.MethodPost, path: base + "/config/reload", tag: "installation", access: operators,
		summary: "Read the configuration again, and take what can be taken while the daemon runs; all of it or nothing"},
		func(ctx context.Context, _ *struct{}) (*answer[ReloadBody], error) {
			r, err := a.svc.Reload(ctx)
			if err != nil {
				return nil, err
			}
			return &answer[ReloadBody]{ReloadBody{
				Changed: append([]SettingChange{}, r.Changed...), Restart: append([]SettingChange{}, r.Restart...),
			}}, nil
		})
}
