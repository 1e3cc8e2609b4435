package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// maxText is the longest text of keys, in bytes: MaxKeys with dates, and room
// for comments.
const maxText = 16 << 10

// ParseKeys reads keys from a text, the one that seals first. Each stands on a
// line of its own, or before a comma, and may be followed by a space and when
// it was made (RFC 3339). Empty lines are skipped, and those that begin with #.
// Errors name the line and never repeat it.
func ParseKeys(text string) ([]Key, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("more than %d bytes are not keys", maxText)
	}
	var keys []Key
	n := 0
	for line := range strings.Lines(text) {
		n++
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for part := range strings.SplitSeq(line, ",") {
			fields := strings.Fields(part)
			if len(fields) == 0 {
				continue
			}
			k, err := parseFields(fields)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			if keys = append(keys, k); len(keys) > MaxKeys {
				return nil, fmt.Errorf("line %d: more than %d keys", n, MaxKeys)
			}
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("holds no key: %w", ErrKey)
	}
	return keys, nil
}

func parseFields(fields []string) (Key, error) {
	k, err := ParseKey(fields[0])
	if err != nil || len(fields) == 1 {
		return k, err
	}
	at, err := time.Parse(time.RFC3339, fields[1])
	if err != nil || len(fields) > 2 {
		return Key{}, errors.New("after the key, want nothing or when it was made, such as 2026-11-21T10:00:00Z")
	}
	k.created = at.UTC().Truncate(time.Second)
	return k, nil
}

// format writes keys so that ParseKeys reads them.
func format(keys []Key) []byte {
	var b bytes.Buffer
	b.WriteString("# Keys of the secrets in the database beside which this file was made. Keep a copy of\n" +
		"# it, apart from the backups: without it the secrets of all endpoints are lost.\n")
	for _, k := range keys {
		b.WriteString(k.Reveal())
		if !k.created.IsZero() {
			b.WriteByte(' ')
			b.WriteString(k.created.Format(time.RFC3339))
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// ErrMode: others than its owner may read or change the key file.
var ErrMode = errors.New("others may read it: chmod 600 it")

// ReadFile reads a key file. It wraps [os.ErrNotExist], [ErrMode] when the
// file's mode is wider than 0600, and [ErrKey].
func ReadFile(path string) ([]Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows": // which has no such modes
		return nil, fmt.Errorf("%s has mode %04o, %w", path, info.Mode().Perm(), ErrMode)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxText+1))
	if err != nil {
		return nil, err
	}
	keys, err := ParseKeys(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

// WriteFile makes the key file, or replaces it: with mode 0600, on disk before
// it takes its name. A crash leaves the old file or the new one.
func WriteFile(path string, keys []Key) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(format(keys))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	if runtime.GOOS == "windows" {
		return nil // cannot flush a directory
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
