package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/latent-engine/latent-engine/backends"
)

func (a *app) inspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect ID",
		Short: "Show an instance's status",
		Long:  idHelp("inspect shows one instance as its backend has it now."),
		Example: `  latent-engine inspect linux-k3m9q2
  latent-engine inspect 01J8Z3W6R4T5Y7N8B2V1C0X9M3 -o json | jq .state`,
		Args:              exactly("ID"),
		ValidArgsFunction: a.completeInstances,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.inspect(cmd.Context(), args[0]) },
	}
	a.definitionFlag(cmd)
	a.stateFlag(cmd)
	return cmd
}

func idHelp(what string) string {
	return what + `

ID is an instance id, the beginning or end of one (4 characters at the least), an object's name, or the short name
that ps prints.`
}

func (a *app) inspect(ctx context.Context, id string) error {
	_, e, err := a.engine()
	if err != nil {
		return err
	}
	defer e.Close()
	s, _, err := e.Find(ctx, id)
	if err != nil {
		return err
	}
	if a.json() {
		return a.result(s)
	}
	return a.printStatus(s)
}

func (a *app) printStatus(s backends.Status) error {
	var rows [][]string
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, []string{name, visible(value)})
		}
	}
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339) + " (" + age(time.Since(t)) + " ago)"
	}
	add("instance", s.Instance)
	add("worker", s.Worker)
	if s.WorkerName != s.Worker {
		add("worker name", s.WorkerName)
	}
	add("backend", s.Backend+"/"+s.Target)
	add("status", statusWord(s))
	add("object", s.Object)
	add("native id", s.NativeID)
	add("image", s.Image)
	add("address", s.Address)
	add("created", at(s.Created))
	add("started", at(s.Started))
	add("finished", at(s.Finished))
	if !s.Expires.IsZero() {
		add("expires", s.Expires.UTC().Format(time.RFC3339))
	}
	add("spec", s.Digest)
	if f := s.Failure; f != nil {
		add("failure", fmt.Sprintf("%s: %s", f.Class, f.Error()))
		for _, line := range f.Log {
			add("", line)
		}
	}
	for _, w := range s.Warnings {
		add("warning", w)
	}
	return table(a.stdout, rows)
}
