package httpapi

import (
	"context"
	"net/http"
	"time"
)

// MaxLogLevelFor is how long a level that somebody asked for may last, when it is
// said how long.
const MaxLogLevelFor = 7 * 24 * time.Hour

// LogLevel is what is logged.
type LogLevel struct {
	Level      string    // debug, info, warn or error
	Configured string    // what the configuration says
	Until      time.Time // when Level ends by itself; zero: it does not
}

// LogLevels is the part of a Service that changes what is logged.
type LogLevels interface {
	LogLevel(ctx context.Context) (LogLevel, error)
	// SetLogLevel sets it for so long, 0: until it is set again or the daemon ends.
	// The level "" is what the configuration says. It is written to the audit.
	SetLogLevel(ctx context.Context, level string, atMost time.Duration) (LogLevel, error)
}

// LogLevelBody is the answer about the log's level.
type LogLevelBody struct {
	Level      string     `json:"level" enum:"debug,info,warn,error" example:"debug"`
	Configured string     `json:"configured" enum:"debug,info,warn,error" example:"info" doc:"What the configuration says"`
	Until      *time.Time `json:"until" doc:"When it is as configured again; null: not by itself"`
}

// LogLevelChange asks for a level.
type LogLevelChange struct {
	Level string    `json:"level" enum:"debug,info,warn,error,configured" example:"debug" doc:"configured: what the configuration says"`
	For   *Duration `json:"for,omitempty" nullable:"false" example:"10m" doc:"How long; left out: until it is set again or the daemon ends. At most 168h"`
}

func (l LogLevel) body() LogLevelBody {
	return LogLevelBody{Level: l.Level, Configured: l.Configured, Until: optional(l.Until)}
}

func (a *api) logLevels() {
	operators := access{scope: Admin, operator: true}
	const path = base + "/log-level"
	handle(a, route{id: "get-log-level", method: http.MethodGet, path: path, tag: "installation", access: operators,
		summary: "Show what the daemon logs"},
		func(ctx context.Context, _ *struct{}) (*answer[LogLevelBody], error) {
			l, err := a.svc.LogLevel(ctx)
			return &answer[LogLevelBody]{l.body()}, err
		})
	handle(a, route{id: "set-log-level", method: http.MethodPut, path: path, tag: "installation", access: operators,
		summary: "Change what the daemon logs, while it runs"},
		func(ctx context.Context, in *Write[LogLevelChange]) (*answer[LogLevelBody], error) {
			level, atMost := in.Body.Level, time.Duration(0)
			if in.Body.For != nil {
				atMost = time.Duration(*in.Body.For)
				if atMost <= 0 || atMost > MaxLogLevelFor {
					return nil, &Invalid{Field: "for", Detail: "want more than 0s and at most " + Duration(MaxLogLevelFor).String()}
				}
			}
			if level == "configured" {
				level = ""
			}
			if level == "" && atMost > 0 {
				return nil, &Invalid{Field: "for", Detail: "what is configured holds without an end: leave it out"}
			}
			l, err := a.svc.SetLogLevel(ctx, level, atMost)
			return &answer[LogLevelBody]{l.body()}, err
		})
}
