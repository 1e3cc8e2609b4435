package main

import (
	"maps"
	"runtime"
	"runtime/debug"
	"slices"

	"github.com/grapnel-hooks/grapnel/sqlite"
	"github.com/spf13/cobra"
)

// version is set by the build of a release (-ldflags "-X main.version=1.2.3").
var version = ""

// buildVersion is the release, else what Go knows of the build.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}

// inside are the parts that a report of a fault should name.
func inside() map[string]string {
	parts := map[string]string{"sqlite": sqlite.LibraryVersion()}
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return parts
	}
	for _, d := range info.Deps {
		switch d.Path {
		case "github.com/nats-io/nats-server/v2":
			parts["nats_server"] = d.Version
		case "github.com/mattn/go-sqlite3":
			parts["go_sqlite3"] = d.Version
		}
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			parts["revision"] = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			parts["modified"] = "yes" // it was built with changes that are in no commit
		}
	}
	return parts
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, and what is inside",
		Example: `  grapnel version
  grapnel version --json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version  string            `json:"version"`
				Go       string            `json:"go"`
				Platform string            `json:"platform"`
				Inside   map[string]string `json:"inside"`
			}{buildVersion(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, inside()}
			return a.show(v, func() {
				a.printf("grapnel %s (%s, %s)\n", v.Version, v.Go, v.Platform)
				for _, name := range slices.Sorted(maps.Keys(v.Inside)) {
					a.printf("%-12s %s\n", name, v.Inside[name])
				}
			})
		},
	}
}
