package cel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/renderers"
)

// words writes a type down exactly: string? for nullable, string~ for optional.
func words(t *field.Type) string {
	if t == nil {
		return "any"
	}
	s := ""
	switch t.Kind {
	case field.Any:
		s = "any"
	case field.StringKind:
		s = "string"
	case field.BoolKind:
		s = "bool"
	case field.IntKind:
		s = "int"
	case field.FloatKind:
		s = "float"
	case field.EnumKind:
		s = "enum(" + strings.Join(t.Values, "|") + ")"
	case field.SecretKind:
		s = "secret"
	case field.NullKind:
		s = "null"
	case field.ListKind:
		s = "[" + words(t.Elem) + "]"
	case field.MapKind:
		s = "map(" + words(t.Elem) + ")"
	case field.ObjectKind:
		var parts []string
		for _, f := range t.Fields.Fields {
			p := f.Name
			if f.Optional {
				p += "?"
			}
			parts = append(parts, p+": "+words(f.Type))
		}
		s = "{" + strings.Join(parts, ", ") + "}"
	default:
		s = t.String()
	}
	if t.Nullable {
		s += "?"
	}
	if t.Optional {
		s += "~"
	}
	return s
}

func TestTypes(t *testing.T) {
	r := newRenderer()
	for _, c := range []struct{ text, want string }{
		{`"a"`, "string"},
		{`1`, "int"},
		{`1u`, "int"},
		{`1.5`, "float"},
		{`true`, "bool"},
		{`null`, "null"},
		{`[]`, "[any]"},
		{`{}`, "{}"},
		{`props.branch`, "string"},
		{`props.tag`, "string?"},
		{`props.n`, "int?"},
		{`props.list`, "[string]?"},
		{`props.tier`, "enum(small|large)"},
		{`props.any`, "any"},
		{`props.files`, "[string]"},
		{`props["my-prop"]`, "string?"},
		{`props.?tag`, "string~"},
		{`props.?tag.orValue("x")`, "string"},
		{`props.?tag.orValue(null)`, "string?"},
		{`props[?"branch"].orValue(null)`, "string?"},
		{`props.?n.orValue(1)`, "int"},
		{`props.?list.orValue([])`, "[string]"},
		{`props.?tier.orValue("large")`, "string"},
		{`has(props.tag)`, "bool"},
		{`"tag" in props`, "bool"},
		{`optional.none()`, "null~"},
		{`optional.of(1)`, "int~"},
		{`props.?tag.or(optional.of("x"))`, "string~"},
		{`src["lib"].branch`, "string?"},
		{`src["lib"].repository`, "string"},
		{`src[?"lib"].?branch`, "string~"},
		{`worker.info.os`, "string"},
		{`worker.info[?"os"]`, "string~"},
		{`worker.info`, "map(string)"},
		{`vars.size`, "{cpu: string, memory: int}"},
		{`vars.size.memory`, "int"},
		{`vars.pw`, "secret"},
		{`secret("a")`, "secret"},
		{`props.nightly ? secret("a") : secret("b")`, "secret"},
		{`[secret("a")]`, "[secret]"},
		{`[secret("a"), "b"]`, "[any]"},
		{`{"a": secret("x"), "b": "y"}`, "{a: secret, b: string}"},
		{`{"a": secret("x"), "b": "y"}.a`, "secret"},
		{`optional.of(secret("a"))`, "secret~"},
		{`optional.of(secret("a")).orValue(secret("b"))`, "secret"},
		{`cel.bind(s, secret("a"), {"x": s})`, "{x: secret}"},
		{`["a"].map(x, secret("b"))`, "[secret]"},
		{`{"a": 1, "b": [props.cores, 2]}`, "{a: int, b: [int]}"},
		{`{"a": {"b": {"c": 1.5}}}`, "{a: {b: {c: float}}}"},
		{`[{"a": 1}, {"a": 2, "b": "x"}]`, "[{a: int, b?: string}]"},
		{`{props.branch: 1}`, "map(int)"},
		{`{?"a": props.?tag}`, "{a?: string}"},
		{`{"a": props.?tag}`, "{a: string~}"},
		{`[?props.?tag, "x"]`, "[string]"},
		{`props.nightly ? {"a": 1} : {"a": 2}`, "{a: int}"},
		{`props.nightly ? {"a": 1, "b": "x"} : {"a": 2, "b": "y"}`, "{a: int, b: string}"},
		{`props.nightly ? {"a": 1} : {"b": 2}`, "{a?: int, b?: int}"},
		{`props.nightly ? null : "x"`, "string?"},
		{`props.nightly ? "a" : null`, "string?"},
		{`props.nightly ? null : [1]`, "[int]?"},
		{`props.nightly ? null : props.cores > 3 ? 1 : null`, "int?"},
		{`props.nightly ? optional.none() : optional.of("x")`, "string?~"},
		{`dyn(1)`, "any"},
		{`props.any.k`, "any"},
		{`props.any.k + 1`, "int"},
		{`[1, "a"]`, "[any]"},
		{`[1, null]`, "[int?]"},
		{`[[1], [2]]`, "[[int]]"},
		{`[] + [1]`, "[int]"},
		{`props.files.map(f, {"name": f, "n": f.size()})`, "[{name: string, n: int}]"},
		{`props.files.filter(f, f != "")`, "[string]"},
		{`[{"a": 1}].filter(x, x.a > 0)`, "[{a: int}]"},
		{`[{"a": 1}].map(x, x.a)`, "[int]"},
		{`props.files.map(f, f != "", [f])`, "[[string]]"},
		{`{"a": 1}.transformMap(k, v, string(v))`, "map(string)"},
		{`props.files.transformList(i, f, {"i": i, "f": f})`, "[{i: int, f: string}]"},
		{`[{"a": 1}][0]`, "{a: int}"},
		{`[{"a": 1}][?0]`, "{a: int}~"},
		{`[{"a": 1}].first()`, "{a: int}~"},
		{`[{"a": 1}].first().value().a`, "int"},
		{`{"a": {"b": 1}}["a"]["b"]`, "int"},
		{`{"a": 1}[props.branch]`, "int"},
		{`[3, 1].sort()`, "[int]"},
		{`props.files.all(f, f == "")`, "bool"},
		{`props.files.exists_one(f, f == "")`, "bool"},
		{`str(1)`, "string"},
		{`truthy(1)`, "bool"},
		{`floordiv(1, 2)`, "int"},
		{`cel.bind(x, {"a": 1}, x)`, "{a: int}"},
		{`cel.bind(x, 1, cel.bind(y, [x], y))`, "[int]"},
		{`props.?tag.optMap(t, {"t": t})`, "{t: string}~"},
	} {
		p, problems := r.Compile(c.text, testScope())
		if problems != nil {
			t.Errorf("%s: %v", c.text, problems)
			continue
		}
		if got := words(p.Type()); got != c.want {
			// An optional of null is as good as one of nothing.
			if strings.ReplaceAll(got, "?~", "~") != strings.ReplaceAll(c.want, "?~", "~") {
				t.Errorf("%s: got %s, want %s", c.text, got, c.want)
			}
		}
	}
}

