package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/grapnel-hooks/grapnel/cmd/internal/client"
	"github.com/grapnel-hooks/grapnel/cmd/internal/config"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/spf13/cobra"
)

func (a *app) configCommand() *cobra.Command {
	return family("config", "Look at the daemon's configuration, and check it", `  grapnel config print --effective
  grapnel config check /etc/grapnel/grapnel.yaml`,
		a.configPrint(), a.configCheck())
}

func (a *app) configPrint() *cobra.Command {
	var effective, running bool
	c := &cobra.Command{
		Use:   "print",
		Short: "Show what the settings are, and where each was said",
		Long: `Show what the daemon's settings are and where each was said: by a flag, a
variable, a line of the file, or nowhere, so that the default holds. It takes
the flags of "grapnel serve", and reads the same variables and file; a daemon
need not run. Without --effective it shows only what somebody has said.

With --running it asks the daemon, over the socket in --data, what it uses, and
shows beside it what its file says by now: RELOAD is "yes" where "grapnel reload"
is enough, and "restart" where it is not.

Secrets are not shown: of URLs the user and the password are left out.`,
		Example: `  grapnel config print --config /etc/grapnel/grapnel.yaml --effective
  grapnel config print --running --data /var/lib/grapnel`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.Load(c.Flags(), os.LookupEnv)
			if running {
				data := cfg.Data
				if err != nil { // of what is said now; the daemon read it when it was right
					if data = a.data; c.Flags().Changed("data") {
						data, _ = c.Flags().GetString("data")
					}
				}
				failed := a.printRunning(c, client.New(data), effective)
				if err != nil && errors.Is(failed, client.ErrNotRunning) {
					return fmt.Errorf("no grapnel is running on %s; if data is said in the file, use --data, since the file cannot be read: %w", data, err)
				}
				return failed
			}
			if err != nil {
				return err
			}
			a.warnVariables()
			return a.printConfig(cfg, effective)
		},
	}
	config.Flags(c.Flags())
	c.Flags().BoolVar(&effective, "effective", false, "show the defaults, too")
	c.Flags().BoolVar(&running, "running", false, "show what the running daemon uses")
	return c
}

// printConfig shows a configuration that was just read.
func (a *app) printConfig(cfg config.Serve, all bool) error {
	values := shownSettings(cfg.Effective(), all)
	out := struct {
		File     string         `json:"file"`
		Settings []config.Value `json:"settings"`
	}{cfg.File, values}
	return a.show(out, func() {
		t := &table{columns: []string{"SETTING", "VALUE", "FROM"}}
		for _, v := range values {
			t.add(v.Key, strings.Join(v.Values, ", "), from(v))
		}
		if len(values) == 0 {
			a.printf("Nothing is said: the defaults hold; --effective shows them.\n")
			return
		}
		t.print(a.out, a.ink())
	})
}

// shownSettings are those that somebody has said, or all of them.
func shownSettings(values []config.Value, all bool) []config.Value {
	if all {
		return values
	}
	return slices.DeleteFunc(values, func(v config.Value) bool { return v.Source == config.Default })
}

// from is where a value was said, for people.
func from(v config.Value) string {
	if v.Source == config.Default {
		return "default"
	}
	return v.Where
}

// printRunning shows what the daemon uses, and what a reload would change.
func (a *app) printRunning(c *cobra.Command, daemon *client.Client, all bool) error {
	body, err := daemon.Configuration(c.Context())
	if err != nil {
		return err
	}
	now := map[string]httpapi.SettingChange{}
	for _, d := range body.Differs {
		now[d.Key] = d
	}
	if !all {
		body.Settings = slices.DeleteFunc(body.Settings, func(v httpapi.Setting) bool {
			_, differs := now[v.Key]
			return v.Source == string(config.Default) && !differs
		})
	}
	return a.show(body, func() {
		t := &table{columns: []string{"SETTING", "VALUE", "FROM", "NOW SAID", "RELOAD"}}
		for _, v := range body.Settings {
			where, said, reload := v.Where, "", ""
			if where == "" {
				where = v.Source
			}
			if d, differs := now[v.Key]; differs {
				said, reload = changedTo(d), "restart"
				if d.Reload {
					reload = "yes"
				}
			}
			t.add(v.Key, strings.Join(v.Value, ", "), where, said, reload)
		}
		if len(body.Settings) == 0 {
			a.printf("Nothing was said: the defaults hold; --effective shows them.\n")
		} else {
			t.print(a.out, a.ink())
		}
		if body.Problem != "" {
			a.printf("\n%s: %s\n", a.ink().red("What is said now cannot be used, and the daemon goes on with the above"), body.Problem)
		}
	})
}

// changedTo is what is said now; of a secret only that it is another.
func changedTo(d httpapi.SettingChange) string {
	switch to := strings.Join(d.To, ", "); {
	case to == strings.Join(d.From, ", "):
		return "another secret"
	case to == "":
		return "nothing"
	default:
		return to
	}
}

func (a *app) configCheck() *cobra.Command {
	c := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check that a configuration can be used; exit status 78 if not",
		Long: `Check the configuration that "grapnel serve" would read, with the same flags and
variables, and the given file in place of --config. Everything that is wrong is
said at once, with the line, and ends with exit status 78. Files that settings
name (certificates, credentials) must be there. Nothing is started or changed.

A variable GRAPNEL_… that is no setting is warned of: the daemon does so, too.`,
		Example: `  grapnel config check /etc/grapnel/grapnel.yaml
  grapnel config check --config grapnel.yaml --json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				if c.Flags().Changed("config") {
					return &usageError{fmt.Errorf("FILE and --config are both given: use one of them")}
				}
				if err := c.Flags().Set("config", args[0]); err != nil {
					return err
				}
			}
			cfg, err := config.Load(c.Flags(), os.LookupEnv)
			if err != nil {
				return err
			}
			a.warnVariables()
			n := len(shownSettings(cfg.Effective(), false))
			out := struct {
				File string `json:"file"`
				Said int    `json:"settings_said"`
			}{cfg.File, n}
			return a.show(out, func() {
				name := cfg.File
				if name == "" {
					name = "The configuration"
				}
				a.printf("%s can be used: %d settings are said, the others have their defaults.\n", name, n)
			})
		},
	}
	config.Flags(c.Flags())
	return c
}

// warnVariables says which variables look like settings and are none.
func (a *app) warnVariables() {
	for _, v := range config.UnknownVariables(os.Environ()) {
		text := ""
		if v.Nearest != "" {
			text = ": did you mean " + v.Nearest + "?"
		}
		fmt.Fprintf(a.err, "grapnel: warning: %s is no setting%s\n", v.Name, text)
	}
}
