package deliver

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"time"
)

// EndpointStats says how an endpoint fares.
type EndpointStats struct {
	Pending, Dead int64 // deliveries, now
	Condition     Condition
	FailingSince  time.Time // when the present run of failures began; zero while the last outcome was a success
	Hour, Day     Window    // the last hour and the last 24
}

// Window counts what came of the attempts that ended within some time. Those
// that failed by our own fault are not counted.
type Window struct {
	Succeeded, Failed int64
	Latencies         Latencies // of both
}

// Attempts is how many there were.
func (w *Window) Attempts() int64 { return w.Succeeded + w.Failed }

// Rate is the part of the attempts that succeeded, from 0 to 1; false when there
// were none.
func (w *Window) Rate() (float64, bool) {
	n := w.Attempts()
	if n == 0 {
		return 0, false
	}
	return float64(w.Succeeded) / float64(n), true
}

// Count adds what came of one attempt.
func (w *Window) Count(o *Outcome) {
	switch o.Class {
	case Ours:
		return
	case OK:
		w.Succeeded++
	default:
		w.Failed++
	}
	w.Latencies[bucketOf(o.Duration)]++
}

// Add adds what v counted.
func (w *Window) Add(v *Window) {
	w.Succeeded += v.Succeeded
	w.Failed += v.Failed
	for i, n := range v.Latencies {
		w.Latencies[i] += n
	}
}

// Latencies is a histogram of durations. From 32 µs to 33 s each power of two is
// cut into 8 buckets, so that a quantile is off by a sixteenth at the most; what
// is shorter or longer counts as the shortest or longest.
type Latencies [latencyBuckets]uint32

const (
	latencyBuckets = 1 + latencyOctaves*latencyParts
	latencyOctaves = 20
	latencyParts   = 8
	latencyLeast   = 32 // µs; in bucket 0 is what is shorter
)

func bucketOf(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 0))
	if us < latencyLeast {
		return 0
	}
	octave := bits.Len64(us) - bits.Len64(latencyLeast)
	part := int(us>>(octave+2)) - latencyParts // the three bits after the first
	return min(1+octave*latencyParts+part, latencyBuckets-1)
}

// middle is the duration that stands for a bucket.
func middle(bucket int) time.Duration {
	if bucket == 0 {
		return latencyLeast * time.Microsecond
	}
	octave, part := (bucket-1)/latencyParts, (bucket-1)%latencyParts
	twice := int64(2*(latencyParts+part)+1) << (octave + 2)
	return time.Duration(twice) * time.Microsecond / 2
}

// Quantile is the duration that the part q of them, above 0 and up to 1, does
// not exceed; 0 when there are none.
func (l *Latencies) Quantile(q float64) time.Duration {
	var all uint64
	for _, n := range l {
		all += uint64(n)
	}
	if all == 0 {
		return 0
	}
	rank := uint64(q*float64(all-1)) + 1
	for i, n := range l {
		if rank <= uint64(n) {
			return middle(i)
		}
		rank -= uint64(n)
	}
	return middle(latencyBuckets - 1)
}

// Append appends the histogram in the form in which it is stored: for each bucket
// that is not empty, how far it is from the one before and its count, as varints.
func (l *Latencies) Append(b []byte) []byte {
	last := -1
	for i, n := range l {
		if n > 0 {
			b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(i-last)), uint64(n))
			last = i
		}
	}
	return b
}

// Parse reads what Append wrote.
func (l *Latencies) Parse(b []byte) error {
	*l = Latencies{}
	at := -1
	for len(b) > 0 {
		step, n := binary.Uvarint(b)
		count, m := binary.Uvarint(b[max(n, 0):])
		if n <= 0 || m <= 0 || step == 0 || step >= latencyBuckets || at+int(step) >= latencyBuckets || count == 0 || count > 1<<32-1 {
			return errors.New("latencies: not a histogram")
		}
		at += int(step)
		l[at] = uint32(count)
		b = b[n+m:]
	}
	return nil
}
