package doctor

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits are what the process may use, and what it needs.
type Limits struct {
	Files      uint64 // descriptors that it may open
	Requests   int    // that may be in flight with them
	Memory     int64  // bytes that it may use: of its control group, else of the machine; 0: not known
	NeedMemory int64  // bytes that its organizations and endpoints account for
	Where      string // the memory's limit comes from
}

// enoughFiles lets as many requests be in flight as the daemon ever makes.
const enoughFiles = 16384

// fewFiles is too few for many endpoints that hang.
const fewFiles = 4096

// SeeLimits asks the system. Requests and NeedMemory are the caller's.
func SeeLimits() Limits {
	var l Limits
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		l.Files = uint64(files.Cur)
	}
	l.Memory, l.Where = memoryLimit(os.ReadFile)
	return l
}

// memoryLimit is the smallest limit of the control groups above this process, else
// the machine's memory.
func memoryLimit(read func(string) ([]byte, error)) (bytes int64, where string) {
	if text, err := read("/proc/meminfo"); err == nil {
		if rest, ok := strings.CutPrefix(string(text), "MemTotal:"); ok {
			if fields := strings.Fields(rest); len(fields) > 0 {
				if kib, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
					bytes, where = kib<<10, "the machine"
				}
			}
		}
	}
	group := ""
	if text, err := read("/proc/self/cgroup"); err == nil {
		if _, path, ok := strings.Cut(strings.TrimSpace(string(text)), "0::"); ok {
			group = strings.TrimSuffix(strings.SplitN(path, "\n", 2)[0], "/")
		}
	}
	for {
		if text, err := read("/sys/fs/cgroup" + group + "/memory.max"); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && (bytes == 0 || n < bytes) {
				bytes, where = n, "the control group"
			}
		}
		up := strings.LastIndexByte(group, '/')
		if up < 0 {
			return bytes, where
		}
		group = group[:up]
	}
}

// Findings judges descriptors and memory.
func (l Limits) Findings() []Finding {
	files := good("descriptors", "%d may be open, so %d requests in flight", l.Files, l.Requests)
	if l.Files < enoughFiles {
		s := Warn
		if l.Files >= fewFiles {
			s = OK
		}
		files = bad("descriptors", s, "raise LimitNOFILE (ulimit -n) to 65536", "%d may be open, so %d requests in flight; 12288 with more than %d", l.Files, l.Requests, enoughFiles)
		if s == OK {
			files.Do = ""
		}
	}
	memory := good("memory", "%s of %s, %s are enough for the organizations and endpoints", size(l.Memory), l.Where, size(l.NeedMemory))
	switch {
	case l.Memory == 0:
		memory = good("memory", "how much there is cannot be told; %s are enough for the organizations and endpoints", size(l.NeedMemory))
	case l.Memory < l.NeedMemory:
		memory = bad("memory", Warn, "give it more: docs/sizing.md says how much what takes", "%s of %s, and the organizations and endpoints may need %s", size(l.Memory), l.Where, size(l.NeedMemory))
	}
	return []Finding{files, memory}
}
