package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latent-engine/latent-engine/engine/diag"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
	exitDenied = 3
)

const defaultDefinition = "latent-engine.yaml"

// app is one run of the command.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	out, err       screen
	// Flags that several commands have.
	output string
	files  []string
	state  string
	// sources are the files read, for the lines that diagnostics show.
	sources map[string][]byte
	// reached is set as soon as a command's own code runs: an error before that is a mistake in the usage.
	reached bool
}

// run is the whole program: it never ends the process.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, out: screenOf(stdout), err: screenOf(stderr), sources: map[string][]byte{}}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if !a.reached {
		// -o may not have been read yet; an error must be in the form that was asked for all the same.
		if a.output == "" && asksForJSON(args) {
			a.output = "json"
		}
		err = asUsage(err, cmd)
	}
	var usage *usageError
	if errors.As(err, &usage) {
		err = asUsage(err, cmd)
	}
	return a.fail(err)
}

func asksForJSON(args []string) bool {
	for i, arg := range args {
		if arg == "-ojson" || arg == "-o=json" || arg == "--output=json" || (arg == "-o" || arg == "--output") && i+1 < len(args) && args[i+1] == "json" {
			return true
		}
	}
	return false
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "latent-engine",
		Short: "Render, start and watch the build workers that a definition describes",
		Long: `latent-engine reads a definition of build workers, evaluates its expressions against one build's properties,
and starts what comes out of it on a backend: a Docker Engine.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 denied by policy.
With -o json results are JSON on standard output, diagnostics JSON lines on standard error.`,
		Example: `  latent-engine validate ci.yaml
  latent-engine render linux -f ci.yaml -p branch=main
  latent-engine start linux -f ci.yaml -p branch=main --follow`,
		SilenceErrors: true, SilenceUsage: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return unknown("command", cmd, args[0], "latent-engine help lists the commands")
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(a.stderr)
			_ = cmd.Help()
			return &reported{exitUsage}
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.checkOutput(cmd); err != nil {
				return err
			}
			a.reached = true
			return nil
		},
	}
	root.PersistentFlags().StringVarP(&a.output, "output", "o", "", "form of the result: json, or text where this is not given")
	_ = root.RegisterFlagCompletionFunc("output", func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return outputsOf(cmd), cobra.ShellCompDirectiveNoFileComp
	})
	root.CompletionOptions.HiddenDefaultCmd = false
	root.AddCommand(
		a.initCommand(), a.validateCommand(), a.renderCommand(), a.explainCommand(),
		a.startCommand(), a.psCommand(), a.inspectCommand(), a.waitCommand(), a.logsCommand(), a.stopCommand(), a.gcCommand(),
		a.schemaCommand(), a.versionCommand(), a.manCommand(),
	)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		ownWay(c)
	}
	return root
}

// unknown is the error for a word that none of a command's own commands has as its name.
func unknown(what string, cmd *cobra.Command, word, hint string) error {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	if s := diag.Suggest(word, names); s != "" {
		hint = fmt.Sprintf("did you mean %q?", s)
	}
	return &usageError{message: fmt.Sprintf("unknown %s %q", what, word), hint: hint}
}

// ownWay gives cobra's own commands what all others have: an example, and exit code 2 for wrong usage.
func ownWay(c *cobra.Command) {
	switch c.Name() {
	case "completion":
		c.Short = "Print a shell's completion script"
		c.Example = `  source <(latent-engine completion bash)
  latent-engine completion zsh > "${fpath[1]}/_latent-engine"`
		c.Args = func(cmd *cobra.Command, args []string) error {
			const shells = "the shells are bash, zsh, fish and powershell"
			if len(args) > 0 {
				return unknown("shell", cmd, args[0], shells)
			}
			return &usageError{message: "SHELL is missing", hint: shells}
		}
		// Without it cobra takes a call without a shell for a call for help.
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		for _, shell := range c.Commands() {
			shell.Args = exactly()
		}
	case "help":
		c.Args = func(cmd *cobra.Command, args []string) error {
			if found, rest, _ := cmd.Root().Find(args); len(rest) > 0 {
				return unknown("command", found, rest[0], "latent-engine help lists the commands")
			}
			return nil
		}
		c.Example = "  latent-engine help start"
	}
}

// outputsAnnotation names the forms that -o of a command takes beside json.
const outputsAnnotation = "outputs"

func outputsOf(cmd *cobra.Command) []string {
	out := []string{"json"}
	if more := cmd.Annotations[outputsAnnotation]; more != "" {
		out = append(out, more)
	}
	return out
}

func (a *app) checkOutput(cmd *cobra.Command) error {
	if !cmd.Flags().Changed("output") || slices.Contains(outputsOf(cmd), a.output) || a.output == "text" && cmd.Annotations[outputsAnnotation] == "" {
		return nil
	}
	bad := a.output
	a.output = ""
	return &usageError{message: fmt.Sprintf("-o takes %s, not %q", strings.Join(outputsOf(cmd), " or "), bad)}
}

func (a *app) json() bool { return a.output == "json" }

// definitionFlag adds -f.
func (a *app) definitionFlag(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&a.files, "file", "f", nil, "definition: a `FILE`, or a folder of *.yaml, *.yml and *.json that are one definition; may be repeated (default "+defaultDefinition+")")
}

// stateFlag adds --state.
func (a *app) stateFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.state, "state", "", "state `FOLDER` (default $LATENT_ENGINE_STATE, else $XDG_STATE_HOME/latent-engine, else ~/.local/state/latent-engine)")
}

func (a *app) stateFolder() (string, error) {
	if a.state != "" {
		return a.state, nil
	}
	if dir := os.Getenv("LATENT_ENGINE_STATE"); dir != "" {
		return dir, nil
	}
	// The XDG rules say that a relative path is to be ignored.
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "latent-engine"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", &hinted{err: fmt.Errorf("cannot find the state folder: no home directory is known"), hint: "name one with --state or $LATENT_ENGINE_STATE"}
	}
	return filepath.Join(home, ".local", "state", "latent-engine"), nil
}

// exactly is cobra.ExactArgs in the user's words.
func exactly(names ...string) cobra.PositionalArgs {
	return between(len(names), names...)
}

// between wants at least n arguments and at most as many as there are names.
func between(n int, names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < n:
			return &usageError{message: names[len(args)] + " is missing"}
		case len(args) > len(names) && len(names) == 0:
			return &usageError{message: fmt.Sprintf("unexpected argument %q: this command takes none", args[0])}
		case len(args) > len(names):
			return &usageError{message: fmt.Sprintf("unexpected argument %q after %s", args[len(names)], names[len(names)-1])}
		}
		return nil
	}
}
