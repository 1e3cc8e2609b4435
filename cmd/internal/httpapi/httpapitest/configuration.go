package httpapitest

import (
	"context"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
)

// Configuration implements httpapi.Configurations: one setting, which somebody has
// changed in the file since.
func (s *Service) Configuration(context.Context) (httpapi.Configuration, error) {
	leave, err := s.enter("")
	defer leave()
	if err != nil {
		return httpapi.Configuration{}, err
	}
	return httpapi.Configuration{
		File: "grapnel.yaml", ReadAt: Epoch,
		Settings: []httpapi.Setting{{Key: "rate_limit", Value: []string{"50"}, Source: "default", Reload: true}},
		Differs:  []httpapi.SettingChange{changedRate},
	}, nil
}

// Reload implements httpapi.Configurations.
func (s *Service) Reload(ctx context.Context) (httpapi.Reloaded, error) {
	leave, err := s.enter("")
	defer leave()
	if err != nil {
		return httpapi.Reloaded{}, err
	}
	s.note(ctx, "", "config.reload", "grapnel.yaml")
	return httpapi.Reloaded{Changed: []httpapi.SettingChange{changedRate}}, nil
}

var changedRate = httpapi.SettingChange{Key: "rate_limit", From: []string{"50"}, To: []string{"100"}, Where: "grapnel.yaml:1", Reload: true}
