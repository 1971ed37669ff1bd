package cel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/renderers"
)

// newRenderer is a Renderer whose panics are not hidden.
func newRenderer() *Renderer {
	r := New(Options{})
	r.env.panics = true
	return r
}

func testScope() *renderers.Scope {
	str, integer, boolean := field.Of(field.StringKind), field.Of(field.IntKind), field.Of(field.BoolKind)
	opt := func(name string, t *field.Type) field.Field { return field.Field{Name: name, Type: t, Optional: true} }
	req := func(name string, t *field.Type) field.Field { return field.Field{Name: name, Type: t} }
	nullable := func(k field.Kind) *field.Type { return &field.Type{Kind: k, Nullable: true} }
	return &renderers.Scope{
		Secrets: true,
		Names: map[string]*field.Type{
			"props": field.ObjectOf(field.NewTable("props",
				req("branch", str), req("cores", integer), req("ratio", field.Of(field.FloatKind)), req("nightly", boolean),
				opt("tag", nullable(field.StringKind)), opt("n", nullable(field.IntKind)), opt("list", &field.Type{Kind: field.ListKind, Elem: str, Nullable: true}),
				req("files", field.ListOf(str)), req("tier", field.EnumOf("small", "large")), req("any", field.Of(field.Any)),
				opt("my-prop", nullable(field.StringKind)))),
			"build": field.ObjectOf(field.NewTable("build", req("id", integer), req("number", integer), req("builder", str), req("reason", str), req("url", str),
				req("tags", field.ListOf(str)), req("files", field.ListOf(str)), req("owners", field.ListOf(str)))),
			"src": field.MapOf(field.ObjectOf(field.NewTable("src", opt("branch", nullable(field.StringKind)), opt("revision", nullable(field.StringKind)),
				req("repository", str), req("project", str)))),
			"worker": field.ObjectOf(field.NewTable("worker", req("name", str), req("tenant", str), req("index", integer), req("info", field.MapOf(str)))),
			"vars": field.ObjectOf(field.NewTable("vars", req("suffix", str), req("pw", field.Of(field.SecretKind)),
				req("size", field.ObjectOf(field.NewTable("size", req("cpu", str), req("memory", integer)))))),
		},
	}
}

func testValues() map[string]field.Object {
	return map[string]field.Object{
		"props": {
			"branch": field.String("main"), "cores": field.Int(8), "ratio": field.Float(0.5), "nightly": field.Bool(true),
			"n": nil, "files": field.List{field.String("a.c"), field.String("b.py")}, "tier": field.String("small"), "any": field.Object{"k": field.Int(1)},
		},
		"build": {
			"id": field.Int(1), "number": field.Int(7), "builder": field.String("linux"), "reason": field.String("forced"), "url": field.String("http://x/1"),
			"tags": field.List{field.String("t")}, "files": field.List{field.String("a.c")}, "owners": field.List{},
		},
		"src": {
			"":    field.Object{"branch": field.String("main"), "revision": nil, "repository": field.String("r"), "project": field.String("p")},
			"lib": field.Object{"branch": nil, "repository": field.String("r2"), "project": field.String("")},
		},
		"worker": {"name": field.String("linux"), "tenant": field.String("web"), "index": field.Int(1), "info": field.Object{"os": field.String("Debian")}},
		"vars":   {"suffix": field.String("edge"), "pw": field.Secret("pw"), "size": field.Object{"cpu": field.String("2"), "memory": field.Int(4)}},
	}
}

// eval compiles and evaluates; the string is "value" or "problems" or "error".
func eval(t testing.TB, r *Renderer, text string) string {
	t.Helper()
	p, problems := r.Compile(text, testScope())
	if len(problems) > 0 {
		s := ""
		for i, q := range problems {
			if i > 0 {
				s += "\n"
			}
			s += fmt.Sprintf("[%s] %s", slice(text, q.From, q.To), q.Message)
			if q.Hint != "" {
				s += " // " + q.Hint
			}
		}
		return s
	}
	b := renderers.NewBudget(renderers.DefaultLimits())
	b.Begin()
	v, err := p.Eval(context.Background(), r.Bind(testValues()), b)
	var ee *renderers.EvalError
	if errors.As(err, &ee) {
		s := fmt.Sprintf("! [%s] %s", slice(text, ee.From, ee.To), ee.Message)
		if ee.Hint != "" {
			s += " // " + ee.Hint
		}
		return s
	}
	if err != nil {
		t.Fatal(err)
	}
	return show2(v)
}

func slice(text string, from, to int) string { return string([]rune(text)[from:to]) }

func show2(v field.Value) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case field.String:
		return fmt.Sprintf("%q", string(v))
	case field.Text:
		return "secret:" + v[0].Secret.Name
	case field.List:
		s := "["
		for i, e := range v {
			if i > 0 {
				s += ", "
			}
			s += show2(e)
		}
		return s + "]"
	case field.Object:
		var keys []string
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		s := "{"
		for i, k := range keys {
			if i > 0 {
				s += ", "
			}
			s += k + ": " + show2(v[k])
		}
		return s + "}"
	case field.Float:
		return fmt.Sprintf("%gf", float64(v))
	}
	return fmt.Sprint(v)
}
