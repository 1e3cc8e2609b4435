package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/spf13/cobra"
)

// migrationsBody is what "migrate" prints as JSON.
type migrationsBody struct {
	Schema int             `json:"schema"` // 0: there is no database
	Known  int             `json:"known"`
	Due    []migrationBody `json:"due"`
	Backup string          `json:"backup,omitempty"`
	Need   int64           `json:"need_bytes,omitempty"`
	Free   int64           `json:"free_bytes,omitempty"`
}

type migrationBody struct {
	Schema int    `json:"schema"`
	Name   string `json:"name"`
	Script string `json:"script,omitempty"`
}

func (a *app) migrateCommand() *cobra.Command {
	return family("migrate", "Bring the database of an earlier release forward, and see what that takes", `  grapnel migrate status
  grapnel migrate up`,
		a.migrateStatus(), a.migratePlan(), a.migrateUp())
}

func (a *app) migrateStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say of which schema the database is, and which steps are due",
		Long: `Say of which schema the database in the data directory (--data) is, and which
steps bring it to this program's. Changes nothing; a daemon may run. A database of a
newer release ends with status 78.`,
		Example: `  grapnel migrate status
  grapnel migrate status --data /var/lib/grapnel --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			m, err := a.migrations(c.Context())
			if err != nil {
				return err
			}
			return a.show(bodyOfMigrations(m, false), func() {
				if a.nothingDue(m) {
					return
				}
				a.printf("The database is of schema %d, this program's is %d. Due at the next start:\n", m.Schema, m.Known)
				for _, step := range m.Due {
					a.printf("  %s\n", step.Name)
				}
			})
		},
	}
}

func (a *app) migratePlan() *cobra.Command {
	return &cobra.Command{
		Use:   "plan",
		Short: "Show what the next start, or migrate up, would do to the database",
		Long: `Show what the next start of the daemon, or "grapnel migrate up", would do to the
database in the data directory (--data): the backup that is made, the room that it
takes, and the statements. Changes nothing; a daemon may run.`,
		Example: `  grapnel migrate plan
  grapnel migrate plan --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			m, err := a.migrations(c.Context())
			if err != nil {
				return err
			}
			return a.show(bodyOfMigrations(m, true), func() {
				if a.nothingDue(m) {
					return
				}
				a.printf("From schema %d to schema %d:\n\n", m.Schema, m.Known)
				if m.Backup != "" {
					a.printf("1. The database is copied to %s, and the copy is checked.\n   That takes %s; %s are free.\n", m.Backup, size(m.Need), size(m.Free))
				}
				a.printf("2. Each of these steps is one transaction:\n")
				for _, step := range m.Due {
					a.printf("\n-- %s\n%s", step.Name, step.Script)
				}
			})
		},
	}
}

func (a *app) migrateUp() *cobra.Command {
	return &cobra.Command{
		Use:   "up",
		Short: "Bring the database forward now, without starting the daemon",
		Long: `Copy the database in the data directory (--data) and bring it forward to this
program's schema: the same that "grapnel serve" does by itself when it starts. The
daemon must be stopped. What is interrupted goes on with the next try.`,
		Example: `  grapnel migrate up
  grapnel migrate up --data /var/lib/grapnel --json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			held, err := lock(a.data)
			if err != nil {
				return err
			}
			defer held.Close()
			m, err := sqlite.Migrate(c.Context(), sqlite.Options{Dir: a.data, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				return err
			}
			return a.show(bodyOfMigrations(m, false), func() {
				if a.nothingDue(m) {
					return
				}
				a.printf("The database was of schema %d and is of schema %d now.\n", m.Schema, m.Known)
				if m.Backup != "" {
					a.printf("As it was before: %s. Keep it until you are sure that you will not go back.\n", m.Backup)
				}
			})
		},
	}
}

// migrations looks at the database; one of a newer release is an error.
func (a *app) migrations(ctx context.Context) (sqlite.Migrations, error) {
	m, err := sqlite.PlanMigrations(ctx, a.data)
	if err == nil && m.Schema > m.Known {
		err = fmt.Errorf("%w: schema %d, this program knows %d", sqlite.ErrNewer, m.Schema, m.Known)
	}
	return m, err
}

// nothingDue says so, when it is.
func (a *app) nothingDue(m sqlite.Migrations) bool {
	switch {
	case m.Schema == 0:
		a.printf("There is no database in %s: the daemon makes one at its start.\n", a.data)
	case len(m.Due) == 0:
		a.printf("Nothing to do: the database is of schema %d, as this program's is.\n", m.Schema)
	}
	return len(m.Due) == 0
}

func bodyOfMigrations(m sqlite.Migrations, scripts bool) migrationsBody {
	b := migrationsBody{Schema: m.Schema, Known: m.Known, Due: []migrationBody{}, Backup: m.Backup, Need: m.Need, Free: m.Free}
	for _, step := range m.Due {
		due := migrationBody{Schema: step.Schema, Name: step.Name}
		if scripts {
			due.Script = step.Script
		}
		b.Due = append(b.Due, due)
	}
	return b
}
