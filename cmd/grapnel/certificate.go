package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateEvery is how often, at most, the files of a certificate are looked at.
const certificateEvery = time.Minute

// certificate is the pair of --tls-cert and --tls-key. A renewed one is taken
// up by itself: by connections that begin a minute after both files have
// changed.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	seen   [2]os.FileInfo // of the files that pair was read from
	looked time.Time
}

// serverTLS is how those who connect to the daemon are served; nil without
// files.
func serverTLS(certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	if certFile == "" {
		return nil, nil
	}
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	seen, err := c.stat()
	if err == nil {
		err = c.read(seen)
	}
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	c.looked = time.Now()
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(), nil },
	}, nil
}

// current is the pair, after a look at the files. While they cannot be used,
// the last pair is.
func (c *certificate) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if now.Sub(c.looked) < certificateEvery {
		return c.pair
	}
	c.looked = now
	seen, err := c.stat()
	if err == nil && !same(seen, c.seen) {
		if err = c.read(seen); err == nil {
			c.log.Info("certificate was read again", "file", c.certFile, "expires", c.pair.Leaf.NotAfter)
		}
	}
	if err != nil {
		c.log.Error("certificate cannot be read again; the last one is used", "file", c.certFile, "error", err)
	}
	return c.pair
}

func (c *certificate) stat() (seen [2]os.FileInfo, err error) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if seen[i], err = os.Stat(name); err != nil {
			return seen, err
		}
	}
	return seen, nil
}

func same(a, b [2]os.FileInfo) bool {
	for i := range a {
		if !a[i].ModTime().Equal(b[i].ModTime()) || a[i].Size() != b[i].Size() || !os.SameFile(a[i], b[i]) {
			return false
		}
	}
	return true
}

func (c *certificate) read(seen [2]os.FileInfo) error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.pair, c.seen = &pair, seen
	return nil
}
