package stream

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
)

// logAdapter gives the server's log to slog: its notices are our debug, its
// warnings and errors stay what they are. It implements server.Logger.
type logAdapter struct {
	log      *slog.Logger
	clients  *strikes // what each address has been warned of
	restored atomic.Int64
	fatal    chan string // the first fatal error, of a start that will never be ready
}

func newLogAdapter(log *slog.Logger) *logAdapter {
	return &logAdapter{log: log.With("component", "nats-server"), clients: newStrikes(), fatal: make(chan string, 1)}
}

func (a *logAdapter) Noticef(format string, v ...any) {
	if strings.HasPrefix(format, "  Restored ") {
		a.restored.Add(1)
	}
	a.write(slog.LevelDebug, format, v)
}
func (a *logAdapter) Debugf(string, ...any)         {}
func (a *logAdapter) Tracef(string, ...any)         {}
func (a *logAdapter) Warnf(format string, v ...any) { a.write(slog.LevelWarn, format, v) }
func (a *logAdapter) Errorf(format string, v ...any) {
	if text := fmt.Sprintf(format, v...); !a.ofClient(text) {
		a.write(slog.LevelError, format, v)
	}
}
func (a *logAdapter) Fatalf(format string, v ...any) {
	a.write(slog.LevelError, format, v)
	select {
	case a.fatal <- fmt.Sprintf(format, v...):
	default:
	}
}

func (a *logAdapter) write(level slog.Level, format string, v []any) {
	if a.log.Enabled(context.Background(), level) {
		a.log.Log(context.Background(), level, "the embedded broker says", "text", strings.TrimSpace(fmt.Sprintf(format, v...)))
	}
}

// ofClient takes what the server says of one client's mistakes: they are not
// errors of ours, and how many there are is not ours to decide. Of each address
// one is logged in a minute. Refused sign-ins are logged by the door; and what a
// client has sent is left out, for it could have been a password.
func (a *logAdapter) ofClient(text string) bool {
	address, rest, ok := strings.Cut(text, " - cid:")
	if !ok {
		return false
	}
	if strings.Contains(rest, "uthentication") {
		return true
	}
	rest, _, _ = strings.Cut(rest, "proto=")
	if i := strings.LastIndex(address, ":"); i > 0 {
		address = strings.Trim(address[:i], "[]")
	}
	level := slog.LevelDebug
	if a.clients.strike(address) {
		level = slog.LevelWarn
	}
	a.log.Log(context.Background(), level, "a client was refused something", "address", address, "client", rest)
	return true
}
