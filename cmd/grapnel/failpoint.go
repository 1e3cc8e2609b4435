//go:build !chaos

package main

// failpoints is what durable steps are told of while they happen. In a binary
// for use that is nobody: see the other half, which tests build with -tags
// chaos to kill the daemon where it hurts.
func failpoints() (func(name string), error) { return nil, nil }
