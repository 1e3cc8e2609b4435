package sqlite

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/testdata/databases"
)

var sealRuns = flag.String("seal-runs", "", "seal the keys of the events in this data `directory` in runs of 64: a step of scripts/golden-database")

// A run has 65,536 events, more than a database in testdata should have. So its
// runs are made by this, with the sources of the release that the database is of.
func TestSealRuns(t *testing.T) {
	if *sealRuns == "" {
		t.Skip("only with -seal-runs, for a new database in testdata")
	}
	awaitRuns(t, open(t, Options{Dir: *sealRuns, runSize: 64}), 8)
}

// golden is a data directory of a release with that schema.
func golden(t *testing.T, schema int) string {
	t.Helper()
	dir := t.TempDir()
	if err := databases.Unpack(schema, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// forEachSchema runs the test for each schema that a release had.
func forEachSchema(t *testing.T, test func(t *testing.T, schema int)) {
	for _, schema := range databases.Schemas() {
		t.Run(fmt.Sprintf("schema %d", schema), func(t *testing.T) { test(t, schema) })
	}
}

// shapeOf is what the database at path is made of: type and name → its SQL.
func shapeOf(t *testing.T, path string) map[string]string {
	t.Helper()
	shape := map[string]string{}
	for _, r := range rowsOf(t, path, "SELECT type || ' ' || name, ifnull(sql, '') FROM sqlite_schema") {
		shape[r[0]] = r[1]
	}
	return shape
}

// columnsOf are the columns of the tables that the database at path has.
func columnsOf(t *testing.T, path string) map[string][]string {
	t.Helper()
	columns := map[string][]string{}
	for _, r := range rowsOf(t, path, "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type='table' ORDER BY m.name, c.cid") {
		columns[r[0]] = append(columns[r[0]], r[1])
	}
	return columns
}

// contents are the rows of the given columns, by table.
func contents(t *testing.T, path string, columns map[string][]string) map[string][][]string {
	t.Helper()
	all := map[string][][]string{}
	for table, names := range columns {
		all[table] = rowsOf(t, path, "SELECT quote("+strings.Join(names, "), quote(")+") FROM "+table+" ORDER BY "+strings.Join(names, ", "))
	}
	return all
}

func rowsOf(t *testing.T, path, query string) (all [][]string) {
	t.Helper()
	db := openDB(path, "ro", 1, nil)
	defer db.Close()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		r := make([]string, len(names))
		into := make([]any, len(names))
		for i := range r {
			into[i] = &r[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// migrated checks that the books in dir, which had the given rows, are of this
// program's schema and have the rows still, and that the backup has them too.
func migrated(t *testing.T, dir string, schema int, columns map[string][]string, before map[string][][]string) {
	t.Helper()
	path := filepath.Join(dir, FileName)
	fresh := t.TempDir()
	s := open(t, Options{Dir: fresh})
	if diff := cmp.Diff(shapeOf(t, s.path), shapeOf(t, path)); diff != "" {
		t.Errorf("schema of a new database, and of the one brought forward (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, contents(t, path, columns)); diff != "" {
		t.Errorf("rows before and after (-want +got):\n%s", diff)
	}
	if got := rowsOf(t, path, "PRAGMA integrity_check"); len(got) != 1 || got[0][0] != "ok" {
		t.Errorf("integrity: %v", got)
	}
	if schema == s.schema {
		return
	}
	backup := backupBefore(path, schema)
	info, err := os.Stat(backup)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the backup %v", info.Mode())
	}
	delete(before, "hold") // the mark of a backup
	delete(columns, "hold")
	if diff := cmp.Diff(before, contents(t, backup, columns)); diff != "" {
		t.Errorf("rows before, and in the backup (-want +got):\n%s", diff)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.part*")); left != nil {
		t.Errorf("left over: %v", left)
	}
}

func migrateOptions(dir string) Options {
	return Options{Dir: dir, Log: slog.New(slog.DiscardHandler)}
}

// REL-35: the books of every release are brought forward, and lose nothing.
func TestMigrateEveryRelease(t *testing.T) {
	forEachSchema(t, func(t *testing.T, schema int) {
		dir := golden(t, schema)
		path := filepath.Join(dir, FileName)
		columns := columnsOf(t, path)
		before := contents(t, path, columns)
		for table, rows := range before {
			// What is not there: the stream of an endpoint that is behind has lost nothing.
			if len(rows) == 0 && !strings.HasPrefix(table, "sqlite_") && table != "endpoint_gaps" {
				t.Errorf("table %s has no row, so nothing is proven of it", table)
			}
		}
		plan, err := PlanMigrations(t.Context(), dir)
		if err != nil || plan.Schema != schema {
			t.Fatalf("plan: %+v, %v", plan, err)
		}
		done, err := Migrate(t.Context(), migrateOptions(dir))
		if err != nil {
			t.Fatal(err)
		}
		if len(done.Due) != len(plan.Due) {
			t.Errorf("planned %d steps and took %d", len(plan.Due), len(done.Due))
		}
		migrated(t, dir, schema, columns, before)
		if again, err := Migrate(t.Context(), migrateOptions(dir)); err != nil || len(again.Due) != 0 {
			t.Errorf("once more: %+v, %v", again, err)
		}
		s := open(t, Options{Dir: dir}) // everything in memory can be built from it, and its secrets opened
		if err := s.Resume(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// The helper process of TestMigrateKilled: it is killed where the test says.
func TestMigrateThenDie(t *testing.T) {
	dir, where, _ := strings.Cut(os.Getenv("GRAPNEL_TEST_DIE"), "|")
	if dir == "" {
		t.Skip("only as the helper of TestMigrateKilled")
	}
	o := migrateOptions(dir)
	passed := map[string]int{}
	o.Failpoint = func(name string) {
		passed[name]++
		if fmt.Sprintf("%s %d", name, passed[name]) == where {
			self, _ := os.FindProcess(os.Getpid())
			self.Kill()
			select {}
		}
	}
	_, err := Migrate(t.Context(), o)
	t.Fatalf("still alive: %v", err)
}

// REL-35: killed at any point of a migration, the next start goes on, and the
// books are as if nothing had happened.
func TestMigrateKilled(t *testing.T) {
	forEachSchema(t, func(t *testing.T, schema int) {
		plan, err := PlanMigrations(t.Context(), golden(t, schema))
		if err != nil {
			t.Fatal(err)
		}
		if len(plan.Due) == 0 {
			t.Skip("is the present one")
		}
		points := []string{"migrate.copied 1", "migrate.backed 1", "migrate.done 1"}
		for i := range plan.Due {
			points = append(points, fmt.Sprintf("migrate.step %d", i+1), fmt.Sprintf("migrate.stepped %d", i+1))
			for j := range 3 { // the script, and the two marks of the schema
				points = append(points, fmt.Sprintf("migrate.statement %d", 3*i+j+1))
			}
		}
		for _, point := range points {
			t.Run(point, func(t *testing.T) {
				dir := golden(t, schema)
				path := filepath.Join(dir, FileName)
				columns := columnsOf(t, path)
				before := contents(t, path, columns)
				helper := exec.Command(os.Args[0], "-test.run", "^TestMigrateThenDie$", "-test.timeout", "60s")
				helper.Env = append(os.Environ(), "GRAPNEL_TEST_DIE="+dir+"|"+point)
				out, err := helper.CombinedOutput()
				if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.Exited() {
					t.Fatalf("the helper was not killed: %v\n%s", err, out)
				}
				if _, err := Migrate(t.Context(), migrateOptions(dir)); err != nil {
					t.Fatal(err)
				}
				// Whoever dies after the last step has nothing to do any more.
				migrated(t, dir, schema, columns, before)
			})
		}
	})
}

func TestMigrateNeedsRoom(t *testing.T) {
	dir := golden(t, firstReleased)
	path := filepath.Join(dir, FileName)
	before := shapeOf(t, path)
	o := migrateOptions(dir)
	o.free = func(string) (int64, error) { return migrationRoom, nil } // and nothing for the copy
	if _, err := Migrate(t.Context(), o); !errors.Is(err, fanout.ErrFull) || !strings.Contains(err.Error(), "MiB are free") {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(backupBefore(path, firstReleased)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a backup: %v", err)
	}
	if diff := cmp.Diff(before, shapeOf(t, path)); diff != "" {
		t.Errorf("schema (-before +after):\n%s", diff)
	}
}

// A backup of an earlier upgrade is in nobody's way: one of the same schema is
// replaced, one of an older schema removed once the books are brought forward.
func TestMigrateReplacesOldBackups(t *testing.T) {
	dir := golden(t, firstReleased)
	path := filepath.Join(dir, FileName)
	if err := os.WriteFile(backupBefore(path, firstReleased), []byte("of an upgrade that was taken back"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Migrate(t.Context(), migrateOptions(dir)); err != nil {
		t.Fatal(err)
	}
	if err := checkHeader(backupBefore(path, firstReleased)); err != nil {
		t.Errorf("the backup: %v", err)
	}
	// The next release.
	ms, err := migrations(migrationFiles)
	if err != nil {
		t.Fatal(err)
	}
	o := migrateOptions(dir)
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	next := append(ms, migration{len(ms) + 1, "next.sql", "CREATE TABLE next(id INTEGER PRIMARY KEY)"})
	if err := bringForward(context.Background(), path, next, &o); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(path + ".schema-*"); !cmp.Equal(left, []string{backupBefore(path, len(ms))}) {
		t.Errorf("backups %v", left)
	}
}

// The backup is one that "grapnel restore" takes, for going back to the earlier
// release.
func TestBackupBeforeMigrationCanBeRestored(t *testing.T) {
	dir := golden(t, firstReleased)
	done, err := Migrate(t.Context(), migrateOptions(dir))
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if _, err := Restore(t.Context(), done.Backup, RestoreOptions{Dir: to, KeyFile: filepath.Join(dir, KeyFileName)}); err != nil {
		t.Fatal(err)
	}
	if plan, err := PlanMigrations(t.Context(), to); err != nil || plan.Schema != firstReleased {
		t.Errorf("restored: %+v, %v", plan, err)
	}
}

// REL-35: what comes after the first release only adds, in time that does not
// grow with the rows.
func TestMigrationsOnlyAdd(t *testing.T) {
	ms, err := migrations(migrationFiles)
	if err != nil {
		t.Fatal(err)
	}
	large := []string{"events", "deliveries", "attempts", "payloads", "segments", "key_chunks", "audit", "rejected"}
	path := filepath.Join(t.TempDir(), FileName)
	o := migrateOptions(filepath.Dir(path))
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	if err := create(t.Context(), path, ms[:firstReleased], o.Failpoint); err != nil {
		t.Fatal(err)
	}
	for _, m := range ms[firstReleased:] {
		shape, columns := shapeOf(t, path), columnsOf(t, path)
		if err := takeSteps(t.Context(), path, ms[:m.version], &o); err != nil {
			t.Fatal(err)
		}
		after := columnsOf(t, path)
		for table, names := range columns {
			if got := after[table]; len(got) < len(names) || !cmp.Equal(got[:len(names)], names) {
				t.Errorf("%s: table %s had the columns %v and has %v", m.name, table, names, got)
			}
		}
		now := shapeOf(t, path)
		for name, sql := range shape {
			if !strings.HasPrefix(name, "table ") && now[name] != sql {
				t.Errorf("%s: %s was %q and is %q", m.name, name, sql, now[name])
			}
		}
		for name, sql := range now {
			for _, table := range large {
				if _, old := shape[name]; !old && strings.HasPrefix(name, "index ") && strings.Contains(sql, " ON "+table+"(") {
					t.Errorf("%s: %s is made of every row of %s, while the daemon starts", m.name, name, table)
				}
				if strings.Contains(m.script, "UPDATE "+table+" ") {
					t.Errorf("%s changes every row of %s, while the daemon starts", m.name, table)
				}
			}
		}
	}
}
