package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/config"
	"github.com/grapnel-hooks/grapnel/cmd/internal/doctor"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

// What doctor makes of what it saw: functions of their arguments, and of nothing
// else. What is only about the machine is in the package doctor.

func well(check, format string, args ...any) doctor.Finding {
	return doctor.Finding{Check: check, Status: doctor.OK, What: fmt.Sprintf(format, args...)}
}

func ill(check string, s doctor.Status, do, format string, args ...any) doctor.Finding {
	return doctor.Finding{Check: check, Status: s, What: fmt.Sprintf(format, args...), Do: do}
}

// daemonFinding judges a daemon's own words; version is the command's.
func daemonFinding(h httpapi.Health, version string) doctor.Finding {
	const check = "daemon"
	switch {
	case h.Ready != nil:
		return ill(check, doctor.Fail, "the log says more", "it is not ready (pid %d): %v", h.PID, h.Ready)
	case len(h.Degraded) > 0:
		return ill(check, doctor.Warn, "see below", "it runs (pid %d), degraded: %s", h.PID, strings.Join(h.Degraded, "; "))
	case h.Version != version:
		return ill(check, doctor.Warn, "start the daemon again, when it was updated", "it runs (pid %d) as version %s, and this is %s", h.PID, h.Version, version)
	}
	return well(check, "it runs (pid %d), version %s", h.PID, h.Version)
}

// configFinding judges the configuration: good says whether the last reload was
// taken; problem and differs are about what is said by now.
func configFinding(good bool, problem string, differs []httpapi.SettingChange) doctor.Finding {
	const check = "configuration"
	var reload, restart []string
	for _, d := range differs {
		if d.Reload {
			reload = append(reload, d.Key)
		} else {
			restart = append(restart, d.Key)
		}
	}
	switch {
	case problem != "":
		return ill(check, doctor.Fail, "mend it; grapnel config check says when it is right", "it cannot be used: %s", strings.ReplaceAll(problem, "\n", "; "))
	case !good:
		return ill(check, doctor.Warn, "grapnel reload", "the last reload was refused; what is said by now could be taken")
	case len(restart) > 0:
		return ill(check, doctor.Warn, "start the daemon again", "%s changed since the daemon read it, and needs a restart", strings.Join(restart, ", "))
	case len(reload) > 0:
		return ill(check, doctor.Warn, "grapnel reload", "%s changed since the daemon read it", strings.Join(reload, ", "))
	}
	return well(check, "it can be used, and nothing differs from it")
}

func variableFinding(v config.UnknownVariable) doctor.Finding {
	do := "unset it, if it was meant as a setting"
	if v.Nearest != "" {
		do = "did you mean " + v.Nearest + "?"
	}
	return ill("environment", doctor.Warn, do, "%s is no setting, and does nothing", v.Name)
}

// wantedOptions are compile options of SQLite without which the books are not safe
// with several connections.
var wantedOptions = []string{"THREADSAFE=1", "THREADSAFE=2"}

func libraryFinding(l sqlite.Library, err error) doctor.Finding {
	const check = "SQLite"
	safe := slices.ContainsFunc(l.Options, func(o string) bool { return slices.Contains(wantedOptions, o) })
	switch {
	case err != nil:
		return ill(check, doctor.Fail, "use a release of grapnel", "it cannot be asked: %v", err)
	case !l.Good:
		return ill(check, doctor.Fail, "use a release of grapnel: earlier ones can corrupt a write-ahead log", "version %s, and at least %s is wanted", l.Version, l.Least)
	case !safe:
		return ill(check, doctor.Fail, "use a release of grapnel", "version %s was compiled without THREADSAFE", l.Version)
	}
	return well(check, "version %s", l.Version)
}

// The write-ahead log grows while a reader holds an old moment, or nothing folds
// it.
const (
	longLog    = 512 << 20
	endlessLog = 4 << 30
)

func logFinding(bytes int64) doctor.Finding {
	const check, do = "write-ahead log", "look for who holds a read transaction open (a backup, a query by hand), or a replication that has stopped"
	switch {
	case bytes > endlessLog:
		return ill(check, doctor.Fail, do, "%s: nothing folds it into the database", sizeText(bytes))
	case bytes > longLog:
		return ill(check, doctor.Warn, do, "%s", sizeText(bytes))
	}
	return well(check, "%s", sizeText(bytes))
}

