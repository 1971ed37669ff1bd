package cel

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/renderers"
)

// openScope has the same names as testScope, of no known types: what cel-go alone is given.
func openScope() *renderers.Scope {
	s := &renderers.Scope{Names: map[string]*field.Type{}}
	for n := range testScope().Names {
		s.Names[n] = &field.Type{Kind: field.ObjectKind, Open: true}
	}
	return s
}

// ours evaluates under openScope: the value as text, or "error".
func ours(t testing.TB, r *Renderer, text string) string {
	t.Helper()
	p, problems := r.Compile(text, openScope())
	if problems != nil {
		return "problem: " + problems[0].Message
	}
	l := renderers.DefaultLimits()
	v, err := p.Eval(context.Background(), r.Bind(testValues()), renderers.NewBudget(l))
	if err != nil {
		return "error"
	}
	return show2(v)
}

func theirs(env *cel.Env, text string) string {
	tree, issues := env.Compile(text)
	if issues.Err() != nil {
		return "problem: " + issues.Err().Error()
	}
	prog, err := env.Program(tree)
	if err != nil {
		return "problem: " + err.Error()
	}
	v, _, err := prog.Eval(native(testValues()))
	if err != nil {
		return "error"
	}
	return showRef(v)
}

func showRef(v ref.Val) string {
	switch v := v.(type) {
	case types.String:
		return fmt.Sprintf("%q", string(v))
	case types.Int, types.Bool:
		return fmt.Sprint(v.Value())
	case types.Uint:
		return fmt.Sprint(v.Value())
	case types.Double:
		if v != v || v-v != 0 {
			return "error"
		}
		return fmt.Sprintf("%gf", float64(v))
	case types.Null:
		return "null"
	case *types.Optional:
		if v.HasValue() {
			return showRef(v.GetValue())
		}
		return "null"
	case traits.Mapper:
		var parts []string
		for it := v.Iterator(); it.HasNext() == types.True; {
			k := it.Next()
			parts = append(parts, fmt.Sprint(k.Value())+": "+showRef(v.Get(k)))
		}
		sort.Strings(parts)
		return "{" + strings.Join(parts, ", ") + "}"
	case traits.Lister:
		var parts []string
		for it := v.Iterator(); it.HasNext() == types.True; {
			parts = append(parts, showRef(it.Next()))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return "error"
}

// TestAgreesWithCEL holds our evaluation against cel-go's own interpreter.
func TestAgreesWithCEL(t *testing.T) {
	texts := []string{
		`1 + 2 * 3 - 4 / 2 % 3`, `-7 / 2`, `-7 % 2`, `7.5 / 2.0`, `9223372036854775807 + 1`, `-9223372036854775808 - 1`, `1 / 0`, `1 % 0`, `1u - 2u`, `3u * 4u`, `-(-9223372036854775808)`,
		`1 == 1.0`, `1u == 1`, `1.5 > 1`, `2 < 1u`, `"a" < "b"`, `false < true`, `[1, 2] == [1, 2]`, `[1] == [1.0]`, `{"a": 1} == {"a": 1.0}`, `{"a": 1} == {"b": 1}`, `[1] != [2]`, `null == null`, `"1" == dyn(1)`,
		`dyn([1]) == dyn({"a": 1})`, `1 in [1.0, 2.0]`, `"a" in ["b"]`, `"a" in {"a": 1}`, `dyn(1) in {"a": 1}`, `[1] in [[1], [2]]`,
		`true || 1 / 0 > 0`, `1 / 0 > 0 || true`, `1 / 0 > 0 || false`, `false && 1 / 0 > 0`, `1 / 0 > 0 && false`, `1 / 0 > 0 && true`, `dyn("a") || true`, `dyn("a") && true`, `dyn(1) ? 1 : 2`, `1 / 0 > 0 ? 1 : 2`,
		`[1, 2, 3].all(x, x > 0)`, `[1, 0, 3].all(x, 1 / x > 0)`, `[0, 1].exists(x, 1 / x == 1)`, `[0, 2].exists(x, 1 / x == 1)`, `[1, 2, 2].exists_one(x, x == 2)`, `[1, 2].exists_one(x, x == 2)`, `[1, 0].exists_one(x, 1 / x == 1)`,
		`[1, 2].existsOne(x, x == 2)`, `[1, 2, 3].map(x, x * 2)`, `[1, 2, 3].map(x, x > 1, x * 2)`, `[1, 0].map(x, 1 / x)`, `[0, 1].filter(x, 1 / x > 0)`, `[1, 2, 3].filter(x, x % 2 == 1)`, `{"a": 1, "b": 2}.all(k, k < "c")`,
		`{"a": 1}.map(k, k)`, `{"a": 1, "b": 2}.filter(k, k == "b")`, `[[1, 2], [3]].map(x, x.map(y, y + 1))`, `[1, 2].map(x, [3, 4].map(y, x * y))`, `[1].map(x, [x].map(x, x + 1)[0] + x)`,
		`{"a": 1}.transformMap(k, v, v + 1)`, `{"a": 1, "b": 2}.transformMap(k, v, v > 1, v + 1)`, `["x", "y"].transformList(i, v, string(i) + v)`, `["x"].transformMapEntry(i, v, {v: i})`, `["x", "x"].transformMapEntry(i, v, {v: i})`,
		`[1, 2].all(i, v, i < v)`, `{"a": 1}.exists(k, v, k == "a" && v == 1)`, `{"a": 2, "b": 2}.existsOne(k, v, v == 2)`,
		`cel.bind(x, 1 / 0, true)`, `cel.bind(x, 1 / 0, x)`, `cel.bind(x, [1], x + x)`, `cel.bind(x, 2, cel.bind(y, x * x, y + x))`, `[1, 2].map(x, cel.bind(y, x + 1, y * y))`,
		`optional.of(1).orValue(2)`, `optional.none().orValue(2)`, `optional.of(1).or(optional.of(2))`, `optional.none().or(optional.of(2)).value()`, `optional.none().value()`, `optional.none().hasValue()`, `optional.of(1).optMap(x, x + 1)`,
		`optional.none().optMap(x, x)`, `optional.of(1).optFlatMap(x, optional.none())`, `optional.ofNonZeroValue("")`, `optional.ofNonZeroValue([1])`, `[optional.of(1), optional.none()].unwrapOpt()`, `optional.unwrap([optional.of(1)])`,
		`[?optional.none(), 1]`, `[?optional.of(2), 1]`, `{?"a": optional.none(), "b": 1}`, `{?"a": optional.of(3)}`, `{"a": {"b": 1}}.?a.?b.orValue(0)`, `{"a": {"b": 1}}.?x.?b.orValue(0)`, `{"a": {"b": 1}}.?a.b`, `{"a": 1}[?"x"]`, `[1, 2][?1]`, `[1, 2][?5].orValue(9)`,
		`{"a": 1}.a`, `dyn({"a": 1}).b`, `{"a": 1}["a"]`, `[1, 2][1]`, `[1, 2][2]`, `[1, 2][-1]`, `dyn([1, 2])[1.0]`, `dyn([1, 2])["a"]`, `has({"a": 1}.a)`, `has({"a": null}.a)`, `has(dyn({"a": 1}).b)`, `dyn(1).a`,
		`size("häuser")`, `size([1])`, `size({"a": 1})`, `"abc".size()`, `size(b"abc")`, `"abc".contains("b")`, `"abc".startsWith("ab")`, `"abc".endsWith("bc")`, `"abc".matches("^a.*c$")`, `"abc".matches(dyn("b"))`, `"a".matches("b" + "[")`,
		`"häuser".charAt(1)`, `"abc".charAt(9)`, `"hello".indexOf("l")`, `"hello".indexOf("l", 3)`, `"hello".lastIndexOf("l")`, `"hello".indexOf("")`, `"HeLLo".lowerAscii()`, `"HeLLo".upperAscii()`, `"hello".replace("l", "L")`, `"hello".replace("l", "L", 1)`, `"hello".replace("", "-")`,
		`"a,b,c".split(",")`, `"a,b,c".split(",", 2)`, `"abc".split("")`, `"a,b".split(",", 0)`, `"hello".substring(1)`, `"hello".substring(1, 3)`, `"hello".substring(3, 1)`, `" a ".trim()`, `"abc".reverse()`, `strings.quote("a\"b")`, `["a", "b"].join()`, `["a", "b"].join("-")`, `[].join("-")`,
		`"%s %d %f".format(["a", 1, 1.5])`, `"%s".format([[1, "a", {"k": true}]])`, `"%.2f|%x|%X|%o|%b|%e".format([1.234, 255, 255, 8, 5, 12.5])`, `"%s".format([])`, `"%d".format(["a"])`, `"%%".format([])`, `"%s %s".format([[null], 1.0])`,
		`string(1)`, `string(1.0)`, `string(1e20)`, `string(true)`, `string("a")`, `string(1u)`, `int("12")`, `int("x")`, `int(1.9)`, `int(-1.9)`, `int(1e30)`, `uint(3)`, `uint(-3)`, `double("1.5")`, `double("x")`, `double(2)`, `bool("true")`, `bool("x")`, `bool("1")`,
		`[1, 2, 2, 3].distinct()`, `["a", "a", 1, 1.0, [1], [1]].distinct()`, `[[1], [2, [3]]].flatten()`, `[[1], [2, [3]]].flatten(2)`, `[1, 2, 3, 4].slice(1, 3)`, `[1, 2].slice(1, 9)`, `[3, 1, 2].sort()`, `["b", "a"].sort()`, `[1, dyn("a")].sort()`, `[].sort()`,
		`["bb", "a"].sortBy(x, x.size())`, `[1, 2].first()`, `[].first()`, `[1, 2].last()`, `[1, 2].first().value()`, `lists.range(4)`, `lists.range(0)`, `[1, 2].reverse()`, `sets.contains([1, 2], [2.0])`, `sets.equivalent([1, 1], [1])`, `sets.intersects([1], [2])`, `sets.contains([], [])`,
		`math.greatest(1, 2.5, 3)`, `math.least([3, 1, 2])`, `math.greatest([])`, `math.abs(-3)`, `math.sign(-2.5)`, `math.ceil(1.2)`, `math.floor(-1.2)`, `math.round(2.5)`, `math.trunc(-2.7)`, `math.sqrt(16)`, `math.isNaN(0.0 / 0.0)`, `math.isInf(1.0 / 0.0)`, `math.isFinite(1.0)`,
		`math.bitAnd(6, 3)`, `math.bitOr(6, 3)`, `math.bitXor(6, 3)`, `math.bitNot(1)`, `math.bitShiftLeft(1, 3)`, `math.bitShiftRight(8, 2)`, `math.bitShiftLeft(1, -1)`,
		`props.branch`, `props["branch"] + "-" + string(props.cores)`, `props.cores * 2 > 10 ? "big" : "small"`, `props.files.map(f, f.size())`, `has(props.branch)`, `has(props.nothing)`, `"branch" in props`, `props[?"branch"].orValue("x")`, `props.?nothing.orValue("x")`,
		`props.any.k`, `props.any.zz`, `props.nothing.more`, `props.?any.?k.orValue(5)`, `props.?any.k.orValue(5)`, `build.files + props.files`, `src[""].branch`, `size(props.files)`, `props.files[0]`, `props.files[?9].orValue("none")`, `worker.info.os`,
		`cel.bind(p, props.any.k, p + 1)`, `cel.bind(p, props.any, p.k)`, `cel.bind(p, props.any, has(p.k))`, `cel.bind(p, props.any, "k" in p)`,
		`cel.bind(p, props, p.branch)`, `[props].map(p, p.branch)`, `type(1) == int`, `type("a") == type("b")`, `type([]) == list`, `type({}) == map`, `type(null) == null_type`,
	}
	r, env := newRenderer(), peerEnv(t)
	for _, text := range texts {
		got, want := ours(t, r, text), theirs(env, text)
		if strings.HasPrefix(got, "problem") && strings.HasPrefix(want, "problem") {
			continue
		}
		if got != want {
			t.Errorf("%s\n  ours   %s\n  theirs %s", text, got, want)
		}
	}
}

// TestDiffersFromCEL lists where we differ from cel-go on purpose.
func TestDiffersFromCEL(t *testing.T) {
	r, env := newRenderer(), peerEnv(t)
	for _, c := range []struct{ text, ours, theirs, why string }{
		{`cel.bind(x, [], x + [1] + x)`, "[1]", "[1, 1]", "cel-go v0.31.0 changes a bound empty list in place"},
		{`{"a": 1}.b`, `problem: unknown field "b"`, "error", "a typing error is found before the build"},
		{`{"a": 1, "a": 2}`, `problem: a map has two keys "a"`, "{a: 2}", "CEL's specification asks for an error"},
		{`props.nothing == null`, "error", "error", "an undeclared property of an open worker is an error where it is missing"},
		{`[1, "a"] == null`, "false", "problem", "null compares with anything"},
		{`{1: "a"}`, `problem: the keys of a map must be strings`, `{1: "a"}`, "JSON has no other keys"},
		{`"%s".format([null])`, "error", `"null"`, "null in a text is never meant"},
		{`true ? null : [1]`, "null", "problem", "null stands beside anything"},
	} {
		got, want := ours(t, r, c.text), theirs(env, c.text)
		if strings.HasPrefix(want, "problem") {
			want = "problem"
		}
		if got != c.ours || want != c.theirs {
			t.Errorf("%s: ours %s, theirs %s; want %s, %s (%s)", c.text, got, want, c.ours, c.theirs, c.why)
		}
	}
}

// generator writes random expressions of a wanted type.
type generator struct {
	*rand.Rand
	vars []string // int variables of macros in scope
	n    int
}

func (g *generator) pick(xs ...string) string { return xs[g.IntN(len(xs))] }

func (g *generator) integer(d int) string {
	if d <= 0 {
		return g.pick(append([]string{"0", "1", "1", "2", "-3", "7", "props.cores", "build.number", "size(props.files)"}, g.vars...)...)
	}
	switch g.IntN(10) {
	case 0, 1:
		return "(" + g.integer(d-1) + g.pick(" + ", " - ", " * ", " / ", " % ") + g.integer(d-1) + ")"
	case 2:
		return "(" + g.boolean(d-1) + " ? " + g.integer(d-1) + " : " + g.integer(d-1) + ")"
	case 3:
		return g.ints(d-1) + "[" + g.integer(d-2) + "]"
	case 4:
		return "size(" + g.text(d-1) + ")"
	case 5:
		return g.ints(d-1) + "[?" + g.integer(d-2) + "].orValue(" + g.integer(d-1) + ")"
	case 6:
		return "math.greatest(" + g.integer(d-1) + ", " + g.integer(d-1) + ")"
	case 7:
		return g.bind(func(v string) string { return "cel.bind(" + v + ", " + g.integer(d-1) + ", " }, func() string { return g.integer(d-1) + ")" })
	case 8:
		return "{'a': " + g.integer(d-1) + ", 'b': " + g.integer(d-1) + "}[" + g.pick("'a'", "'b'", "('' + "+g.text(d-1)+")") + "]"
	}
	return g.text(d-1) + ".indexOf(" + g.text(d-1) + ")"
}

// bind writes head(v), then tail with v in scope.
func (g *generator) bind(head func(v string) string, tail func() string) string {
	g.n++
	v := fmt.Sprintf("v%d", g.n)
	h := head(v)
	g.vars = append(g.vars, v)
	s := h + tail()
	g.vars = slices.Delete(g.vars, len(g.vars)-1, len(g.vars))
	return s
}

func (g *generator) boolean(d int) string {
	if d <= 0 {
		return g.pick("true", "false", "props.nightly", "has(props.tag)", "'branch' in props")
	}
	switch g.IntN(8) {
	case 0:
		return "(" + g.boolean(d-1) + g.pick(" && ", " || ") + g.boolean(d-1) + ")"
	case 1:
		return "!(" + g.boolean(d-1) + ")"
	case 2:
		return "(" + g.integer(d-1) + g.pick(" == ", " != ", " < ", " <= ", " > ", " >= ") + g.integer(d-1) + ")"
	case 3:
		return "(" + g.text(d-1) + g.pick(" == ", " != ", " < ", " >= ") + g.text(d-1) + ")"
	case 4:
		return "(" + g.integer(d-1) + " in " + g.ints(d-1) + ")"
	case 5:
		l := g.ints(d - 1)
		return g.bind(func(v string) string { return l + g.pick(".all(", ".exists(", ".exists_one(") + v + ", " }, func() string { return g.boolean(d-1) + ")" })
	case 6:
		return "(" + g.ints(d-1) + g.pick(" == ", " != ") + g.ints(d-1) + ")"
	}
	return g.text(d-1) + g.pick(".contains(", ".startsWith(", ".endsWith(") + g.text(d-1) + ")"
}

func (g *generator) text(d int) string {
	if d <= 0 {
		return g.pick("''", "'a'", "'häß'", "props.branch", "build.url", "worker.name", "props.?tag.orValue('t')")
	}
	switch g.IntN(8) {
	case 0, 1:
		return "(" + g.text(d-1) + " + " + g.text(d-1) + ")"
	case 2:
		return "string(" + g.pick(g.integer(d-1), g.boolean(d-1)) + ")"
	case 3:
		return g.text(d-1) + ".replace(" + g.text(d-2) + ", " + g.text(d-2) + ")"
	case 4:
		return g.text(d-1) + ".substring(" + g.integer(d-2) + ")"
	case 5:
		return g.ints(d-1) + ".map(x, string(x)).join('-')"
	case 6:
		return "'%s:%d'.format([" + g.text(d-1) + ", " + g.integer(d-1) + "])"
	}
	return g.text(d-1) + g.pick(".upperAscii()", ".trim()", ".reverse()", ".split('a').join('b')")
}

func (g *generator) ints(d int) string {
	if d <= 0 {
		return g.pick("[1, 2, 3]", "[0]", "[7, 7, 1]", "lists.range(4)")
	}
	switch g.IntN(7) {
	case 0:
		return "[" + g.integer(d-1) + ", " + g.integer(d-1) + "]"
	case 1:
		return "(" + g.ints(d-1) + " + " + g.ints(d-1) + ")"
	case 2:
		l := g.ints(d - 1)
		return g.bind(func(v string) string { return l + ".map(" + v + ", " }, func() string { return g.integer(d-1) + ")" })
	case 3:
		l := g.ints(d - 1)
		return g.bind(func(v string) string { return l + ".filter(" + v + ", " }, func() string { return g.boolean(d-1) + ")" })
	case 4:
		return g.ints(d-1) + g.pick(".distinct()", ".sort()", ".reverse()")
	case 5:
		return g.ints(d-1) + ".slice(" + g.integer(d-2) + ", " + g.integer(d-2) + ")"
	}
	return "[" + g.ints(d-1) + ", " + g.ints(d-1) + "].flatten()"
}

// TestAgreesWithCELRandomly does the same for random expressions.
func TestAgreesWithCELRandomly(t *testing.T) {
	r, env := newRenderer(), peerEnv(t)
	errors, problems, typed := 0, 0, 0
	const total = 2000
	for seed := range uint64(total) {
		g := &generator{Rand: rand.New(rand.NewPCG(seed, 3))}
		var text string
		switch seed % 4 {
		case 0:
			text = g.integer(3)
		case 1:
			text = g.boolean(3)
		case 2:
			text = g.text(3)
		default:
			text = g.ints(3)
		}
		if len(text) > renderers.MaxSource {
			continue
		}
		got, want := ours(t, r, text), theirs(env, text)
		switch {
		case strings.HasPrefix(got, "problem"):
			problems++
		case got == "error":
			errors++
		}
		if got != want {
			t.Errorf("seed %d: %s\n  ours   %s\n  theirs %s", seed, text, got, want)
		}
		// Under known types the value is the same, and of the type that was promised.
		if p, problems := r.Compile(text, testScope()); problems == nil {
			v, err := p.Eval(context.Background(), r.Bind(testValues()), renderers.NewBudget(renderers.DefaultLimits()))
			switch {
			case err != nil && got != "error", err == nil && show2(v) != got:
				t.Errorf("seed %d: %s\n  open  %s\n  typed %s, %v", seed, text, got, show2(v), err)
			case err == nil && !fits(v, p.Type()):
				t.Errorf("seed %d: %s: got %s, promised %s", seed, text, show2(v), words(p.Type()))
			default:
				typed++
			}
		}
		if t.Failed() && seed > 200 {
			return
		}
	}
	if typed < total/2 {
		t.Errorf("only %d of %d expressions compile under known types", typed, total)
	}
	if errors > total/2 || problems > total/20 {
		t.Errorf("of %d expressions %d end in an error and %d do not compile: the comparison says little", total, errors, problems)
	}
}
