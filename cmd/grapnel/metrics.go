package main

import (
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics is everything that grapnel tells Prometheus. Three kinds:
//
//   - What happens is counted as it happens: attempts, requests of the API.
//   - What is known in memory is asked of its owner at each scrape. That costs a few
//     milliseconds with ten thousand endpoints, and reads no table.
//   - What has to be looked up (cursors beside their streams, what is due) is looked up
//     in the background, see survey. A scrape tells what was found, and when.
//
// No label names an organization, endpoint, URL or event type, with one exception
// that has a registry of its own, see [orgMetrics]. Names and what they mean are in
// docs/metrics.md, which a test compares with what is registered.
type metrics struct {
	d *daemon

	perAttempt attemptMetrics
	perRequest requestMetrics
	retention  *prometheus.CounterVec
	survey     *survey

	natsConnected, ready, held                        *prometheus.Desc
	inFlight, queued, payload, lanes, behind          *prometheus.Desc
	fanned, gapEvents, gapAt, panics                  *prometheus.Desc
	dead, endpoints                                   *prometheus.Desc
	catchingUp, parked, atRisk                        *prometheus.Desc
	commitSeconds, batchRows, busy, failures, waiting *prometheus.Desc
	dbBytes, walBytes, full, checkpoints, schema      *prometheus.Desc
	diskFree, diskSize, backup                        *prometheus.Desc
	outbox, merged, untold                            *prometheus.Desc // operational events
	buildInfo                                         *prometheus.Desc
}

func newMetrics(d *daemon) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("grapnel_"+name, help, labels, nil)
	}
	m := &metrics{
		d:          d,
		perAttempt: newAttemptMetrics(),
		perRequest: newRequestMetrics(),
		survey:     newSurvey(d),
		retention: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "grapnel_retention_removed_total", Help: "Rows that retention removed, by kind.",
		}, []string{"kind"}),
		natsConnected: desc("nats_connected", "1 while the broker is there and can be used."),
		ready:         desc("ready", "1 while /readyz answers 200."),
		held:          desc("held", "1 while nothing is read or sent, since the database came out of a backup and nobody has resumed it."),
		inFlight:      desc("inflight_requests", "Requests to receivers in flight."),
		queued:        desc("lanes_queued", "Deliveries that wait in memory."),
		payload:       desc("lanes_payload_bytes", "Bytes of payloads held for deliveries that wait in memory."),
		lanes:         desc("lanes", "Lanes, one for each endpoint."),
		behind:        desc("lanes_behind", "Lanes of which a part is in the books only."),
		fanned:        desc("fanout_events_total", "Messages that fan-out has read, by what came of them.", "result"),
		gapEvents:     desc("stream_gap_events_total", "Events that a stream lost before they were fanned out."),
		gapAt:         desc("stream_gap_last_timestamp_seconds", "When events were found lost last that a stream dropped before they were fanned out; 0: never."),
		panics:        desc("panics_total", "Panics that were caught.", "where"),
		dead:          desc("dead_letters", "Deliveries that are dead and can be sent again."),
		endpoints:     desc("endpoints", "Endpoints by health.", "state"),
		catchingUp:    desc("endpoints_catching_up", "Endpoints that are behind their organization's cursor, parked ones included."),
		parked:        desc("endpoints_parked", "Endpoints that are behind because too many of their deliveries were pending."),
		atRisk:        desc("endpoints_at_risk", "Endpoints that are behind and whose stream is about to lose what was not read for them."),
		commitSeconds: desc("store_commit_seconds", "How long transactions took, from their begin to the end of the commit."),
		batchRows:     desc("store_batch_rows", "New deliveries and outcomes in one transaction."),
		busy:          desc("store_busy_total", "Transactions that another process's lock on the database kept waiting in vain."),
		failures:      desc("store_failures_total", "Transactions that failed."),
		waiting:       desc("store_records_waiting", "Outcomes that are not durable yet."),
		dbBytes:       desc("store_bytes", "Size of the database file."),
		walBytes:      desc("wal_bytes", "Size of the write-ahead log's file."),
		full:          desc("store_full", "1 while the database's disk is full or cannot be written."),
		checkpoints:   desc("checkpoint_seconds", "How long checkpoints took that the daemon made by itself, beside those that are a part of a commit."),
		schema:        desc("migration_version", "Number of the database's last migration."),
		diskFree:      desc("disk_free_bytes", "Space that is left on the data directory's disk."),
		diskSize:      desc("disk_size_bytes", "Size of the data directory's disk."),
		backup:        desc("backup_last_success_timestamp_seconds", "When the last good backup was made; 0: never one."),
		outbox:        desc("outbox_pending", "Operational events that their streams do not have yet."),
		merged:        desc("operational_events_merged_total", "Operational events that are only counted in another one, since too many waited."),
		untold:        desc("operational_events_dropped_total", "Operational events that no stream will have, since too many waited."),
	}
	m.removed(sqlite.Removed{}) // the zeros from which rates begin
	m.buildInfo = prometheus.NewDesc("grapnel_build_info", "Always 1.", nil, prometheus.Labels{"version": d.cfg.Version})
	return m
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.perAttempt.collect(ch)
	m.perRequest.collect(ch)
	m.retention.Collect(ch)
	c := scrape{ch}
	m.process(c)
	m.walk(c)
	m.store(c)
	m.disk(c)
	m.survey.tell(c)
}

