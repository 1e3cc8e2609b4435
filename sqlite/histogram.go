package sqlite

import (
	"math"
	"slices"
	"sync/atomic"
)

// Histogram says how often values fell below bounds, since the start.
type Histogram struct {
	Bounds []float64 // ascending; values that are equal count as below
	Counts []uint64  // as many: values below each bound, those below the bounds before included
	Count  uint64    // of all values
	Sum    float64   // of all values
}

// histogram counts. Adding costs two atomic additions and a search among the
// bounds.
type histogram struct {
	bounds []float64
	counts []atomic.Uint64 // by bucket; the last one is of values above all bounds
	sum    atomic.Uint64   // bits of a float64
}

func newHistogram(bounds ...float64) *histogram {
	return &histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
}

func (h *histogram) add(v float64) {
	i, _ := slices.BinarySearch(h.bounds, v)
	h.counts[i].Add(1)
	for {
		was := h.sum.Load()
		if h.sum.CompareAndSwap(was, math.Float64bits(math.Float64frombits(was)+v)) {
			return
		}
	}
}

// read is a picture of it; while somebody adds, Sum may be a value behind.
func (h *histogram) read() Histogram {
	p := Histogram{Bounds: h.bounds, Counts: make([]uint64, len(h.bounds))}
	for i := range h.counts {
		p.Count += h.counts[i].Load()
		if i < len(p.Counts) {
			p.Counts[i] = p.Count
		}
	}
	p.Sum = math.Float64frombits(h.sum.Load())
	return p
}
