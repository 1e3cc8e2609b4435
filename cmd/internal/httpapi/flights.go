package httpapi

import (
	"net/http"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// Bounds of what is being done at one moment, from the first byte of a request's
// body to its answer, so that a flood of one organization leaves room for the
// others.
const (
	// Of appends one organization may have half.
	maxAppends     = 256
	maxAppendBytes = 64 << 20
	// Of other requests with a body, which may come slowly, an eighth.
	maxWrites     = 512
	maxWriteBytes = 64 << 20
	partOfWrites  = 8
	// Of what goes through a stream or the books for one answer, and keeps
	// megabytes meanwhile, one organization may have an eighth.
	maxSearches    = 64
	maxSearchBytes = 64 << 20
	partOfSearches = 8
)

// flights counts the requests that are in flight, so that more than the broker
// can take waits at the caller and not in our memory.
type flights struct {
	most load
	part int64 // one of so many is one organization's

	mu   sync.Mutex
	all  load
	orgs map[string]load // that have any
}

// load is requests and the bytes of their bodies.
type load struct {
	requests, bytes int64
}

func (l load) with(bytes int64) load { return load{l.requests + 1, l.bytes + bytes} }

func (l load) fits(most load, part int64) bool {
	return l.requests <= most.requests/part && l.bytes <= most.bytes/part
}

func newFlights(most load, part int64) *flights {
	return &flights{most: most, part: part, orgs: map[string]load{}}
}

// board counts a request with a body of that length, -1 if it is not known, until
// leave is called. It reports false when there is no room.
func (f *flights) board(org string, length, most int64) (leave func(), ok bool) {
	if length < 0 || length > most {
		length = most
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	all, own := f.all.with(length), f.orgs[org].with(length)
	if !all.fits(f.most, 1) || !own.fits(f.most, f.part) {
		return nil, false
	}
	f.all, f.orgs[org] = all, own
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.all = load{f.all.requests - 1, f.all.bytes - length}
		own := f.orgs[org]
		if own.requests == 1 {
			delete(f.orgs, org)
			return
		}
		f.orgs[org] = load{own.requests - 1, own.bytes - length}
	}, true
}

// enter lets a request of the route in, or says why there is no room. A nil
// *flights has no bounds.
func (f *flights) enter(ctx huma.Context, org string, most int64) (leave func(), p huma.StatusError) {
	if f == nil {
		return func() {}, nil
	}
	req, _ := humago.Unwrap(ctx)
	leave, ok := f.board(org, req.ContentLength, most)
	if !ok {
		return nil, asProblem(later(newProblem(http.StatusTooManyRequests, "too much of this is being done at this moment; try again in a moment"), 1))
	}
	return leave, nil
}
