package fanout

import (
	"testing"

	"github.com/grapnel-hooks/grapnel/stream"
)

func TestThreatened(t *testing.T) {
	for _, c := range []struct {
		name               string
		began, first, last stream.Seq // the stream's first sequence when it began, and now
		place              stream.Seq
		want               bool
	}{
		{"nobody has looked", 0, 50, 1000, 60, false},
		{"it loses nothing", 1, 1, 1000, 0, false},
		{"far behind its first", 1, 101, 1100, 500, false},
		{"a tenth is left", 1, 101, 1100, 200, false},
		{"less is left", 1, 101, 1100, 199, true},
		{"lost already", 1, 101, 1100, 50, true},
		{"at its end", 1, 1101, 1100, 1100, false},
		{"all is lost", 1, 1101, 1100, 500, true},
	} {
		is := Catchup{First: c.began, Seq: c.place}
		if got := is.Threatened(stream.State{First: c.first, Last: c.last}); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
