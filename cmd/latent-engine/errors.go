package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine"
	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/policy"
	"github.com/latent-engine/latent-engine/engine/render"
)

// usageError is a command line that cannot be understood.
type usageError struct{ message, hint string }

func (e *usageError) Error() string { return e.message }

// asUsage makes a usageError of what cobra says before a command's code runs.
func asUsage(err error, cmd *cobra.Command) error {
	u := &usageError{}
	if !errors.As(err, &u) {
		u = &usageError{message: strings.TrimSpace(err.Error())}
	}
	if u.hint == "" && cmd != nil {
		u.hint = cmd.CommandPath() + " --help"
	}
	return u
}

// hinted is an error with what to do about it.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

// reported is an exit code whose reason was printed already.
type reported struct{ code int }

func (e *reported) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// diagnosed are problems of files.
type diagnosed struct {
	list diag.List
	// files is how many files were read; 0 = no summary line.
	files int
}

func (e *diagnosed) Error() string { return (&diag.ListError{List: e.list}).Error() }

// fail is the one printer of errors; it gives the exit code.
func (a *app) fail(err error) int {
	var (
		done   *reported
		usage  *usageError
		found  *diagnosed
		bad    *render.Error
		denied *policy.DeniedError
	)
	switch {
	case errors.As(err, &done):
		return done.code
	case errors.As(err, &usage):
		a.errorLine(usage.message, usage.hint)
		return exitUsage
	case errors.As(err, &found):
		a.printDiagnostics(found.list)
		if found.files > 0 && !a.json() {
			fmt.Fprintln(a.stderr, diag.Summary(found.list, found.files))
		}
		return exitFailed
	case errors.As(err, &bad):
		a.printDiagnostics(bad.Diags)
		return exitFailed
	case errors.As(err, &denied):
		a.printDenial(denied, nil, "")
		return exitDenied
	}
	for _, e := range flat(err) {
		a.one(e)
	}
	return exitFailed
}

// flat are the errors that were joined, one by one.
func flat(err error) []error {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range several.Unwrap() {
			out = append(out, flat(e)...)
		}
		return out
	}
	return []error{err}
}

func (a *app) one(err error) {
	var (
		failure *backends.Failure
		live    *engine.LiveError
		none    *engine.NotFoundError
		hint    *hinted
	)
	switch {
	case errors.As(err, &failure):
		a.printFailure(failure, nil)
	case errors.As(err, &live):
		a.errorLine(live.Error(), "latent-engine stop "+live.Instance+" ends it, --replace takes its place")
	case errors.As(err, &none):
		a.errorLine(none.Error(), "latent-engine ps lists the instances")
	case errors.As(err, &hint):
		a.errorLine(hint.Error(), hint.hint)
	case errors.Is(err, context.Canceled):
		a.errorLine("cancelled", "")
	default:
		a.errorLine(err.Error(), "")
	}
}

// errorLine prints `latent-engine: error: …` and `hint: …`, or one JSON line.
func (a *app) errorLine(message, hint string) {
	if a.json() {
		a.jsonLine(a.stderr, diag.Diagnostic{Message: message, Hint: hint, Severity: diag.Error})
		return
	}
	fmt.Fprintln(a.stderr, a.err.paint(red, "latent-engine: error:")+" "+visible(message))
	a.hint(hint)
}

// note prints what is worth knowing and no error.
func (a *app) note(message string) {
	if a.json() {
		a.jsonLine(a.stderr, diag.Diagnostic{Message: message, Severity: diag.Warning})
		return
	}
	fmt.Fprintln(a.stderr, a.err.paint(yellow, "latent-engine: warning:")+" "+visible(message))
}

func (a *app) hint(hint string) {
	for _, line := range strings.Split(strings.TrimSpace(hint), "\n") {
		if line != "" {
			fmt.Fprintln(a.stderr, a.err.paint(faint, "hint:")+" "+visible(line))
		}
	}
}

// printDiagnostics prints positioned problems with their source lines, or one JSON line for each.
func (a *app) printDiagnostics(list diag.List) {
	if a.json() {
		for _, d := range list {
			a.jsonLine(a.stderr, d)
		}
		return
	}
	_ = diag.Print(a.stderr, list, a.sources, diag.PrintOptions{Color: a.err.color})
}

// jsonLine writes v as JSON on one line.
func (a *app) jsonLine(w io.Writer, v any) {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
}

// result writes v, indented, to standard output.
func (a *app) result(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
