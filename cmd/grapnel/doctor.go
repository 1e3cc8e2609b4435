package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/config"
	"github.com/grapnel-hooks/grapnel/cmd/internal/doctor"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) doctorCommand() *cobra.Command {
	var e httpapi.Examination
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look whether machine, configuration, broker and books are well",
		Long: `Look whether all is well that the daemon depends on, and say what to do about what
is not: clock, names, disk and flushes, limits, permissions, configuration, key,
books, backup, broker, and where deliveries may go. Exit status 1 if anything
fails; a warning is none.

When a daemon runs on --data, it looks by itself, with its own limits. Otherwise
the command looks, with the flags of "grapnel serve", at what is there. Nothing is
changed, and nothing leaves this machine but to the broker, unless you ask:
--resolve looks a name up, and --egress connects to a receiver as an attempt would,
without a request, if the guard allows it.`,
		Example: `  grapnel doctor --config /etc/grapnel/grapnel.yaml
  grapnel doctor --data /var/lib/grapnel --egress hooks.customer.example:443`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, wrong := config.Load(c.Flags(), os.LookupEnv)
			if wrong != nil || cfg.Data == "" {
				if cfg.Data = a.data; c.Flags().Changed("data") {
					cfg.Data, _ = c.Flags().GetString("data")
				}
			}
			found, err := a.examined(c.Context(), cfg, wrong, e)
			if err != nil {
				return err
			}
			for _, v := range config.UnknownVariables(os.Environ()) {
				found = append(found, variableFinding(v))
			}
			return a.showFindings(found)
		},
	}
	config.Flags(c.Flags())
	c.Flags().StringVar(&e.Resolve, "resolve", "", "look this `name` up, and say where deliveries to it may go")
	c.Flags().StringVar(&e.Egress, "egress", "", "connect to this `host:port` as an attempt would, without a request")
	return c
}

// examined asks the daemon, or looks by itself when none runs. wrong is why the
// configuration that is said to the command cannot be used.
func (a *app) examined(ctx context.Context, cfg config.Serve, wrong error, e httpapi.Examination) ([]doctor.Finding, error) {
	daemon := client.New(cfg.Data)
	answer, err := daemon.Examine(ctx, e)
	switch {
	case errors.Is(err, client.ErrNotRunning):
		found := []doctor.Finding{{Check: "daemon", Status: doctor.Warn, What: "none runs on " + cfg.Data, Do: "grapnel serve, when the rest is well"}}
		if wrong != nil {
			return append(found, configFinding(false, wrong.Error(), nil)), nil
		}
		return append(found, examineOffline(ctx, cfg, e)...), nil
	case err != nil:
		return nil, err
	}
	found := make([]doctor.Finding, len(answer.Data))
	for i, f := range answer.Data {
		found[i] = doctor.Finding{Check: f.Check, Status: doctor.Status(f.Status), What: f.What, Do: f.Do}
	}
	return found, nil
}

// showFindings prints one line for each, and what to do below those that are not
// well.
func (a *app) showFindings(found []doctor.Finding) error {
	worst := doctor.Worst(found)
	out := struct {
		Worst  doctor.Status    `json:"worst"`
		Checks []doctor.Finding `json:"checks"`
	}{worst, found}
	err := a.show(out, func() {
		width, count := 0, map[doctor.Status]int{}
		for _, f := range found {
			width = max(width, utf8.RuneCountInString(f.Check))
			count[f.Status]++
		}
		i := a.ink()
		paint := map[doctor.Status]func(string) string{doctor.OK: i.green, doctor.Warn: i.yellow, doctor.Fail: i.red}
		for _, f := range found {
			a.printf("%s  %-*s  %s\n", paint[f.Status](fmt.Sprintf("%-4s", f.Status)), width, f.Check, oneLine(f.What))
			if f.Do != "" {
				a.printf("%s→ %s\n", strings.Repeat(" ", width+8), oneLine(f.Do))
			}
		}
		a.printf("\n%d checks: %d ok, %d warnings, %d failures\n", len(found), count[doctor.OK], count[doctor.Warn], count[doctor.Fail])
	})
	if err == nil && worst == doctor.Fail {
		err = errReported
	}
	return err
}
