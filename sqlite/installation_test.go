package sqlite

import (
	"testing"

	"github.com/grapnel-hooks/grapnel/testdata/databases"
)

// Whoever goes back to the copy from before an upgrade, or to a backup of then, and
// upgrades again, has the id that the streams were marked with the first time.
func TestInstallationOfAnEarlierSchema(t *testing.T) {
	id := func(dir string) string {
		t.Helper()
		s := open(t, Options{Dir: dir})
		defer shut(t, s)
		return s.Installation()
	}
	earlier := func() string {
		dir := t.TempDir()
		if err := databases.Unpack(2, dir); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	once, again := earlier(), earlier()
	first := id(once)
	if second := id(again); second != first || first == "" {
		t.Errorf("the same books are %q once and %q another time", first, second)
	}
	if kept := id(once); kept != first {
		t.Errorf("at the next start it is %q, and was %q", kept, first)
	}
	if a, b := id(t.TempDir()), id(t.TempDir()); a == b {
		t.Errorf("two new databases are both %q", a)
	}
}
