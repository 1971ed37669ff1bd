package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latent-engine/latent-engine/backends"
)

func (a *app) psCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "List the instances of this engine",
		Long: `ps lists every instance that carries this engine's id, from all backends of the definition and from the journal:
what is there, and what should be and is not.`,
		Example: `  latent-engine ps -f ci.yaml
  latent-engine ps -o json | jq -r '.[] | select(.state == "exited") | .instance'`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.ps(cmd.Context()) },
	}
	a.definitionFlag(cmd)
	a.stateFlag(cmd)
	return cmd
}

func (a *app) ps(ctx context.Context) error {
	_, e, err := a.engine()
	if err != nil {
		return err
	}
	defer e.Close()
	list, err := e.List(ctx)
	if list == nil {
		list = []backends.Status{}
	}
	if a.json() {
		if err := a.result(list); err != nil {
			return err
		}
		return err
	}
	rows := [][]string{{"INSTANCE", "WORKER", "BACKEND", "STATUS", "AGE", "SPEC"}}
	names := handles(list)
	for i, s := range list {
		since := ""
		if !s.Created.IsZero() {
			since = age(time.Since(s.Created))
		}
		rows = append(rows, []string{names[i], visible(s.Worker), s.Backend + "/" + s.Target, statusWord(s), since, shortDigest(s.Digest)})
	}
	if e := table(a.stdout, rows); e != nil {
		return e
	}
	return err
}

// shortDigest is v1:9f2c4e… .
func shortDigest(d string) string {
	version, hex, ok := strings.Cut(d, ":")
	if !ok || len(hex) <= 6 {
		return d
	}
	return version + ":" + hex[:6] + "…"
}
