package cel

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"

	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/renderers"
)

// benchTexts are what fields of a worker look like.
var benchTexts = []struct{ name, text string }{
	{"read", `props.branch`},
	{"size", `"g" + string(props.cores * 2)`},
	{"ternary", `props.branch == "main" ? "stable" : "edge"`},
	{"map", `{"cpu": string(props.cores), "branch": props.branch, "n": build.number}`},
	{"optional", `props.?tag.orValue("latest")`},
	{"list", `props.files.filter(f, f.endsWith(".c")).map(f, "src/" + f)`},
	{"join", `props.files.join(",").upperAscii()`},
	{"helper", `truthy(props.?tag.orValue("")) ? str(props.tag) : "none"`},
}

func BenchmarkEval(b *testing.B) {
	r := newRenderer()
	for _, bt := range benchTexts {
		b.Run(bt.name, func(b *testing.B) {
			p, problems := r.Compile(bt.text, testScope())
			if problems != nil {
				b.Fatal(problems)
			}
			bound := r.Bind(testValues())
			budget := renderers.NewBudget(renderers.Limits{FieldCost: 1e6, RenderCost: 1 << 60, Bytes: 16 << 20, ResultBytes: 256 << 10, ResultNodes: 10_000, ResultDepth: 32})
			b.ReportAllocs()
			for b.Loop() {
				budget.Begin()
				if _, err := p.Eval(context.Background(), bound, budget); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEvalPeer evaluates the same texts with cel-go's own programs, under a cost limit and with a context.
func BenchmarkEvalPeer(b *testing.B) {
	for _, bt := range benchTexts {
		b.Run(bt.name, func(b *testing.B) {
			prog := peer(b, bt.text)
			vars := native(testValues())
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := prog.ContextEval(context.Background(), vars); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// peer compiles text with cel-go alone: the same libraries, maps of anything in scope.
func peer(t testing.TB, text string) cel.Program {
	t.Helper()
	env := peerEnv(t)
	tree, issues := env.Compile(text)
	if issues.Err() != nil {
		t.Fatal(issues.Err())
	}
	prog, err := env.Program(tree, cel.CostLimit(1e6), cel.InterruptCheckFrequency(100))
	if err != nil {
		t.Fatal(err)
	}
	return prog
}

func peerEnv(t testing.TB) *cel.Env {
	t.Helper()
	opts := []cel.EnvOption{
		cel.CrossTypeNumericComparisons(true), cel.OptionalTypes(), ext.Strings(), ext.Lists(), ext.Math(), ext.Sets(), ext.Bindings(), ext.TwoVarComprehensions(),
		cel.Function("str", cel.Overload("str_any", []*cel.Type{cel.DynType}, cel.StringType, cel.UnaryBinding(peerStr))),
		cel.Function("truthy", cel.Overload("truthy_any", []*cel.Type{cel.DynType}, cel.BoolType, cel.UnaryBinding(peerTruthy))),
	}
	for name := range testScope().Names {
		opts = append(opts, cel.Variable(name, cel.MapType(cel.StringType, cel.DynType)))
	}
	env, err := cel.NewEnv(opts...)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func native(values map[string]field.Object) map[string]any {
	out := map[string]any{}
	for k, v := range values {
		out[k] = nativeValue(v)
	}
	return out
}

func nativeValue(v field.Value) any {
	switch v := v.(type) {
	case field.String:
		return string(v)
	case field.Int:
		return int64(v)
	case field.Float:
		return float64(v)
	case field.Bool:
		return bool(v)
	case field.List:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = nativeValue(e)
		}
		return out
	case field.Object:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = nativeValue(e)
		}
		return out
	}
	return nil
}

// BenchmarkCompile compiles 200 texts under 1,000 scopes of their own, 8 each.
func BenchmarkCompile(b *testing.B) {
	texts := make([]string, 200)
	for i := range texts {
		texts[i] = fmt.Sprintf(`props.branch == "b%d" ? "stable-%d" : props.?tag.orValue("edge") + string(props.cores)`, i, i)
	}
	scopes := make([]*renderers.Scope, 1000)
	for i := range scopes {
		scopes[i] = testScope()
		fields := append([]field.Field{{Name: fmt.Sprintf("own%d", i), Type: field.Of(field.StringKind)}}, scopes[i].Names["props"].Fields.Fields...)
		scopes[i].Names["props"] = field.ObjectOf(field.NewTable("props", fields...))
	}
	b.ReportAllocs()
	for b.Loop() {
		r := newRenderer()
		for i, s := range scopes {
			for j := range 8 {
				if _, problems := r.Compile(texts[(i*8+j)%len(texts)], s); problems != nil {
					b.Fatal(problems)
				}
			}
		}
	}
}
