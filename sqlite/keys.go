package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/grapnel-hooks/grapnel/stream"
)

// keys finds events by their IDs.
//
// An ID is a hash, so an index of IDs would be written in random order: a page
// for each event. Instead the newest IDs are in memory (tail), where they come
// from the events table when the store is opened. When runSize of them are
// together they become a run: sorted by hash, cut into chunks of one page each,
// and stored for good, 12 bytes for each event. A run is found through its Bloom filter,
// which stays in memory; see filter.go.
//
//	lookup: tail ─▶ block being sealed ─▶ filters ─▶ one chunk of each run that may have it
//
// The answer is event numbers whose ID has the same hash; whether they exist, and have
// the very ID, is for the caller to see.
//
// Crash points: chunks are stored before their run. Chunks without a run are
// those of an interrupted sealing (or removal); opening deletes them, and seals
// again from the events.
type keys struct {
	runSize int
	full    chan struct{} // the tail is worth a run

	mu      sync.RWMutex
	tail    map[stream.ID]int64
	order   []keyed             // tail, by event
	sealing map[stream.ID]int64 // the block that is being sealed, nil if none
	runs    []*run
	filters filters
	lastRun int64
}

// keyed is an event and its ID.
type keyed struct {
	id    stream.ID
	event int64
}

// hashed is an event and the hash of its ID.
type hashed struct{ hash, event int64 }

// run is a sealed block of events.
type run struct {
	id          int64
	first, last int64   // events
	fences      []int64 // the first hash of each chunk
}

const (
	defaultRunSize = 1 << 16
	keySize        = 12             // hash and event-first
	chunkKeys      = 4032 / keySize // what fits a page of 4 KiB, with its header
	chunksPerRun   = 1 << 16        // ids of chunks are run<<16 | chunk
	sealStep       = 16             // chunks stored by one transaction
)

// hash is the part of an ID that runs are sorted by.
func hash(id stream.ID) int64 { return int64(binary.BigEndian.Uint64(id[:8])) }

// loadKeys reads the runs and the events after the last of them.
func loadKeys(c *conn, runSize int) (*keys, error) {
	k := &keys{runSize: runSize, full: make(chan struct{}, 1), tail: make(map[stream.ID]int64)}
	after := int64(0)
	err := c.query(func(r row) error {
		u := &run{id: r.int(0), first: r.int(1), last: r.int(2), fences: decodeInts(r.blob(4))}
		k.runs = append(k.runs, u)
		k.lastRun, after = max(k.lastRun, u.id), max(after, u.last)
		return k.filters.add(u.id, r.blob(3))
	}, "SELECT run, first, last, filter, fences FROM key_runs ORDER BY run")
	if err != nil {
		return nil, err
	}
	if err := deleteOrphans(c, k); err != nil {
		return nil, err
	}
	var tail []keyed
	err = c.query(func(r row) error {
		tail = append(tail, keyed{stream.ID(r.blob(1)), r.int(0)})
		return nil
	}, "SELECT id, key FROM events WHERE id > ? ORDER BY id", after)
	if err != nil {
		return nil, err
	}
	k.add(slices.Values(tail))
	return k, nil
}

// deleteOrphans deletes chunks whose run is not there.
func deleteOrphans(c *conn, k *keys) error {
	present := make(map[int64]bool)
	for _, u := range k.runs {
		present[u.id] = true
	}
	for next := int64(0); ; {
		r := make(row, 1)
		found, err := c.one(r, "SELECT id FROM key_chunks WHERE id >= ? ORDER BY id LIMIT 1", next)
		if err != nil || !found {
			return err
		}
		id := r.int(0) / chunksPerRun
		next = (id + 1) * chunksPerRun
		if present[id] {
			continue
		}
		if _, err := c.exec("DELETE FROM key_chunks WHERE id >= ? AND id < ?", id*chunksPerRun, next); err != nil {
			return err
		}
	}
}

// add takes new events, which ascend.
func (k *keys) add(events iter.Seq[keyed]) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for e := range events {
		k.tail[e.id] = e.event
		k.order = append(k.order, e)
	}
	if len(k.order) >= k.runSize && k.sealing == nil {
		select {
		case k.full <- struct{}{}:
		default:
		}
	}
}

// lookup appends to found the numbers of events that may have that ID, the
// latest first.
func (k *keys) lookup(db *sql.DB, id stream.ID, found []int64) ([]int64, error) {
	var buf [8]*run
	k.mu.RLock()
	if e, ok := k.tail[id]; ok {
		found = append(found, e)
	}
	if e, ok := k.sealing[id]; ok && !slices.Contains(found, e) {
		found = append(found, e)
	}
	maybe := buf[:0]
	for slot := range k.filters.match(id) {
		if i, ok := slices.BinarySearchFunc(k.runs, slot, func(u *run, id int64) int { return cmp.Compare(u.id, id) }); ok {
			maybe = append(maybe, k.runs[i])
		}
	}
	k.mu.RUnlock()
	for _, u := range slices.Backward(maybe) {
		var err error
		if found, err = u.lookup(db, hash(id), found); err != nil {
			return found, err
		}
	}
	return found, nil
}

