package filter

import (
	"runtime"
	"sync"
	"weak"
)

// Cache compiles each text once for as long as anybody uses the filter. The zero
// Cache is empty. It is safe for concurrent use, and keeps no filter alive.
type Cache struct {
	mu    sync.Mutex
	known map[string]weak.Pointer[Filter]
}

// Get is the filter of a text, see [Hold]; of "" it is nil.
func (c *Cache) Get(text string) *Filter {
	if text == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.known[text].Value(); f != nil {
		return f
	}
	f := Hold(text)
	if c.known == nil {
		c.known = make(map[string]weak.Pointer[Filter])
	}
	c.known[text] = weak.Make(f)
	runtime.AddCleanup(f, c.forget, text)
	return f
}

// forget is called when nobody uses a filter of that text any more.
func (c *Cache) forget(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[text].Value() == nil { // else it was asked for again meanwhile
		delete(c.known, text)
	}
}
