package main

import (
	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/backends/docker"
	"github.com/latent-engine/latent-engine/engine"
	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/render"
	"github.com/latent-engine/latent-engine/renderers"
	"github.com/latent-engine/latent-engine/renderers/cel"
)

// kinds are the kinds of backend that exist. A new one is one line here.
func kinds() []backends.Kind {
	return []backends.Kind{docker.Kind{}}
}

func newCEL() renderers.Renderer { return cel.New(cel.Options{}) }

// compile loads and compiles files as one definition. The diagnostics are those of both phases, in the files' order; the set
// is good for rendering where they hold no error.
func compile(files []config.Source) (*render.Set, diag.List) {
	def, diags := config.Load(files, config.Options{Kinds: configKinds()})
	byName := make(map[string]render.Kind, 1)
	for _, k := range kinds() {
		byName[k.Name()] = k
	}
	set, more := render.Compile(def, render.Options{Kinds: byName, CEL: newCEL()})
	for _, d := range more {
		diags.Add(d)
	}
	return set, inFileOrder(diags, files)
}

func configKinds() map[string]config.Kind {
	tables := make(map[string]config.Kind, 1)
	for _, k := range kinds() {
		tables[k.Name()] = config.Kind{Connection: k.Connection(), Worker: k.Worker()}
	}
	return tables
}

// inFileOrder sorts diagnostics by place, and the files as they were given.
func inFileOrder(l diag.List, files []config.Source) diag.List {
	l.Sort()
	var out diag.List
	seen := map[string]bool{}
	for _, f := range files {
		if seen[f.Name] {
			continue
		}
		seen[f.Name] = true
		for _, d := range l {
			if d.File == f.Name {
				out = append(out, d)
			}
		}
	}
	for _, d := range l {
		if !seen[d.File] {
			out = append(out, d)
		}
	}
	return out
}

// open opens the engine of a loaded definition; this makes the state folder.
func (a *app) open(d *definition) (*engine.Engine, error) {
	dir, err := a.stateFolder()
	if err != nil {
		return nil, err
	}
	return engine.Open(d.set, engine.Options{Kinds: kinds(), CEL: newCEL(), State: dir, Root: d.root})
}
