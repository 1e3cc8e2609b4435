package fanouttest

import (
	"flag"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

var (
	simSeed  = flag.Uint64("seed", 0, "run this one seed of the simulation")
	simSeeds = flag.Uint64("seeds", 0, "how many seeds of the simulation to run; 0: 1,000, fewer with -short and -race")
	simTell  = flag.Bool("tell", false, "tell what the simulation does")
)

// simulate runs one seed and returns the first promise that was broken, or "".
func simulate(t *testing.T, seed uint64, m mutant) (broken string) {
	synctest.Test(t, func(t *testing.T) {
		s := newSim(t, seed, m)
		broken = s.run()
	})
	return broken
}

// TestSimulation runs the real loop and the real lanes over a stream, books and
// receivers in memory, in virtual time. The seed says what happens: events come,
// endpoints come and go, receivers fail, the broker goes away, streams lose
// messages, the disk is full, calls fail or only seem to, and the daemon crashes
// anywhere, again and again. The books are checked after every step. In the end
// all faults cease, and everything must drain.
//
// Goroutines are scheduled by the Go runtime, so a seed that fails may need a few
// runs to fail again (-count).
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		if broken := simulate(t, *simSeed, mutant{}); broken != "" {
			t.Errorf("seed %d: %s", *simSeed, broken)
		}
		return
	}
	seeds := *simSeeds
	if seeds == 0 {
		seeds = 1000
		if testing.Short() || raceEnabled {
			seeds = 100
		}
	}
	var next, failed atomic.Uint64
	t.Run("seeds", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for seed := next.Add(1); seed <= seeds && failed.Load() < 5; seed = next.Add(1) {
					if broken := simulate(t, seed, mutant{}); broken != "" {
						failed.Add(1)
						t.Errorf("%s\n\tgo test ./fanout/fanouttest -run 'TestSimulation$' -seed=%d -count=5", broken, seed)
					}
				}
			})
		}
	})
}

// mutant breaks one rule.
type mutant struct {
	broken      Broken
	offersFirst bool // deliveries are handed over before they are committed
	tellsTwice  bool // operational events are appended without a dedupe key

	neverOpens   bool // failures in a row change nothing
	ignoresHolds bool // Retry-After is not obeyed
	unordered    bool // lanes know of no order
}

// TestSimulationCatchesMutants proves that the simulation can fail: each rule
// that is broken on purpose must be noticed by one of the first seeds.
func TestSimulationCatchesMutants(t *testing.T) {
	const bound = 1000
	for name, m := range map[string]mutant{
		"the unique key is gone":                    {broken: Broken{NoUniqueKey: true}},
		"the cursor moves before the commit":        {broken: Broken{CursorFirst: true}},
		"an outcome is lost":                        {broken: Broken{LoseOutcomes: 50}},
		"deliveries are handed over before commit":  {offersFirst: true},
		"the backlog is forgotten at start":         {broken: Broken{ForgetBacklog: true}},
		"plans of old subscriptions are committed":  {broken: Broken{NoVersion: true}},
		"an outcome brings back what was cancelled": {broken: Broken{Revive: true}},
		"plans are committed in spite of a pause":   {broken: Broken{PauseInVain: true}},
		"what is skipped is not recorded":           {broken: Broken{SkipInSilence: true}},
		"how far it was read is forgotten":          {broken: Broken{ForgetFurthest: true}},
		"a catch-up ends too early":                 {broken: Broken{OpenEarly: true}},
		"a catch-up ends too late":                  {broken: Broken{OpenLate: true}},
		"a catch-up's place moves before its rows":  {broken: Broken{PlaceFirst: true}},
		"a replay's place is not committed":         {broken: Broken{RowsOnly: true}},
		"order is ignored":                          {unordered: true},
		"lines are forgotten at start":              {broken: Broken{ForgetLines: true}},
		"what is held back is not booked":           {broken: Broken{ForgetHeld: true}},
		"payloads are not kept":                     {broken: Broken{ForgetPayloads: true}},
		"operational events cause themselves":       {broken: Broken{TellOfTelling: true}},
		"operational events have no dedupe key":     {tellsTwice: true},
		"circuits never open":                       {neverOpens: true},
		"Retry-After holds nobody":                  {ignoresHolds: true},
		"the health of endpoints is forgotten":      {broken: Broken{ForgetHealth: true}},
		"what is read again is not filtered":        {broken: Broken{ForgetFilters: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); seed <= bound; seed++ {
				if broken := simulate(t, seed, m); broken != "" {
					t.Logf("seed %d: %s", seed, broken)
					return
				}
			}
			t.Errorf("not noticed by %d seeds", bound)
		})
	}
}
