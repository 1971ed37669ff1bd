package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latent-engine/latent-engine/engine"
)

func (a *app) gcCommand() *cobra.Command {
	var o engine.GCOptions
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove what is this engine's and nobody's",
		Long: `gc compares the journal with the backends, both ways, and removes what a start or a stop left behind that did not come
to an end, and what has expired. A start that is under way, a running instance and another engine's objects are not touched.

Where the state folder has never started anything as this engine (it was lost, or another one is used by mistake), running
instances that carry the engine's id are kept and listed; --orphans removes them too.`,
		Example: `  latent-engine gc --dry-run
  latent-engine gc -f ci.yaml`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.gc(cmd.Context(), o) },
	}
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "only say what would be removed")
	cmd.Flags().BoolVar(&o.Orphans, "orphans", false, "remove running instances too that this state folder knows nothing of")
	a.definitionFlag(cmd)
	a.stateFlag(cmd)
	return cmd
}

func (a *app) gc(ctx context.Context, o engine.GCOptions) error {
	_, e, err := a.engine()
	if err != nil {
		return err
	}
	defer e.Close()
	report, gcErr := e.GC(ctx, o)
	result := gcResult{DryRun: o.DryRun, Removed: removals(report.Removed), Kept: removals(report.Kept), Cleared: orEmpty(report.Cleared)}
	if a.json() {
		if err := a.result(result); err != nil {
			return err
		}
		return gcErr
	}
	word := "removed"
	if o.DryRun {
		word = "would remove"
	}
	for _, r := range result.Removed {
		a.printRemoval(word, r)
	}
	for _, r := range result.Kept {
		a.printRemoval("kept", r)
	}
	if len(result.Kept) > 0 {
		a.note("gc --orphans removes what was kept")
	}
	if len(result.Cleared) > 0 {
		cleared := "cleared"
		if o.DryRun {
			cleared = "would clear"
		}
		fmt.Fprintf(a.stdout, "%s from the journal: %s\n", cleared, strings.Join(result.Cleared, ", "))
	}
	if len(result.Removed) == 0 && len(result.Kept) == 0 && len(result.Cleared) == 0 && gcErr == nil {
		fmt.Fprintln(a.stdout, "nothing to remove")
	}
	return gcErr
}

func removals(list []engine.Removal) []removal {
	out := make([]removal, len(list))
	for i, r := range list {
		out[i] = removal{Target: r.Target, Kind: r.Object.Kind, ID: r.Object.ID, Name: r.Object.Name, Instance: r.Object.Instance, Why: r.Why}
	}
	return out
}

func (a *app) printRemoval(word string, r removal) {
	name := r.Name
	if name == "" {
		name = r.ID
	}
	fmt.Fprintf(a.stdout, "%s %s %s on %s: %s\n", word, r.Kind, visible(name), visible(r.Target), visible(r.Why))
}
