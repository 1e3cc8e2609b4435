package deliver

import (
	"bytes"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// Quantiles of the histogram are those of the plain list of durations, off by a
// sixteenth at the most.
func TestLatenciesAgainstAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l Latencies
		list := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) time.Duration {
			us := math.Exp(rapid.Float64Range(math.Log(32), math.Log(30e6)).Draw(t, "ln µs"))
			return time.Duration(us) * time.Microsecond
		}), 1, 200).Draw(t, "durations")
		for _, d := range list {
			l[bucketOf(d)]++
		}
		slices.Sort(list)
		for _, q := range []float64{0.01, 0.5, 0.99, 1} {
			want := list[int(q*float64(len(list)-1))]
			got := l.Quantile(q)
			if off := math.Abs(float64(got-want)) / float64(want); off > 1.0/16+1e-9 {
				t.Errorf("quantile %v of %d: got %v, want %v", q, len(list), got, want)
			}
		}
		var back Latencies
		if err := back.Parse(l.Append(nil)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(l, back); diff != "" {
			t.Errorf("stored and read back (-want +got):\n%s", diff)
		}
	})
}

func TestLatenciesAtTheEnds(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want int
	}{
		{-time.Second, 0}, {0, 0}, {31 * time.Microsecond, 0}, {32 * time.Microsecond, 1}, {35 * time.Microsecond, 1}, {36 * time.Microsecond, 2},
		{63 * time.Microsecond, 8}, {64 * time.Microsecond, 9}, {30 * time.Second, 159}, {time.Hour, latencyBuckets - 1},
	} {
		if got := bucketOf(c.d); got != c.want {
			t.Errorf("%v is in bucket %d, want %d", c.d, got, c.want)
		}
	}
	var none Latencies
	if q := none.Quantile(0.5); q != 0 {
		t.Errorf("quantile of nothing: %v", q)
	}
}

// What happens by our own fault says nothing about an endpoint.
func TestWindowCounts(t *testing.T) {
	var w Window
	if _, ok := w.Rate(); ok {
		t.Error("a rate of no attempts")
	}
	for _, class := range []Class{OK, OK, OK, HTTP5xx, Ours} {
		w.Count(&Outcome{Class: class, Duration: time.Millisecond})
	}
	v := w
	w.Add(&v)
	rate, _ := w.Rate()
	if w.Succeeded != 6 || w.Failed != 2 || w.Attempts() != 8 || rate != 0.75 || w.Latencies[bucketOf(time.Millisecond)] != 8 {
		t.Errorf("%d, %d, %v, %v", w.Succeeded, w.Failed, rate, w.Latencies)
	}
}

// Whatever is stored, reading it gives an error or something that is stored as it was.
func FuzzLatencies(f *testing.F) {
	f.Add([]byte{1, 1, 3, 200, 1})
	f.Add([]byte{0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var l, again Latencies
		if l.Parse(b) != nil {
			return
		}
		if err := again.Parse(l.Append(nil)); err != nil || again != l {
			t.Errorf("%x: %v", b, err)
		}
		if stored := l.Append(nil); len(stored) > len(b) || len(stored) == len(b) && !bytes.Equal(stored, b) {
			t.Errorf("%x is stored as %x", b, stored)
		}
	})
}
