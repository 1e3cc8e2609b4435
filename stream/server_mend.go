package stream

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/minio/highwayhash"
	"github.com/nats-io/nats-server/v2/server"
)

// mendStreams completes changes of streams that a crash has cut in two. The server writes
// what a stream is in two files, one after the other, each as a whole:
//
//	meta.inf: write, rename → meta.sum, its checksum: write, rename
//
// Crash between them: the checksum is that of the file before, and the server leaves the
// stream out, with all that is in it, at this and every later start. Every update of a
// stream passes there, and the first start after an upgrade updates all of them to mark them.
//
// So before it starts, the checksum is written of a meta.inf that is whole and not older
// than its checksum. One that is older has not been written since: it is damaged,
// and stays as it is.
func mendStreams(dir string, log *slog.Logger) {
	accounts, _ := os.ReadDir(filepath.Join(dir, server.JetStreamStoreDir))
	for _, a := range accounts {
		in := filepath.Join(dir, server.JetStreamStoreDir, a.Name(), "streams")
		streams, _ := os.ReadDir(in)
		for _, s := range streams {
			switch mended, err := mendStream(filepath.Join(in, s.Name())); {
			case err != nil:
				log.Error("a change of a stream that a crash may have cut in two could not be completed", "stream", s.Name(), "error", err)
			case mended:
				log.Warn("a change of a stream was cut in two by a crash, and is completed", "stream", s.Name())
			}
		}
	}
}

// mendStream reports whether the checksum of the stream in dir had to be written.
func mendStream(dir string) (bool, error) {
	meta, sum := filepath.Join(dir, server.JetStreamMetaFile), filepath.Join(dir, server.JetStreamMetaFileSum)
	text, err := os.ReadFile(meta)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // being made, or being deleted
	}
	if err != nil {
		return false, err
	}
	want, err := checksum(filepath.Base(dir), text)
	if err != nil {
		return false, err
	}
	has, err := os.ReadFile(sum)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if string(has) == want || !whole(filepath.Base(dir), text) {
		return false, nil
	}
	if err == nil {
		older, err := before(meta, sum)
		if err != nil || older {
			return false, err
		}
	}
	return true, replaceFile(sum, []byte(want))
}

// checksum is what the server wants to find in meta.sum.
func checksum(stream string, meta []byte) (string, error) {
	key := sha256.Sum256([]byte(stream))
	h, err := highwayhash.New64(key[:])
	if err != nil {
		return "", err
	}
	h.Write(meta)
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// whole reports whether this is the description of that stream.
func whole(stream string, meta []byte) bool {
	var m struct {
		Name string `json:"name"`
	}
	return json.Unmarshal(meta, &m) == nil && m.Name == stream
}

// before reports whether a was written before b.
func before(a, b string) (bool, error) {
	x, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	y, err := os.Stat(b)
	if err != nil {
		return false, err
	}
	return x.ModTime().Before(y.ModTime()), nil
}

// replaceFile writes a file as a whole. That its name is on the disk is not waited for: a
// power cut that takes it away leaves what is completed again.
func replaceFile(name string, text []byte) (err error) {
	f, err := os.OpenFile(name+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) // the server's own name for it, too: a crash leaves one at most
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}
