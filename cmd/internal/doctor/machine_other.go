//go:build unix && !linux

package doctor

import "golang.org/x/sys/unix"

// SeeClock knows nothing here.
func SeeClock() Clock { return Clock{} }

func seeFileSystem(dir string) (fs FileSystem, free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fs, 0, 0, err
	}
	return fs, int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize), nil
}
