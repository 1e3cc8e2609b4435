// Package databases has a data directory of each schema that a release wrote, so
// that every later release can prove that it brings it forward (REL-35).
//
//	schema-2/data.tar.gz     the directory: books, key of the secrets, streams
//	schema-2/answers.json.gz what that release answered about it: path → body
//
// They are made by scripts/golden-database with the binary of the release, and
// never changed. The books are held, as those that come from a backup, so that
// nothing is sent; their endpoints lead to the loopback interface. A schema
// without a directory here was in no release.
package databases

import (
	"archive/tar"
	"compress/gzip"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

//go:embed schema-*/*.gz
var files embed.FS

// Schemas are the versions that there are directories of, in ascending order.
func Schemas() []int {
	names, err := fs.Glob(files, "schema-*")
	if err != nil {
		panic(err) // the pattern is wrong
	}
	var all []int
	for _, name := range names {
		if v, err := strconv.Atoi(strings.TrimPrefix(name, "schema-")); err == nil {
			all = append(all, v)
		}
	}
	slices.Sort(all)
	return all
}

// Unpack writes the data directory of a schema to dir, which has to be there.
func Unpack(schema int, dir string) (err error) {
	name, unzipped, err := opened(schema, "data.tar.gz")
	if err != nil {
		return err
	}
	for r := tar.NewReader(unzipped); ; {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = unpack(r, h, dir)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// unpack writes one entry; all of them are directories and files.
func unpack(r io.Reader, h *tar.Header, dir string) (err error) {
	if !filepath.IsLocal(h.Name) {
		return fmt.Errorf("%q leads out of the directory", h.Name)
	}
	to := filepath.Join(dir, h.Name)
	if h.Typeflag == tar.TypeDir {
		return os.MkdirAll(to, 0o700)
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, r)
	return err
}

// Answers are what the release answered to GET, by path below /api/v1.
func Answers(schema int) (map[string]json.RawMessage, error) {
	name, unzipped, err := opened(schema, "answers.json.gz")
	if err != nil {
		return nil, err
	}
	var answers map[string]json.RawMessage
	if err := json.NewDecoder(unzipped).Decode(&answers); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return answers, nil
}

func opened(schema int, file string) (name string, _ io.Reader, err error) {
	name = fmt.Sprintf("schema-%d/%s", schema, file)
	f, err := files.Open(name)
	if err != nil {
		return name, nil, err
	}
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return name, nil, fmt.Errorf("%s: %w", name, err)
	}
	return name, unzipped, nil
}
