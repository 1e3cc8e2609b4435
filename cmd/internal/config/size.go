package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// units are what a size may end with, the longer ones first.
var units = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// Size reads a number of bytes, such as 20GiB, 500MB or 1048576; at least 1.
func Size(s string) (int64, error) {
	number, factor := s, int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			number, factor = n, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || n < 1 || n > math.MaxInt64/factor {
		return 0, fmt.Errorf("%q: want a size, such as 500MiB or 20GiB", s)
	}
	return n * factor, nil
}

// sizeOrOff is 0 for off.
func sizeOrOff(s string) (int64, error) {
	if s == "off" {
		return 0, nil
	}
	n, err := Size(s)
	if err != nil {
		return 0, fmt.Errorf("%w, or off", err)
	}
	return n, nil
}
