package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// guardSpace refuses appends while the disk is nearly full, and takes them
// again when there is space.
func (s *Server) guardSpace(ctx context.Context) {
	tick := time.NewTicker(spaceEvery)
	defer tick.Stop()
	for {
		if err := s.checkSpace(); err != nil {
			s.log.Warn("cannot watch the space of the event streams", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// checkSpace measures once and opens or shuts the gate. The gate is the limit
// of the account that holds the streams: unlike a full disk, it answers the
// publisher with an error and can be lifted.
func (s *Server) checkSpace() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.running == nil {
		return nil
	}
	account := s.running.ns.GlobalAccount()
	used := int64(account.JetStreamUsage().Store)
	why, err := s.shortage(used)
	if err != nil {
		return err
	}
	was := s.full.Load()
	if (why == "") == (was == nil) {
		return nil
	}
	limits := unlimited()
	if why != "" {
		limits.MaxStore = max(used, 1)
	}
	if err := account.UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{"": limits}); err != nil {
		return fmt.Errorf("limit the streams to %d bytes: %w", limits.MaxStore, err)
	}
	if why != "" {
		s.full.Store(&why)
		s.log.Error("event store is full: appends are refused until there is space", "reason", why)
	} else {
		s.full.Store(nil)
		s.log.Info("event store has space again: appends are taken")
	}
	return nil
}

// shortage says why nothing more may be stored, or "".
func (s *Server) shortage(used int64) (string, error) {
	if m := s.options.MaxStore; m > 0 && used >= m {
		return fmt.Sprintf("the streams hold %d of at most %d bytes", used, m), nil
	}
	free, err := freeBytes(s.options.Dir)
	if err != nil {
		return "", err
	}
	if free < s.options.MinFree {
		return fmt.Sprintf("the disk has %d bytes left, %d are kept free", free, s.options.MinFree), nil
	}
	return "", nil
}

func unlimited() server.JetStreamAccountLimits {
	return server.JetStreamAccountLimits{
		MaxMemory: -1, MaxStore: -1, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1,
		MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1,
	}
}