func TestReadsAndResults(t *testing.T) {
	r := newRenderer()
	for _, c := range []struct{ text, reads, results string }{
		{`"a"`, "[]", "a"},
		{`props.nightly ? "a" : "b"`, "[props.nightly]", "a b"},
		{`props.nightly ? "a" : props.cores > 2 ? "b" : "a"`, "[props.cores props.nightly]", "a b"},
		{`props.tier`, "[props.tier]", "small large"},
		{`props.nightly ? props.tier : "none"`, "[props.nightly props.tier]", "small large none"},
		{`props.?tier.orValue("none")`, "[props.tier]", "small large none"},
		{`props.nightly ? "a" : null`, "[props.nightly]", "a <nil>"},
		{`props.nightly ? optional.of("a") : optional.none()`, "[props.nightly]", "a <nil>"},
		{`cel.bind(x, props.branch, x == "m" ? "a" : "b")`, "[props.branch]", "a b"},
		{`props.branch`, "[props.branch]", ""},
		{`props.nightly ? "a" : props.branch`, "[props.branch props.nightly]", ""},
		{`"a" + "b"`, "[]", ""},
		{`has(props.tag) && "n" in props`, "[props.n props.tag]", ""},
		{`has(src[?"zz"].branch)`, "[src.zz.branch]", ""},
		{`vars.size.cpu + vars["suffix"]`, "[vars.size.cpu vars.suffix]", ""},
		{`src["my code"].branch`, `[src["my code"].branch]`, ""},
		{`src[?props.branch]`, `[props.branch src]`, ""},
		{`props.any.k.z`, `[props.any]`, ""},
		{`size(props) + build.number + size(worker.info)`, `[build.number props worker.info]`, ""},
		{`props.files.map(f, f + props.branch)`, `[props.branch props.files]`, ""},
		{`cel.bind(p, props, p.branch)`, `[props.branch]`, ""},
		{`cel.bind(p, props, cel.bind(q, p, q.branch))`, `[props.branch]`, ""},
		{`cel.bind(s, vars.size, s.cpu)`, `[vars.size]`, ""},
	} {
		p, problems := r.Compile(c.text, testScope())
		if problems != nil {
			t.Errorf("%s: %v", c.text, problems)
			continue
		}
		if got := fmt.Sprint(p.Reads()); got != c.reads {
			t.Errorf("%s: reads %s, want %s", c.text, got, c.reads)
		}
		var got []string
		for _, v := range p.Results() {
			got = append(got, strings.Trim(fmt.Sprint(v), `"`))
		}
		if strings.Join(got, " ") != c.results {
			t.Errorf("%s: results %q, want %q", c.text, strings.Join(got, " "), c.results)
		}
	}
}

