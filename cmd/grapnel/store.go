package main

import (
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/spf13/cobra"
)

func (a *app) storeCommand() *cobra.Command {
	return family("store", "Look at the data directory's size, and make room on a full disk", `  grapnel store show
  grapnel store release-ballast`,
		a.storeShow(), a.storeRelease())
}

// storeSizes is the JSON of "store show"; bytes.
type storeSizes struct {
	Directory string `json:"directory"`
	Database  int64  `json:"database_bytes"`
	Log       int64  `json:"wal_bytes"`
	Streams   int64  `json:"streams_bytes"`
	Ballast   int64  `json:"ballast_bytes"`
	Free      int64  `json:"disk_free_bytes"`
	Disk      int64  `json:"disk_bytes"`
}

func (a *app) storeShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Show what the data directory holds, and what its disk has left",
		Long: `Show what the data directory (--data) holds, and what its disk has left. It looks
at the files, whether a daemon runs or not.`,
		Example: `  grapnel store show
  grapnel store show --data /var/lib/grapnel --json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			free, total, err := sqlite.DiskSpace(a.data)
			if err != nil {
				return err
			}
			s := storeSizes{Directory: a.data, Ballast: sqlite.Ballast(a.data), Free: free, Disk: total}
			s.Database, s.Log = treeSize(filepath.Join(a.data, sqlite.FileName)), treeSize(filepath.Join(a.data, sqlite.FileName+"-wal"))
			s.Streams = treeSize(filepath.Join(a.data, "nats"))
			return a.show(s, func() {
				var f facts
				f.add("directory", s.Directory)
				f.add("database", byteSize(s.Database))
				f.add("write-ahead log", byteSize(s.Log))
				f.add("streams", byteSize(s.Streams))
				f.add("ballast", byteSize(s.Ballast))
				f.add("free on the disk", byteSize(s.Free)+" of "+byteSize(s.Disk))
				f.print(a.out, a.ink())
			})
		},
	}
}

// treeSize is the bytes of a file, or of all files below a directory; what is not
// there has none.
func treeSize(path string) (bytes int64) {
	filepath.WalkDir(path, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // a file may go at any moment
		}
		if info, err := e.Info(); err == nil {
			bytes += info.Size()
		}
		return nil
	})
	return bytes
}

// released is the JSON of "store release-ballast".
type released struct {
	Freed int64 `json:"freed_bytes"`
}

func (a *app) storeRelease() *cobra.Command {
	return &cobra.Command{
		Use:   "release-ballast",
		Short: "Give up the ballast: room for a database on a full disk",
		Long: `Remove the file "ballast" from the data directory (--data). On a full disk nothing can
be deleted from a database, since that has to be written first; with this room it
can. A running daemon goes on by itself, and makes the file again once there is
enough room.`,
		Example: `  grapnel store release-ballast
  grapnel store release-ballast --data /var/lib/grapnel`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			freed, err := sqlite.ReleaseBallast(a.data)
			if err != nil {
				return err
			}
			return a.show(released{freed}, func() {
				if freed == 0 {
					a.printf("There is no ballast in %s: nothing was freed.\n", a.data)
					return
				}
				fmt.Fprintf(a.out, "%s are free now. Find what fills the disk: the daemon makes the ballast again when there is room.\n", byteSize(freed))
			})
		},
	}
}
