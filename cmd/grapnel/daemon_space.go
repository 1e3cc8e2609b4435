package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/prometheus/client_golang/prometheus"
)

// Before the disk is full, fan-out waits: events stay in their streams, what is
// booked goes on being sent, and outcomes can be written. It goes on by itself.
// An organization with too many pending deliveries waits alone.

const (
	spaceEvery   = time.Second
	autoMinFree  = 2 << 30 // or a tenth of the disk, if that is less
	spaceSlack   = 16      // fan-out goes on when there is a sixteenth more room than it needs
	quotaSlack   = 8       // an organization goes on when it has an eighth fewer deliveries than it may have
	ballastAgain = time.Minute
)

// space is what the daemon knows of the room that it has.
type space struct {
	used, free atomic.Int64
	lacks      atomic.Pointer[string] // why nothing is fanned out; nil: there is room
	quota      sync.Map               // organizations that have too many pending deliveries
	over       atomic.Int64           // how many they are

	usedBytes, paused, quotas, ballast *prometheus.Desc
}

func newSpace() *space {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc("grapnel_"+name, help, nil, nil) }
	return &space{
		usedBytes: desc("store_used_bytes", "What of the database file is in use; the rest of it is taken by new rows first."),
		paused:    desc("fanout_paused", "1 while nothing is fanned out, since the disk or the database has too little room."),
		quotas:    desc("orgs_over_quota", "Organizations that are not fanned out, since too many of their deliveries are pending."),
		ballast:   desc("ballast_bytes", "Size of the file that can be given up when the disk is full; 0: there is none."),
	}
}

// spaceMetrics tells Prometheus of the daemon's space.
type spaceMetrics struct{ d *daemon }

// Describe implements prometheus.Collector.
func (m spaceMetrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m spaceMetrics) Collect(ch chan<- prometheus.Metric) {
	s := m.d.space
	paused := 0.0
	if s.lacks.Load() != nil {
		paused = 1
	}
	ch <- prometheus.MustNewConstMetric(s.usedBytes, prometheus.GaugeValue, float64(s.used.Load()))
	ch <- prometheus.MustNewConstMetric(s.paused, prometheus.GaugeValue, paused)
	ch <- prometheus.MustNewConstMetric(s.quotas, prometheus.GaugeValue, float64(s.over.Load()))
	ch <- prometheus.MustNewConstMetric(s.ballast, prometheus.GaugeValue, float64(sqlite.Ballast(m.d.cfg.Data)))
}

// room is asked by fan-out before each batch.
func (d *daemon) room(org string) error {
	if why := d.space.lacks.Load(); why != nil {
		return fmt.Errorf("%s: %w", *why, fanout.ErrNoRoom)
	}
	most := d.live.Load().MaxPending
	limit := most
	if _, waits := d.space.quota.Load(org); waits {
		limit -= most / quotaSlack
	}
	if n := d.store.PendingIn(org); most > 0 && n >= limit {
		if _, known := d.space.quota.LoadOrStore(org, true); !known {
			d.space.over.Add(1)
			d.log.Warn("organization is not fanned out: too many of its deliveries are pending; its events wait in the stream", "org", org, "pending", n, "may_be_pending", most)
		}
		return fmt.Errorf("quota: %d of its deliveries are pending, and %d may be (--max-pending-per-org): it goes on when there are fewer: %w", n, most, fanout.ErrNoRoom)
	}
	if _, was := d.space.quota.LoadAndDelete(org); was {
		d.space.over.Add(-1)
		d.log.Info("organization is fanned out again: fewer of its deliveries are pending", "org", org)
	}
	return nil
}

// watchSpace looks at disk and database, and keeps the ballast.
func (d *daemon) watchSpace(ctx context.Context) error {
	tick := time.NewTicker(spaceEvery)
	defer tick.Stop()
	var ballast time.Time // not made before
	for {
		d.lookAtSpace()
		if now := time.Now(); now.After(ballast) {
			ballast = now.Add(ballastAgain)
			d.keepBallast()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// spaceLimits are what there has to be, and what there may be; 0: no limit.
type spaceLimits struct{ minFree, maxUsed int64 }

// lacking says why there is no room, "" if there is. Once it lacked, there has to be
// some more.
func (l spaceLimits) lacking(free, used int64, lacked bool) string {
	minFree, maxUsed := l.minFree, l.maxUsed
	if lacked {
		minFree, maxUsed = minFree+minFree/spaceSlack, maxUsed-maxUsed/spaceSlack
	}
	switch {
	case l.minFree > 0 && free < minFree:
		return fmt.Sprintf("store_full: %s of the disk are free, and %s have to be (--min-free)", byteSize(free), byteSize(l.minFree))
	case l.maxUsed > 0 && used > maxUsed:
		return fmt.Sprintf("store_full: the database has %s, and may have %s (--store-max-bytes)", byteSize(used), byteSize(l.maxUsed))
	}
	return ""
}

// limits are those that hold now.
func (d *daemon) limits(total int64) spaceLimits {
	o := d.live.Load()
	l := spaceLimits{minFree: o.MinFree, maxUsed: o.MaxStore}
	if l.minFree < 0 {
		l.minFree = min(autoMinFree, total/10)
	}
	return l
}

func (d *daemon) lookAtSpace() {
	free, total, err := sqlite.DiskSpace(d.cfg.Data)
	if err != nil {
		d.log.Debug("the disk does not tell its free space", "error", err)
		return
	}
	used, err := d.store.UsedBytes()
	if err != nil {
		used = d.space.used.Load() // a full disk must not hide how full it is
	}
	d.space.free.Store(free)
	d.space.used.Store(used)
	was := d.space.lacks.Load()
	switch why := d.limits(total).lacking(free, used, was != nil); {
	case why != "" && was == nil:
		d.log.Error("nothing is fanned out until there is more room; events wait in their streams, and deliveries go on", "why", why)
		d.space.lacks.Store(&why)
	case why != "":
		d.space.lacks.Store(&why)
	case was != nil:
		d.log.Info("there is room again: fan-out goes on", "free", free, "used", used)
		d.space.lacks.Store(nil)
		d.loop.SweepAll()
	}
}

// keepBallast makes the ballast, if there is room for it twice beside what has to be
// free.
func (d *daemon) keepBallast() {
	o := d.live.Load()
	have := sqlite.Ballast(d.cfg.Data)
	if o.Ballast <= 0 || have == o.Ballast {
		return
	}
	free, total, err := sqlite.DiskSpace(d.cfg.Data)
	if err != nil || d.store.Full() || free-d.limits(total).minFree < 2*o.Ballast {
		return
	}
	if err := sqlite.MakeBallast(d.cfg.Data, o.Ballast); err != nil {
		d.log.Warn("the ballast cannot be made", "error", err)
		return
	}
	d.log.Info("ballast is made: a file that can be given up when the disk is full", "bytes", o.Ballast)
}

// byteSize is a number of bytes for people.
func byteSize(n int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
