package doctor

import "time"

// Clock is what the kernel says of its clock.
type Clock struct {
	Known  bool // the kernel was asked and answered
	Synced bool // something keeps it right (NTP, PTP, the hypervisor)
	Error  time.Duration
}

// maxClockError is how far off a clock may be that is said to be kept right.
const maxClockError = 2 * time.Second

// Finding judges the clock: retries and ages are told by it, and receivers refuse
// signatures that are minutes off.
func (c Clock) Finding() Finding {
	const check, do = "clock", "run chrony or systemd-timesyncd; receivers refuse signatures whose time is off by minutes"
	switch {
	case !c.Known:
		return bad(check, Warn, do, "the kernel does not say whether something keeps the clock right")
	case !c.Synced:
		return bad(check, Warn, do, "nothing keeps the clock right (the kernel says it is not synchronized)")
	case c.Error > maxClockError:
		return bad(check, Warn, do, "the clock may be off by %v", c.Error.Round(time.Millisecond))
	}
	return good(check, "kept right, to %v", c.Error.Round(time.Millisecond))
}
