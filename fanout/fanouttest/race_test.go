//go:build race

package fanouttest

const raceEnabled = true
