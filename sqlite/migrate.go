package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// applicationID marks a file as ours: "GRPN" in its header.
const applicationID = 0x4752504e

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is one step from a schema version to the next. Versions count from
// 1 without gaps, and are what the file's user_version holds.
type migration struct {
	version int
	name    string
	script  string
}

// migrations reads the embedded scripts NNNN_name.sql in order.
func migrations(files fs.FS) ([]migration, error) {
	names, err := fs.Glob(files, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var ms []migration
	for i, name := range names {
		base := strings.TrimPrefix(name, "migrations/")
		number, _, _ := strings.Cut(base, "_")
		if v, err := strconv.Atoi(number); err != nil || v != i+1 {
			return nil, fmt.Errorf("migration %s: want number %04d", base, i+1)
		}
		script, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		ms = append(ms, migration{version: i + 1, name: base, script: string(script)})
	}
	return ms, nil
}

// migrate brings the database forward, one transaction for each step. A crash
// leaves it at the version of the last step that was committed; the next start
// goes on from there.
func migrate(ctx context.Context, c *sql.Conn, ms []migration, failpoint func(string)) error {
	var version int
	if err := c.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if version > len(ms) {
		return fmt.Errorf("%w: schema %d, this program knows %d", ErrNewer, version, len(ms))
	}
	for _, m := range ms[version:] {
		if err := migrateStep(ctx, c, m, failpoint); err != nil {
			return fmt.Errorf("migration %s: %w", m.name, err)
		}
	}
	return nil
}

func migrateStep(ctx context.Context, c *sql.Conn, m migration, failpoint func(string)) error {
	if _, err := c.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	steps := []string{
		m.script,
		fmt.Sprintf("PRAGMA application_id = %d", applicationID),
		fmt.Sprintf("PRAGMA user_version = %d", m.version), // part of the transaction
	}
	for _, step := range steps {
		if _, err := c.ExecContext(ctx, step); err != nil {
			c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
			return err
		}
	}
	failpoint("migrate.step")
	_, err := c.ExecContext(ctx, "COMMIT")
	return err
}
