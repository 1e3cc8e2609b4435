package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// benchProcess is this same binary, run as a part of a benchmark in a process
// of its own, so that CPU and memory are those of the part. It answers each
// line of its input with one line of JSON.
type benchProcess struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
}

// startPart runs "grapnel bench NAME ARGS" and reads its first answer.
func startPart(ctx context.Context, first any, name string, args ...string) (*benchProcess, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &benchProcess{name: name, cmd: exec.CommandContext(ctx, exe, append([]string{"bench", name}, args...)...)}
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReaderSize(out, 1<<20)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("bench %s: %w", name, err)
	}
	return p, p.read(first)
}

// startReceiver starts the part that receives, and says at which address.
func startReceiver(ctx context.Context) (receiver *benchProcess, address string, err error) {
	receiver, err = startPart(ctx, &address, "receiver")
	return receiver, address, err
}

// startWalk starts the part that walks streams, with bodies of 1,024 bytes for
// the receiver at the address.
func startWalk(ctx context.Context, address string) (*benchProcess, error) {
	var ready string
	return startPart(ctx, &ready, "walk", address, "1024")
}

func (p *benchProcess) read(answer any) error {
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("bench %s ended early: %w", p.name, err)
	}
	if err := json.Unmarshal(line, answer); err != nil {
		return fmt.Errorf("bench %s answered %.200q: %w", p.name, line, err)
	}
	return nil
}

// ask sends a request and reads its answer.
func (p *benchProcess) ask(answer any, format string, args ...any) error {
	if _, err := fmt.Fprintf(p.in, format+"\n", args...); err != nil {
		return fmt.Errorf("bench %s: %w", p.name, err)
	}
	return p.read(answer)
}

// close ends the process in its own way: at the end of its input.
func (p *benchProcess) close() error {
	p.in.Close()
	return p.cmd.Wait()
}

// kill ends a walk at once, without letting its requests end.
func (p *benchProcess) kill() error {
	if _, err := fmt.Fprintln(p.in, "quit"); err != nil {
		return fmt.Errorf("bench %s: %w", p.name, err)
	}
	return p.close()
}

// usage is what a process has used so far.
type usage struct {
	CPU  time.Duration // user and system
	RSS  int64         // bytes now
	Peak int64         // bytes at the most
}

func processUsage() usage {
	var r syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	u := usage{CPU: time.Duration(r.Utime.Nano() + r.Stime.Nano())}
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch name {
		case "VmRSS":
			u.RSS = kb << 10
		case "VmHWM":
			u.Peak = kb << 10
		}
	}
	return u
}
