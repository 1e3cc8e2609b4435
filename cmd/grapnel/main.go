// Command grapnel delivers the events of organizations to their endpoints as
// signed webhooks.
//
// One binary is the daemon ("grapnel serve"), its command line (everything that
// talks to the daemon over the socket in the data directory), a receiver for
// people who build one ("grapnel listen"), and a demonstration of it all
// ("grapnel demo"). serve.go puts the daemon together, daemon.go wires the
// walk inside it; every other command is a file of its name.
package main

import (
	"context"
	"os"
	"runtime/debug"
)

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200) // the live heap is small, and limitMemory bounds what it grows to
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
