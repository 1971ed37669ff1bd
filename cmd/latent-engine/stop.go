package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine"
)

func (a *app) stopCommand() *cobra.Command {
	var o backends.StopOptions
	var forget bool
	cmd := &cobra.Command{
		Use:   "stop ID...",
		Short: "Stop and remove instances",
		Long: idHelp(`stop asks a worker to end, kills it where it does not within its grace, and removes the instance with everything that
only it used. What is absent was stopped.

The journal knows which backend holds an instance. Where that is gone for good, and with it its instances, --forget strikes them
from the journal; nothing is asked of any backend.`),
		Example: `  latent-engine stop linux-k3m9q2
  latent-engine stop --fast linux-k3m9q2 linux-7tq0ab`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{message: "ID is missing"}
			}
			return nil
		},
		ValidArgsFunction: a.completeInstances,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Grace < 0 {
				return &usageError{message: "--grace takes a time such as 30s"}
			}
			return a.stop(cmd.Context(), args, o, forget)
		},
	}
	cmd.Flags().BoolVar(&forget, "forget", false, "only strike the instances from the journal: their backend is gone for good")
	cmd.Flags().BoolVar(&o.Fast, "fast", false, "kill at once instead of asking first")
	cmd.Flags().DurationVar(&o.Grace, "grace", 0, "how long the worker may take to end by itself (default: the definition's stop_timeout, else 10s)")
	a.definitionFlag(cmd)
	a.stateFlag(cmd)
	return cmd
}

func (a *app) stop(ctx context.Context, ids []string, o backends.StopOptions, forget bool) error {
	_, e, err := a.engine()
	if err != nil {
		return err
	}
	defer e.Close()
	results := make([]stopResult, 0, len(ids))
	failed := false
	for _, id := range ids {
		began := time.Now()
		var s backends.Status
		if forget {
			s, err = e.Forget(id)
		} else {
			s, err = e.Stop(ctx, id, o)
		}
		r := stopResult{ID: id, Instance: s.Instance, Worker: s.Worker, Removed: err == nil && !forget, Forgotten: err == nil && forget}
		if err != nil && absent(err, id) {
			r.Instance, r.Removed = strings.ToUpper(id), true
			if !a.json() {
				fmt.Fprintf(a.stdout, "%s is not there: nothing to stop\n", r.Instance)
			}
		} else if err != nil {
			failed = true
			r.Failure = asFailure(err)
			a.one(err)
		} else if !a.json() && forget {
			fmt.Fprintf(a.stdout, "forgot %s\n", handle(s))
		} else if !a.json() {
			fmt.Fprintf(a.stdout, "removed %s (%s)\n", handle(s), lasted(time.Since(began)))
		}
		results = append(results, r)
	}
	if a.json() {
		if err := a.result(results); err != nil {
			return err
		}
	}
	if failed {
		return &reported{exitFailed}
	}
	return nil
}

// absent reports whether a whole instance id names nothing: what is absent was stopped. A short name may be a mistake.
func absent(err error, id string) bool {
	var none *engine.NotFoundError
	_, bad := ulid.ParseStrict(id)
	return bad == nil && errors.As(err, &none) && len(none.Several) == 0
}

// asFailure is err in the form that results hold.
func asFailure(err error) *backends.Failure {
	var none *engine.NotFoundError
	if errors.As(err, &none) {
		return &backends.Failure{Class: backends.ClassLost, Message: none.Error()}
	}
	return backends.AsFailure(err)
}
