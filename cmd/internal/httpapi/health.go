package httpapi

import (
	"encoding/json"
	"net/http"
)

// health adds the routes that need no token: is the process alive, does it take
// work, and what does it count. Only the operator is told details.
func health(mux *http.ServeMux, o Options, details bool) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		h := o.Service.Health()
		h.Degraded = nil // restarting would not bring the broker back
		writeHealth(w, healthBody(h, h.Alive, details))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		h := o.Service.Health()
		err := h.Alive
		if err == nil {
			err = h.Ready
		}
		writeHealth(w, healthBody(h, err, details))
	})
	if o.Metrics != nil {
		mux.Handle("GET /metrics", o.Metrics)
	}
}

func healthBody(h Health, err error, details bool) HealthBody {
	b := HealthBody{Status: "ok"}
	switch {
	case err != nil:
		b.Status = "unavailable"
	case len(h.Degraded) > 0:
		b.Status = "degraded"
	}
	if details {
		if err != nil {
			b.Detail = err.Error()
		}
		b.Degraded, b.Version, b.PID, b.Started = h.Degraded, h.Version, h.PID, optional(h.Started)
	}
	return b
}

func writeHealth(w http.ResponseWriter, b HealthBody) {
	w.Header().Set("Content-Type", "application/json")
	if b.Status == "unavailable" {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	json.NewEncoder(w).Encode(b) // the caller is gone if this fails
}
