package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"sync"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/logging"
)

// Bounds of what somebody may ask the process about itself.
const (
	mostSeconds  = 30 // of a profile or a recording
	flightAge    = 10 * time.Second
	flightBytes  = 16 << 20
	usualSeconds = 5
)

// debugging answers questions about the process: profiles, recordings, its last log
// lines, its limits. It stands on the socket only, where whoever asks is the
// operator: a profile costs time, and says what the code is doing. There is
// no command line among it, since that may hold a password.
type debugging struct {
	recent  *logging.Recent
	started time.Time

	mu     sync.Mutex // held while the flight recorder is changed or read
	flight *trace.FlightRecorder
}

// handler serves what is below /debug/.
func (d *debugging) handler() http.Handler {
	mux := http.NewServeMux()
	for _, name := range []string{"goroutine", "heap", "allocs", "threadcreate"} {
		mux.HandleFunc("GET /debug/pprof/"+name, func(w http.ResponseWriter, r *http.Request) {
			level, _ := strconv.Atoi(r.URL.Query().Get("debug")) // 0, for tools, unless it is a number
			if name == "heap" && r.URL.Query().Get("gc") == "1" {
				runtime.GC()
			}
			answerWhole(w, func(b *bytes.Buffer) error { return pprof.Lookup(name).WriteTo(b, level) })
		})
	}
	mux.HandleFunc("GET /debug/pprof/profile", d.profile)
	mux.HandleFunc("GET /debug/flight", d.fly)
	mux.HandleFunc("PUT /debug/flight", d.begin)
	mux.HandleFunc("DELETE /debug/flight", d.end)
	mux.HandleFunc("GET /debug/log", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write(d.recent.Lines())
	})
	mux.HandleFunc("GET /debug/process", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(processOf(d.started)) // the caller is gone if this fails
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		httpapi.Refuse(w, http.StatusNotFound, "here are pprof/goroutine, pprof/heap, pprof/allocs, pprof/threadcreate, pprof/profile?seconds=, flight?seconds=, log and process")
	})
	return mux
}

// answerWhole answers with what write makes, or with its error.
func answerWhole(w http.ResponseWriter, write func(*bytes.Buffer) error) {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		httpapi.Refuse(w, http.StatusConflict, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(b.Bytes())
}

// recordingTime is how long the caller wants to be recorded; false: it was refused.
func recordingTime(w http.ResponseWriter, r *http.Request) (time.Duration, bool) {
	text := r.URL.Query().Get("seconds")
	if text == "" {
		return usualSeconds * time.Second, true
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > mostSeconds {
		httpapi.Refuse(w, http.StatusUnprocessableEntity, fmt.Sprintf("seconds: want a number from 1 to %d", mostSeconds))
		return 0, false
	}
	return time.Duration(n) * time.Second, true
}

// wait waits, and reports whether the caller does so still.
func wait(r *http.Request, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// profile records where processors spend their time.
func (d *debugging) profile(w http.ResponseWriter, r *http.Request) {
	long, ok := recordingTime(w, r)
	if !ok {
		return
	}
	answerWhole(w, func(b *bytes.Buffer) error {
		if err := pprof.StartCPUProfile(b); err != nil {
			return err // somebody else has one made
		}
		wait(r, long)
		pprof.StopCPUProfile()
		return nil
	})
}

// fly answers with what the flight recorder has; when none runs, it records for
// the seconds that are asked for.
func (d *debugging) fly(w http.ResponseWriter, r *http.Request) {
	long, ok := recordingTime(w, r)
	if !ok {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	answerWhole(w, func(b *bytes.Buffer) error {
		f := d.flight
		if f == nil {
			f = newFlight(long)
			if err := f.Start(); err != nil {
				return err
			}
			defer f.Stop()
			wait(r, long)
		}
		_, err := f.WriteTo(b)
		return err
	})
}

// begin starts the flight recorder, which keeps the last seconds until it is ended.
func (d *debugging) begin(w http.ResponseWriter, _ *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flight == nil {
		f := newFlight(flightAge)
		if err := f.Start(); err != nil {
			httpapi.Refuse(w, http.StatusConflict, err.Error())
			return
		}
		d.flight = f
	}
	w.WriteHeader(http.StatusNoContent)
}

func (d *debugging) end(w http.ResponseWriter, _ *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flight != nil {
		d.flight.Stop()
		d.flight = nil
	}
	w.WriteHeader(http.StatusNoContent)
}

func newFlight(age time.Duration) *trace.FlightRecorder {
	return trace.NewFlightRecorder(trace.FlightRecorderConfig{MinAge: age, MaxBytes: flightBytes})
}

// process is what a process is and may use.
type process struct {
	Version     string            `json:"version"`
	Inside      map[string]string `json:"inside"`
	Go          string            `json:"go"`
	Platform    string            `json:"platform"`
	PID         int               `json:"pid"`
	Started     time.Time         `json:"started"`
	Processors  int               `json:"processors"` // GOMAXPROCS
	Goroutines  int               `json:"goroutines"`
	HeapBytes   uint64            `json:"heap_bytes"`
	SystemBytes uint64            `json:"system_bytes"` // taken from the operating system
	MemoryLimit int64             `json:"memory_limit"` // of the garbage collector
	Collections uint32            `json:"collections"`
	Limits      map[string]string `json:"limits"` // of the operating system
	OpenFiles   int               `json:"open_files"`
}

func processOf(started time.Time) process {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	p := process{
		Version: buildVersion(), Inside: inside(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		PID: os.Getpid(), Started: started.UTC(), Processors: runtime.GOMAXPROCS(0), Goroutines: runtime.NumGoroutine(),
		HeapBytes: m.HeapAlloc, SystemBytes: m.Sys, MemoryLimit: debug.SetMemoryLimit(-1), Collections: m.NumGC, Limits: systemLimits(),
	}
	if open, err := os.ReadDir("/proc/self/fd"); err == nil { // not on every system
		p.OpenFiles = len(open)
	}
	return p
}
