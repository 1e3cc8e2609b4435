package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/config"
	"github.com/grapnel-hooks/grapnel/cmd/internal/doctor"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

func TestDoctorJudges(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	differs := []httpapi.SettingChange{{Key: "rate_limit", Reload: true}}
	restart := append(differs, httpapi.SettingChange{Key: "listen"})
	library := sqlite.Library{Version: "3.53.0", Good: true, Least: "3.51.3", Options: []string{"THREADSAFE=1"}}
	old, unsafe := library, library
	old.Good, unsafe.Options = false, nil
	loopback, all := netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("0.0.0.0/0")
	broker := stream.Facts{Address: "127.0.0.1:4222", Version: "2.12.0"}
	full := stream.Facts{Version: "2.12.0", Streams: 95, MaxStreams: 100, Store: 10, MaxStore: 11, Sync: "2m0s"}
	books := sqlite.Glance{Schema: 3, Known: 3, Orgs: 2, Endpoints: 5}
	newer, earlier, keyless, held := books, books, books, books
	newer.Schema, earlier.Schema, keyless.Key, held.HeldSince = 4, 2, sqlite.ErrKey, now
	free := func(string) error { return nil }
	taken := func(string) error { return errors.New("address already in use") }
	for _, c := range []struct {
		name   string
		found  []doctor.Finding
		status doctor.Status // of the worst
		part   string        // of one that is as bad
	}{
		{"daemon, well", []doctor.Finding{daemonFinding(httpapi.Health{PID: 7, Version: "1"}, "1")}, doctor.OK, "pid 7"},
		{"daemon, of another version", []doctor.Finding{daemonFinding(httpapi.Health{Version: "1"}, "2")}, doctor.Warn, "this is 2"},
		{"daemon, degraded", []doctor.Finding{daemonFinding(httpapi.Health{Degraded: []string{"the broker is away"}}, "")}, doctor.Warn, "the broker is away"},
		{"daemon, not ready", []doctor.Finding{daemonFinding(httpapi.Health{Ready: errors.New("store_full")}, "")}, doctor.Fail, "store_full"},
		{"configuration, well", []doctor.Finding{configFinding(true, "", nil)}, doctor.OK, "can be used"},
		{"configuration, with a mistake", []doctor.Finding{configFinding(true, "grapnel.yaml:3: x\ngrapnel.yaml:4: y", nil)}, doctor.Fail, "grapnel.yaml:3: x; grapnel.yaml:4"},
		{"configuration, refused and mended", []doctor.Finding{configFinding(false, "", nil)}, doctor.Warn, "was refused"},
		{"configuration, not reloaded", []doctor.Finding{configFinding(true, "", differs)}, doctor.Warn, "rate_limit changed"},
		{"configuration, wants a restart", []doctor.Finding{configFinding(true, "", restart)}, doctor.Warn, "listen changed"},
		{"variable", []doctor.Finding{variableFinding(config.UnknownVariable{Name: "GRAPNEL_LISEN", Nearest: "GRAPNEL_LISTEN"})}, doctor.Warn, "GRAPNEL_LISEN is no setting"},
		{"SQLite, well", []doctor.Finding{libraryFinding(library, nil)}, doctor.OK, "3.53.0"},
		{"SQLite, old", []doctor.Finding{libraryFinding(old, nil)}, doctor.Fail, "at least 3.51.3"},
		{"SQLite, not for threads", []doctor.Finding{libraryFinding(unsafe, nil)}, doctor.Fail, "THREADSAFE"},
		{"SQLite, mute", []doctor.Finding{libraryFinding(library, errors.New("no"))}, doctor.Fail, "cannot be asked"},
		{"log, short", []doctor.Finding{logFinding(4 << 20)}, doctor.OK, "4 MiB"},
		{"log, long", []doctor.Finding{logFinding(600 << 20)}, doctor.Warn, "600 MiB"},
		{"log, endless", []doctor.Finding{logFinding(5 << 30)}, doctor.Fail, "5120 MiB"},
		{"books, well", []doctor.Finding{storeFinding(false, 0, 0)}, doctor.OK, "written"},
		{"books, some failures", []doctor.Finding{storeFinding(false, 0, 2)}, doctor.Warn, "2 transactions"},
		{"books, full", []doctor.Finding{storeFinding(true, 9, 2)}, doctor.Fail, "9 outcomes wait"},
		{"books, looked at", booksFindings(books, nil), doctor.OK, "2 organizations"},
		{"books, none", booksFindings(sqlite.Glance{}, fs.ErrNotExist), doctor.OK, "none yet"},
		{"books, earlier", booksFindings(earlier, nil), doctor.OK, "forward to 3"},
		{"books, newer", booksFindings(newer, nil), doctor.Fail, "newer version"},
		{"books, damaged", booksFindings(sqlite.Glance{}, fmt.Errorf("look: %w", sqlite.ErrCorrupt)), doctor.Fail, "look"},
		{"books, not to be read", booksFindings(sqlite.Glance{}, fs.ErrPermission), doctor.Fail, "permission"},
		{"books, the key of others", booksFindings(keyless, nil), doctor.Fail, "key"},
		{"books, held", booksFindings(held, nil), doctor.Warn, "nothing is sent"},
		{"backup, this night's", []doctor.Finding{backupFinding(sqlite.BackupReport{MadeAt: now.Add(-9 * time.Hour), File: "b.db"}, nil, now)}, doctor.OK, "9h00m ago: b.db"},
		{"backup, an old one", []doctor.Finding{backupFinding(sqlite.BackupReport{MadeAt: now.Add(-72 * time.Hour)}, nil, now)}, doctor.Warn, "3d00h old"},
		{"backup, none", []doctor.Finding{backupFinding(sqlite.BackupReport{}, fs.ErrNotExist, now)}, doctor.Warn, "none was ever made"},
		{"backup, not to be read", []doctor.Finding{backupFinding(sqlite.BackupReport{}, fs.ErrPermission, now)}, doctor.Warn, "permission"},
		{"replica, running", []doctor.Finding{replicaFinding(true)}, doctor.OK, "Litestream"},
		{"replica, never", []doctor.Finding{replicaFinding(false)}, doctor.Warn, "never ran"},
		{"broker, embedded", brokerFindings(stream.Facts{Embedded: true, Version: "2"}, 0, nil), doctor.OK, "embedded"},
		{"broker, flushes late", brokerFindings(stream.Facts{Embedded: true, Version: "2"}, 2*time.Second, nil), doctor.Warn, "last 2s"},
		{"broker, external and mute", brokerFindings(broker, 0, nil), doctor.Warn, "system account"},
		{"broker, external, always", brokerFindings(stream.Facts{Version: "2", Sync: "always"}, 0, nil), doctor.OK, "on the disk"},
		{"broker, external, its default", brokerFindings(full, 0, nil), doctor.Warn, "last 2m0s"},
		{"broker, its streams", brokerFindings(full, 0, nil), doctor.Warn, "95 of 100 streams"},
		{"broker, its room", brokerFindings(full, 0, nil), doctor.Warn, "are used"},
		{"broker, away", brokerFindings(stream.Facts{Why: errors.New("no servers")}, 0, nil), doctor.Fail, "no servers"},
		{"broker, lacks something", brokerFindings(broker, 0, []stream.Finding{{What: "it may not", Breaks: "nothing works", Do: "allow it"}}), doctor.Fail, "it may not: nothing works"},
		{"broker, a hint", brokerFindings(stream.Facts{Version: "2", Sync: "always"}, 0, []stream.Finding{{What: "one replica", Do: "three", Hint: true}}), doctor.Warn, "one replica"},
		{"ports, free", portFindings(map[string]string{"--listen": "127.0.0.1:1", "--nats-listen": "off"}, free), doctor.OK, "127.0.0.1:1 can be had"},
		{"ports, taken", portFindings(map[string]string{"--listen": "127.0.0.1:1"}, taken), doctor.Fail, "--listen 127.0.0.1:1: address already in use"},
		{"certificate, fresh", []doctor.Finding{expiryFinding(now.Add(90*24*time.Hour), now)}, doctor.OK, "90d"},
		{"certificate, soon over", []doctor.Finding{expiryFinding(now.Add(24*time.Hour), now)}, doctor.Warn, "24h"},
		{"certificate, over", []doctor.Finding{expiryFinding(now.Add(-time.Hour), now)}, doctor.Fail, "has expired"},
		{"egress, usual", egressFindings(false, nil), doctor.OK, "https to public"},
		{"egress, a network", egressFindings(false, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}), doctor.OK, "10.0.0.0/8"},
		{"egress, this machine", egressFindings(false, []netip.Prefix{loopback}), doctor.Warn, "this machine"},
		{"egress, everywhere", egressFindings(false, []netip.Prefix{all}), doctor.Fail, "everywhere"},
		{"egress, unencrypted", egressFindings(true, nil), doctor.Warn, "unencrypted"},
		{"reached", []doctor.Finding{reachFinding("h:443", nil, time.Millisecond)}, doctor.OK, "connected"},
		{"not reached", []doctor.Finding{reachFinding("h:443", errors.New("connection refused"), 0)}, doctor.Fail, "connection refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if worst := doctor.Worst(c.found); worst != c.status {
				t.Errorf("%s, want %s: %+v", worst, c.status, c.found)
			}
			said := false
			for _, f := range c.found {
				said = said || f.Status == c.status && strings.Contains(f.What, c.part)
				if (f.Do == "") != (f.Status == doctor.OK) {
					t.Errorf("%s, and to be done is %q", f.Status, f.Do)
				}
			}
			if !said {
				t.Errorf("nothing says %q: %+v", c.part, c.found)
			}
		})
	}
}