// lookup searches the chunks that can hold h: usually one, more when the
// hashes around a fence are equal.
func (u *run) lookup(db *sql.DB, h int64, found []int64) ([]int64, error) {
	i, _ := slices.BinarySearch(u.fences, h)
	for i = max(i-1, 0); i < len(u.fences) && u.fences[i] <= h; i++ {
		var chunk []byte
		err := db.QueryRowContext(background, "SELECT keys FROM key_chunks WHERE id = ?", u.id*chunksPerRun+int64(i)).Scan(&chunk)
		switch {
		case errors.Is(err, sql.ErrNoRows): // retention drops the run just now
			return found, nil
		case err != nil:
			return found, err
		}
		n := len(chunk) / keySize
		at := func(i int) int64 { return int64(binary.BigEndian.Uint64(chunk[i*keySize:])) }
		lo, hi := 0, n
		for lo < hi { // the first key with a hash of h or more
			if mid := (lo + hi) / 2; at(mid) < h {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		for ; lo < n && at(lo) == h; lo++ {
			found = append(found, u.first+int64(binary.BigEndian.Uint32(chunk[lo*keySize+8:])))
		}
	}
	return found, nil
}

// seal is a task of the store: it makes runs of full blocks, in small steps
// beside the traffic.
func (s *Store) seal() {
	for {
		select {
		case <-s.keys.full:
		case <-s.stopped.Done():
			return
		}
		for s.keys.block() {
			for told := false; ; {
				err := s.sealBlock(s.stopped)
				if err == nil {
					break
				}
				if s.stopped.Err() == nil && !told {
					s.log.Warn("sealing event keys failed; trying again", "error", err)
					told = true
				}
				select {
				case <-time.After(retryAfter):
				case <-s.stopped.Done():
					return // the next start reads these events again
				}
			}
		}
	}
}

// block puts the oldest runSize events of the tail aside for sealing. It
// returns false when there are not as many.
func (k *keys) block() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sealing != nil {
		return true
	}
	if len(k.order) < k.runSize {
		return false
	}
	rest := k.order[k.runSize:]
	k.sealing = k.tail
	k.tail = make(map[stream.ID]int64, len(rest))
	for _, e := range rest {
		k.tail[e.id] = e.event
	}
	return true
}

// sealBlock stores the oldest runSize events of the tail as a run. It can be
// repeated after an error.
func (s *Store) sealBlock(ctx context.Context) error {
	k := s.keys
	k.mu.RLock()
	id, filter := k.lastRun+1, newFilter(k.runSize)
	u := &run{id: id, first: k.order[0].event, last: k.order[k.runSize-1].event}
	block := make([]hashed, k.runSize)
	for i, e := range k.order[:k.runSize] {
		block[i] = hashed{hash(e.id), e.event}
		filter.add(e.id)
	}
	k.mu.RUnlock()
	slices.SortFunc(block, func(a, b hashed) int {
		if a.hash != b.hash {
			return cmp.Compare(a.hash, b.hash)
		}
		return cmp.Compare(a.event, b.event)
	})
	var chunks [][]byte
	for chunk := range slices.Chunk(block, chunkKeys) {
		u.fences = append(u.fences, chunk[0].hash)
		b := make([]byte, 0, len(chunk)*keySize)
		for _, e := range chunk {
			b = binary.BigEndian.AppendUint64(b, uint64(e.hash))
			b = binary.BigEndian.AppendUint32(b, uint32(e.event-u.first))
		}
		chunks = append(chunks, b)
	}
	if len(chunks) > chunksPerRun || u.last-u.first > 1<<32-1 {
		return fmt.Errorf("events %d to %d do not fit a run", u.first, u.last) // no run is nearly as large
	}
	for i := 0; i < len(chunks); i += sealStep {
		err := s.w.do(ctx, func(t *txn) error {
			s.o.Failpoint("seal.step")
			for j := i; j < min(i+sealStep, len(chunks)); j++ {
				if _, err := t.c.exec("INSERT OR REPLACE INTO key_chunks(id, keys) VALUES(?,?)", id*chunksPerRun+int64(j), chunks[j]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return s.w.do(ctx, func(t *txn) error {
		s.o.Failpoint("seal.step")
		_, err := t.c.exec("INSERT INTO key_runs(run, first, last, filter, fences) VALUES(?,?,?,?,?)", id, u.first, u.last, filter.bytes(), encodeInts(u.fences))
		if err != nil {
			return err
		}
		t.after = append(t.after, func() { k.sealed(u, filter) })
		return nil
	})
}

// sealed puts the run in the place of the block.
func (k *keys) sealed(u *run, f filter) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.filters.add(u.id, f.bytes()); err != nil {
		panic(err) // made by newFilter
	}
	k.runs = append(k.runs, u)
	k.lastRun = u.id
	k.sealing = nil
	k.order = slices.Clone(k.order[k.runSize:])
}

// dropped forgets a run.
func (k *keys) dropped(id int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.runs = slices.DeleteFunc(k.runs, func(u *run) bool { return u.id == id })
	k.filters.drop(id)
}

// sealedRuns are all runs, oldest first.
func (k *keys) sealedRuns() []*run {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return slices.Clone(k.runs)
}

func encodeInts(list []int64) []byte {
	b := make([]byte, 0, 8*len(list))
	for _, v := range list {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	return b
}

func decodeInts(b []byte) []int64 {
	list := make([]int64, len(b)/8)
	for i := range list {
		list[i] = int64(binary.BigEndian.Uint64(b[8*i:]))
	}
	return list
}
