package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine"
	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/engine/policy"
	"github.com/latent-engine/latent-engine/engine/render"
)

type startFlags struct {
	build        buildFlags
	as, id       string
	passwordFile string
	passwordOut  string
	replace      bool
	expires      time.Duration
	follow       bool
}

func (a *app) startCommand() *cobra.Command {
	var f startFlags
	cmd := &cobra.Command{
		Use:   "start WORKER",
		Short: "Start an instance of a worker",
		Long: `start renders a worker for one build, has policy judge it, and starts an instance. Where standard output is no terminal,
the instance's id is printed there.

With --follow the worker's log is shown until it ends. Ctrl-C stops and removes the instance, a second Ctrl-C leaves it
running. An instance that ends by itself is removed too; the exit code is 0 where it ended with 0, else 1.

Ctrl-C while the start is under way cancels it, and leaves nothing behind.

WORKERPASS is what --password-file holds, else the definition's password, else a new one: --password-out says where it
goes, and it is printed nowhere.

-o json prints one object; with --follow a JSON line for each event: "accepted" as soon as the start is known to be allowed
and in the journal, before anything is pulled; "started"; "log"; "exited"; "removed", "left" or "failed". A start that was
accepted and failed is "removed" too where nothing of it is left. Progress is JSON lines on standard error.`,
		Example: `  latent-engine start linux -f ci.yaml -p branch=main --password-file w.pass --follow
  latent-engine start linux --build build.json --id 01J8Z3W6R4T5Y7N8B2V1C0X9M3 --password-out w.pass -o json
  latent-engine start linux --replace --expires 8h`,
		Args:              exactly("WORKER"),
		ValidArgsFunction: a.completeWorkers,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.passwordFile != "" && f.passwordOut != "" {
				return &usageError{message: "--password-file and --password-out exclude each other: a password that is given is not made"}
			}
			if f.passwordFile == "-" && f.build.file == "-" {
				return &usageError{message: "only one of --password-file and --build can be read from standard input"}
			}
			if f.expires < 0 {
				return &usageError{message: "--expires takes a time such as 8h"}
			}
			return a.start(cmd.Context(), args[0], f)
		},
	}
	f.build.add(a, cmd)
	cmd.Flags().StringVar(&f.as, "as", "", "`NAME` that the worker has towards the CI system (WORKERNAME), in place of the definition's")
	cmd.Flags().StringVar(&f.id, "id", "", "instance id, a `ULID`: the same id again is the same start")
	cmd.Flags().StringVar(&f.passwordFile, "password-file", "", "`FILE` that holds the worker's password, or - for standard input")
	cmd.Flags().StringVar(&f.passwordOut, "password-out", "", "`FILE` to write a password to that the engine makes (mode 0600)")
	cmd.Flags().BoolVar(&f.replace, "replace", false, "stop a live instance of the same worker, and take its place")
	cmd.Flags().DurationVar(&f.expires, "expires", 0, "how long the instance may live, such as 8h; gc removes it after that (default: until it is stopped)")
	cmd.Flags().BoolVar(&f.follow, "follow", false, "show the log until the worker ends")
	a.definitionFlag(cmd)
	a.stateFlag(cmd)
	return cmd
}

func (a *app) start(ctx context.Context, worker string, f startFlags) error {
	d, e, err := a.engine()
	if err != nil {
		return err
	}
	defer e.Close()
	t, err := template(d, worker)
	if err != nil {
		return err
	}
	b, err := a.build(f.build, t.Worker)
	if err != nil {
		return err
	}
	password, err := a.password(f.passwordFile)
	if err != nil {
		return err
	}
	out, err := newPasswordOut(f.passwordOut)
	if err != nil {
		return err
	}
	defer out.discard()

	began := time.Now()
	shown := a.newProgress()
	request := engine.StartRequest{
		Worker: worker, Build: b, ID: f.id, As: f.as, Password: password, Replace: f.replace, Expires: f.expires, Progress: shown.report,
	}
	var accepted *backends.Status
	if f.follow && a.json() {
		request.Accepted = func(s backends.Status) {
			accepted = &s
			a.event(startEvent{Event: "accepted", Instance: &s})
		}
	}
	result, err := e.Start(ctx, request)
	shown.done()
	if err != nil {
		err = a.notStarted(ctx, err, e, worker, b, f.follow)
		if accepted != nil && !e.Left(accepted.Instance) {
			accepted.State = backends.StateGone
			a.event(startEvent{Event: "removed", Instance: accepted})
		}
		return err
	}
	if err := a.handOut(out, result); err != nil {
		stopping, cancel := aside(ctx, time.Minute)
		defer cancel()
		_, stopErr := e.Stop(stopping, result.Status.Instance, backends.StopOptions{Fast: true})
		return errors.Join(err, stopErr)
	}
	s := &session{app: a, engine: e, status: result.Status, worker: worker, build: b, passwordOut: out.written}
	if !a.json() {
		shown.line("created", fmt.Sprintf("%s  %s://%s", handle(result.Status), result.Status.Backend, result.Status.Target))
		shown.line(string(result.Status.State), lasted(time.Since(began)))
	}
	if f.follow {
		return s.follow(ctx)
	}
	if a.json() {
		return a.result(startResult{Started: true, Instance: &result.Status, PasswordOut: out.written, FollowStartupLogs: result.FollowStartupLogs})
	}
	if result.FollowStartupLogs {
		s.startupLog(ctx)
	}
	if !a.out.terminal {
		fmt.Fprintln(a.stdout, result.Status.Instance)
	}
	return nil
}

