package main

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/config"
	"github.com/grapnel-hooks/grapnel/cmd/internal/doctor"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/stream"
)

// examineTimeout bounds all of an examination; what is not done by then is said to
// have failed.
const examineTimeout = 30 * time.Second

// Examine implements httpapi.Doctors.
func (d *daemon) Examine(ctx context.Context, e httpapi.Examination) ([]doctor.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	found := []doctor.Finding{daemonFinding(d.Health(), buildVersion())}
	said, err := d.Configuration(ctx)
	if err != nil {
		return nil, err
	}
	good := d.cfg.Configured == nil || d.cfg.Configured.good.Load()
	found = append(found, configFinding(good, said.Problem, said.Differs))

	orgs, err := d.store.Orgs(ctx)
	if err != nil {
		return nil, answered(err)
	}
	stats := d.store.Stats()
	found = append(found, examineMachine(ctx, d.cfg.Data, d.cfg.KeyFile, len(orgs), d.lanes.Stats().Lanes)...)
	found = append(found, libraryFinding(sqlite.CompiledIn(ctx)), logFinding(stats.WALBytes), storeFinding(stats.Full, stats.Waiting, stats.Failures))
	if at, held := d.store.Held(); held {
		found = append(found, heldFinding(at))
	}
	found = append(found, backupFindingOf(d.cfg.Data))
	found = append(found, replicaFindings(d.cfg.Replicated, d.cfg.Data)...)
	found = append(found, brokerFindings(d.broker.Facts(ctx), d.cfg.NATSSync, d.broker.Findings())...)
	if d.server != nil {
		if err := d.server.Health(); err != nil {
			found = append(found, doctor.Finding{Check: "broker", Status: doctor.Fail, What: "the embedded broker cannot write: " + err.Error(), Do: "look at the disk; it is started again by itself"})
		}
	}
	live := d.live.Load()
	found = append(found, egressFindings(live.AllowHTTP, live.Allow)...)
	return append(found, examineEgress(ctx, d.guard, d.sender, e)...), nil
}

// examineOffline looks at what is there while no daemon runs.
func examineOffline(ctx context.Context, cfg config.Serve, e httpapi.Examination) []doctor.Finding {
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	found := []doctor.Finding{configFinding(true, "", nil)}
	glance, err := sqlite.Look(ctx, sqlite.Options{Dir: cfg.Data, KeyFile: cfg.SecretsKeyFile, Keys: cfg.SecretsKeys})
	found = append(found, examineMachine(ctx, cfg.Data, cfg.SecretsKeyFile, glance.Orgs, glance.Endpoints)...)
	found = append(found, libraryFinding(sqlite.CompiledIn(ctx)))
	found = append(found, booksFindings(glance, err)...)
	if err == nil {
		found = append(found, logFinding(glance.WALByte), backupFindingOf(cfg.Data))
		found = append(found, replicaFindings(cfg.Replicated, cfg.Data)...)
	}
	addresses := map[string]string{"--listen": cfg.Listen, "--admin-listen": cmp.Or(cfg.Admin, "off")}
	if cfg.NATSURL == "" {
		addresses["--nats-listen"] = cfg.NATSListen
		found = append(found, brokerFindings(stream.Facts{Embedded: true}, cfg.NATSSync, nil)...)
	} else {
		found = append(found, examineBroker(ctx, cfg)...)
	}
	found = append(found, portFindings(addresses, tryPort)...)
	if cfg.TLSCert != "" {
		found = append(found, certificateFinding(cfg.TLSCert, cfg.TLSKey, time.Now()))
	}
	found = append(found, egressFindings(cfg.AllowHTTP, cfg.AllowNetworks)...)
	guard := deliver.NewGuard(deliver.GuardOptions{
		Allow: cfg.AllowNetworks, AllowHTTP: cfg.AllowHTTP, Ports: cfg.AllowPorts, NAT64: cfg.NAT64, Local: deliver.LocalAddrs,
	})
	sender := deliver.NewSender(deliver.SenderOptions{Guard: guard, AllowHTTP: cfg.AllowHTTP, Proxy: cfg.EgressProxy})
	defer sender.Close()
	return append(found, examineEgress(ctx, guard, sender, e)...)
}

