package cel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/renderers"
)

// outcome is how an expression ended, and what it took.
type outcome struct {
	problems []renderers.Problem
	typ      *field.Type
	value    field.Value
	err      error
	cost     int64
	alloc    uint64
	took     time.Duration
}

func (o outcome) spent() bool {
	var e *renderers.EvalError
	return errors.As(o.err, &e) && e.Spent
}

func (o outcome) String() string {
	switch {
	case o.problems != nil:
		return fmt.Sprintf("problem: %s", o.problems[0].Message)
	case o.err != nil:
		return fmt.Sprintf("error (cost %d): %v", o.cost, o.err)
	}
	s := show2(o.value)
	return fmt.Sprintf("value (cost %d): %.60s", o.cost, s)
}

// run compiles and evaluates text under the default limits. The context is a guard against a hang only: reaching it fails.
func run(t *testing.T, r *Renderer, text string, scope *renderers.Scope, values map[string]field.Object) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	var o outcome
	p, problems := r.Compile(text, scope)
	o.problems = problems
	if problems == nil {
		b := renderers.NewBudget(renderers.DefaultLimits())
		b.Begin()
		o.typ = p.Type()
		o.value, o.err = p.Eval(ctx, r.Bind(values), b)
		o.cost = b.FieldSpent()
	}
	o.took = time.Since(start)
	runtime.ReadMemStats(&after)
	o.alloc = after.TotalAlloc - before.TotalAlloc
	if ctx.Err() != nil {
		t.Errorf("%.80s: only the clock ended it", text)
	}
	const maxAlloc = 64 << 20
	if o.alloc > maxAlloc {
		t.Errorf("%.80s: allocated %d MiB", text, o.alloc>>20)
	}
	for _, q := range problems {
		if n := len([]rune(text)); q.From < 0 || q.To > n || q.From > q.To {
			t.Errorf("%.80s: problem at [%d, %d) of %d", text, q.From, q.To, n)
		}
	}
	t.Logf("%-34.34s %6d KiB %8s  %s", text, o.alloc>>10, o.took.Round(10*time.Microsecond), o)
	return o
}

func hostile() (*renderers.Scope, map[string]field.Object) {
	s := testScope()
	s.Names["p"] = field.MapOf(nil)
	v := testValues()
	v["p"] = field.Object{"x": field.String(strings.Repeat("a", 10_000))}
	return s, v
}