func sizeText(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d KiB", (n+1023)>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

func storeFinding(full bool, waiting int, failures int64) doctor.Finding {
	const check = "books"
	switch {
	case full:
		return ill(check, doctor.Fail, "make room; it goes on by itself", "they cannot be written: %d outcomes wait in memory, and nothing new is sent", waiting)
	case failures > 0:
		return ill(check, doctor.Warn, "the log says why", "they can be written; %d transactions have failed since the start", failures)
	}
	return well(check, "they can be written")
}

func heldFinding(at time.Time) doctor.Finding {
	return ill("held", doctor.Warn, "grapnel resume says what would be sent again; grapnel resume --confirm begins", "nothing is read and nothing is sent: the database comes from a backup of %s", moment(at))
}

// booksFindings judges what was seen of the books of a daemon that does not run.
func booksFindings(g sqlite.Glance, err error) []doctor.Finding {
	const check = "books"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []doctor.Finding{well(check, "there are none yet: the first start makes them")}
	case errors.Is(err, sqlite.ErrCorrupt):
		return []doctor.Finding{ill(check, doctor.Fail, "restore a backup: docs/backup.md", "%v", err)}
	case err != nil:
		return []doctor.Finding{ill(check, doctor.Fail, "run it as the daemon's user", "%v", err)}
	case g.Schema > g.Known:
		return []doctor.Finding{ill(check, doctor.Fail, "use the newer version of grapnel", "they are of a newer version (schema %d, this one knows %d)", g.Schema, g.Known)}
	}
	found := []doctor.Finding{well(check, "schema %d, %d organizations, %d endpoints, %s", g.Schema, g.Orgs, g.Endpoints, sizeText(g.Bytes))}
	if g.Schema < g.Known {
		found[0] = well(check, "schema %d, brought forward to %d by the next start", g.Schema, g.Known)
	}
	if g.Key != nil {
		found = append(found, ill("key", doctor.Fail, "put the key of this database back: without it no secret can be read, and the daemon does not start", "%v", g.Key))
	} else {
		found = append(found, well("key", "it is this database's"))
	}
	if !g.HeldSince.IsZero() {
		found = append(found, heldFinding(g.HeldSince))
	}
	return found
}

// oldBackup is when a nightly backup has failed to come.
const oldBackup = 26 * time.Hour

func backupFinding(last sqlite.BackupReport, err error, now time.Time) doctor.Finding {
	const check, do = "backup", "grapnel backup DIR --keep 7, each night: docs/backup.md"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ill(check, doctor.Warn, do, "none was ever made by grapnel backup")
	case err != nil:
		return ill(check, doctor.Warn, do, "%v", err)
	case now.Sub(last.MadeAt) > oldBackup:
		return ill(check, doctor.Warn, do, "the last one is %s old: %s", span(now.Sub(last.MadeAt)), last.File)
	}
	return well(check, "%s ago: %s", span(now.Sub(last.MadeAt)), last.File)
}

// replicaFinding judges a continuous copy: seen says whether Litestream has left its
// marks beside the database.
func replicaFinding(seen bool) doctor.Finding {
	if !seen {
		return ill("replica", doctor.Warn, "start it: docs/backup.md", "--replicated-by says litestream, and it never ran beside this database: the log is folded late, and nothing is copied")
	}
	return well("replica", "Litestream works beside the database")
}

// brokerFindings judges a broker by what it says of itself, and by what was found
// at it. interval is the embedded one's setting; 0: it flushes each append.
func brokerFindings(f stream.Facts, interval time.Duration, found []stream.Finding) []doctor.Finding {
	const check = "broker"
	var out []doctor.Finding
	switch {
	case f.Why != nil:
		out = append(out, ill(check, doctor.Fail, "look at the NATS server, and at --nats-url", "it cannot be used: %v", f.Why))
	case f.Version == "":
		out = append(out, well(check, "it is embedded, and starts with the daemon"))
	default:
		where := f.Address
		if f.Embedded {
			where = "embedded"
		}
		out = append(out, well(check, "%s, version %s, %d streams, %s, answers in %v", where, f.Version, f.Streams, sizeText(f.Store), f.RoundTrip.Round(10*time.Microsecond)))
	}
	if f.Why == nil {
		out = append(out, syncFinding(f, interval))
		out = append(out, limitFindings(f)...)
	}
	for _, x := range found {
		s := doctor.Fail
		if x.Hint {
			s = doctor.Warn
		}
		out = append(out, ill(check, s, x.Do, "%s: %s", x.What, x.Breaks))
	}
	return out
}

