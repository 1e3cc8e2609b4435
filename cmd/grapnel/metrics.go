package main

import (
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics is everything that grapnel tells Prometheus. Most is asked of its
// owner when it is scraped; what happens per attempt is counted as it happens.
// No label names an organization, endpoint, URL or event type.
type metrics struct {
	d *daemon

	attempts  *prometheus.CounterVec
	duration  prometheus.Histogram
	first     prometheus.Histogram
	deaths    *prometheus.CounterVec
	retention *prometheus.CounterVec

	natsConnected, inFlight, queued, payload, lanes, behind *prometheus.Desc
	commits, commitTime, rows, failures, waiting            *prometheus.Desc
	dbBytes, walBytes, full, buildInfo                      *prometheus.Desc
	told, merged, untold                                    *prometheus.Desc // operational events
	catchingUp, parked, atRisk                              *prometheus.Desc
	endpoints                                               *prometheus.Desc
}

func newMetrics(d *daemon) *metrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("grapnel_"+name, help, nil, nil)
	}
	return &metrics{
		d: d,
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "grapnel_attempts_total", Help: "Attempts by outcome and class of status code.",
		}, []string{"outcome", "code_class"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "grapnel_attempt_duration_seconds", Help: "How long attempts took, everything included.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
		first: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "grapnel_time_to_first_attempt_seconds", Help: "From the moment the stream stored an event to the start of its first attempt.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 3600},
		}),
		deaths: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "grapnel_dead_letters_total", Help: "Deliveries that died, by reason.",
		}, []string{"reason"}),
		retention: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "grapnel_retention_removed_total", Help: "Rows that retention removed, by kind.",
		}, []string{"kind"}),
		natsConnected: desc("nats_connected", "1 while the broker is there and can be used."),
		inFlight:      desc("inflight_requests", "Requests in flight."),
		queued:        desc("lanes_queued", "Deliveries that wait in memory."),
		payload:       desc("lanes_payload_bytes", "Bytes of payloads held for deliveries that wait in memory."),
		lanes:         desc("lanes", "Lanes, one for each endpoint."),
		behind:        desc("lanes_behind", "Lanes of which a part is in the books only."),
		commits:       desc("store_commits_total", "Transactions committed."),
		commitTime:    desc("store_commit_seconds_total", "Time spent in transactions."),
		rows:          desc("store_rows_total", "Deliveries and records written."),
		failures:      desc("store_failures_total", "Transactions that failed."),
		waiting:       desc("store_records_waiting", "Outcomes that are not durable yet."),
		dbBytes:       desc("store_bytes", "Size of the database file."),
		walBytes:      desc("wal_bytes", "Size of the write-ahead log."),
		told:          desc("operational_events_waiting", "Operational events that their streams do not have yet."),
		merged:        desc("operational_events_merged_total", "Operational events that are only counted in another one, since too many waited."),
		untold:        desc("operational_events_dropped_total", "Operational events that no stream will have, since too many waited."),
		full:          desc("store_full", "1 while the disk is full or cannot be written."),
		catchingUp:    desc("endpoints_catching_up", "Endpoints that are behind their organization's cursor, parked ones included."),
		parked:        desc("endpoints_parked", "Endpoints that are behind because too many of their deliveries were pending."),
		atRisk:        desc("endpoints_at_risk", "Endpoints that are behind and whose stream is about to lose what was not read for them."),
		endpoints: prometheus.NewDesc("grapnel_endpoints", "Endpoints by health: healthy, failing, paused or disabled.",
			[]string{"state"}, nil),
		buildInfo: prometheus.NewDesc("grapnel_build_info", "Always 1.", nil,
			prometheus.Labels{"version": d.cfg.Version}),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range []prometheus.Collector{m.attempts, m.duration, m.first, m.deaths, m.retention} {
		c.Collect(ch)
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	counter := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v)
	}
	flag := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	gauge(m.buildInfo, 1)
	gauge(m.natsConnected, flag(m.d.broker.Connected()))
	l := m.d.lanes.Stats()
	gauge(m.inFlight, float64(l.InFlight))
	gauge(m.queued, float64(l.Queued))
	gauge(m.payload, float64(l.Payload))
	gauge(m.lanes, float64(l.Lanes))
	gauge(m.behind, float64(l.Behind))
	for _, state := range []deliver.Condition{deliver.Healthy, deliver.Failing, deliver.Paused, deliver.Disabled} {
		ch <- prometheus.MustNewConstMetric(m.endpoints, prometheus.GaugeValue, float64(l.Are[state]), string(state))
	}
	behind := m.d.store.CatchupStats()
	gauge(m.catchingUp, float64(behind.All))
	gauge(m.parked, float64(behind.Parked))
	gauge(m.atRisk, float64(behind.AtRisk))
	s := m.d.store.Stats()
	counter(m.commits, float64(s.Commits))
	counter(m.commitTime, s.CommitTime.Seconds())
	counter(m.rows, float64(s.Rows))
	counter(m.failures, float64(s.Failures))
	gauge(m.waiting, float64(s.Waiting))
	gauge(m.dbBytes, float64(s.DatabaseBytes))
	gauge(m.walBytes, float64(s.WALBytes))
	gauge(m.full, flag(s.Full))
	o := m.d.store.OutboxStats()
	gauge(m.told, float64(o.Waiting))
	counter(m.merged, float64(o.Merged))
	counter(m.untold, float64(o.Dropped))
}

func (m *metrics) observe(t *deliver.Ticket, a *deliver.Attempt, next *deliver.Transition) {
	class := codeClasses[min(max(a.Status/100, 0), 6)]
	m.attempts.WithLabelValues(a.Class.String(), class).Inc()
	m.duration.Observe(a.Duration.Seconds())
	if a.Number == 1 && t.Payload != nil {
		m.first.Observe(max(a.Started.Sub(t.Payload.Stored), 0).Seconds())
	}
	if next.State == deliver.Dead {
		m.deaths.WithLabelValues(next.Reason.String()).Inc()
	}
}

func (m *metrics) removed(r sqlite.Removed) {
	for kind, n := range map[string]int64{
		"delivery": r.Deliveries, "attempt": r.Attempts, "payload": r.Payloads, "event": r.Events,
	} {
		m.retention.WithLabelValues(kind).Add(float64(n))
	}
}

// codeClasses is indexed by a status code's first digit; 0: there was no answer.
var codeClasses = [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx", "other"}
