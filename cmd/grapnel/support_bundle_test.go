package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
)

// unpack returns the files of a bundle, uncompressed, by their names.
func unpack(t *testing.T, file string) map[string][]byte {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %v", info.Mode())
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for packed := tar.NewReader(zipped); ; {
		h, err := packed.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(packed)
		if err != nil {
			t.Fatal(err)
		}
		if inner, err := gzip.NewReader(bytes.NewReader(content)); err == nil { // a profile
			if content, err = io.ReadAll(inner); err != nil {
				t.Fatal(err)
			}
		}
		name, _ := strings.CutPrefix(h.Name, "grapnel-support/")
		files[name] = content
	}
}

// A bundle has what somebody needs who looks for a fault from afar, of a daemon that
// runs and of one that does not, and nothing that is secret. (OPS-08, SEC-23)
func TestOPS08_SupportBundle(t *testing.T) {
	failed := make(chan struct{}, 64)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parrot(w, r)
		failed <- struct{}{}
	}))
	defer receiver.Close()
	c := canaries{}
	t.Setenv("GRAPNEL_OTLP_HEADERS", "X-Key="+c.add("the collector's key", "hunter-canary-of-the-collector"))
	t.Setenv("GRAPNEL_OTLP_ENDPOINT", receiver.URL) // which repeats what it gets, too
	d := serveNow(t, "--log-level", "debug")
	d.run("org", "add", "acme")
	var made struct{ ID, Secret string }
	if err := json.Unmarshal([]byte(d.run("endpoint", "add", "acme", receiver.URL+"/"+c.add("the path of a URL", "hunter-canary-path")+"?key="+c.add("the query of a URL", "hunter-canary-query"),
		"--header", "Authorization: Bearer "+c.add("an endpoint's header", "hunter-canary-of-the-receiver"), "--json")), &made); err != nil {
		t.Fatal(err)
	}
	c.add("an endpoint's secret", made.Secret)
	var token struct{ Token string }
	if err := json.Unmarshal([]byte(d.run("token", "add", "acme", "--scope", "admin", "--json")), &token); err != nil {
		t.Fatal(err)
	}
	c.add("a token", token.Token)
	d.run("event", "append", "acme", "invoice.paid", `{"card":"`+c.add("an event's data", "hunter-canary-payload")+`"}`)
	<-failed

	live := filepath.Join(shortDir(t), "live.tar.gz")
	printed := d.run("support-bundle", live, "--flight", "1s")
	files := unpack(t, live)
	want := []string{"README.txt", "command.json", "config.json", "cursors.json", "doctor.json", "endpoints.json", "files.json", "flight.trace",
		"fsck.json", "goroutines.txt", "health.json", "heap.pprof", "log.txt", "metrics.txt", "process.json"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(files))); diff != "" {
		t.Errorf("files (-want +got):\n%s\n%s", diff, printed)
	}
	for name, holds := range map[string]string{
		"README.txt": "endpoints.json", "config.json": "otlp_headers", "cursors.json": `"acme"`, "endpoints.json": made.ID, "files.json": "grapnel.db",
		"fsck.json": `"proven": true`, "goroutines.txt": "goroutine 1", "health.json": `"pid"`, "log.txt": "attempt failed", "metrics.txt": "grapnel_build_info",
		"process.json": "Max open files", "doctor.json": `"check"`, "flight.trace": "go 1.",
	} {
		if !bytes.Contains(files[name], []byte(holds)) {
			t.Errorf("%s does not have %q", name, holds)
		}
		if name != "README.txt" && !strings.Contains(printed, name) {
			t.Errorf("the command does not say that %s is in it:\n%s", name, printed)
		}
	}
	for name, content := range files {
		c.absent(t, "live: "+name, content)
	}

	var errs strings.Builder
	if status := run(t.Context(), []string{"support-bundle", live, "--data", d.dir}, nil, io.Discard, &errs); status != exitFailed || !strings.Contains(errs.String(), "is there already") {
		t.Errorf("over a file that is there: status %d, %s", status, &errs)
	}
	d.stop()

	dead := filepath.Join(shortDir(t), "dead.tar.gz")
	d.run("support-bundle", dead)
	files = unpack(t, dead)
	want = []string{"README.txt", "command.json", "config.json", "cursors.json", "database.json", "doctor.json", "files.json"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(files))); diff != "" {
		t.Errorf("without a daemon, files (-want +got):\n%s\n%s", diff, files["README.txt"])
	}
	for name, content := range files {
		c.absent(t, "dead: "+name, content)
	}
}

// What the process tells of itself is on the socket, and nowhere else.
func TestOPS08_DebugIsOnTheSocketOnly(t *testing.T) {
	d := serveNow(t, "--admin-listen", "127.0.0.1:0")
	api := client.New(d.dir)
	defer api.Close()
	for _, path := range []string{"/debug/log", "/debug/process", "/debug/pprof/heap", "/debug/pprof/goroutine?debug=1", "/debug/pprof/profile?seconds=1", "/debug/flight?seconds=1"} {
		if text, err := api.Raw(t.Context(), path, 64<<20); err != nil || len(text) == 0 {
			t.Errorf("%s at the socket: %d bytes, %v", path, len(text), err)
		}
		for _, base := range []string{d.api, d.base} {
			resp, err := http.Get(base + path)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusNotFound {
				t.Errorf("%s%s: %d", base, path, resp.StatusCode)
			}
		}
	}
	for path, want := range map[string]string{"/debug/flight?seconds=31": "from 1 to 30", "/debug/pprof/profile?seconds=x": "from 1 to 30", "/debug/pprof/cmdline": "here are"} {
		if _, err := api.Raw(t.Context(), path, 1<<20); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
