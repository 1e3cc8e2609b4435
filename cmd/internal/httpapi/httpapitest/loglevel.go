package httpapitest

import (
	"cmp"
	"context"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// LogLevel implements httpapi.LogLevels; info is configured.
func (s *Service) LogLevel(context.Context) (httpapi.LogLevel, error) {
	leave, err := s.enter("")
	defer leave()
	return s.level(), err
}

func (s *Service) level() httpapi.LogLevel {
	return httpapi.LogLevel{Level: cmp.Or(s.logLevel.Level, "info"), Configured: "info", Until: s.logLevel.Until}
}

// SetLogLevel implements httpapi.LogLevels. Time does not end it.
func (s *Service) SetLogLevel(ctx context.Context, level string, atMost time.Duration) (httpapi.LogLevel, error) {
	leave, err := s.enter("")
	defer leave()
	if err != nil {
		return httpapi.LogLevel{}, err
	}
	s.logLevel = httpapi.LogLevel{Level: level}
	if atMost > 0 {
		s.logLevel.Until = s.tick().Add(atMost)
	}
	s.note(ctx, "", "log_level.set", cmp.Or(level, "configured"))
	return s.level(), nil
}
