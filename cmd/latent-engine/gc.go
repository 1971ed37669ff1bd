package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) gcCommand() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove what is this engine's and nobody's",
		Long: `gc compares the journal with the backends, both ways, and removes what a start or a stop left behind that did not come
to an end, and what has expired. A start that is under way, a running instance and another engine's objects are not touched.`,
		Example: `  latent-engine gc --dry-run
  latent-engine gc -f ci.yaml`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.gc(cmd.Context(), dry) },
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say what would be removed")
	a.definitionFlag(cmd)
	a.stateFlag(cmd)
	return cmd
}

func (a *app) gc(ctx context.Context, dry bool) error {
	_, e, err := a.engine()
	if err != nil {
		return err
	}
	defer e.Close()
	report, gcErr := e.GC(ctx, dry)
	result := gcResult{DryRun: dry, Removed: []removal{}, Cleared: orEmpty(report.Cleared)}
	for _, r := range report.Removed {
		result.Removed = append(result.Removed, removal{Target: r.Target, Kind: r.Object.Kind, ID: r.Object.ID, Name: r.Object.Name, Instance: r.Object.Instance, Why: r.Why})
	}
	if a.json() {
		if err := a.result(result); err != nil {
			return err
		}
		return gcErr
	}
	word := "removed"
	if dry {
		word = "would remove"
	}
	for _, r := range result.Removed {
		name := r.Name
		if name == "" {
			name = r.ID
		}
		fmt.Fprintf(a.stdout, "%s %s %s on %s: %s\n", word, r.Kind, visible(name), visible(r.Target), visible(r.Why))
	}
	if len(result.Cleared) > 0 {
		cleared := "cleared"
		if dry {
			cleared = "would clear"
		}
		fmt.Fprintf(a.stdout, "%s from the journal: %s\n", cleared, strings.Join(result.Cleared, ", "))
	}
	if len(result.Removed) == 0 && len(result.Cleared) == 0 && gcErr == nil {
		fmt.Fprintln(a.stdout, "nothing to remove")
	}
	return gcErr
}
