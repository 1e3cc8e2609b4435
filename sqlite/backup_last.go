package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// LastBackupName is a file in the data directory that says when, where and how
// the last good backup was made, for those who watch. It is a file and no row of
// the books, so that a backup of a dead daemon's books is known too, and so that a
// restored database does not say that it was saved when it was not.
const LastBackupName = "backup.json"

// lastBackupLimit is the most that is read of it, in bytes.
const lastBackupLimit = 64 << 10

// lastBackup is the shape of that file.
type lastBackup struct {
	MadeAt time.Time `json:"made_at"` // what was committed until then is in it
	File   string    `json:"file"`    // absolute
	Bytes  int64     `json:"bytes"`
	Schema int       `json:"schema"`
	TookMS int64     `json:"took_ms"`
}

// NoteBackup writes down that the books in dir have been saved. Whoever reads
// meanwhile sees the backup before or this one.
func NoteBackup(dir string, r BackupReport) (err error) {
	path := filepath.Join(dir, LastBackupName)
	defer func() {
		if err != nil {
			err = fmt.Errorf("note the backup in %s: %w", path, err)
		}
	}()
	file, err := filepath.Abs(r.File)
	if err != nil {
		return err
	}
	return replaceJSON(dir, LastBackupName, lastBackup{r.MadeAt.UTC(), file, r.Bytes, r.Schema, r.Took.Milliseconds()})
}

// LastBackup is what [NoteBackup] wrote last: the file, its moment, bytes, schema and
// how long it took. It fails with [fs.ErrNotExist] when no backup was ever made of
// the books in dir. The file itself may be gone meanwhile; that is not looked at.
func LastBackup(dir string) (BackupReport, error) {
	path := filepath.Join(dir, LastBackupName)
	info, err := os.Stat(path)
	if err != nil {
		return BackupReport{}, err
	}
	if !info.Mode().IsRegular() || info.Size() > lastBackupLimit {
		return BackupReport{}, fmt.Errorf("%s: not what a backup wrote: remove it, and make a backup", path)
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return BackupReport{}, err
	}
	var last lastBackup
	if err == nil {
		err = json.Unmarshal(text, &last)
	}
	if err == nil && last.MadeAt.IsZero() {
		err = errors.New("it has no made_at")
	}
	if err != nil {
		return BackupReport{}, fmt.Errorf("%s: %w: remove it, and make a backup", path, err)
	}
	return BackupReport{
		File: last.File, Bytes: last.Bytes, Schema: last.Schema, MadeAt: last.MadeAt, Took: time.Duration(last.TookMS) * time.Millisecond,
	}, nil
}
