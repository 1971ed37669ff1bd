package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"
	"github.com/spf13/cobra"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/engine/diag"
)

func (a *app) schemaCommand() *cobra.Command {
	names := schemaNames()
	return &cobra.Command{
		Use:   "schema [definition|build|diagnostic|COMMAND]",
		Short: "Print a JSON Schema: of the definition file, the build document, or a command's -o json",
		Long: `schema prints a JSON Schema (draft 2020-12). "definition" is the definition file, for an editor; "build" the build
document; "diagnostic" one line of what a command prints on standard error under -o json; a command's name what that command
prints on standard output under -o json (one document, or each of its lines where it streams).

There are: ` + strings.Join(names, ", ") + `.`,
		Example: `  latent-engine schema definition > latent-engine.schema.json
  latent-engine schema start`,
		Args:      between(0, "NAME"),
		ValidArgs: names,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				if a.json() {
					return a.result(names)
				}
				for _, n := range names {
					fmt.Fprintln(a.stdout, n)
				}
				return nil
			}
			data, err := schemaOf(args[0])
			if err != nil {
				return err
			}
			return a.printJSON(data)
		},
	}
}

// outputTypes are what each command prints under -o json: a value of the type, one line of a stream, or one of several.
func outputTypes() map[string][]any {
	return map[string][]any{
		"diagnostic": {diag.Diagnostic{}},
		"init":       {initResult{}},
		"validate":   {validateResult{}},
		"render":     {renderResult{}, nativeObject{}},
		"explain":    {[]origin{}},
		"start":      {startResult{}, startEvent{}},
		"progress":   {progressLine{}},
		"ps":         {[]backends.Status{}},
		"inspect":    {backends.Status{}},
		"wait":       {backends.Status{}},
		"logs":       {logLine{}},
		"stop":       {[]stopResult{}},
		"gc":         {gcResult{}},
		"schema":     {[]string{}},
		"version":    {versionResult{}},
	}
}

// nativeObject is what render prints without --full: the backend's own format.
type nativeObject map[string]any

func schemaNames() []string {
	names := []string{"definition", "build"}
	for name := range outputTypes() {
		names = append(names, name)
	}
	slices.Sort(names[2:])
	return names
}

func schemaOf(name string) ([]byte, error) {
	switch name {
	case "definition":
		return config.DefinitionSchema(config.Options{Kinds: configKinds()}), nil
	case "build":
		return config.BuildSchema(), nil
	}
	types, ok := outputTypes()[name]
	if !ok {
		hint := "there are: " + strings.Join(schemaNames(), ", ")
		if s := diag.Suggest(name, schemaNames()); s != "" {
			hint = fmt.Sprintf("did you mean %q?", s)
		}
		return nil, &usageError{message: fmt.Sprintf("no schema %q", name), hint: hint}
	}
	r := jsonschema.Reflector{Anonymous: true, DoNotReference: true}
	var alternatives []*jsonschema.Schema
	for _, t := range types {
		s := r.Reflect(t)
		s.Version, s.ID = "", ""
		alternatives = append(alternatives, s)
	}
	out := alternatives[0]
	if len(alternatives) > 1 {
		out = &jsonschema.Schema{AnyOf: alternatives}
	}
	out.Version = jsonschema.Version
	out.Title = "latent-engine " + name
	if name != "diagnostic" && name != "progress" {
		out.Title += " -o json"
	}
	return json.Marshal(out)
}
