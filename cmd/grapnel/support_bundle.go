package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// bundleName is how a bundle is called that nobody gave a name; with its time.
const bundleName = "grapnel-support-20060102T150405Z.tar.gz"

func (a *app) supportBundleCommand() *cobra.Command {
	var o bundleOptions
	c := &cobra.Command{
		Use:   "support-bundle [FILE.tar.gz]",
		Short: "Pack what somebody needs who looks for a fault from afar",
		Long: `Pack what somebody needs who looks for a fault from afar into one file of mode
0600: version, settings, doctor, cursors, health of endpoints, metrics, the last
1,000 lines of the log, goroutines, heap, a recording of the last seconds, sizes,
limits, and whether the books are proven.

There are no payloads in it, no secrets, no values of headers, and of endpoints'
URLs only the host. There are names of organizations, endpoints and event types:
what is in it is printed, so look into it before you send it to anybody.

What cannot be had is left out, and said. When no daemon runs on --data, the
settings are those of --config and the environment, and everything that only a
daemon knows is left out.`,
		Example: `  grapnel support-bundle
  grapnel support-bundle /tmp/grapnel.tar.gz --fsck 0 --flight 10s`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			now := time.Now().UTC()
			file := now.Format(bundleName)
			if len(args) == 1 {
				file = args[0]
			}
			switch {
			case o.fsck < 0 || o.fsck > 10*time.Minute:
				return &usageError{fmt.Errorf("--fsck %v: want 0 to 10m", o.fsck)}
			case o.flight < 0 || o.flight > mostSeconds*time.Second || o.flight%time.Second != 0:
				return &usageError{fmt.Errorf("--flight %v: want whole seconds, 0 to %ds", o.flight, mostSeconds)}
			}
			b, err := a.bundle(c.Context(), file, now, o)
			if err != nil {
				return err
			}
			return a.show(b, func() { a.printBundle(b) })
		},
	}
	c.Flags().DurationVar(&o.fsck, "fsck", 20*time.Second, "how long to try to prove the books; 0 leaves it out")
	c.Flags().DurationVar(&o.flight, "flight", usualSeconds*time.Second, "how long to record what the process does; 0 leaves it out")
	c.Flags().StringVar(&o.config, "config", os.Getenv("GRAPNEL_CONFIG"), "when no daemon runs: the `file` of its configuration")
	return c
}

// bundleOptions is what may be asked of a bundle.
type bundleOptions struct {
	fsck, flight time.Duration
	config       string
}

// bundle is what was packed.
type bundle struct {
	File   string       `json:"file"`
	MadeAt time.Time    `json:"made_at"`
	Daemon bool         `json:"daemon"` // one runs
	Parts  []bundlePart `json:"parts"`
}

// bundlePart is one file in a bundle, or why it is not there.
type bundlePart struct {
	Name    string `json:"name"`
	Bytes   int    `json:"bytes"`
	What    string `json:"what"`
	Missing string `json:"missing,omitempty"`
}

// bundle packs a file that is not there yet.
func (a *app) bundle(ctx context.Context, file string, now time.Time, o bundleOptions) (b bundle, err error) {
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return b, fmt.Errorf("%s is there already: name another file", file)
	}
	if err != nil {
		return b, err
	}
	defer func() {
		if closed := out.Close(); err == nil {
			err = closed
		}
		if err != nil {
			os.Remove(file)
		}
	}()
	b = bundle{File: file, MadeAt: now, Daemon: daemonLives(a.data)}
	zipped := gzip.NewWriter(out)
	packed := tar.NewWriter(zipped)
	for _, p := range a.bundleParts(o, b.Daemon) {
		part := bundlePart{Name: p.name, What: p.what}
		content, err := p.make(ctx)
		if ctx.Err() != nil {
			return b, ctx.Err()
		}
		if err != nil {
			part.Missing = oneLine(err.Error())
		} else if err := pack(packed, p.name, now, content); err != nil {
			return b, fmt.Errorf("write %s: %w", file, err)
		}
		part.Bytes = len(content)
		b.Parts = append(b.Parts, part)
	}
	if err := pack(packed, "README.txt", now, []byte(b.readme())); err != nil {
		return b, fmt.Errorf("write %s: %w", file, err)
	}
	if err := errors.Join(packed.Close(), zipped.Close()); err != nil {
		return b, fmt.Errorf("write %s: %w", file, err)
	}
	return b, nil
}

// pack adds one file to an archive.
func pack(w *tar.Writer, name string, at time.Time, content []byte) error {
	h := &tar.Header{Name: "grapnel-support/" + name, Mode: 0o600, Size: int64(len(content)), ModTime: at, Typeflag: tar.TypeReg}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// readme says in the bundle what the command printed.
func (b bundle) readme() string {
	var text strings.Builder
	fmt.Fprintf(&text, "What grapnel %s packed at %s.\n\n", buildVersion(), b.MadeAt.Format(time.RFC3339))
	if !b.Daemon {
		text.WriteString("No daemon was running. What it logged is with whoever ran it, such as: journalctl -u grapnel -n 1000\n\n")
	}
	b.list(&text)
	text.WriteString("\n" + bundleHolds + "\n")
	return text.String()
}

const bundleHolds = "No payloads, secrets or values of headers are in it, and of URLs only the host.\nNames of organizations, endpoints and event types are: look into it before you send it."

func (b bundle) list(w io.Writer) {
	for _, p := range b.Parts {
		if p.Missing != "" {
			fmt.Fprintf(w, "%-16s %9s  %s: not there: %s\n", p.Name, "-", p.What, p.Missing)
			continue
		}
		fmt.Fprintf(w, "%-16s %9d  %s\n", p.Name, p.Bytes, p.What)
	}
}

func (a *app) printBundle(b bundle) {
	b.list(a.out)
	a.printf("\n%s\n\n%s\n", b.File, bundleHolds)
	if !b.Daemon {
		a.printf("No daemon runs on %s: add what it logged last, such as: journalctl -u grapnel -n 1000\n", a.data)
	}
}