// syncFinding says what a power cut can lose of what was acknowledged.
func syncFinding(f stream.Facts, interval time.Duration) doctor.Finding {
	const check = "acknowledged"
	switch {
	case f.Embedded && interval == 0, f.Sync == "always":
		return well(check, "means: on the disk")
	case f.Embedded:
		return ill(check, doctor.Warn, "--nats-sync always, unless this is meant", "a power cut can lose what was acknowledged in the last %v", interval)
	case f.Sync != "":
		return ill(check, doctor.Warn, "sync_interval: always in jetstream {} of the NATS server, or three replicas on machines that do not fail together", "a power cut can lose what was acknowledged in the last %s: the NATS server flushes no more often", f.Sync)
	}
	return ill(check, doctor.Warn, "look for sync_interval: always in jetstream {} of the NATS server: its default loses up to two minutes in a power cut", "when the NATS server flushes is told to its system account only")
}

// nearlyFull is the part of a limit from which on it is warned of, in percent.
const nearlyFull = 90

func limitFindings(f stream.Facts) (found []doctor.Finding) {
	const check, do = "broker", "raise the account's JetStream limits on the NATS server"
	if f.MaxStreams > 0 && f.Streams*100 >= f.MaxStreams*nearlyFull {
		found = append(found, ill(check, doctor.Warn, do, "%d of %d streams are used: each organization needs one", f.Streams, f.MaxStreams))
	}
	if f.MaxStore > 0 && f.Store/nearlyFull >= f.MaxStore/100 {
		found = append(found, ill(check, doctor.Warn, do, "%s of %s are used", sizeText(f.Store), sizeText(f.MaxStore)))
	}
	return found
}

// portFindings says which of the addresses, by their flags, are taken.
func portFindings(addresses map[string]string, try func(address string) error) []doctor.Finding {
	var free []string
	var found []doctor.Finding
	for _, flag := range slices.Sorted(maps.Keys(addresses)) {
		address := addresses[flag]
		if address == "off" {
			continue
		}
		if err := try(address); err != nil {
			found = append(found, ill("ports", doctor.Fail, "end what has it, or say another address", "%s %s: %v", flag, address, err))
			continue
		}
		free = append(free, address)
	}
	if found == nil {
		found = append(found, well("ports", "%s can be had", strings.Join(free, ", ")))
	}
	return found
}

// soonExpired leaves time to renew a certificate.
const soonExpired = 14 * 24 * time.Hour

func expiryFinding(ends, now time.Time) doctor.Finding {
	const check, do = "certificate", "renew it; the daemon reads it again by itself"
	switch left := ends.Sub(now); {
	case left <= 0:
		return ill(check, doctor.Fail, do, "it has expired: %s", moment(ends))
	case left < soonExpired:
		return ill(check, doctor.Warn, do, "it expires in %s", span(left))
	default:
		return well(check, "it expires in %s", span(left))
	}
}

// egressFindings judges where deliveries may go, by the settings.
func egressFindings(allowHTTP bool, allowed []netip.Prefix) []doctor.Finding {
	const check = "egress"
	var found []doctor.Finding
	for _, p := range allowed {
		switch {
		case p.Bits() == 0:
			found = append(found, ill(check, doctor.Fail, "name the networks that are meant", "--allow-network %s lets endpoints lead everywhere, this network and this machine included", p))
		case p.Overlaps(netip.MustParsePrefix("127.0.0.0/8")), p.Overlaps(netip.MustParsePrefix("::1/128")):
			found = append(found, ill(check, doctor.Warn, "leave it out, unless this is a try", "--allow-network %s lets endpoints lead to this machine, to whatever trusts it", p))
		}
	}
	if allowHTTP {
		found = append(found, ill(check, doctor.Warn, "leave it out, unless this is a try", "--allow-http lets deliveries go unencrypted"))
	}
	if found != nil {
		return found
	}
	if len(allowed) > 0 {
		return []doctor.Finding{well(check, "https to public addresses, and to %v (--egress HOST:PORT tries one)", allowed)}
	}
	return []doctor.Finding{well(check, "https to public addresses (--egress HOST:PORT tries one)")}
}

// reachFinding says what came of a connection to a receiver.
func reachFinding(address string, err error, took time.Duration) doctor.Finding {
	if err != nil {
		return ill("egress", doctor.Fail, "this is what attempts to it would meet", "%s: %v", address, err)
	}
	return well("egress", "%s: connected, with TLS, in %v", address, took.Round(time.Millisecond))
}
