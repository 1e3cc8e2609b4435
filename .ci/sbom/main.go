// Command sbom prints the bill of materials of a binary that Go has built, as
// CycloneDX 1.6 JSON: every module that is in it, Go's own library, and SQLite, whose C
// source comes with its driver.
//
//	go run ./.ci/sbom BINARY VERSION SQLITE-VERSION > BINARY.cdx.json
//
// What it prints depends on nothing but its arguments: no time, no random number.
package main

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
)

// bom has the fields of CycloneDX that we can fill.
type bom struct {
	Format       string       `json:"bomFormat"`
	SpecVersion  string       `json:"specVersion"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Ref        string     `json:"bom-ref"`
	Type       string     `json:"type"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	PURL       string     `json:"purl"`
	Properties []property `json:"properties,omitempty"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) != 3 {
		return fmt.Errorf("want BINARY VERSION SQLITE-VERSION")
	}
	info, err := buildinfo.ReadFile(args[0])
	if err != nil {
		return err
	}
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(billOf(info, args[1], args[2]))
}

// billOf lists what is in the binary.
func billOf(info *debug.BuildInfo, version, sqlite string) bom {
	root := of(info.Main.Path, version, "application")
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS", "GOARCH", "CGO_ENABLED", "vcs.revision", "-tags":
			root.Properties = append(root.Properties, property{"build:" + s.Key, s.Value})
		}
	}
	all := []component{
		of("std", strings.TrimPrefix(info.GoVersion, "go"), "library"),
		{Ref: "pkg:generic/sqlite@" + sqlite, Type: "library", Name: "sqlite", Version: sqlite, PURL: "pkg:generic/sqlite@" + sqlite},
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := of(m.Path, m.Version, "library")
		if m.Sum != "" {
			c.Properties = []property{{"go:sum", m.Sum}}
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b component) int { return strings.Compare(a.Ref, b.Ref) })
	needs := dependency{Ref: root.Ref}
	for _, c := range all {
		needs.DependsOn = append(needs.DependsOn, c.Ref)
	}
	return bom{
		Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		Metadata: metadata{Component: root}, Components: all, Dependencies: []dependency{needs},
	}
}

// of names a module as package URLs do.
func of(path, version, kind string) component {
	purl := "pkg:golang/" + path + "@" + strings.ReplaceAll(version, "+", "%2B")
	return component{Ref: purl, Type: kind, Name: path, Version: version, PURL: purl}
}