// TestTypeSize: a type is never bigger than the expression deserves.
func TestTypeSize(t *testing.T) {
	p, problems := newRenderer().Compile("[{}]"+strings.Repeat(`.map(v, {"a": v, "b": v})`, 40)+"[0]", testScope())
	if problems != nil {
		t.Fatal(problems)
	}
	var size func(*field.Type) int
	size = func(t *field.Type) int {
		n := 1
		if t == nil {
			return n
		}
		if t.Fields != nil {
			for _, f := range t.Fields.Fields {
				n += size(f.Type)
			}
		}
		return n + size(t.Elem)
	}
	if n := size(p.Type()); n > 2*maxTypeSize {
		t.Errorf("the type has %d parts", n)
	}
}

// TestOpen: where undeclared properties may be read, keys may be computed and anything may be missing.
func TestOpen(t *testing.T) {
	r := newRenderer()
	scope := testScope()
	props := *scope.Names["props"]
	props.Open = true
	scope.Names["props"] = &props
	for text, want := range map[string]string{
		`props.branch`:                                    `"main"`,
		`props.extra`:                                     `"x"`,
		`props["branch"]`:                                 `"main"`,
		`props["bra" + "nch"]`:                            `"main"`,
		`props[?"no" + "thing"].orValue("d")`:             `"d"`,
		`"ex" + "tra" in props`:                           `true`,
		`props.nothing`:                                   `! property "nothing" has no value in this build // use props.?nothing.orValue("…")`,
		`props.?nothing.orValue("d")`:                     `"d"`,
		`has(props.nothing)`:                              `false`,
		`props.branch + 1`:                                `problem`,
		`str(props.extra) + str(props[?"zz"].orValue(0))`: `"x0"`,
	} {
		values := testValues()
		values["props"]["extra"] = field.String("x")
		p, problems := r.Compile(text, scope)
		if problems != nil {
			if want != "problem" {
				t.Errorf("%s: %v", text, problems)
			}
			continue
		}
		v, err := p.Eval(context.Background(), r.Bind(values), renderers.NewBudget(renderers.DefaultLimits()))
		got := show2(v)
		var ee *renderers.EvalError
		if errors.As(err, &ee) {
			got = "! " + ee.Message + " // " + ee.Hint
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

// TestBuildbot runs the rows of Buildbot's Interpolate and its kin, with what Buildbot gives.
func TestBuildbot(t *testing.T) {
	r := newRenderer()
	nullable := func(k field.Kind) *field.Type { return &field.Type{Kind: k, Nullable: true} }
	scope := testScope()
	var rows []field.Field
	for _, n := range []string{"x", "none", "empty", "missing"} {
		rows = append(rows, field.Field{Name: n, Type: nullable(field.StringKind), Optional: true})
	}
	rows = append(rows,
		field.Field{Name: "flag", Type: field.Of(field.BoolKind)}, field.Field{Name: "zero", Type: field.Of(field.IntKind)},
		field.Field{Name: "list", Type: field.ListOf(nil)}, field.Field{Name: "req", Type: field.Of(field.StringKind)})
	scope.Names["props"] = field.ObjectOf(field.NewTable("props", rows...))
	values := testValues()
	values["props"] = field.Object{"x": field.String("v"), "none": nil, "empty": field.String(""), "flag": field.Bool(true), "zero": field.Int(0), "list": field.List{field.Int(1), field.String("a'b")}, "req": field.String("r")}
	for _, c := range []struct{ buildbot, text, want string }{
		{`%(prop:x)s`, `str(props[?"x"].orValue(null))`, `"v"`},
		{`%(prop:none)s`, `str(props[?"none"].orValue(null))`, `""`},
		{`%(prop:missing)s`, `str(props[?"missing"].orValue(null))`, `""`},
		{`%(prop:flag)s`, `str(props[?"flag"].orValue(null))`, `"True"`},
		{`%(prop:list)s`, `str(props[?"list"].orValue(null))`, `"[1, \"a'b\"]"`},
		{`%(prop:req)s`, `str(props[?"req"].orValue(null))`, `"r"`},
		{`%(prop:x:-d)s`, `"x" in props ? str(props["x"]) : "d"`, `"v"`},
		{`%(prop:missing:-d)s`, `"missing" in props ? str(props["missing"]) : "d"`, `"d"`},
		{`%(prop:none:-d)s`, `"none" in props ? str(props["none"]) : "d"`, `""`},
		{`%(prop:empty:-d)s`, `"empty" in props ? str(props["empty"]) : "d"`, `""`},
		{`%(prop:x:~d)s`, `truthy(props[?"x"].orValue(null)) ? str(props["x"]) : "d"`, `"v"`},
		{`%(prop:empty:~d)s`, `truthy(props[?"empty"].orValue(null)) ? str(props["empty"]) : "d"`, `"d"`},
		{`%(prop:missing:~d)s`, `truthy(props[?"missing"].orValue(null)) ? str(props["missing"]) : "d"`, `"d"`},
		{`%(prop:zero:~d)s`, `truthy(props[?"zero"].orValue(null)) ? str(props["zero"]) : "d"`, `"d"`},
		{`%(prop:empty:+r)s`, `"empty" in props ? "r" : ""`, `"r"`},
		{`%(prop:missing:+r)s`, `"missing" in props ? "r" : ""`, `""`},
		{`%(prop:x:?|a|b)s`, `"x" in props ? "a" : "b"`, `"a"`},
		{`%(prop:empty:#?|a|b)s`, `truthy(props[?"empty"].orValue(null)) ? "a" : "b"`, `"b"`},
		{`%(prop:missing:-%(src::revision:-u)s)s`, `"missing" in props ? str(props["missing"]) : str(src[?""].?revision.orValue("u"))`, `"u"`},
		{`%(src:lib:branch)s`, `src[?"lib"].?branch.orValue("")`, `""`},
		{`%(src:lib:repository)s`, `src[?"lib"].?repository.orValue("")`, `"r2"`},
		{`%(src:zz:branch)s`, `src[?"zz"].?branch.orValue("")`, `""`},
		{`%(kw:k)s`, `vars.suffix`, `"edge"`},
		{`%(secret:s)s`, `secret("s")`, `secret:s`},
		{`%(worker:os)s`, `str(worker.info[?"os"].orValue(null))`, `"Debian"`},
		{`%(worker:zz)s`, `str(worker.info[?"zz"].orValue(null))`, `""`},
		{`Interpolate('%s-%d', a, b)`, `"%s-%d".format(["a", 3])`, `"a-3"`},
		{`%%`, `"%"`, `"%"`},
		{`Property('x', 'd', defaultWhenFalse=True)`, `truthy(props.x) ? props.x : "d"`, `"v"`},
		{`Property('missing', 'd', defaultWhenFalse=True)`, `truthy(props.missing) ? props.missing : "d"`, `"d"`},
		{`Property('x', 'd')`, `"x" in props ? props.x : "d"`, `"v"`},
		{`Property('missing')`, `props.missing`, `null`},
		{`Property('zero') == 0`, `props.zero == 0`, `true`},
		{`Property('zero') // 2`, `floordiv(props.zero - 3, 2)`, `-2`},
		{`Property('zero') % 2`, `floormod(props.zero - 3, 2)`, `1`},
		{`Property('zero') / 2`, `double(props.zero + 1) / 2.0`, `0.5f`},
		{`Property('x').in_(['v'])`, `props.x in ["v"]`, `true`},
		{`WithProperties('%(req)s')`, `str(props.req)`, `"r"`},
		{`WithProperties('%s', 'missing')`, `props.missing + ""`, `! property "missing" has no value in this build`},
		{`FlattenList([a, [b]])`, `[["a"], ["b", "c"]].flatten()`, `["a", "b", "c"]`},
		{`URLForBuild`, `build.url`, `"http://x/1"`},
	} {
		p, problems := r.Compile(c.text, scope)
		if problems != nil {
			t.Errorf("%s: %s: %v", c.buildbot, c.text, problems)
			continue
		}
		v, err := p.Eval(context.Background(), r.Bind(values), renderers.NewBudget(renderers.DefaultLimits()))
		got := show2(v)
		if err != nil {
			got = "! " + err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s: got %s, want %s", c.buildbot, c.text, got, c.want)
		}
	}
}

// TestPython holds str() against what Python 3 prints.
func TestPython(t *testing.T) {
	r := newRenderer()
	for _, c := range []struct{ text, want string }{
		{`str(null)`, ``},
		{`str(true)`, `True`},
		{`str(false)`, `False`},
		{`str("a")`, `a`},
		{`str(1)`, `1`},
		{`str(-5)`, `-5`},
		{`str(1.0)`, `1.0`},
		{`str(0.1)`, `0.1`},
		{`str(1e16)`, `1e+16`},
		{`str(1e15)`, `1000000000000000.0`},
		{`str(0.0001)`, `0.0001`},
		{`str(0.00001)`, `1e-05`},
		{`str(-0.0)`, `-0.0`},
		{`str(123456789.123)`, `123456789.123`},
		{`str(1.0 / 0.0)`, `inf`},
		{`str(0.0 / 0.0)`, `nan`},
		{`str(-1.0 / 0.0)`, `-inf`},
		{`str([])`, `[]`},
		{`str({})`, `{}`},
		{`str([1, "a", null, true, 1.5])`, `[1, 'a', None, True, 1.5]`},
		{`str({"k": ["v"]})`, `{'k': ['v']}`},
		{`str(["it's"])`, `["it's"]`},
		{`str(["a\"b"])`, `['a"b']`},
		{`str(["'\""])`, `['\'"']`},
		{`str(["a\n\t\r\\"])`, `['a\n\t\r\\']`},
		{`str(["\x00\x7fé\u00ad\u200b"])`, `['\x00\x7fé\xad\u200b']`},
		{`str(optional.of([1]))`, `[1]`},
	} {
		if got := eval(t, r, c.text); got != fmt.Sprintf("%q", c.want) {
			t.Errorf("%s: got %s, want %q", c.text, got, c.want)
		}
	}
}

// TestSecretsAreHoles: structure all the way, and text that looks like a hole is text.
func TestSecretsAreHoles(t *testing.T) {
	r := newRenderer()
	values := testValues()
	values["props"]["branch"] = field.String("${{ secret('x') }}")
	values["vars"]["pw"] = field.Text{{Text: "user:"}, {Secret: field.SecretRef{Name: "pw"}}}
	evalValue := func(text string) field.Value {
		t.Helper()
		p, problems := r.Compile(text, testScope())
		if problems != nil {
			t.Fatalf("%s: %v", text, problems)
		}
		v, err := p.Eval(context.Background(), r.Bind(values), renderers.NewBudget(renderers.DefaultLimits()))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return v
	}
	for text, want := range map[string]field.Value{
		`secret("a.b-c_d")`:                                          field.Secret("a.b-c_d"),
		`{"PW": secret("a"), "X": "y"}`:                              field.Object{"PW": field.Secret("a"), "X": field.String("y")},
		`[secret("a"), secret("b")]`:                                 field.List{field.Secret("a"), field.Secret("b")},
		`props.nightly ? secret("a") : secret("b")`:                  field.Secret("a"),
		`props.branch`:                                               field.String("${{ secret('x') }}"),
		`props.branch + ""`:                                          field.String("${{ secret('x') }}"),
		`vars.pw`:                                                    values["vars"]["pw"],
		`optional.of(secret("a"))`:                                   field.Secret("a"),
		`cel.bind(s, secret("a"), [s, s])`:                           field.List{field.Secret("a"), field.Secret("a")},
		`["x", "y"].transformMapEntry(i, k, {k: secret("a")})`:       field.Object{"x": field.Secret("a"), "y": field.Secret("a")},
		`{"a": secret("a")}.transformMap(k, v, v)`:                   field.Object{"a": field.Secret("a")},
		`size([secret("a")])`:                                        field.Int(1),
		`"a" in {"a": secret("a")}`:                                  field.Bool(true),
		`({"a": secret("a")}.a != null) ? secret("x") : secret("y")`: field.Secret("x"),
	} {
		if got := evalValue(text); !field.Equal(got, want) {
			t.Errorf("%s: got %#v, want %#v", text, got, want)
		}
	}
	// Where secrets may not be read at all.
	scope := testScope()
	scope.Secrets = false
	_, problems := r.Compile(`["x", secret("a")]`, scope)
	want := []renderers.Problem{{From: 6, To: 17, Message: "a secret cannot be used here"}}
	if diff := cmp.Diff(want, problems); diff != "" {
		t.Error(diff)
	}
	// And with secrets after all: the other answer is not handed out again.
	if _, problems := r.Compile(`["x", secret("a")]`, testScope()); problems != nil {
		t.Error(problems)
	}
}

// TestConversion: bindings come through an expression as they were.
func TestConversion(t *testing.T) {
	r := newRenderer()
	scope := openScope()
	v := field.Object{
		"max": field.Int(1<<63 - 1), "min": field.Int(-1 << 63), "f": field.Float(0.1), "s": field.String("häß\x00"), "b": field.Bool(false), "null": nil,
		"list": field.List{nil, field.Int(1), field.List{}, field.Object{}}, "obj": field.Object{"a b": field.List{field.String("x")}},
	}
	for _, text := range []string{`props`, `{"max": props.max, "min": props.min, "f": props.f, "s": props.s, "b": props.b, "null": props["null"], "list": props.list, "obj": props.obj}`, `props.transformMap(k, v, v)`, `cel.bind(p, props, {"max": p.max, "min": p.min, "f": p.f, "s": p.s, "b": p.b, "null": p["null"], "list": p.list.map(x, x), "obj": p.obj})`} {
		p, problems := r.Compile(text, scope)
		if problems != nil {
			t.Errorf("%s: %v", text, problems)
			continue
		}
		got, err := p.Eval(context.Background(), r.Bind(map[string]field.Object{"props": v}), renderers.NewBudget(renderers.DefaultLimits()))
		if err != nil || !field.Equal(got, v) {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		`18446744073709551615u`: "the result is an integer of more than 64 bits",
		`dyn(b"a")`:             "the result holds bytes, which no definition can hold",
		`props.bad`:             "the result is a string that is not valid UTF-8",
		`{props.bad: 1}`:        "the result has a key that is not valid UTF-8",
	} {
		p, problems := r.Compile(text, scope)
		if problems != nil {
			t.Errorf("%s: %v", text, problems)
			continue
		}
		_, err := p.Eval(context.Background(), r.Bind(map[string]field.Object{"props": {"bad": field.String("\xff")}}), renderers.NewBudget(renderers.DefaultLimits()))
		if err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

// TestVarsGrow: the vars of a render are filled in as they are computed.
func TestVarsGrow(t *testing.T) {
	r := newRenderer()
	p, problems := r.Compile(`vars.suffix`, testScope())
	if problems != nil {
		t.Fatal(problems)
	}
	values := testValues()
	values["vars"] = field.Object{}
	b := r.Bind(values)
	budget := renderers.NewBudget(renderers.DefaultLimits())
	if _, err := p.Eval(context.Background(), b, budget); err == nil || err.Error() != `variable "suffix" has no value in this build` {
		t.Errorf("got %v", err)
	}
	values["vars"]["suffix"] = field.String("s")
	if v, err := p.Eval(context.Background(), b, budget); err != nil || v != field.String("s") {
		t.Errorf("got %v, %v", v, err)
	}
}

// TestSharing: one program for one text, whatever else stands in the scope, and never for another type.
func TestSharing(t *testing.T) {
	r := newRenderer()
	compile := func(text string, change func(props *[]field.Field)) renderers.Program {
		t.Helper()
		scope := testScope()
		fields := slices.Clone(scope.Names["props"].Fields.Fields)
		change(&fields)
		scope.Names["props"] = field.ObjectOf(field.NewTable("props", fields...))
		p, problems := r.Compile(text, scope)
		if problems != nil {
			t.Fatal(problems)
		}
		return p
	}
	set := func(name string, typ *field.Type, opt bool) func(*[]field.Field) {
		return func(fs *[]field.Field) {
			*fs = slices.DeleteFunc(*fs, func(f field.Field) bool { return f.Name == name })
			*fs = append(*fs, field.Field{Name: name, Type: typ, Optional: opt})
		}
	}
	const text = `str(props.cores) + props.branch`
	same := compile(text, func(*[]field.Field) {})
	if p := compile(text, set("other", field.Of(field.BoolKind), false)); p != same {
		t.Error("a property that the expression does not read makes another program")
	}
	if p := compile(text, set("cores", field.Of(field.FloatKind), false)); p == same {
		t.Error("another type of a property that it reads makes no other program")
	}
	if p := compile(text, set("cores", field.Of(field.IntKind), true)); p == same {
		t.Error("a property that may be missing makes no other program")
	}
	if p := compile(`props.tier`, func(*[]field.Field) {}); p == compile(`props.tier`, set("tier", field.EnumOf("other"), false)) {
		t.Error("another enum makes no other program")
	}
	bound := int64(3)
	a, b := compile(`props.cores`, func(*[]field.Field) {}), compile(`props.cores`, set("cores", &field.Type{Kind: field.IntKind, Max: &bound, Words: "a small number"}, false))
	if a != b || b.Type().Max != nil || b.Type().Words != "" {
		t.Error("bounds of a property make another program, or show in a shared one")
	}
	if n := r.texts.Len(); n != 3 {
		t.Errorf("%d texts are parsed, want 3", n)
	}
}

// TestConcurrent is for the race detector: programs, caches and positions are shared.
func TestConcurrent(t *testing.T) {
	r := newRenderer()
	texts := []string{`props.branch + string(props.cores)`, `props.brnach`, `props.files.map(f, f + "x")`, `1 / 0`, `{"a": [1, 2]}`, `props.tag + "x"`}
	want := make([]string, len(texts))
	for i, text := range texts {
		want[i] = eval(t, newRenderer(), text)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				for i, text := range texts {
					if got := eval(t, r, text); got != want[i] {
						t.Errorf("%s: got %s, want %s", text, got, want[i])
					}
				}
			}
		})
	}
	wg.Wait()
}

// TestBudgetsAcrossARender: one budget serves all expressions, and says which limit was spent.
func TestBudgetsAcrossARender(t *testing.T) {
	r := newRenderer()
	p, problems := r.Compile(`lists.range(1000).all(x, x >= 0)`, testScope())
	if problems != nil {
		t.Fatal(problems)
	}
	l := renderers.DefaultLimits()
	l.RenderCost = 20_000
	budget, b := renderers.NewBudget(l), r.Bind(testValues())
	for i := range 10 {
		budget.Begin()
		_, err := p.Eval(context.Background(), b, budget)
		if err != nil {
			var ee *renderers.EvalError
			if !errors.As(err, &ee) || !ee.Spent || err.Error() != "cost limit spent: more than 20,000 units for one render" || i == 0 {
				t.Errorf("expression %d: %v", i, err)
			}
			return
		}
		if budget.FieldSpent() < 1000 || budget.FieldSpent() > 10_000 {
			t.Fatalf("one expression costs %d", budget.FieldSpent())
		}
	}
	t.Error("ten expressions cost less than 20,000")
}

// TestCost pins what simple expressions cost, as explain prints it.
func TestCost(t *testing.T) {
	r := newRenderer()
	for text, want := range map[string]int64{
		`"a"`: 0, `props.branch`: 1, `string(props.cores * 2)`: 3, `props.branch == "main" ? "a" : "b"`: 2, `{"a": 1}`: 36, `[1, 2]`: 13,
		`props.files.map(f, f)`: 17, `lists.range(1000).size()`: 1602,
	} {
		p, problems := r.Compile(text, testScope())
		if problems != nil {
			t.Fatal(problems)
		}
		b := renderers.NewBudget(renderers.DefaultLimits())
		if _, err := p.Eval(context.Background(), r.Bind(testValues()), b); err != nil {
			t.Fatal(err)
		}
		if b.FieldSpent() != want {
			t.Errorf("%s costs %d, want %d", text, b.FieldSpent(), want)
		}
	}
}

// TestFunctions: the documents' table and what can be called are the same.
func TestFunctions(t *testing.T) {
	env, err := newEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	internal := map[string]string{"math.@max": "math.greatest", "math.@min": "math.least", "@sortByAssociatedKeys": "sortBy"}
	seen := map[string]bool{}
	for _, d := range Functions() {
		if seen[d.Name] {
			t.Errorf("%s stands twice in the table", d.Name)
		}
		seen[d.Name] = true
		short := d.Name[strings.LastIndexByte(d.Name, '.')+1:]
		if _, ok := env.forms[d.Name]; !ok && !env.macros[short] {
			t.Errorf("%s is in the table, and neither a function nor a macro", d.Name)
		}
		if d.Doc == "" || !strings.Contains(d.Signature, short) || d.Group == "" {
			t.Errorf("%s: incomplete: %+v", d.Name, d)
		}
	}
	for name := range env.forms {
		if n, ok := internal[name]; ok {
			name = n
		}
		if !seen[name] && !strings.ContainsAny(name, "@_") && !strings.HasPrefix(name, "-") && !strings.HasPrefix(name, "!") {
			t.Errorf("%s can be called, and is not in the table", name)
		}
	}
	for name := range env.macros {
		if !slices.ContainsFunc(Functions(), func(d FunctionDoc) bool { return d.Name == name || strings.HasSuffix(d.Name, "."+name) }) {
			t.Errorf("macro %s is not in the table", name)
		}
	}
}
