package main

import (
	"strings"
	"testing"
)

func TestSpaceLacking(t *testing.T) {
	tests := []struct {
		name       string
		limits     spaceLimits
		free, used int64
		lacked     bool
		want       string // in the reason; "": there is room
	}{
		{"no limits", spaceLimits{}, 0, 1 << 40, false, ""},
		{"enough is free", spaceLimits{minFree: 1600}, 1600, 0, false, ""},
		{"too little is free", spaceLimits{minFree: 1600}, 1599, 0, false, "--min-free"},
		{"a little more than too little", spaceLimits{minFree: 1600}, 1699, 0, true, "--min-free"},
		{"enough is free again", spaceLimits{minFree: 1600}, 1700, 0, true, ""},
		{"small enough", spaceLimits{maxUsed: 1600}, 0, 1600, false, ""},
		{"too large", spaceLimits{maxUsed: 1600}, 0, 1601, false, "--store-max-bytes"},
		{"a little smaller than too large", spaceLimits{maxUsed: 1600}, 0, 1501, true, "--store-max-bytes"},
		{"small enough again", spaceLimits{maxUsed: 1600}, 0, 1500, true, ""},
		{"both", spaceLimits{minFree: 10, maxUsed: 10}, 1, 11, false, "store_full: 1 bytes of the disk are free, and 10 bytes have to be (--min-free)"},
	}
	for _, tt := range tests {
		got := tt.limits.lacking(tt.free, tt.used, tt.lacked)
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
