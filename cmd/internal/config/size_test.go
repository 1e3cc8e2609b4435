package config

import "testing"

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{
		"1": 1, "1048576": 1 << 20, "20GiB": 20 << 30, "500 MiB": 500 << 20, "2TiB": 2 << 40, "64KB": 64000, "7B": 7, "3GB": 3e9,
		"": 0, "0": 0, "-1": 0, "GiB": 0, "1.5GiB": 0, "20G": 0, "9999999TiB": 0, "off": 0, "1GiBB": 0,
	} {
		got, err := Size(text)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
}