// The command at a running daemon, and at what a daemon has left.
func TestDoctor(t *testing.T) {
	receiver := httptest.NewTLSServer(nil)
	defer receiver.Close()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	doctor := func(args ...string) (int, string) {
		var out bytes.Buffer
		status := run(t.Context(), append([]string{"doctor"}, args...), nil, &out, io.Discard)
		return status, out.String()
	}
	dir := daemonAt(t)
	status, text := doctor("--data", dir, "--resolve", "localhost")
	for _, part := range []string{"it runs (pid ", "clock", "a flush takes", "they can be written", "embedded, version", "localhost is", "lets endpoints lead to this machine"} {
		if !strings.Contains(text, part) {
			t.Errorf("at a daemon, %q is not in:\n%s", part, text)
		}
	}
	if status, text := doctor("--data", dir, "--egress", receiver.Listener.Addr().String()); status != exitFailed || !strings.Contains(text, "certificate") {
		t.Errorf("a receiver whose certificate nobody knows: status %d:\n%s", status, text)
	}
	if status, text := doctor("--data", dir, "--egress", "nonsense"); status != exitFailed || !strings.Contains(text, "is no host:port") {
		t.Errorf("nonsense: status %d:\n%s", status, text)
	}
	if status != exitDone { // of the whole machine: the disk of the tests may be full
		t.Logf("status %d:\n%s", status, text)
	}

	left := shortDir(t)
	store, err := sqlite.Open(t.Context(), sqlite.Options{Dir: left})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, text = doctor("--data", left, "--listen", "off", "--nats-listen", "127.0.0.1:0"); !strings.Contains(text, "none runs on "+left) || !strings.Contains(text, "it is this database's") {
		t.Errorf("without a daemon:\n%s", text)
	}
	if status, text = doctor("--data", left, "--listen", taken.Addr().String(), "--nats-listen", "off"); status != exitFailed || !strings.Contains(text, "address already in use") {
		t.Errorf("a port that is taken: status %d:\n%s", status, text)
	}
	if err := os.Remove(filepath.Join(left, sqlite.KeyFileName)); err != nil {
		t.Fatal(err)
	}
	if status, text = doctor("--data", left, "--listen", "off", "--nats-listen", "off", "--json"); status != exitFailed || !strings.Contains(text, `"check": "key",`) {
		t.Errorf("without its key: status %d:\n%s", status, text)
	}
	if _, err := os.Stat(filepath.Join(left, sqlite.KeyFileName)); err == nil {
		t.Error("it made a key")
	}
}