// scrape is where a collector's values go.
type scrape struct{ ch chan<- prometheus.Metric }

func (c scrape) gauge(d *prometheus.Desc, v float64, labels ...string) {
	c.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (c scrape) counter(d *prometheus.Desc, v int64, labels ...string) {
	c.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (c scrape) histogram(d *prometheus.Desc, h sqlite.Histogram) {
	below := make(map[float64]uint64, len(h.Bounds))
	for i, bound := range h.Bounds {
		below[bound] = h.Counts[i]
	}
	c.ch <- prometheus.MustNewConstHistogram(d, h.Count, h.Sum, below)
}

// oneIf is 1 for true.
func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// process is how the daemon itself is.
func (m *metrics) process(c scrape) {
	c.gauge(m.buildInfo, 1)
	c.gauge(m.natsConnected, oneIf(m.d.broker.Connected()))
	c.gauge(m.ready, oneIf(m.d.ready.Load() && !m.d.draining.Load() && !m.d.store.Full()))
	_, held := m.d.store.Held()
	c.gauge(m.held, oneIf(held))
	c.counter(m.panics, m.d.lanes.Stats().Panics, "deliver")
	c.counter(m.panics, m.d.loop.Panics(), "fanout")
	c.counter(m.panics, m.perRequest.panics.Load(), "api")
}

// walk is how far events have come.
func (m *metrics) walk(c scrape) {
	f := m.d.store.Fanned()
	c.counter(m.fanned, f.Matched, "matched")
	c.counter(m.fanned, f.Unmatched, "unmatched")
	c.counter(m.fanned, f.Duplicates, "duplicate")
	c.counter(m.fanned, f.Rejected, "rejected")
	c.counter(m.fanned, f.Gated, "gated")
	c.counter(m.gapEvents, f.Gap)
	c.gauge(m.gapAt, unixSeconds(f.GapAt))
	l := m.d.lanes.Stats()
	c.gauge(m.inFlight, float64(l.InFlight))
	c.gauge(m.queued, float64(l.Queued))
	c.gauge(m.payload, float64(l.Payload))
	c.gauge(m.lanes, float64(l.Lanes))
	c.gauge(m.behind, float64(l.Behind))
	for _, state := range []deliver.Condition{deliver.Healthy, deliver.Failing, deliver.Paused, deliver.Disabled} {
		c.gauge(m.endpoints, float64(l.Are[state]), string(state))
	}
	pending, dead := m.d.store.Standing()
	c.gauge(m.survey.deliveries, float64(pending), deliver.Pending.String())
	c.gauge(m.survey.deliveries, float64(dead), deliver.Dead.String())
	c.gauge(m.dead, float64(dead))
	behind := m.d.store.CatchupStats()
	c.gauge(m.catchingUp, float64(behind.All))
	c.gauge(m.parked, float64(behind.Parked))
	c.gauge(m.atRisk, float64(behind.AtRisk))
	o := m.d.store.OutboxStats()
	c.gauge(m.outbox, float64(o.Waiting))
	c.counter(m.merged, o.Merged)
	c.counter(m.untold, o.Dropped)
}

// store is how the books fare.
func (m *metrics) store(c scrape) {
	s := m.d.store.Stats()
	c.histogram(m.commitSeconds, s.CommitSeconds)
	c.histogram(m.batchRows, s.BatchRows)
	c.histogram(m.checkpoints, s.Checkpoints)
	c.counter(m.busy, s.Busy)
	c.counter(m.failures, s.Failures)
	c.gauge(m.waiting, float64(s.Waiting))
	c.gauge(m.dbBytes, float64(s.DatabaseBytes))
	c.gauge(m.walBytes, float64(s.WALBytes))
	c.gauge(m.full, oneIf(s.Full))
	c.gauge(m.schema, float64(s.Schema))
}

// disk leaves out what cannot be found out: a value that is wrong would be worse.
func (m *metrics) disk(c scrape) {
	if free, size, err := diskSpace(m.d.cfg.Data); err == nil {
		c.gauge(m.diskFree, float64(free))
		c.gauge(m.diskSize, float64(size))
	}
	if made, err := lastBackup(m.d.cfg.Data); err == nil {
		c.gauge(m.backup, unixSeconds(made))
	}
}

// unixSeconds is a time as metrics have it; 0 for the zero time.
func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func (m *metrics) removed(r sqlite.Removed) {
	for kind, n := range map[string]int64{
		"delivery": r.Deliveries, "attempt": r.Attempts, "payload": r.Payloads, "event": r.Events,
	} {
		m.retention.WithLabelValues(kind).Add(float64(n))
	}
}
