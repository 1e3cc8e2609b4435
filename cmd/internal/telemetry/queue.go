package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Bounds of what waits for the collector. A span takes about 3 KiB.
const (
	maxQueue     = 2048
	maxBatch     = 512
	batchEvery   = 2 * time.Second // a batch that is not full is sent after
	exportWithin = 10 * time.Second
	stopWithin   = 2 * time.Second // all that is sent after the end
	tellAgain    = 5 * time.Minute // between two lines of the log about the same trouble
)

// Stats counts spans since the start.
type Stats struct {
	Sent    int64 // and taken by the collector
	Dropped int64 // the queue was full
	Refused int64 // the collector could not be reached, or did not take them
}

// Stats returns the counts. Safe for concurrent use.
func (t *Tracing) Stats() Stats {
	q := t.queue
	rejected := q.exporter.rejected.Load()
	return Stats{Sent: max(q.sent.Load()-rejected, 0), Dropped: q.dropped.Load(), Refused: q.refused.Load() + rejected}
}

// queue holds the spans that have ended until the collector has them. It is an
// sdktrace.SpanProcessor.
type queue struct {
	exporter *exporter
	log      *slog.Logger
	spans    chan sdktrace.ReadOnlySpan

	sent, dropped, refused atomic.Int64

	// Of the goroutine that sends:
	ill   bool      // the last batch was not taken
	told  time.Time // when the log had a line about it
	since int64     // refused and dropped before that line
}

func newQueue(e *exporter, log *slog.Logger) *queue {
	return &queue{exporter: e, log: log, spans: make(chan sdktrace.ReadOnlySpan, maxQueue)}
}

// OnStart implements sdktrace.SpanProcessor.
func (q *queue) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd takes a span, or drops it. It never waits.
func (q *queue) OnEnd(s sdktrace.ReadOnlySpan) {
	select {
	case q.spans <- s:
	default:
		q.dropped.Add(1)
	}
}

// Shutdown implements sdktrace.SpanProcessor; run ends with its context.
func (q *queue) Shutdown(context.Context) error { return nil }

// ForceFlush implements sdktrace.SpanProcessor.
func (q *queue) ForceFlush(context.Context) error { return nil }

// run sends batches until ctx ends, and then what is left.
func (q *queue) run(ctx context.Context) {
	sending, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	ended := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(stopWithin, giveUp)
		context.AfterFunc(sending, func() { timer.Stop() })
	})
	defer ended()
	defer q.exporter.close()
	batch := make([]sdktrace.ReadOnlySpan, 0, maxBatch)
	tick := time.NewTicker(batchEvery)
	defer tick.Stop()
	send := func() {
		if len(batch) > 0 {
			q.send(sending, batch)
			clear(batch)
			batch = batch[:0]
		}
	}
	for {
		select {
		case s := <-q.spans:
			if batch = append(batch, s); len(batch) == maxBatch {
				send()
			}
		case <-tick.C:
			send()
		case <-ctx.Done():
			for {
				select {
				case s := <-q.spans:
					if batch = append(batch, s); len(batch) == maxBatch {
						send()
					}
					continue
				default:
				}
				break
			}
			send()
			return
		}
	}
}

// send gives one batch to the collector, and tells of its troubles: when they
// begin, from time to time, and when they are over.
func (q *queue) send(ctx context.Context, batch []sdktrace.ReadOnlySpan) {
	limited, cancel := context.WithTimeout(ctx, exportWithin)
	defer cancel()
	err := q.exporter.ExportSpans(limited, batch)
	if err == nil {
		q.sent.Add(int64(len(batch)))
		if q.ill {
			q.log.Info("the collector takes traces again", "lost_spans", q.lost()-q.since)
			q.ill = false
		}
		return
	}
	before := q.lost()
	q.refused.Add(int64(len(batch)))
	if now := time.Now(); !q.ill || now.Sub(q.told) >= tellAgain {
		if !q.ill {
			q.since = before
		}
		q.log.Warn("the collector does not take traces; spans are lost until it does", "lost_spans", q.lost()-q.since, "error", brief(err))
		q.ill, q.told = true, now
	}
}

func (q *queue) lost() int64 { return q.dropped.Load() + q.refused.Load() }

// brief is the error without the URL, which is in the configuration.
func brief(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
