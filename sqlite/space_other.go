//go:build !unix

package sqlite

import "math"

// DiskSpace is not known here.
func DiskSpace(string) (free, total int64, err error) { return math.MaxInt64, math.MaxInt64, nil }

// freeBytes is not known here: a disk that is full shows when it is written.
func freeBytes(string) (int64, error) { return math.MaxInt64, nil }
