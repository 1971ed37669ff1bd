package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/latent-engine/latent-engine/backends"
)

func (a *app) waitCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "wait ID",
		Short: "Wait until an instance has ended",
		Long: idHelp(`wait returns when an instance has ended or is gone. Exit code 0 where the worker ended with 0, else 1 with the reason.
Ctrl-C ends the wait and leaves the instance alone.`),
		Example:           `  latent-engine wait linux-k3m9q2 && echo well`,
		Args:              exactly("ID"),
		ValidArgsFunction: a.completeInstances,
		RunE:              func(cmd *cobra.Command, args []string) error { return a.wait(cmd.Context(), args[0]) },
	}
	a.definitionFlag(cmd)
	a.stateFlag(cmd)
	return cmd
}

func (a *app) wait(ctx context.Context, id string) error {
	_, e, err := a.engine()
	if err != nil {
		return err
	}
	defer e.Close()
	s, err := e.Wait(ctx, id)
	if err != nil {
		return err
	}
	if a.json() {
		if err := a.result(s); err != nil {
			return err
		}
	}
	return a.ended(s, func(string) *setting { return nil })
}

// ended says how an instance ended; the error is the exit code. where finds what sets a field.
func (a *app) ended(s backends.Status, where func(field string) *setting) error {
	if endedWell(s) {
		if !a.json() {
			fmt.Fprintf(a.stdout, "%s ended with 0%s\n", handle(s), ranFor(s))
		}
		return nil
	}
	f := s.Failure
	switch {
	case f != nil:
	case s.ExitCode != nil:
		f = &backends.Failure{Class: backends.ClassCrashed, Message: fmt.Sprintf("%s ended with exit code %d%s", handle(s), *s.ExitCode, ranFor(s))}
	default:
		f = &backends.Failure{Class: backends.ClassLost, Message: handle(s) + " is not there any more"}
	}
	a.printFailure(f, where(f.Field))
	return &reported{exitFailed}
}
