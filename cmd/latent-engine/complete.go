package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latent-engine/latent-engine/engine/field"
)

// Completion never prints an error: what cannot be read has no candidates.

func (a *app) completeWorkers(_ *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	d, err := a.read(a.files)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []cobra.Completion
	for _, w := range d.set.Definition.Workers {
		if strings.HasPrefix(w.ID(), prefix) {
			out = append(out, w.ID())
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeProperties(_ *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	none := cobra.ShellCompDirectiveNoFileComp
	if len(args) == 0 || strings.Contains(prefix, "=") {
		return nil, none
	}
	d, err := a.read(a.files)
	if err != nil {
		return nil, none
	}
	t, err := d.set.Template(args[0])
	if err != nil {
		return nil, none
	}
	var out []cobra.Completion
	for _, p := range t.Worker.Props {
		if strings.HasPrefix(p.Name, prefix) {
			out = append(out, cobra.CompletionWithDesc(p.Name+"=", p.Decl))
		}
	}
	return out, none | cobra.ShellCompDirectiveNoSpace
}

// completeInstances asks the backends, for a moment, and only where a state folder is there already.
func (a *app) completeInstances(_ *cobra.Command, _ []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	none := cobra.ShellCompDirectiveNoFileComp
	dir, err := a.stateFolder()
	if err != nil {
		return nil, none
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, none
	}
	d, err := a.read(a.files)
	if err != nil || d.diags.HasErrors() {
		return nil, none
	}
	e, err := a.open(d)
	if err != nil {
		return nil, none
	}
	defer e.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	list, _ := e.List(ctx)
	names := handles(list)
	var out []cobra.Completion
	for i, s := range list {
		if strings.HasPrefix(names[i], prefix) {
			out = append(out, cobra.CompletionWithDesc(names[i], fmt.Sprintf("%s, %s", s.State, field.JoinPath(s.Backend, s.Target))))
		}
	}
	return out, none
}