// TestHostile runs testdata/security/cel.json.
func TestHostile(t *testing.T) {
	data, err := os.ReadFile("../../testdata/security/cel.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		ID           string
		Input        string
		IsExpression bool `json:"is_expression"`
		Kind         string
		Generate     *struct {
			Repeat, Suffix string
			Times          int
		}
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	scope, values := hostile()
	for _, c := range cases {
		t.Run(c.ID, func(t *testing.T) {
			r := newRenderer()
			if c.Generate != nil {
				c.Input, c.IsExpression = strings.Repeat(c.Generate.Repeat, c.Generate.Times)+c.Generate.Suffix, true
			}
			switch c.ID {
			case "cel-source-injection":
				// A property that looks like source stays data.
				const evil = "x' + secrets.token + '"
				values["props"]["branch"] = field.String(evil)
				o := run(t, r, `'registry.corp.example/ci/' + props.branch`, scope, values)
				if o.value != field.String("registry.corp.example/ci/"+evil) {
					t.Errorf("got %v", o)
				}
				return
			case "cel-program-cache":
				small := New(Options{Texts: 100, Programs: 200})
				for i := range 5000 {
					small.Compile(fmt.Sprintf("%d + props.cores", i), scope)
				}
				if small.texts.Len() > 100 || small.programs.Len() > 200 {
					t.Errorf("%d texts and %d programs are kept", small.texts.Len(), small.programs.Len())
				}
				return
			case "cel-interrupt-not-set":
				p, problems := r.Compile("lists.range(1000).all(a, lists.range(1000).all(b, lists.range(1000).all(c, true)))", scope)
				if problems != nil {
					t.Fatal(problems)
				}
				ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
				defer cancel()
				l := renderers.DefaultLimits()
				l.FieldCost, l.RenderCost, l.Bytes = 1<<60, 1<<60, 1<<60
				start := time.Now()
				_, err := p.Eval(ctx, r.Bind(values), renderers.NewBudget(l))
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 500*time.Millisecond {
					t.Errorf("got %v after %s", err, time.Since(start))
				}
				return
			}
			if !c.IsExpression {
				t.Fatalf("nothing tests this case")
			}
			o := run(t, r, c.Input, scope, values)
			switch c.Kind {
			case "limited":
				small := o.problems == nil && o.err == nil && len(show2(o.value)) < 1<<10
				if o.problems == nil && !o.spent() && !small {
					t.Errorf("want a problem, a spent budget or a small value; got %v", o)
				}
			case "compile_error", "error":
				if o.problems == nil {
					t.Errorf("want a problem; got %v", o)
				}
			case "runtime_error":
				switch c.ID {
				case "cel-type-confusion-dyn":
					// The field's check sees a string of no known type.
					if o.typ == nil || o.typ.Kind != field.Any || o.value != field.String("true") {
						t.Errorf("got %v of type %v", o, o.typ)
					}
				case "cel-null-delete":
					if o.typ == nil || o.typ.Kind != field.NullKind || o.value != nil {
						t.Errorf("got %v of type %v", o, o.typ)
					}
				default:
					if o.problems == nil && o.err == nil {
						t.Errorf("want an error; got %v", o)
					}
				}
			case "value":
				if o.err != nil || o.problems != nil && c.ID != "cel-map-dup-keys" {
					t.Errorf("want a value; got %v", o)
				}
			default:
				t.Errorf("unknown kind %q", c.Kind)
			}
		})
	}
}

// nest is expr with %s replaced by itself n times, innermost last.
func nest(n int, outer, inner string) string {
	for range n {
		inner = strings.ReplaceAll(outer, "%s", inner)
	}
	return inner
}

// TestBudgets runs what CEL's own limits do not hold. want is a part of the message, "problem:" before it for one at load;
// "" = a small value.
func TestBudgets(t *testing.T) {
	binds := func(n int, first, next, last string) string {
		s := fmt.Sprintf("cel.bind(v0, %s, ", first)
		for i := 1; i <= n; i++ {
			s += fmt.Sprintf("cel.bind(v%d, %s, ", i, strings.ReplaceAll(next, "v", fmt.Sprintf("v%d", i-1)))
		}
		return s + strings.ReplaceAll(last, "v", fmt.Sprintf("v%d", n)) + strings.Repeat(")", n+1)
	}
	doubling := "[[1]]" + strings.Repeat(".map(v, v+v)", 40) + "[0]"
	shared := func(levels int) string { return "[[1]]" + strings.Repeat(".map(v, [v, v])", levels) + "[0]" }
	cases := []struct{ name, text, want string }{
		{"concatenation in 22 binds", binds(22, "[1]", "v+v", "v[0]"), "problem:nested deeper than 8"},
		{"concatenation in 7 binds, in a range", binds(7, "lists.range(1000)", "v+v+v+v+v+v+v+v", "v.size()"), "cost limit spent"},
		{"concatenation in ranges", doubling + ".size()", "limit spent"},
		{"20 optMap doublings", nest(20, "%s.optMap(v, v + v)", "optional.of([1])") + ".value().size()", "problem:nested deeper than 8"},
		{"optMap doublings without nesting", `[optional.of("aaaaaaaaaa")]` + strings.Repeat(".map(o, o.optMap(v, v + v))", 30) + "[0].value().size()", "cost limit spent"},
		{"sets of ranges", "sets.contains(lists.range(20000), lists.range(20000).map(x, x + 1))", "cost limit spent"},
		{"sets of equal ranges", "sets.equivalent(lists.range(20000), lists.range(20000))", "cost limit spent"},
		{"intersection of ranges", "sets.intersects(lists.range(3000), lists.range(3000).map(x, x + 5000))", "cost limit spent"},
		{"equality over a shared list", "cel.bind(v, " + shared(24) + ", v == v)", "cost limit spent"},
		{"inequality over a shared list", "cel.bind(v, " + shared(24) + ", v != v)", "cost limit spent"},
		{"in over a shared list", "cel.bind(v, " + shared(24) + ", v in [[1], v])", "cost limit spent"},
		{"distinct over shared lists", "cel.bind(v, " + shared(24) + ", [v, v].distinct())", "cost limit spent"},
		{"result of 2^40 elements", shared(40), "result limit spent"},
		{"result of 2^20 maps", "[{'a': 1}]" + strings.Repeat(".map(v, {'a': v, 'b': v})", 20) + "[0]", "result limit spent"},
		{"deep result", "[1]" + strings.Repeat(".map(v, [v])", 33), "result limit spent: the result is nested deeper than 32 levels"},
		{"long list result", "lists.range(20000)", "result limit spent: the result has more than 10,000 values"},
		{"long text result", "lists.range(9000).map(x, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa')", "result limit spent: the result is bigger than 262,144 bytes"},
		{"range", "lists.range(1000000000000)", "limit spent"},
		{"range that does not fit", "lists.range(9223372036854775807)", "limit spent"},
		{"text doubling", "['aaaaaaaaaa']" + strings.Repeat(".map(v, v + v)", 30) + "[0].size()", "cost limit spent"},
		{"replace", "p.x.replace('a', p.x).size()", "memory limit spent"},
		{"replace of nothing", "p.x.replace('', p.x).size()", "memory limit spent"},
		{"join", "lists.range(10000).map(x, p.x).join(p.x).size()", "memory limit spent"},
		{"split", "lists.range(100).map(x, p.x).join('').split('').size()", "limit spent"},
		{"format of shared lists", "'%s'.format([" + shared(24) + "])", "limit spent"},
		{"format with a huge precision", "'%.1000000000f'.format([1.0])", "a precision has at most two digits"},
		{"str of shared lists", "str(" + shared(24) + ")", "limit spent"},
		{"flatten of shared lists", shared(24) + ".flatten(100).size()", "limit spent"},
		{"sort", "lists.range(200000).map(x, -x).sort().size()", "cost limit spent"},
		{"sortBy", "lists.range(200000).sortBy(x, -x).size()", "cost limit spent"},
		{"reverse", "lists.range(10).map(a, lists.range(300000).reverse().size())", "limit spent"},
		{"slice", "lists.range(100).map(a, lists.range(30000).slice(0, 30000).size())", "limit spent"},
		{"concatenation in a loop", "lists.range(10000).map(x, lists.range(10000) + [x]).size()", "limit spent"},
		{"comparison of texts", "lists.range(2000).all(x, p.x + 'a' == p.x + 'a')", "limit spent"},
		{"comparison of long texts", "cel.bind(t, lists.range(100).map(x, p.x).join(), lists.range(1000).all(x, t <= t))", "cost limit spent"},
		{"contains", "cel.bind(t, lists.range(100).map(x, p.x).join(), t.contains(t + 'b'))", "cost limit spent"},
		{"indexOf", "cel.bind(t, lists.range(20).map(x, p.x).join(), t.indexOf(t + 'b'))", "cost limit spent"},
		{"upper case", "lists.range(2000).all(x, p.x.upperAscii() != '')", "limit spent"},
		{"a loop in a loop in a loop", "lists.range(1000).all(a, lists.range(1000).all(b, lists.range(1000).all(c, true)))", "cost limit spent"},
		{"an honest three-level map", "lists.range(3).map(a, lists.range(3).map(b, lists.range(3).map(c, a * b + c)))", ""},
		{"four loops over ten", nest(4, "[1,2,3,4,5,6,7,8,9,10].all(a, %s)", "true"), ""},
		{"eight binds", binds(7, "'a'", "v+v", "v"), ""},
		{"nine binds", binds(8, "'a'", "v+v", "v"), "problem:nested deeper than 8"},
		{"deep parentheses", strings.Repeat("(", 1500) + "1" + strings.Repeat(")", 1500), "problem:nested too deeply"},
		{"deep lists", strings.Repeat("[", 1500) + "1" + strings.Repeat("]", 1500), "problem:nested too deeply"},
		{"deep negation", strings.Repeat("!", 3000) + "true", ""},
		{"deep minus", strings.Repeat("-(", 1000) + "1" + strings.Repeat(")", 1000), "problem:nested too deeply"},
		{"deep ternaries", strings.Repeat("true?(", 300) + "1" + strings.Repeat("):2", 300), "problem:nested too deeply"},
		{"a long sum", strings.Repeat("1+", 90) + "1", ""},
		{"a long list", "size([" + strings.Repeat("'a',", 800) + "'b'])", ""},
		{"a long conjunction", strings.Repeat("true && ", 300) + "true", ""},
		{"a long choice", strings.Repeat("props.branch == 'x' ? 'a' : ", 60) + "'b'", ""},
		{"a sum without end", strings.Repeat("1+", 1500) + "1", "problem:nested too deeply"},
		{"a long selection", "props.any" + strings.Repeat(".k", 1500), "problem:nested too deeply"},
		{"nested maps of macros", nest(7, "[1].exists(x, [1].all(y, %s))", "true"), ""},
		{"long regular expression", "'a'.matches('" + strings.Repeat("a", 257) + "')", "problem:longer than 256"},
		{"long regular expression made at run time", "'a'.matches(p.x)", "longer than 256"},
		{"big regular expression", `'a'.matches('(\\pL{1000}){3}')`, "problem:regular expression"},
		{"big regular expression made at run time", `'a'.matches('(\\pL{500})' + '(\\pL{900})')`, "too big"},
		{"regular expression over much text", `cel.bind(t, lists.range(300).map(x, p.x).join(), t.matches('(a*)*(b*)*(a|b|aa)*[a-z]*c'))`, "cost limit spent"},
		{"long source", strings.Repeat(" ", 5000), "problem:too long"},
		{"error flood", "[" + strings.Repeat("a b ", 1000) + "]", "problem:unexpected"},
		{"absorbing a spent budget", "true || lists.range(1000000000).size() > 0", ""},
		{"not absorbing a spent budget", "lists.range(1000000000).size() > 0 || true", "memory limit spent"},
		{"exists does not absorb it", "[1, 2].exists(x, x == 1 ? lists.range(1000000000).size() > 0 : true)", "memory limit spent"},
		{"bind does not absorb it", "cel.bind(x, lists.range(1000000000), true)", "memory limit spent"},
		{"maps by transformMap", "cel.bind(m, lists.range(100000).transformMap(i, v, v), m.size())", "problem:the keys of a map must be strings"},
		{"maps by transformMapEntry", "lists.range(1000000).transformMapEntry(i, v, {string(v): v}).size()", "limit spent"},
		{"keys twice", "[1, 1].transformMapEntry(i, v, {string(v): v})", "two keys"},
		{"quote", "lists.range(2000).map(x, strings.quote(p.x)).size()", "limit spent"},
		{"list of optionals", "lists.range(1000000).map(x, optional.of(x)).unwrapOpt().size()", "limit spent"},
		{"greatest", "math.greatest(lists.range(2000000))", "memory limit spent"},
	}
	scope, values := hostile()
	for _, c := range cases {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			o := run(t, newRenderer(), c.text, scope, values)
			want, atLoad := strings.CutPrefix(c.want, "problem:")
			switch {
			case c.want == "problem":
				if o.problems == nil {
					t.Errorf("want a problem; got %v", o)
				}
			case atLoad:
				if o.problems == nil || !strings.Contains(o.problems[0].Message, want) {
					t.Errorf("want a problem with %q; got %v", want, o)
				}
			case c.want == "":
				if o.problems != nil || o.err != nil {
					t.Errorf("want a value; got %v", o)
				}
			case o.err == nil || !strings.Contains(o.err.Error(), want):
				t.Errorf("want an error with %q; got %v", want, o)
			case strings.Contains(want, "limit spent") != o.spent():
				t.Errorf("Spent = %v: %v", o.spent(), o)
			}
			again := run(t, newRenderer(), c.text, scope, values)
			if again.cost != o.cost || fmt.Sprint(again.err) != fmt.Sprint(o.err) {
				t.Errorf("another cost or error the second time: %d, %d", o.cost, again.cost)
			}
		})
	}
}