// handOut writes a made password to where it was asked for.
func (a *app) handOut(out *passwordOut, r *engine.StartResult) error {
	switch {
	case r.Password == "" && out.path != "":
		a.note(fmt.Sprintf("no password was made for this start: %s is left as it is", out.path))
	case r.Password != "" && out.path != "":
		return out.write(r.Password)
	case r.Password != "":
		a.note("the worker's password was made and is kept nowhere: give one with --password-file, or --password-out to get it")
	}
	return nil
}

// notStarted prints why a start did not come about.
func (a *app) notStarted(ctx context.Context, err error, e *engine.Engine, worker string, b *config.Build, follow bool) error {
	var bad *render.Error
	if errors.As(err, &bad) {
		return err
	}
	var denied *policy.DeniedError
	var failures []*backends.Failure
	var violations []violation
	code := exitFailed
	s := provenance(ctx, e, worker, b)
	if errors.As(err, &denied) {
		a.printDenial(denied, s, worker)
		violations, code = located(denied, s), exitDenied
		failures = append(failures, &backends.Failure{Class: backends.ClassPolicy, Message: denied.Error()})
	} else {
		for _, one := range flat(err) {
			f := startFailure(one)
			failures = append(failures, f)
			var live *engine.LiveError
			if errors.As(one, &live) {
				a.one(one)
				continue
			}
			a.printFailure(f, setAt(s, f.Field))
		}
	}
	if a.json() && follow {
		a.event(startEvent{Event: "failed", Failure: failures[0], Violations: violations})
	} else if a.json() {
		if err := a.result(startResult{Failure: failures[0], Violations: violations}); err != nil {
			return err
		}
	}
	return &reported{code}
}

// provenance renders once more, with the places that values come from: only a failure pays for them.
func provenance(ctx context.Context, e *engine.Engine, worker string, b *config.Build) *render.Spec {
	ctx, cancel := aside(ctx, 10*time.Second)
	defer cancel()
	s, err := e.Render(ctx, worker, b, true)
	if err != nil {
		return nil
	}
	return s
}

func startFailure(err error) *backends.Failure {
	var live *engine.LiveError
	switch {
	case errors.As(err, &live):
		f := &backends.Failure{Class: backends.ClassCapacity, Retryable: true, Message: live.Error(), Hint: "--replace takes its place"}
		if live.Starting {
			f.Hint = "wait until that start has come to its end"
		}
		return f
	case errors.Is(err, context.Canceled):
		var f *backends.Failure
		if errors.As(err, &f) && f.Class == backends.ClassCancelled {
			return f
		}
		return &backends.Failure{Class: backends.ClassCancelled, Retryable: true, Message: "the start was cancelled"}
	}
	return backends.AsFailure(err)
}

// setAt is where the definition sets a field; nil where it does not.
func setAt(s *render.Spec, path string) *setting {
	if s == nil || path == "" {
		return nil
	}
	found, err := s.Explain(path)
	if err != nil {
		return nil
	}
	for _, o := range found {
		if len(o.Steps) > 0 && !o.Steps[0].At.IsZero() {
			return &setting{path: o.Path, text: short(o.Steps[0].Raw, 60), at: o.Steps[0].At}
		}
	}
	return nil
}

// maxPassword bounds a password file.
const maxPassword = 4096

func (a *app) password(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	_, data, err := a.input(path)
	if err != nil {
		return "", fmt.Errorf("cannot read password file %q: %w", path, err)
	}
	p := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	switch {
	case p == "":
		return "", fmt.Errorf("cannot read password file %q: it is empty", path)
	case len(p) > maxPassword:
		return "", fmt.Errorf("cannot read password file %q: it has more than %d bytes", path, maxPassword)
	case strings.ContainsAny(p, "\x00\n\r"):
		return "", fmt.Errorf("cannot read password file %q: a password is one line", path)
	}
	return p, nil
}

// passwordOut is a file that a made password goes to: it appears whole or not at all. That it can be written is known
// before anything is started.
type passwordOut struct {
	path    string
	temp    *os.File
	written string // path, once it is there
}

func newPasswordOut(path string) (*passwordOut, error) {
	if path == "" {
		return &passwordOut{}, nil
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, fmt.Errorf("cannot write password file %q: it is a folder", path)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".latent-engine-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("cannot write password file %q: %w", path, cause(err))
	}
	return &passwordOut{path: path, temp: temp}, nil
}

func (p *passwordOut) write(password string) error {
	_, err := io.WriteString(p.temp, password+"\n")
	if err == nil {
		err = p.temp.Sync()
	}
	if err == nil {
		err = os.Rename(p.temp.Name(), p.path)
	}
	if err != nil {
		return fmt.Errorf("cannot write password file %q: %w", p.path, cause(err))
	}
	p.written = p.path
	return nil
}

func (p *passwordOut) discard() {
	if p.temp == nil {
		return
	}
	_ = p.temp.Close() // what matters was synced
	if p.written == "" {
		os.Remove(p.temp.Name())
	}
}
