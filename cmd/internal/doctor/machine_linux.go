package doctor

import (
	"time"

	"golang.org/x/sys/unix"
)

// SeeClock asks the kernel (adjtimex(2)), and sets nothing.
func SeeClock() Clock {
	var t unix.Timex // Modes 0: read only
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return Clock{}
	}
	return Clock{Known: true, Synced: state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, Error: time.Duration(t.Maxerror) * time.Microsecond}
}

// fileSystems are the kinds that a data directory should not be on.
var fileSystems = map[uint32]FileSystem{
	unix.NFS_SUPER_MAGIC:       {"NFS", network},
	unix.SMB_SUPER_MAGIC:       {"SMB", network},
	unix.SMB2_SUPER_MAGIC:      {"SMB", network},
	unix.CIFS_SUPER_MAGIC:      {"CIFS", network},
	unix.CEPH_SUPER_MAGIC:      {"CephFS", network},
	unix.AFS_SUPER_MAGIC:       {"AFS", network},
	unix.V9FS_MAGIC:            {"9p", network},
	unix.FUSE_SUPER_MAGIC:      {"FUSE", unknown},
	unix.TMPFS_MAGIC:           {"tmpfs", memory},
	unix.RAMFS_MAGIC:           {"ramfs", memory},
	unix.OVERLAYFS_SUPER_MAGIC: {"overlayfs", layered},
}

func seeFileSystem(dir string) (fs FileSystem, free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fs, 0, 0, err
	}
	return fileSystems[uint32(st.Type)], int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}
