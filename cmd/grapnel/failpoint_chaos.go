//go:build chaos

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// failpoints reads GRAPNEL_FAILPOINT, a comma-separated list of what shall
// happen where:
//
//	record.before:kill@3        SIGKILL itself when it passes there the third time
//	commit.after:pause@1:200ms  stand still for a while when it passes there first
//
// Nothing is flushed, closed or unlocked on the way out, as in a real crash.
func failpoints() (func(name string), error) {
	spec := os.Getenv("GRAPNEL_FAILPOINT")
	if spec == "" {
		return nil, nil
	}
	points := map[string][]*failpoint{}
	for _, one := range strings.Split(spec, ",") {
		name, p, err := parseFailpoint(one)
		if err != nil {
			return nil, fmt.Errorf("GRAPNEL_FAILPOINT: %q: %w", one, err)
		}
		points[name] = append(points[name], p)
	}
	return func(name string) {
		for _, p := range points[name] {
			p.pass()
		}
	}, nil
}

// failpoint is what happens when a place is passed the nth time.
type failpoint struct {
	nth    int64
	pause  time.Duration // 0: kill
	passed atomic.Int64
}

var errFailpoint = errors.New("want name:kill@N or name:pause@N:DURATION")

func parseFailpoint(s string) (name string, _ *failpoint, err error) {
	name, action, ok := strings.Cut(s, ":")
	if !ok || name == "" {
		return "", nil, errFailpoint
	}
	what, number, ok := strings.Cut(action, "@")
	if !ok {
		return "", nil, errFailpoint
	}
	p := &failpoint{}
	switch what {
	case "kill":
	case "pause":
		var length string
		number, length, _ = strings.Cut(number, ":")
		if p.pause, err = time.ParseDuration(length); err != nil || p.pause <= 0 {
			return "", nil, errFailpoint
		}
	default:
		return "", nil, errFailpoint
	}
	if p.nth, err = strconv.ParseInt(number, 10, 64); err != nil || p.nth < 1 {
		return "", nil, errFailpoint
	}
	return name, p, nil
}

func (p *failpoint) pass() {
	if p.passed.Add(1) != p.nth {
		return
	}
	if p.pause > 0 {
		time.Sleep(p.pause)
		return
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		panic(err)
	}
	select {} // not one step further, whenever the signal arrives
}
