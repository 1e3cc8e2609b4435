// Command task runs the project's task runner out of its own module.
//
// The runner, go-task, needs over a hundred modules. As a tool of the root
// go.mod they would take part in choosing the versions that grapnel is built
// from; so they are required in .ci/tools/go.mod only. This command is the
// root's tool instead, needs nothing but Go, and lets
//
//	go tool task check
//
// do what would otherwise read
//
//	go tool -modfile=.ci/tools/go.mod task check
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
)

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "task:", err)
	}
	os.Exit(code)
}

// run starts the runner in the current directory and returns its exit status.
func run(args []string) (int, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return 1, fmt.Errorf("find the project's go.mod: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(out)))
	modfile := filepath.Join(root, ".ci", "tools", "go.mod")

	cmd := exec.Command("go", append([]string{"tool", "-modfile=" + modfile, "task"}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr

	// An interrupt from the terminal reaches the runner too, and it decides
	// how to end; this process only waits to hand its status on.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)

	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	if err != nil {
		return 1, fmt.Errorf("start %s: %w", modfile, err)
	}
	return 0, nil
}
