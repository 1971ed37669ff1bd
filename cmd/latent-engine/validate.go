package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latent-engine/latent-engine/engine/diag"
)

func (a *app) validateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "validate [FILE|DIR]...",
		Short: "Check definitions, and say all that is wrong with them",
		Long: `validate loads definitions and type-checks every expression against its field. It speaks to no backend.

Each FILE is a definition of its own; a DIR is one definition made of its *.yaml, *.yml and *.json. Without any,
the files that -f names are checked as one definition.`,
		Example: `  latent-engine validate ci.yaml
  latent-engine validate definitions/
  latent-engine validate ci.yaml -o json 2>problems.jsonl`,
		RunE: func(_ *cobra.Command, args []string) error { return a.validate(args) },
	}
	a.definitionFlag(cmd)
	return cmd
}

func (a *app) validate(args []string) error {
	var groups [][]string
	for _, arg := range args {
		groups = append(groups, []string{arg})
	}
	if len(a.files) > 0 || len(args) == 0 {
		groups = append(groups, a.files)
	}
	result := validateResult{OK: true, Definitions: []validated{}}
	var all diag.List
	files := 0
	for _, group := range groups {
		d, err := a.read(group)
		if err != nil {
			// The others are checked all the same.
			a.one(err)
			result.OK = false
			continue
		}
		v := validated{Name: strings.Join(group, ", "), OK: !d.diags.HasErrors(), Files: d.files, Workers: len(d.set.Definition.Workers), Backends: len(d.set.Definition.Backends)}
		if v.Name == "" {
			v.Name = defaultDefinition
		}
		for _, p := range d.diags {
			if p.Severity == diag.Warning {
				v.Warnings++
			} else {
				v.Problems++
			}
		}
		a.printDiagnostics(d.diags)
		all = append(all, d.diags...)
		files += d.files
		result.OK = result.OK && v.OK
		result.Definitions = append(result.Definitions, v)
		if v.OK && !a.json() {
			fmt.Fprintf(a.stdout, "%s: %s, %s: %s\n", visible(v.Name), count(v.Workers, "worker"), count(v.Backends, "backend"), a.out.paint(green, "ok"))
		}
	}
	if len(all) > 0 && !a.json() {
		fmt.Fprintln(a.stderr, diag.Summary(all, files))
	}
	if a.json() {
		if err := a.result(result); err != nil {
			return err
		}
	}
	if !result.OK {
		return &reported{exitFailed}
	}
	return nil
}

func count(n int, word string) string {
	if n != 1 {
		word += "s"
	}
	return fmt.Sprintf("%d %s", n, word)
}