// examineMachine looks at what does not depend on whether a daemon runs.
func examineMachine(ctx context.Context, dir, keyFile string, orgs, endpoints int) []doctor.Finding {
	found := []doctor.Finding{doctor.SeeClock().Finding(), doctor.SeeNames(ctx).Finding()}
	found = append(found, doctor.SeeDisk(dir).Findings()...)
	found = append(found, doctor.SeeFiles(dir, keyFile).Finding())
	limits := doctor.SeeLimits()
	limits.Requests, limits.NeedMemory = requestLimit(), memoryFor(orgs, endpoints)
	return append(found, limits.Findings()...)
}

func backupFindingOf(dir string) doctor.Finding {
	last, err := sqlite.LastBackup(dir)
	return backupFinding(last, err, time.Now())
}

// replicaFindings are about a continuous copy, if there is said to be one.
func replicaFindings(replicated bool, dir string) []doctor.Finding {
	if !replicated {
		return nil
	}
	_, err := os.Stat(filepath.Join(dir, "."+sqlite.FileName+"-litestream"))
	return []doctor.Finding{replicaFinding(err == nil)}
}

// brokerWait is how long an external broker may take to be there.
const brokerWait = 5 * time.Second

// examineBroker connects to an external broker as the daemon would.
func examineBroker(ctx context.Context, cfg config.Serve) []doctor.Finding {
	o := daemonFrom(cfg, slog.New(slog.DiscardHandler))
	broker := o.Broker
	broker.Names, broker.Log, broker.MaxData = stream.Names{Prefix: o.Prefix}, o.Log, o.MaxData
	c, err := stream.Connect(ctx, broker)
	if err != nil {
		return brokerFindings(stream.Facts{Why: err}, 0, nil)
	}
	defer c.Close()
	there := make(chan struct{}, 1)
	c.OnState(func(connected bool) {
		if connected {
			select {
			case there <- struct{}{}:
			default:
			}
		}
	})
	if !c.Connected() {
		select {
		case <-there:
		case <-time.After(brokerWait):
		case <-ctx.Done():
		}
	}
	return brokerFindings(c.Facts(ctx), 0, c.Diagnose(ctx))
}

// tryPort listens at the address for a moment.
func tryPort(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}

// examineEgress looks a name up and connects to a receiver, when that was asked for.
func examineEgress(ctx context.Context, guard *deliver.Guard, sender *deliver.Sender, e httpapi.Examination) (found []doctor.Finding) {
	if e.Resolve != "" {
		found = append(found, lookUp(ctx, guard, e.Resolve).Finding())
	}
	if e.Egress == "" {
		return found
	}
	if _, port, err := net.SplitHostPort(e.Egress); err != nil || !isPort(port) {
		return append(found, doctor.Finding{Check: "egress", Status: doctor.Fail, What: fmt.Sprintf("%q is no host:port", e.Egress), Do: "say it as hooks.customer.example:443"})
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	began := time.Now()
	return append(found, reachFinding(e.Egress, sender.Reach(ctx, e.Egress), time.Since(began)))
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// lookUp asks the machine's resolver for a name, and the guard for each address.
func lookUp(ctx context.Context, guard *deliver.Guard, host string) doctor.Lookup {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	began := time.Now()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	l := doctor.Lookup{Host: host, Took: time.Since(began), Err: err}
	for _, a := range addrs {
		if a = a.Unmap(); guard.Check(netip.AddrPortFrom(a, 443)) == nil {
			l.Allowed = append(l.Allowed, a)
		} else {
			l.Refused = append(l.Refused, a)
		}
	}
	return l
}

// certificateFinding judges the certificate that clients get.
func certificateFinding(certFile, keyFile string, now time.Time) doctor.Finding {
	c := certificate{certFile: certFile, keyFile: keyFile}
	err := c.read([2]fs.FileInfo{})
	if err != nil {
		return doctor.Finding{Check: "certificate", Status: doctor.Fail, What: fmt.Sprintf("%s cannot be used: %v", filepath.Base(certFile), err), Do: "give a certificate and its key, both PEM"}
	}
	return expiryFinding(c.pair.Leaf.NotAfter, now)
}
