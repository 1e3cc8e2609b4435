package deliver

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The same fault is told of once a minute, however often it is met, with how often
// it was.
func TestCalm(t *testing.T) {
	var c calm
	began := time.Unix(1_700_000_000, 0)
	var told []string
	for i := range 150 { // one a second
		now := began.Add(time.Duration(i) * time.Second)
		if n, ok := c.tell(now); ok {
			told = append(told, now.Sub(began).String()+" "+time.Duration(n).String())
		}
	}
	if diff := cmp.Diff([]string{"0s 0s", "1m0s 59ns", "2m0s 59ns"}, told); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
