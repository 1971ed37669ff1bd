package render

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/renderers"
)

func optional(kind field.Kind) *field.Type { return &field.Type{Kind: kind, Nullable: true} }

// The types of the names that every expression may read, beside props and vars (design: "In scope").
func buildType() *field.Type {
	strs := field.ListOf(field.Of(field.StringKind))
	return field.ObjectOf(field.NewTable("build",
		field.Field{Name: "id", Type: field.Of(field.IntKind), Doc: "Number of the build in the master's database (Buildbot buildid)."},
		field.Field{Name: "number", Type: field.Of(field.IntKind), Doc: "Number of the build within its builder (Buildbot buildnumber)."},
		field.Field{Name: "builder", Type: field.Of(field.StringKind), Doc: "Name of the builder."},
		field.Field{Name: "reason", Type: field.Of(field.StringKind), Doc: "Why the build was asked for."},
		field.Field{Name: "url", Type: field.Of(field.StringKind), Doc: "The build's page (Buildbot URLForBuild)."},
		field.Field{Name: "tags", Type: strs, Doc: "The builder's tags."},
		field.Field{Name: "files", Type: strs, Doc: "Files changed (Buildbot allFiles)."},
		field.Field{Name: "owners", Type: strs, Doc: "Who is to blame (Buildbot blamelist)."},
	))
}

func srcType() *field.Type {
	return field.MapOf(field.ObjectOf(field.NewTable("src",
		field.Field{Name: "branch", Type: optional(field.StringKind), Optional: true, Doc: "Branch, absent where the source stamp has none."},
		field.Field{Name: "revision", Type: optional(field.StringKind), Optional: true, Doc: "Revision, absent where the source stamp has none."},
		field.Field{Name: "repository", Type: field.Of(field.StringKind), Doc: "Repository."},
		field.Field{Name: "project", Type: field.Of(field.StringKind), Doc: "Project."},
		field.Field{Name: "codebase", Type: field.Of(field.StringKind), Doc: "Codebase, the key itself."},
	)))
}

func workerType() *field.Type {
	return field.ObjectOf(field.NewTable("worker",
		field.Field{Name: "name", Type: field.Of(field.StringKind), Doc: "WORKERNAME."},
		field.Field{Name: "tenant", Type: field.Of(field.StringKind), Doc: "Tenant, empty for the operator's own."},
		field.Field{Name: "index", Type: field.Of(field.IntKind), Doc: "1 … count; 0 without count."},
		field.Field{Name: "info", Type: field.MapOf(field.Of(field.StringKind)), Doc: "What the worker said of itself at its last attach."},
	))
}

func propsType(w *config.Worker) *field.Type {
	fields := make([]field.Field, len(w.Props))
	for i, p := range w.Props {
		fields[i] = field.Field{Name: p.Name, Type: p.Type, Optional: p.Default == nil && p.Type.Nullable, Doc: p.Doc}
	}
	return &field.Type{Kind: field.ObjectKind, Fields: field.NewTable("props", fields...), Open: w.PropsOpen}
}

// fixedScope are the scope types that no worker changes: made once a compiler.
type fixedScope struct{ build, src, worker *field.Type }

func newFixedScope() fixedScope {
	return fixedScope{build: buildType(), src: srcType(), worker: workerType()}
}

func (f fixedScope) scope(props, vars *field.Type) *renderers.Scope {
	return &renderers.Scope{Secrets: true, Names: map[string]*field.Type{"props": props, "build": f.build, "src": f.src, "worker": f.worker, "vars": vars}}
}

// roots are the scope's names that a worker's expressions read, but for props and vars. What nobody reads is not made.
type roots struct{ build, src, worker bool }

func (r *roots) add(sites []*site) {
	for _, s := range sites {
		if s.program == nil {
			continue
		}
		for _, path := range s.program.Reads() {
			r.build = r.build || strings.HasPrefix(path, "build")
			r.src = r.src || strings.HasPrefix(path, "src")
			r.worker = r.worker || strings.HasPrefix(path, "worker")
		}
	}
}

