package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/diag"
)

// sampleWorker is the worker that every backends.Sampler writes.
const sampleWorker = "linux"

func (a *app) initCommand() *cobra.Command {
	names, _ := samplers()
	var backend string
	cmd := &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a first definition",
		Long: `init writes a commented definition with one backend and one worker, which validates as it stands, to FILE
(default ` + defaultDefinition + `). It asks nothing, speaks to no backend, and never writes over what is there.

A Docker Engine's address is that of $DOCKER_HOST, else of docker's current context, else of a socket in a usual place.`,
		Example: `  latent-engine init
  latent-engine init ci/workers.yaml --backend docker
  latent-engine init && latent-engine render linux -p branch=main`,
		Args: between(0, "FILE"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return []cobra.Completion{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(_ *cobra.Command, args []string) error {
			file := defaultDefinition
			if len(args) > 0 {
				file = args[0]
			}
			return a.initDefinition(file, backend)
		},
	}
	cmd.Flags().StringVar(&backend, "backend", names[0], "`KIND` of backend: "+strings.Join(names, ", "))
	_ = cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// samplers are the kinds of backend that have a first definition, by name, in the order in which they are wired.
func samplers() ([]string, map[string]backends.Sampler) {
	var names []string
	all := map[string]backends.Sampler{}
	for _, k := range kinds() {
		if s, ok := k.(backends.Sampler); ok {
			names = append(names, k.Name())
			all[k.Name()] = s
		}
	}
	return names, all
}

func (a *app) initDefinition(file, backend string) error {
	names, all := samplers()
	kind, ok := all[backend]
	if !ok {
		hint := "there are: " + strings.Join(names, ", ")
		if s := diag.Suggest(backend, names); s != "" {
			hint = fmt.Sprintf("did you mean %q?", s)
		}
		return &usageError{message: fmt.Sprintf("no backend %q", backend), hint: hint}
	}
	// A file of another name would be read as JSON, or not at all where its folder is the definition.
	if ext := strings.ToLower(filepath.Ext(file)); ext != ".yaml" && ext != ".yml" {
		return &usageError{message: fmt.Sprintf("cannot write definition %q: its name does not end in .yaml or .yml", file)}
	}
	sample := kind.Sample(os.Getenv)
	if err := writeNew(file, []byte(sample.Text)); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return &hinted{err: fmt.Errorf("cannot write definition %q: it exists already", file), hint: "latent-engine validate " + file + " checks it; latent-engine init FILE writes another one"}
		}
		return fmt.Errorf("cannot write definition %q: %w", file, cause(err))
	}
	if a.json() {
		return a.result(initResult{File: file, Backend: backend, Address: sample.Address, Source: sample.Source, Worker: sampleWorker})
	}
	source, at := sample.Source, ""
	if source == "" {
		source = "the default; no engine was found"
	}
	if file != defaultDefinition {
		at = " -f " + file
	}
	fmt.Fprintf(a.stdout, "written: %s: %s at %s (%s)\n", visible(file), backend, visible(sample.Address), visible(source))
	fmt.Fprintf(a.stdout, "Two lines in it say CHANGE THIS. What would be started:\n  latent-engine render %s%s -p branch=main\n", sampleWorker, visible(at))
	return nil
}

// writeNew writes a file that is not there yet. Others see all of it or none; what is there already stays, also where it
// came meanwhile: os.Link, unlike os.Rename, replaces nothing.
func writeNew(path string, content []byte) error {
	if _, err := os.Lstat(path); err == nil {
		return fs.ErrExist
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".latent-engine-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	err = os.Link(f.Name(), path)
	var l *os.LinkError
	if errors.As(err, &l) {
		return l.Err
	}
	return err
}
