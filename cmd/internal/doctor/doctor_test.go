package doctor

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// judged runs cases of one check: each has a status and a part of what is said.
func judged(t *testing.T, name string, got Finding, status Status, part string) {
	t.Helper()
	if got.Status != status || !strings.Contains(got.What, part) {
		t.Errorf("%s: %s %q, want %s with %q", name, got.Status, got.What, status, part)
	}
	if (got.Do == "") != (got.Status == OK) {
		t.Errorf("%s: %s, and to be done is %q", name, got.Status, got.Do)
	}
}

func TestClock(t *testing.T) {
	for _, c := range []struct {
		name   string
		clock  Clock
		status Status
		part   string
	}{
		{"kept right", Clock{Known: true, Synced: true, Error: 3 * time.Millisecond}, OK, "3ms"},
		{"nothing keeps it", Clock{Known: true, Error: time.Millisecond}, Warn, "not synchronized"},
		{"said to be right, far off", Clock{Known: true, Synced: true, Error: 3 * time.Second}, Warn, "off by 3s"},
		{"no answer", Clock{}, Warn, "does not say"},
	} {
		judged(t, c.name, c.clock.Finding(), c.status, c.part)
	}
}

func TestDisk(t *testing.T) {
	good := Disk{Free: 100 << 30, Total: 200 << 30, Sync: time.Millisecond}
	for _, c := range []struct {
		name   string
		change func(*Disk)
		check  int // of the findings
		status Status
		part   string
	}{
		{"room", func(*Disk) {}, 0, OK, "50 %"},
		{"little room", func(d *Disk) { d.Free = 1 << 30 }, 0, Warn, "1.0 GiB"},
		{"a small share of a large disk", func(d *Disk) { d.Total = 20 << 40 }, 0, Warn, "(0 %)"},
		{"none for the broker", func(d *Disk) { d.Free = 100 << 20 }, 0, Fail, "takes nothing below 512 MiB"},
		{"not there", func(d *Disk) { d.Err = fs.ErrPermission }, 0, Fail, "permission"},
		{"local", func(*Disk) {}, 1, OK, "local"},
		{"NFS", func(d *Disk) { d.FS = FileSystem{"NFS", network} }, 1, Fail, "NFS is a network"},
		{"tmpfs", func(d *Disk) { d.FS = FileSystem{"tmpfs", memory} }, 1, Warn, "memory"},
		{"a container's layer", func(d *Disk) { d.FS = FileSystem{"overlayfs", layered} }, 1, Warn, "container"},
		{"FUSE", func(d *Disk) { d.FS = FileSystem{"FUSE", unknown} }, 1, Warn, "hides"},
		{"flushes", func(*Disk) {}, 2, OK, "1ms"},
		{"flushes that reach nothing", func(d *Disk) { d.Sync = 2 * time.Microsecond }, 2, Warn, "less than any disk"},
		{"in memory that is no wonder", func(d *Disk) { d.Sync, d.FS = 2*time.Microsecond, FileSystem{"tmpfs", memory} }, 2, OK, "2µs"},
		{"slow flushes", func(d *Disk) { d.Sync = 80 * time.Millisecond }, 2, Warn, "80ms"},
		{"no flushes", func(d *Disk) { d.SyncErr = errors.New("read-only file system") }, 2, Fail, "read-only"},
	} {
		d := good
		c.change(&d)
		judged(t, c.name, d.Findings()[c.check], c.status, c.part)
	}
	if n := len((Disk{Free: 1 << 40, Total: 1 << 40, Above: true}).Findings()); n != 2 {
		t.Errorf("%d findings of a directory that is not there yet; flushes cannot be tried", n)
	}
}

func TestSeeDisk(t *testing.T) {
	dir := t.TempDir()
	if d := SeeDisk(dir); d.Err != nil || d.SyncErr != nil || d.Total == 0 || d.Sync == 0 || d.Above {
		t.Errorf("saw %+v", d)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("it left %v behind, %v", left, err)
	}
	if d := SeeDisk(filepath.Join(dir, "not", "there")); d.Err != nil || !d.Above || d.Total == 0 {
		t.Errorf("of one that is not there it saw %+v", d)
	}
}

func TestLimits(t *testing.T) {
	good := Limits{Files: 65536, Requests: 12288, Memory: 8 << 30, NeedMemory: 1 << 30, Where: "the machine"}
	for _, c := range []struct {
		name   string
		change func(*Limits)
		check  int
		status Status
		part   string
	}{
		{"many files", func(*Limits) {}, 0, OK, "65536"},
		{"some files", func(l *Limits) { l.Files = 5000 }, 0, OK, "5000 may be open"},
		{"few files", func(l *Limits) { l.Files, l.Requests = 1024, 768 }, 0, Warn, "768 requests"},
		{"memory", func(*Limits) {}, 1, OK, "8.0 GiB of the machine"},
		{"too little memory", func(l *Limits) { l.Memory, l.Where = 512<<20, "the control group" }, 1, Warn, "512 MiB of the control group"},
		{"not known", func(l *Limits) { l.Memory = 0 }, 1, OK, "cannot be told"},
	} {
		l := good
		c.change(&l)
		judged(t, c.name, l.Findings()[c.check], c.status, c.part)
	}
}

