package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"time"
)

// visit is what is known of a request when it ends.
type visit struct {
	http.ResponseWriter
	status   int
	caller   Caller // zero until the door has let it in
	org      string
	panicked bool
}

// Ended is what metrics want to know of a request that has ended.
type Ended struct {
	Route    string // the pattern that it met, "GET /api/v1/orgs/{org}", or "none"
	Status   int    // 0: it was cut off before an answer
	Took     time.Duration
	Panicked bool // its handler did
}

type visitKey struct{}

// visitOf is the visit of the request of that context.
func visitOf(ctx context.Context) *visit {
	if v, ok := ctx.Value(visitKey{}).(*visit); ok {
		return v
	}
	return &visit{} // nobody watches
}

// watched is the request, watched for the log. leave writes its line: which route,
// never which path, query or headers, since those may be secrets. Changes, and
// what failed through our fault, are worth a line each; reads are for debugging.
func (a *api) watched(w http.ResponseWriter, r *http.Request) (_ http.ResponseWriter, _ *http.Request, leave func()) {
	v := &visit{ResponseWriter: w}
	began := time.Now()
	r = r.WithContext(context.WithValue(r.Context(), visitKey{}, v))
	return v, r, func() {
		if a.observe != nil {
			a.observe(Ended{Route: routeOf(r), Status: v.status, Took: time.Since(began), Panicked: v.panicked})
		}
		level := slog.LevelDebug
		if r.Method != http.MethodGet && r.Method != http.MethodHead || v.status >= http.StatusInternalServerError {
			level = slog.LevelInfo
		}
		if !a.log.Enabled(r.Context(), level) {
			return
		}
		attrs := []slog.Attr{
			slog.String("method", methodOf(r)), slog.String("route", routeOf(r)), slog.Int("status", v.status),
			slog.Duration("duration", time.Since(began)), slog.String("request", requestOf(r.Context())),
		}
		for _, more := range []struct{ name, value string }{
			{"token", v.caller.Token}, {"org", v.org}, {"address", textOf(addressOf(r.Context()))},
		} {
			if more.value != "" {
				attrs = append(attrs, slog.String(more.name, more.value))
			}
		}
		a.log.LogAttrs(r.Context(), level, "request", attrs...)
	}
}

// routeOf is the pattern that the request met: never its path, which is the
// caller's text.
func routeOf(r *http.Request) string {
	if r.Pattern == "" || r.Pattern == "/" {
		return "none"
	}
	return r.Pattern
}

// methodOf is the request's method, if it is one of HTTP.
func methodOf(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return "other"
}

// WriteHeader notes the status.
func (v *visit) WriteHeader(status int) {
	if v.status == 0 {
		v.status = status
	}
	v.ResponseWriter.WriteHeader(status)
}

func (v *visit) Write(b []byte) (int, error) {
	if v.status == 0 {
		v.status = http.StatusOK
	}
	return v.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController find deadlines.
func (v *visit) Unwrap() http.ResponseWriter { return v.ResponseWriter }
