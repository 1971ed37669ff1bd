package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine"
	"github.com/latent-engine/latent-engine/engine/diag"
)

// handles are short names of instances, unique among them: the object's name with the instance id's last characters, as
// few as tell them apart, six at the least. Every command takes them.
func handles(list []backends.Status) []string {
	out := make([]string, len(list))
	for n := 6; ; n++ {
		seen := map[string]bool{}
		unique := true
		for i, s := range list {
			out[i] = handleOf(s, n)
			unique = unique && !seen[out[i]]
			seen[out[i]] = true
		}
		if unique || n >= 26 {
			return out
		}
	}
}

func handle(s backends.Status) string { return handleOf(s, 6) }

func handleOf(s backends.Status, n int) string {
	id := strings.ToLower(s.Instance)
	name := s.Object
	if i := strings.LastIndex(name, "-"); i > 0 {
		name = name[:i]
	}
	if name == "" {
		return id
	}
	return name + "-" + id[max(0, len(id)-n):]
}

// engine loads the definition and opens the engine.
func (a *app) engine() (*definition, *engine.Engine, error) {
	d, err := a.load()
	if err != nil {
		return nil, nil, err
	}
	e, err := a.open(d)
	return d, e, err
}

// statusWord is a status in a word or three.
func statusWord(s backends.Status) string {
	if s.State == backends.StateExited && s.ExitCode != nil {
		if s.Failure != nil && s.Failure.Class == backends.ClassOOM {
			return "exited (oom)"
		}
		return fmt.Sprintf("exited (%d)", *s.ExitCode)
	}
	if s.Failure != nil && (s.State == backends.StateStarting || s.State == backends.StateRunning) {
		return string(s.State) + " (cut off)"
	}
	if len(s.Warnings) > 0 {
		return string(s.State) + " (warning)"
	}
	return string(s.State)
}

// endedWell reports whether an instance ended by itself with 0.
func endedWell(s backends.Status) bool {
	return s.State == backends.StateExited && s.ExitCode != nil && *s.ExitCode == 0 && s.Failure == nil
}

// ranFor is how long an instance ran, "" where that is not known.
func ranFor(s backends.Status) string {
	if s.Started.IsZero() || s.Finished.Before(s.Started) {
		return ""
	}
	return " after " + lasted(s.Finished.Sub(s.Started))
}

// printFailure is the paragraph that ends a search: class, what was said, where to look, the last lines, what to do.
func (a *app) printFailure(f *backends.Failure, where *setting) {
	if a.json() {
		d := diag.Diagnostic{Path: f.Field, Message: fmt.Sprintf("failed (%s): %s", f.Class, f.Error()), Hint: f.Hint, Severity: diag.Error}
		if where != nil {
			d.Span = where.at
		}
		a.jsonLine(a.stderr, d)
		return
	}
	message := visible(f.Error())
	if len(f.Log) > 0 {
		message += "; last log lines:"
	}
	fmt.Fprintf(a.stderr, "%s %s\n", a.err.paint(red, fmt.Sprintf("failed (%s):", f.Class)), message)
	for _, line := range f.Log {
		fmt.Fprintln(a.stderr, "  | "+visible(line))
	}
	if where != nil {
		fmt.Fprintf(a.stderr, "  %s is set at %s: %s\n", visible(where.path), where.at.Pos, visible(where.text))
	}
	for _, line := range strings.Split(strings.TrimSpace(f.Hint), "\n") {
		if line != "" {
			fmt.Fprintln(a.stderr, "  "+visible(line))
		}
	}
	if f.Retryable && f.Hint == "" {
		fmt.Fprintln(a.stderr, "  trying again may help")
	}
}

// setting is where the definition sets a field, and to what.
type setting struct {
	path, text string
	at         diag.Span
}

// aside is a short context for what is done after the caller's own has ended.
func aside(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), d)
}
