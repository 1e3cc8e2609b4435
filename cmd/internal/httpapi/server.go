package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
)

// Limits of a request (SEC-28).
const (
	maxHeader     = 16 << 10
	maxBody       = 1 << 20
	maxEventsBody = 5 << 20 // up to 1,000 events
	headerTimeout = 5 * time.Second
	readTimeout   = 30 * time.Second
	writeTimeout  = 60 * time.Second
	idleTimeout   = 2 * time.Minute
	stopTimeout   = 5 * time.Second // for requests in flight when the server stops

	maxSocketPath = 103 // bytes; what all systems allow
)

// ListenSocket opens the operator's socket, mode 0600. The caller holds the
// lock of the data directory, so a socket that is there already is a dead
// daemon's and is replaced.
func ListenSocket(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("open socket %s: its path has %d bytes, and systems allow %d: use a data directory with a shorter path", path, len(path), maxSocketPath)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket %s: %w", path, err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open socket %s: %w", path, err)
	}
	// Until here the directory's mode, 0700, keeps others out.
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("open socket %s: %w", path, err)
	}
	return l, nil
}

// Serve answers requests until ctx ends, then gives those in flight a few
// seconds. It closes l.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		// net/http adds 4 KiB of its own to what it is told.
		MaxHeaderBytes: maxHeader - 4096,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err := s.Shutdown(end)
		if err != nil {
			s.Close()
		}
		stopped <- err
	})
	err := s.Serve(l)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve on %s: %w", l.Addr(), err)
}

// guarded checks what holds for every request, writes it down, and survives a
// handler that panics.
func (a *api) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := requestID(r.Header.Get("X-Request-Id"))
		w.Header().Set("X-Request-Id", id)
		forBrowsers(w.Header())
		w, r, leave := a.watched(w, a.withAddress(r.WithContext(context.WithValue(r.Context(), requestKey{}, id))))
		defer leave()
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler {
					panic(v)
				}
				visitOf(r.Context()).panicked = true
				a.log.Error("request panicked", "route", routeOf(r), "request", id, "panic", v, "stack", string(debug.Stack()))
				writeProblem(w, newProblem(http.StatusInternalServerError, "an error of grapnel's own; its log says which"))
			}
		}()
		if !a.inTime(w, r) {
			return
		}
		if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
			writeProblem(w, newProblem(http.StatusUnsupportedMediaType, "send the body as it is, without content-encoding"))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxEventsBody+1)
		next.ServeHTTP(w, r)
	})
}

// forBrowsers keeps those that show an answer, or are made to ask for one by
// another page, from making anything of it.
func forBrowsers(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
}

type requestKey struct{}

// requestOf is the id of the request of that context.
func requestOf(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// requestID is the id that the caller gave the request, so that both sides'
// logs agree, or a new one.
func requestID(given string) string {
	const longest = 64
	fits := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c)
	}
	if given != "" && len(given) <= longest && !strings.ContainsFunc(given, func(c rune) bool { return !fits(c) }) {
		return given
	}
	return "req_" + ulid.Make().String()
}

// notRouted tells a wrong method from a wrong path.
func notRouted(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if _, pattern := mux.Handler(&http.Request{Method: m, URL: r.URL, Host: r.Host}); pattern != "/" && pattern != "" {
			allowed = append(allowed, m)
		}
	}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		writeProblem(w, newProblem(http.StatusMethodNotAllowed, "allowed here: "+strings.Join(allowed, ", ")))
		return
	}
	writeProblem(w, newProblem(http.StatusNotFound, "there is no such path; /docs and /openapi.json list them"))
}

// unhurried lets an answer take as long as it needs.
func unhurried(w http.ResponseWriter) {
	c := http.NewResponseController(w)
	c.SetWriteDeadline(time.Time{}) // a writer without deadlines has none to lift
	c.SetReadDeadline(time.Time{})
}

func writeProblem(w http.ResponseWriter, p *Problem) {
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p) // the caller is gone if this fails
}
