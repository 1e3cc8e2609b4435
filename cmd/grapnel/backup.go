package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/grapnel-hooks/grapnel/sqlite/seal"
	"github.com/spf13/cobra"
)

// backedUp is what "backup" and "restore" print as JSON.
type backedUp struct {
	File          string    `json:"file"`
	Bytes         int64     `json:"bytes"`
	MadeAt        time.Time `json:"made_at"`
	Organizations int64     `json:"organizations"`
	Endpoints     int64     `json:"endpoints"`
	Pending       int64     `json:"pending"`
	Schema        int       `json:"schema"`
	Removed       []string  `json:"removed,omitempty"` // older backups
}

func backedUpOf(r sqlite.BackupReport) backedUp {
	return backedUp{
		File: r.File, Bytes: r.Bytes, MadeAt: r.MadeAt, Schema: r.Schema,
		Organizations: r.Organizations, Endpoints: r.Endpoints, Pending: r.Pending,
	}
}

func (a *app) backupCommand() *cobra.Command {
	var keep int
	c := &cobra.Command{
		Use:   "backup FILE|DIR",
		Short: "Copy the database to a file, while the daemon runs or not",
		Long: `Copy the database in the data directory (--data) to a new file, prove that the
copy is whole, and say what is in it. The daemon may run: it is not kept waiting.

Into a directory that is there, the file is named by its moment, in UTC:
grapnel-20261121T030000Z.db. With --keep, only the newest of those stay there.

Secrets in it are encrypted. The key file beside the database is not part of it:
keep a copy of that in another place. The streams of the embedded broker are not
part of it either.`,
		Example: `  grapnel backup /backups/before-the-move.db
  grapnel backup /backups --keep 7 --data /var/lib/grapnel --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			n := nightly{keep: keep, now: time.Now()}
			file, err := n.place(args[0], c.Flags().Changed("keep"))
			if err != nil {
				return err
			}
			r, err := sqlite.Backup(c.Context(), a.data, file, time.Now)
			if errors.Is(err, sqlite.ErrExists) {
				return fmt.Errorf("%w; a backup never replaces a file: give another name", err)
			}
			if err != nil {
				return err
			}
			// The backup is good whatever follows; what else went wrong is said, not hidden.
			if err := sqlite.NoteBackup(a.data, r); err != nil {
				fmt.Fprintf(a.err, "grapnel: the backup is made, but monitoring does not hear of it: %v\n", err)
			}
			removed, err := n.prune()
			out := backedUpOf(r)
			out.Removed = removed
			return errors.Join(a.show(out, func() {
				a.printf("Backed up to %s: %s, %d organizations, %d endpoints, %d pending deliveries, in %s.\n",
					r.File, size(r.Bytes), r.Organizations, r.Endpoints, r.Pending, r.Took.Round(time.Millisecond))
				for _, old := range removed {
					a.printf("Removed %s.\n", old)
				}
				a.printf("Its secrets need the key of this installation (%s): keep a copy of that elsewhere.\n", sqlite.KeyFileName)
			}), err)
		},
	}
	c.Flags().IntVar(&keep, "keep", 0, "of the backups in the directory, keep the newest `N`, this one among them")
	return c
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d KiB", (n+1023)/1024)
}

func (a *app) restoreCommand() *cobra.Command {
	var (
		keyFile string
		verify  bool
	)
	c := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a backup the database of a data directory that has none",
		Long: `Check a backup, which is what "grapnel backup" wrote or Litestream restored, and
make it the database of the data directory (--data), which must not have one: move
a damaged one away first, with its -wal and -shm. What else is in the directory
(the key file, the streams of the embedded broker) stays.

The daemon that starts then holds still: it serves publishers and answers, but
reads and sends nothing until "grapnel resume --confirm".

With --verify, it is checked and nothing is changed: do that with last night's
backup on another machine, and you know that it can be restored.`,
		Example: `  grapnel restore /backups/grapnel-20261121T030000Z.db --verify
  grapnel restore /backups/now.db --data /var/lib/grapnel --secrets-key-file /safe/secrets.key`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o := sqlite.RestoreOptions{Dir: a.data, KeyFile: keyFile}
			if text := os.Getenv("GRAPNEL_SECRETS_KEY"); text != "" && keyFile == "" {
				keys, err := seal.ParseKeys(text)
				if err != nil {
					return fmt.Errorf("GRAPNEL_SECRETS_KEY: %w", err)
				}
				o.Keys = keys
			}
			if verify {
				return a.verifyBackup(c.Context(), args[0], o)
			}
			held, err := lock(a.data)
			if err != nil {
				return err
			}
			defer held.Close()
			r, err := sqlite.Restore(c.Context(), args[0], o)
			switch {
			case errors.Is(err, sqlite.ErrExists):
				return fmt.Errorf("%w; move it away, with its -wal and -shm, then try again", err)
			case errors.Is(err, fs.ErrNotExist):
				return err
			case err != nil:
				return err
			}
			return a.show(backedUpOf(r), func() {
				a.printf("%s is the database of %s: %d organizations, %d endpoints, %d pending deliveries, as of %s.\n",
					filepath.Base(r.File), a.data, r.Organizations, r.Endpoints, r.Pending, moment(r.MadeAt))
				a.printf("What was changed since then is as it was: tokens that were revoked are valid again, secrets and endpoints are the old ones.\n")
				a.printf("Start the daemon: it holds still. Then see what it would do again: grapnel resume\n")
			})
		},
	}
	c.Flags().BoolVar(&verify, "verify", false, "only prove that FILE is whole and that its key is there")
	c.Flags().StringVar(&keyFile, "secrets-key-file", os.Getenv("GRAPNEL_SECRETS_KEY_FILE"), "key `file` of the backup's secrets (GRAPNEL_SECRETS_KEY_FILE; default: secrets.key in the data directory)")
	return c
}

// verifyBackup is "restore --verify".
func (a *app) verifyBackup(ctx context.Context, file string, o sqlite.RestoreOptions) error {
	r, err := sqlite.Verify(ctx, file, o)
	if errors.Is(err, sqlite.ErrKey) {
		return fmt.Errorf("the file is whole, but cannot be restored here: %w", err)
	}
	if err != nil {
		return err
	}
	return a.show(backedUpOf(r), func() {
		a.printf("%s can be restored: %s, schema %d, %d organizations, %d endpoints, %d pending deliveries, as of %s. Its key is here.\n",
			r.File, size(r.Bytes), r.Schema, r.Organizations, r.Endpoints, r.Pending, moment(r.MadeAt))
	})
}

func (a *app) resumeCommand() *cobra.Command {
	var confirm bool
	c := &cobra.Command{
		Use:   "resume",
		Short: "Say what a restored daemon would read and send again, and let it begin",
		Long: `Say what the daemon, which holds still since its database was put back,
would read and send again; with --confirm, let it begin. What is sent twice has the
same webhook-id as before, so that receivers can tell.`,
		Example: `  grapnel resume
  grapnel resume --confirm`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := a.client().Hold(c.Context())
			if err != nil {
				return err
			}
			if confirm && h.Held {
				if err := a.client().Resume(c.Context()); err != nil {
					return err
				}
			}
			now := h
			now.Held = h.Held && !confirm
			return a.show(now, func() { a.printHold(h, confirm) })
		},
	}
	c.Flags().BoolVar(&confirm, "confirm", false, "begin")
	return c
}

// heldSince says what the database is and of when.
func heldSince(h httpapi.HoldBody) string {
	at := momentOf(h.BackupMadeAt)
	switch sqlite.HoldReason(h.Reason) {
	case sqlite.HoldOlder:
		return fmt.Sprintf("The database is not the one that was last used in this directory: it is an older copy of it, as of about %s, or another.", at)
	case sqlite.HoldAlone:
		return fmt.Sprintf("The database came here without %s, which lies beside it: it is a copy, as of about %s.", sqlite.HomeName, at)
	}
	return fmt.Sprintf("The database is a backup of %s.", at)
}

func (a *app) printHold(h httpapi.HoldBody, confirmed bool) {
	if !h.Held {
		a.printf("Nothing is held: the daemon reads and sends.\n")
		return
	}
	a.printf("%s Since then the streams have got ahead of it:\n\n", heldSince(h))
	a.printf("  %d events lie after the cursors and are read; those that were delivered after the backup was made are sent again\n", h.Unread)
	a.printf("  %d deliveries were pending and are sent; those that were delivered since are sent again\n\n", h.Pending)
	for _, org := range h.Unknown {
		a.printf("%s: its stream cannot be asked now, so it is not in these numbers.\n", org)
	}
	if confirmed {
		a.printf("Reading and sending begin.\n")
		return
	}
	a.printf("Each has the webhook-id that it had, so that receivers can tell. Look at the endpoints and tokens first; then:\n\n  grapnel resume --confirm\n")
}