// bindings are the objects under the scope's names.
func (r roots) bindings(props, vars field.Object, b *config.Build, w *config.Worker) map[string]field.Object {
	out := make(map[string]field.Object, 5)
	out["props"], out["vars"] = props, vars
	if r.build {
		out["build"] = buildValue(b)
	}
	if r.src {
		out["src"] = srcValue(b)
	}
	if r.worker {
		out["worker"] = workerValue(b, w)
	}
	return out
}

func buildValue(b *config.Build) field.Object {
	return field.Object{
		"id": field.Int(b.ID), "number": field.Int(b.Number), "builder": field.String(b.Builder), "reason": field.String(b.Reason),
		"url": field.String(b.URL), "tags": stringList(b.Tags), "files": stringList(b.Files), "owners": stringList(b.Owners),
	}
}

func srcValue(b *config.Build) field.Object {
	src := make(field.Object, len(b.SourceStamps))
	for _, s := range b.SourceStamps {
		o := field.Object{"codebase": field.String(s.Codebase), "repository": field.String(s.Repository), "project": field.String(s.Project)}
		if s.Branch != nil {
			o["branch"] = field.String(*s.Branch)
		}
		if s.Revision != nil {
			o["revision"] = field.String(*s.Revision)
		}
		src[s.Codebase] = o
	}
	return src
}

func workerValue(b *config.Build, w *config.Worker) field.Object {
	info := make(field.Object, len(b.WorkerInfo))
	for k, v := range b.WorkerInfo {
		info[k] = field.String(v)
	}
	return field.Object{"name": field.String(w.WorkerName), "tenant": field.String(w.Tenant), "index": field.Int(w.Index), "info": info}
}

func stringList(in []string) field.List {
	out := make(field.List, len(in))
	for i, s := range in {
		out[i] = field.String(s)
	}
	return out
}

// propValues checks a build's properties against the worker's declarations.
func propValues(w *config.Worker, b *config.Build) (field.Object, []Problem) {
	out := make(field.Object, len(w.Props))
	var problems []Problem
	for _, p := range w.Props {
		given, ok := b.Properties[p.Name]
		switch {
		case ok && given.Value != nil:
		case p.Default != nil && !ok:
			out[p.Name] = p.Default
			continue
		case p.Type.Nullable:
			// Missing stays missing, so that `'x' in props` tells the two apart; null given is null.
			if ok {
				out[p.Name] = nil
			}
			continue
		default:
			problems = append(problems, Problem{Prop: p, Message: fmt.Sprintf("property %q is missing in this build", p.Name), Hint: fmt.Sprintf("declared as %s, without a default; give it with -p %s=… or in the build document", p.Decl, p.Name)})
			continue
		}
		v := given.Value
		if given.Text {
			v = fromText(p.Type, v)
		}
		v, bad := p.Type.Coerce(v)
		for _, q := range bad {
			problems = append(problems, Problem{Prop: p, Message: fmt.Sprintf("property %q from %s: %s", p.Name+joinRelative(q.Path), orElse(given.Source, "the build"), q.Message), Hint: q.Hint})
		}
		out[p.Name] = v
	}
	if w.PropsOpen {
		for name, given := range b.Properties {
			if _, declared := out[name]; !declared {
				out[name] = given.Value
			}
		}
	}
	return out, problems
}

// fromText reads a property given as text on a command line as the type it was declared with.
func fromText(t *field.Type, v field.Value) field.Value {
	s, ok := v.(field.String)
	if !ok {
		return v
	}
	switch t.Kind {
	case field.IntKind:
		if n, err := strconv.ParseInt(string(s), 10, 64); err == nil {
			return field.Int(n)
		}
	case field.FloatKind:
		if f, err := strconv.ParseFloat(string(s), 64); err == nil {
			return field.Float(f)
		}
	case field.BoolKind:
		switch s {
		case "true":
			return field.Bool(true)
		case "false":
			return field.Bool(false)
		}
	case field.ListKind, field.MapKind, field.Any, field.OneOfKind:
		if parsed, err := config.ParseJSON("-p", []byte(s)); err == nil {
			return parsed
		}
	}
	return v
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