func TestMemoryLimit(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  int64
		where string
	}{
		{"nothing is known", nil, 0, ""},
		{"the machine", map[string]string{"/proc/meminfo": "MemTotal:       1024 kB\nMemFree: 1 kB\n", "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "max\n"}, 1 << 20, "the machine"},
		{"its group", map[string]string{"/proc/meminfo": "MemTotal: 1024 kB\n", "/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/memory.max": "4096\n"}, 4096, "the control group"},
		{"the group above", map[string]string{"/proc/meminfo": "MemTotal: 1024 kB\n", "/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/b/memory.max": "max\n", "/sys/fs/cgroup/a/memory.max": "8192\n"}, 8192, "the control group"},
		{"an older kernel", map[string]string{"/proc/self/cgroup": "3:memory:/x\n2:cpu:/y\n", "/proc/meminfo": "MemTotal: 2 kB\n"}, 2048, "the machine"},
	} {
		read := func(name string) ([]byte, error) {
			if text, ok := c.files[name]; ok {
				return []byte(text), nil
			}
			return nil, fs.ErrNotExist
		}
		if got, where := memoryLimit(read); got != c.want || where != c.where {
			t.Errorf("%s: %d of %q, want %d of %q", c.name, got, where, c.want, c.where)
		}
	}
}

func TestNames(t *testing.T) {
	local, other := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.7")
	for _, c := range []struct {
		name   string
		names  Names
		status Status
		part   string
	}{
		{"well", Names{Servers: 2, Localhost: []netip.Addr{local, netip.IPv6Loopback()}}, OK, "2 name servers"},
		{"no server", Names{Localhost: []netip.Addr{local}}, Warn, "no name server"},
		{"no file", Names{ServerErr: fs.ErrNotExist}, Warn, "cannot be read"},
		{"no localhost", Names{Servers: 1, Err: errors.New("none")}, Warn, "localhost is not in"},
		{"localhost elsewhere", Names{Servers: 1, Localhost: []netip.Addr{local, other}}, Fail, "another machine"},
	} {
		judged(t, c.name, c.names.Finding(), c.status, c.part)
	}
	for _, c := range []struct {
		name   string
		lookup Lookup
		status Status
		part   string
	}{
		{"allowed", Lookup{Host: "h", Allowed: []netip.Addr{other}}, OK, "192.0.2.7"},
		{"refused", Lookup{Host: "h", Refused: []netip.Addr{local}}, Fail, "may not go"},
		{"some refused", Lookup{Host: "h", Allowed: []netip.Addr{other}, Refused: []netip.Addr{local}}, Warn, "but also"},
		{"nothing", Lookup{Host: "h", Err: errors.New("no such host")}, Fail, "no such host"},
	} {
		judged(t, c.name, c.lookup.Finding(), c.status, c.part)
	}
}

func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if f := SeeFiles(dir, ""); f.Finding().Status != Warn {
		t.Errorf("not there: %+v", f.Finding())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name string, mode fs.FileMode) {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
	}
	write("grapnel.db", 0o600)
	judged(t, "its owner's alone", SeeFiles(dir, "").Finding(), OK, "owner's alone")
	write("secrets.key", 0o644)
	judged(t, "an open key: the daemon does not start", SeeFiles(dir, "").Finding(), Fail, "secrets.key")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	judged(t, "an open file in an open directory", SeeFiles(dir, "").Finding(), Fail, "read secrets.key")
	write("secrets.key", 0o600)
	judged(t, "an open directory: the daemon does not start", SeeFiles(dir, "").Finding(), Fail, "look into")
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write("backup.json", 0o644)
	judged(t, "another open file", SeeFiles(dir, "").Finding(), Warn, "backup.json")
	write("backup.json", 0o600)
	write("grapnel.db-wal", 0o640)
	judged(t, "an open log of the database", SeeFiles(dir, "").Finding(), Fail, "grapnel.db-wal")
	write("grapnel.db-wal", 0o600)
	key := filepath.Join(t.TempDir(), "elsewhere.key")
	if err := errors.Join(os.WriteFile(key, nil, 0o600), os.Chmod(key, 0o640)); err != nil {
		t.Fatal(err)
	}
	judged(t, "the key elsewhere", SeeFiles(dir, key).Finding(), Fail, "elsewhere.key")
	judged(t, "another's", Files{Dir: dir, Mode: 0o700}.Finding(), Warn, "another user")
}

func TestWorst(t *testing.T) {
	all := []Finding{{Status: OK}, {Status: Fail}, {Status: Warn}}
	for n, want := range []Status{OK, OK, Fail, Fail} {
		if got := Worst(all[:n]); got != want {
			t.Errorf("of %d: %s, want %s", n, got, want)
		}
	}
	if got := Worst(slices.Concat(all[:1], all[2:])); got != Warn {
		t.Errorf("got %s", got)
	}
}
