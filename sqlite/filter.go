package sqlite

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math/bits"

	"github.com/grapnel-hooks/grapnel/stream"
)

// A filter is the Bloom filter of a run: 16 bits and 8 probes for each key, so
// that about one in 1,700 IDs is looked for in a run that does not have it. An ID is
// a hash already; its two halves give the probes.
type filter struct{ words []uint64 }

const (
	filterBits   = 16 // for each key
	filterProbes = 8
)

// newFilter has room for n keys, rounded up to a power of two.
func newFilter(n int) filter {
	return filter{words: make([]uint64, 1<<bits.Len(uint(max(n*filterBits/64, 1)-1)))}
}

// probes calls yield with the bits of id in a filter of that many bits, which is a power
// of two.
func probes(id stream.ID, size uint64) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		h := binary.BigEndian.Uint64(id[8:])
		step := binary.BigEndian.Uint64(id[:8]) | 1
		for range filterProbes {
			if !yield(h & (size - 1)) {
				return
			}
			h += step
		}
	}
}

func (f filter) add(id stream.ID) {
	for bit := range probes(id, uint64(len(f.words))*64) {
		f.words[bit/64] |= 1 << (bit % 64)
	}
}

func (f filter) bytes() []byte {
	b := make([]byte, 0, 8*len(f.words))
	for _, w := range f.words {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// filters are the filters of all runs, turned round: 64 filters side by side
// make a slab, in which the word at position i holds bit i of each. One probe
// then asks 64 runs at once, and an ID that no run has costs a handful of memory
// accesses for each 4 million events instead of for each 65,536.
type filters struct{ slabs []*slab }

type slab struct {
	words []uint64
	runs  [64]int64 // of each bit
	used  uint64    // bits taken
	live  uint64    // of them, not dropped
}

// add takes the filter of a run, as bytes gave it.
func (fs *filters) add(run int64, b []byte) error {
	size := len(b) * 8
	if size == 0 || size&(size-1) != 0 {
		return fmt.Errorf("filter of run %d has %d bytes", run, len(b))
	}
	var to *slab
	for _, s := range fs.slabs {
		if len(s.words) == size && s.used != ^uint64(0) {
			to = s
		}
	}
	if to == nil {
		to = &slab{words: make([]uint64, size)}
		fs.slabs = append(fs.slabs, to)
	}
	bit := uint64(1) << bits.TrailingZeros64(^to.used)
	to.used |= bit
	to.live |= bit
	to.runs[bits.TrailingZeros64(bit)] = run
	for i := 0; i < len(b); i += 8 {
		for w := binary.LittleEndian.Uint64(b[i:]); w != 0; w &= w - 1 {
			to.words[i*8+bits.TrailingZeros64(w)] |= bit
		}
	}
	return nil
}

// drop forgets the filter of a run. Its bits stay until all runs of the slab
// are dropped.
func (fs *filters) drop(run int64) {
	for i, s := range fs.slabs {
		for b := range s.runs {
			if bit := uint64(1) << b; s.live&bit != 0 && s.runs[b] == run {
				s.live &^= bit
			}
		}
		if s.used == ^uint64(0) && s.live == 0 {
			fs.slabs = append(fs.slabs[:i], fs.slabs[i+1:]...)
			return
		}
	}
}

// match yields the runs that may have id.
func (fs *filters) match(id stream.ID) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for _, s := range fs.slabs {
			candidates := s.live
			for bit := range probes(id, uint64(len(s.words))) {
				if candidates &= s.words[bit]; candidates == 0 {
					break
				}
			}
			for ; candidates != 0; candidates &= candidates - 1 {
				if !yield(s.runs[bits.TrailingZeros64(candidates)]) {
					return
				}
			}
		}
	}
}
