package main

import (
	"os"
	"strings"
)

// systemLimits are the limits of this process by their names in Linux, soft/hard;
// none elsewhere.
func systemLimits() map[string]string {
	text, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		return nil
	}
	limits := map[string]string{}
	for line := range strings.Lines(string(text)) {
		const name, value = 26, 21 // columns
		if len(line) < name+2*value || strings.HasPrefix(line, "Limit ") {
			continue
		}
		soft, hard := strings.TrimSpace(line[name:name+value]), strings.TrimSpace(line[name+value:name+2*value])
		limits[strings.TrimSpace(line[:name])] = soft + "/" + hard
	}
	for name, file := range map[string]string{"memory of the control group": "/sys/fs/cgroup/memory.max", "processors of the control group": "/sys/fs/cgroup/cpu.max"} {
		if text, err := os.ReadFile(file); err == nil {
			limits[name] = strings.TrimSpace(string(text))
		}
	}
	return limits
}
