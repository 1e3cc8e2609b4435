package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/config"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/spf13/cobra"
)

// Exit statuses (OPS-11). Scripts rely on them.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitCorrupt = 65 // the database is damaged, or not one
	exitRunning = 75 // another daemon has the data directory
	exitConfig  = 78 // the configuration, or a database from a newer version
)

// run is the whole program. It returns the exit status.
//
// The first SIGINT or SIGTERM ends ctx, so that the command stops in good order.
// From then on signals have their usual effect: the second one ends the
// process at once.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := untilSignal(ctx)
	defer stop()

	a := &app{in: stdin, out: stdout, err: stderr}
	root := a.command()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	c, err := root.ExecuteContextC(ctx)
	return a.report(c, err)
}

// untilSignal ends the context at the first SIGINT or SIGTERM, when signals have
// their usual effect again: whoever can see that the first one was heard can rely
// on the second.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
		}
		signal.Stop(signals)
		cancel()
	}()
	return ctx, cancel
}

// app is what the commands share: the streams, and the flags that all have.
type app struct {
	in       io.Reader
	out, err io.Writer
	data     string // --data
	json     bool   // --json
	reach    reach
	began    bool           // arguments and flags were right
	api      *client.Client // once it began, if the command talks to the daemon
}

// errReported ends a command with status 1 that has said already why.
var errReported = errors.New("reported")

// statusError ends a command with a status that has a meaning of its own, when the
// command has said already why.
type statusError struct{ status int }

func (e *statusError) Error() string { return fmt.Sprintf("exit status %d", e.status) }

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "grapnel",
		Short: "Deliver the events of organizations to their endpoints as signed webhooks",
		Long: `grapnel delivers events as signed webhooks.

An organization owns endpoints. A service appends events to the organization's
stream. Each event becomes one delivery for each subscribed endpoint, and each
delivery is attempted until it is delivered or dead.

The commands that manage and look talk to the daemon over the socket in its data
directory (--data), where they may do everything; or, from anywhere, over the
network with --url and an API token, which may do what its scopes say.

Start with "grapnel demo", which shows all of it in a few seconds.`,
		Example: `  grapnel demo
  grapnel serve --data ./grapnel-data`,
		Args:              cobra.NoArgs,
		SilenceErrors:     true,
		SilenceUsage:      true,
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRunE: a.begin,
	}
	dir := "./grapnel-data"
	if v := os.Getenv("GRAPNEL_DATA"); v != "" {
		dir = v
	}
	root.PersistentFlags().StringVar(&a.data, "data", dir, "the daemon's data `directory` (GRAPNEL_DATA)")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON")
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run:"},
		&cobra.Group{ID: "manage", Title: "Manage and look:"},
		&cobra.Group{ID: "build", Title: "Build and measure:"},
	)
	group := func(id string, commands ...*cobra.Command) {
		for _, c := range commands {
			if c.GroupID = id; id == "manage" {
				a.reach.define(c.PersistentFlags())
			}
			root.AddCommand(c)
		}
	}
	group("run", a.serveCommand(), a.demoCommand(), a.backupCommand(), a.restoreCommand(), a.migrateCommand(), a.storeCommand())
	group("run", a.configCommand(), a.doctorCommand(), a.supportBundleCommand())
	group("manage", a.orgCommand(), a.endpointCommand(), a.eventCommand(), a.eventTypeCommand(), a.deliveryCommand(), a.replayCommand(), a.cursorCommand(),
		a.tokenCommand(), a.auditCommand(), a.keysCommand(), a.fsckCommand(), a.aliveCommand(), a.resumeCommand())
	group("manage", a.reloadCommand(), a.logLevelCommand())
	group("build", a.listenCommand(), benchCommand(), a.versionCommand())
	root.SetHelpCommandGroupID("build")
	root.SetCompletionCommandGroupID("build")
	a.completeArgs(root)
	return root
}

// family makes a command that only has subcommands. Without one of them it is
// wrong usage.
func family(use, short, example string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Example: example, Args: cobra.ArbitraryArgs}
	c.RunE = func(c *cobra.Command, args []string) error {
		var names []string
		for _, s := range commands {
			names = append(names, s.Name())
		}
		if len(args) == 0 {
			return &usageError{fmt.Errorf("say what to do: %s", strings.Join(names, ", "))}
		}
		return &usageError{fmt.Errorf("unknown command %q: known are %s", args[0], strings.Join(names, ", "))}
	}
	c.AddCommand(commands...)
	return c
}

// usageError is wrong usage that only the command itself can see.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }

// report says what went wrong and returns the exit status.
func (a *app) report(c *cobra.Command, err error) int {
	var (
		usage *usageError
		conf  *config.Error
		lock  *lockedError
		open  *exposedError
		own   *statusError
	)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errReported):
		return exitFailed
	case errors.As(err, &own):
		return own.status
	case !a.began, errors.As(err, &usage), errors.As(err, &conf) && conf.Flag:
		fmt.Fprintf(a.err, "grapnel: %v\nUsage: %s\nSee \"%s --help\".\n", err, c.UseLine(), c.CommandPath())
		return exitUsage
	case errors.Is(err, client.ErrNotRunning):
		hint := "grapnel serve"
		if a.data != "./grapnel-data" {
			hint += " --data " + a.data
		}
		fmt.Fprintf(a.err, "grapnel: %v: start one with \"%s\"\n", err, hint)
		return exitFailed
	}
	var refused *httpapi.Problem
	if errors.As(err, &refused) && hint(refused) != "" {
		err = fmt.Errorf("%w: %s", err, hint(refused))
	}
	fmt.Fprintf(a.err, "grapnel: %v\n", err)
	switch {
	case errors.As(err, &lock):
		return exitRunning
	case errors.As(err, &conf), errors.As(err, &open), errors.Is(err, sqlite.ErrNewer), errors.Is(err, sqlite.ErrOlder), errors.Is(err, sqlite.ErrKey):
		return exitConfig
	case errors.Is(err, sqlite.ErrCorrupt):
		return exitCorrupt
	}
	return exitFailed
}
