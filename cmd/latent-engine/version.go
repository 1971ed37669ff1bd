package main

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
)

// stamp is VERSION,COMMIT,DATE where the linker was told (internal/dist): what the go command stamps by itself is missing in a
// work tree, with -buildvcs=false and in a source archive.
var stamp string //nolint:gochecknoglobals // The linker's -X sets variables alone.

// modifiedSuffix ends the version of a tree that has changes beside the commit.
const modifiedSuffix = "-dirty"

func (a *app) versionCommand() *cobra.Command {
	var ask bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version, and with --backends what each backend says of itself",
		Example: `  latent-engine version
  latent-engine version --backends -f ci.yaml -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.version(cmd.Context(), ask) },
	}
	cmd.Flags().BoolVar(&ask, "backends", false, "connect to each backend of the definition and ask for its version")
	a.definitionFlag(cmd)
	return cmd
}

func (a *app) version(ctx context.Context, ask bool) error {
	v := buildVersion()
	failed := false
	if ask {
		d, err := a.load()
		if err != nil {
			return err
		}
		v.Backends = []backendVersion{}
		for _, name := range slices.Sorted(maps.Keys(d.set.Targets)) {
			b := backendVersion{Backend: name}
			info, err := askBackend(ctx, d, name)
			if err != nil {
				b.Error, failed = backends.AsFailure(err).Error(), true
			}
			b.Info = info
			if b.Info.Name == "" {
				b.Info.Name = d.set.Targets[name].Kind.Name()
			}
			v.Backends = append(v.Backends, b)
		}
	}
	if a.json() {
		if err := a.result(v); err != nil {
			return err
		}
	} else {
		line := "latent-engine " + v.Version
		if v.Commit != "" {
			line += " (" + v.Commit[:min(12, len(v.Commit))]
			if v.Date != "" {
				line += ", " + v.Date
			}
			if v.Modified {
				line += ", modified"
			}
			line += ")"
		}
		fmt.Fprintf(a.stdout, "%s, %s, %s; backends: %s\n", line, v.Go, v.Platform, strings.Join(v.Kinds, ", "))
		for _, b := range v.Backends {
			if b.Error != "" {
				fmt.Fprintf(a.stdout, "  %s (%s): %s\n", visible(b.Backend), b.Name, visible(b.Error))
				continue
			}
			fmt.Fprintf(a.stdout, "  %s: %s %s, API %s, %s/%s\n", visible(b.Backend), visible(b.Name), visible(b.Version), visible(b.APIVersion), visible(b.OS), visible(b.Arch))
		}
	}
	if failed {
		return &reported{exitFailed}
	}
	return nil
}

// askBackend connects to one backend as nobody: no state folder, and settings that need secrets are not filled.
func askBackend(ctx context.Context, d *definition, name string) (backends.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	t := d.set.Targets[name]
	kind, ok := t.Kind.(backends.Kind)
	if !ok {
		return backends.Info{}, fmt.Errorf("internal error: the kind %q was wired without a backend", t.Kind.Name())
	}
	b, err := kind.Connect(ctx, backends.ConnectOptions{Target: name, Engine: "version", Settings: t.Settings, Fill: func(ref field.SecretRef) (string, error) {
		return "", fmt.Errorf("secret %q is not read for this", ref.Name)
	}})
	if err != nil {
		return backends.Info{}, err
	}
	defer b.Close()
	return b.Info(ctx)
}

func buildVersion() versionResult {
	v := versionResult{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Kinds: []string{}}
	for _, k := range kinds() {
		v.Kinds = append(v.Kinds, k.Name())
	}
	if parts := strings.Split(stamp, ","); len(parts) == 3 {
		v.Version, v.Commit, v.Date = parts[0], parts[1], parts[2]
		v.Modified = strings.HasSuffix(v.Version, modifiedSuffix)
		return v
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.Date = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
