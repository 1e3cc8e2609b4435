// Package doctor judges whether a machine is fit for a daemon: its clock, its
// names, its disk, its limits, the files in the data directory.
//
// Each check has two halves: one looks, and says what it saw in a value; the
// other makes a [Finding] of that value and of nothing else, so that both good and
// bad machines are cases of a test. Looking changes nothing but a file that is
// written and removed in the data directory, and sends nothing to another machine.
package doctor

import "fmt"

// Status is how a check ended.
type Status string

// The statuses, the best first.
const (
	OK   Status = "ok"
	Warn Status = "warn" // it works, but something will go wrong one day
	Fail Status = "fail" // something does not work, or what was acknowledged can be lost
)

// Finding is what a check has found: one line for people.
type Finding struct {
	Check  string `json:"check"` // what was looked at: "clock"
	Status Status `json:"status"`
	What   string `json:"what"` // was seen
	Do     string `json:"do"`   // about it; "" if it is ok
}

func good(check, format string, args ...any) Finding {
	return Finding{Check: check, Status: OK, What: fmt.Sprintf(format, args...)}
}

func bad(check string, s Status, do, format string, args ...any) Finding {
	return Finding{Check: check, Status: s, What: fmt.Sprintf(format, args...), Do: do}
}

// Worst is the status of the worst of them; OK of none.
func Worst(all []Finding) Status {
	rank := map[Status]int{OK: 0, Warn: 1, Fail: 2}
	worst := OK
	for _, f := range all {
		if rank[f.Status] > rank[worst] {
			worst = f.Status
		}
	}
	return worst
}

// size is a number of bytes for people.
func size(n int64) string {
	const k = 1 << 10
	switch {
	case n >= k*k*k:
		return fmt.Sprintf("%.1f GiB", float64(n)/(k*k*k))
	case n >= k*k:
		return fmt.Sprintf("%.0f MiB", float64(n)/(k*k))
	}
	return fmt.Sprintf("%.0f KiB", float64(n)/k)
}
