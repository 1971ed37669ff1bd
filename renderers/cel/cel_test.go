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

func init() { debugPanics = true }

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
		"props": {"branch": field.String("main"), "cores": field.Int(8), "ratio": field.Float(0.5), "nightly": field.Bool(true),
			"n": nil, "files": field.List{field.String("a.c"), field.String("b.py")}, "tier": field.String("small"), "any": field.Object{"k": field.Int(1)}},
		"build": {"id": field.Int(1), "number": field.Int(7), "builder": field.String("linux"), "reason": field.String("forced"), "url": field.String("http://x/1"),
			"tags": field.List{field.String("t")}, "files": field.List{field.String("a.c")}, "owners": field.List{}},
		"src": {"": field.Object{"branch": field.String("main"), "revision": nil, "repository": field.String("r"), "project": field.String("p")},
			"lib": field.Object{"branch": nil, "repository": field.String("r2"), "project": field.String("")}},
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

func TestProbe(t *testing.T) {
	r := New(Options{})
	for _, text := range []string{
		`props.branch`, `"g" + string(props.cores * 2)`, `props.brnach`, `props["brnach"]`, `prps.branch`, `foo(1)`, `props.cores + "x"`, `props.tag`, `props.tag + "x"`,
		`props.?tag.orValue("d")`, `props.tag == null`, `has(props.tag)`, `"tag" in props`, `str(props[?"branch"].orValue(null))`, `props[props.branch]`,
		`{"a": 1, "b": [props.cores, 2]}`, `props.files.map(f, f + "x")`, `props.files.filter(f, f.endsWith(".c"))`, `[props.cores, 2`, `a b`, ``, `1 +`, `"abc`,
		`secret("x")`, `secret("x") + "a"`, `secret("x") == secret("y")`, `[secret("a"), "b"]`, `dyn(secret("a"))`, `str([secret("a"), "b"][0])`, `props.nightly ? secret("a") : secret("b")`,
		`src[""].branch`, `src[?"lib"].?branch.orValue("")`, `src[?"zz"].?branch.orValue("")`, `src["zz"].branch`, `worker.info[?"os"].orValue("x")`, `str(worker.info[?"k"].orValue(null))`,
		`"%s-%d".format(["a", 1])`, `vars.size.cpu`, `vars.size.cpuu`, `vars.size`, `cel.bind(p, props, p.cores)`, `1/0`, `1.0/0.0`, `b'abc'`, `int("abc")`, `[1,2][5]`, `{"a":1}.b`, `{"a":1}.?b`,
		`props.?tag.optMap(t, t + "!")`, `math.greatest(1, props.cores)`, `lists.range(3)`, `[3,1,2].sort()`, `["b","a"].sortBy(e, e)`, `{"a":1,"b":2}.transformMap(k, v, v+1)`,
		`props.nightly ? optional.none() : "x"`, `props.nightly ? null : "x"`, `type(1) == int`, `vars.pw`, `props.any.k`, `props.any.z`, `props.any.k.zz`, `floordiv(-7, 2)`, `size(props)`,
		`true && (1/0 > 0)`, `false && (1/0 > 0)`, `[1,2].exists(x, x == 2)`, `props.cores > "a"`, `!props.cores`, `props.cores ? 1 : 2`, `props.cores.map(x, x)`, `str([1, "a", null, true, 1.5, {"k": "v"}])`,
		`truthy(props.tag)`, `props['my-prop']`, `props['my-prop'] + "x"`, `f(1)`, `math.foo(1)`, `props.branch.foo()`, `props.branch.size`, `math`, `props.n * 2`, `x.y.z`, `branch`, `build.nmber`,
		`now()`, `timestamp("2020-01-01T00:00:00Z")`, `sets.contains([1,2],[1])`, `[[1],[2]].flatten()`, `"a".matches("[")`, `"abc".matches("^a.c$")`, `props.files.join(",")`, `"a,b".split(",")`,
		`props = 1`, `a and b`, `{"a": 1, "a": 2}`, `{1: 2}`, `msg.Type{}`, `props.branch.size(1)`, `size()`, `props.files[?0].orValue("")`, `1u`, `[1, 2u]`, "\"é\" + props.brnach", "1 +\n  props.brnach",
	} {
		fmt.Printf("%-45s %s\n", text, eval(t, r, text))
	}
}
