package render_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/render"
	"github.com/latent-engine/latent-engine/engine/spec"
	"github.com/latent-engine/latent-engine/renderers"
	"github.com/latent-engine/latent-engine/renderers/cel"
)

// box is a small kind of backend: its plan is its fields.
type box struct{ name string }

var boxTable = field.NewTable("box",
	field.Field{Name: "image", Type: field.Of(field.StringKind), Native: "Image"},
	field.Field{Name: "memory", Aliases: []string{"Mem"}, Type: field.Of(field.SizeKind), Native: "Memory"},
	field.Field{Name: "env", Type: &field.Type{Kind: field.MapKind, ListForm: true, Elem: &field.Type{Kind: field.StringKind, Secret: true, ScalarText: true}}, Native: "Env"},
	field.Field{Name: "host", Type: field.ObjectOf(field.NewTable("host",
		field.Field{Name: "dns", Aliases: []string{"Dns"}, Type: field.ListOf(field.Of(field.StringKind)), Native: "Host.Dns"},
		field.Field{Name: "init", Type: field.Of(field.BoolKind), Native: "Host.Init"},
		field.Field{Name: "memory", Aliases: []string{"Mem"}, Type: field.Of(field.SizeKind), Native: "Host.Memory"},
	)), Native: "Host"},
	field.Field{Name: "nets", Type: field.OneOf("a list or a map", field.ListOf(field.Of(field.StringKind)), field.MapOf(field.Of(field.IntKind))), Native: "Nets"},
	field.Field{Name: "fixed", Type: field.Of(field.StringKind), Literal: true, Native: "Fixed"},
	field.Field{Name: "odd", Type: field.Of(field.IntKind), Native: "Odd"},
)

var crateTable = field.NewTable("crate", field.Field{Name: "image", Type: field.Of(field.StringKind), Native: "Image"}, field.Field{Name: "cpus", Type: field.Of(field.FloatKind), Native: "CPUs"})

func (b box) Name() string { return b.name }

func (b box) Connection() *field.Table {
	return field.NewTable("connection", field.Field{Name: "host", Type: &field.Type{Kind: field.StringKind, Secret: true}, Native: render.EndpointNative, Default: "here"})
}

func (b box) Worker() *field.Table {
	if b.name == "crate" {
		return crateTable
	}
	return boxTable
}

func (b box) Convert(in spec.ConvertInput) (spec.Plan, []field.Problem) {
	if in.Fields["odd"] == field.Int(13) {
		return spec.Plan{}, []field.Problem{{Path: "odd", Message: "13 is out of luck"}}
	}
	return spec.Plan{Create: in.Fields}, nil
}

func compile(t testing.TB, text string) (*render.Set, diag.List) {
	t.Helper()
	kinds := map[string]render.Kind{"box": box{"box"}, "crate": box{"crate"}}
	known := map[string]config.Kind{}
	for name, k := range kinds {
		known[name] = config.Kind{Connection: k.Connection(), Worker: k.Worker()}
	}
	def, diags := config.Load([]config.Source{{Name: "t.yaml", Data: []byte(text)}}, config.Options{Kinds: known})
	if diags.HasErrors() {
		t.Fatalf("load: %v", diags)
	}
	return render.Compile(def, render.Options{Kinds: kinds, CEL: cel.New(cel.Options{})})
}

const head = "version: 1\nbackends: {here: {box: {}}}\n"

func rendered(t testing.TB, text, worker string, props ...string) (*render.Spec, error) {
	t.Helper()
	set, diags := compile(t, text)
	if diags.HasErrors() {
		t.Fatalf("compile: %v", diags)
	}
	tpl, err := set.Template(worker)
	if err != nil {
		t.Fatal(err)
	}
	build := &config.Build{Properties: map[string]config.Property{}}
	for _, p := range props {
		name, value, err := config.ParseProperty(p)
		if err != nil {
			t.Fatal(err)
		}
		build.Properties[name] = value
	}
	return tpl.Render(context.Background(), build, render.RenderOptions{Provenance: true})
}

func TestRender(t *testing.T) {
	for _, c := range []struct {
		name, text string
		worker     string
		props      []string
		want       string // canonical JSON of the create object
		err        string
	}{
		{name: "the expression's type is kept", text: "workers: {w: {props: {n: int}, memory: '${{ props.n * 2 }}'}}", props: []string{"n=3"}, want: `{"memory":6}`},
		{name: "a text takes scalars", text: "workers: {w: {props: {n: int}, image: 'a:${{ props.n }}-${{ true }}-${{ 1.5 }}'}}", props: []string{"n=3"}, want: `{"image":"a:3-true-1.5"}`},
		{name: "shell's own variables are let alone", text: "workers: {w: {image: 'a:${TAG}$${{x}}'}}", want: `{"image":"a:${TAG}${{x}}"}`},
		{name: "none leaves a key out", text: "workers: {w: {props: {t: 'string?'}, env: {A: '${{ props.?t }}', B: b}}}", want: `{"env":{"B":"b"}}`},
		{name: "none leaves an element out", text: "workers: {w: {props: {t: 'string?'}, host: {dns: ['${{ props.?t }}', b]}}}", want: `{"host":{"dns":["b"]}}`},
		{name: "an element is kept when it is there", text: "workers: {w: {props: {t: 'string?'}, host: {dns: ['${{ props.?t }}', b]}}}", props: []string{"t=a"}, want: `{"host":{"dns":["a","b"]}}`},
		{name: "defaults lie under", text: "defaults: {box: {memory: 1g, host: {init: true, dns: [x]}}}\nworkers: {w: {host: {Dns: [y]}}}", want: `{"host":{"dns":["y"],"init":true},"memory":1073741824}`},
		{name: "another spelling replaces the default", text: "defaults: {box: {memory: 1g}}\nworkers: {w: {Mem: 2g}}", want: `{"memory":2147483648}`},
		{name: "null takes a default away", text: "defaults: {box: {memory: 1g, image: x}}\nworkers: {w: {memory: null}}", want: `{"image":"x"}`},
		{name: "a map that an expression gives is merged over the defaults", text: "defaults: {box: {host: {init: true, memory: 1g}}}\nworkers: {w: {host: \"${{ {'Mem': '2g'} }}\"}}", want: `{"host":{"init":true,"memory":2147483648}}`},
		{name: "none shows the layer below", text: "defaults: {box: {memory: 1g}}\nworkers: {w: {props: {m: 'string?'}, memory: '${{ props.?m }}'}}", want: `{"memory":1073741824}`},
		{name: "extends, from the farthest", text: "workers: {a: {image: a, env: {A: 1, B: 1}}, b: {extends: a, env: {B: 2, C: 2}}, w: {extends: b, env: {C: 3}}}", want: `{"env":{"A":"1","B":"2","C":"3"},"image":"a"}`},
		{name: "count", text: "workers: {w: {count: 3, image: 'w${{ worker.index }}-${{ worker.name }}'}}", worker: "w-2", want: `{"image":"w2-w-2"}`},
		{name: "variables in any order", text: "workers: {w: {vars: {a: '${{ vars.b }}a', b: '${{ vars.c.x }}b', c: {x: c}}, image: '${{ vars.a }}'}}", want: `{"image":"cba"}`},
		{name: "a variable keeps its types", text: "workers: {w: {vars: {s: {cpu: 2, big: true}}, memory: '${{ vars.s.cpu }}', host: {init: '${{ vars.s.big }}'}}}", want: `{"host":{"init":true},"memory":2}`},
		{name: "a secret stays a hole", text: "workers: {w: {vars: {p: \"${{ secret('db') }}\"}, env: {A: \"${{ secret('db') }}\", B: 'x${{ vars.p }}y'}}}", want: `{"env":{"A":{"$text":[{"$secret":["","db"]}]},"B":{"$text":["x",{"$secret":["","db"]},"y"]}}}`},
		{name: "a result is not scanned again", text: "workers: {w: {props: {x: string}, image: '${{ props.x }}'}}", props: []string{"x=${{ secret('db') }}"}, want: `{"image":"${{ secret('db') }}"}`},
		{name: "a literal mapping", text: "workers: {w: {env: {literal: {A: '${{ x }}', wasm: y}}}}", want: `{"env":{"A":"${{ x }}","wasm":"y"}}`},
		{name: "list form with expressions", text: "workers: {w: {props: {b: string}, env: ['B=${{ props.b }}', 'C=c']}}", props: []string{"b=x=y"}, want: `{"env":{"B":"x=y","C":"c"}}`},
		{name: "one-of, by its shape", text: "workers: {w: {nets: {a: '${{ 1 + 1 }}'}}, v: {nets: ['${{ str(1) }}']}}", want: `{"nets":{"a":2}}`},
		{name: "the default of a property", text: "workers: {w: {props: {n: {type: int, default: 4}}, memory: '${{ props.n }}'}}", want: `{"memory":4}`},

		{name: "a property that is missing", text: "workers: {w: {props: {n: int, b: string}, memory: '${{ props.n }}'}}", err: `t.yaml:3:31: workers.w.props.b: property "b" is missing in this build` + "\n" + `t.yaml:3:23: workers.w.props.n: property "n" is missing in this build`},
		{name: "a property of another type", text: "workers: {w: {props: {n: int}, memory: '${{ props.n }}'}}", props: []string{"n=x"}, err: `t.yaml:3:23: workers.w.props.n: property "n" from cli: the string "x" cannot fill an integer`},
		{name: "a property out of its bounds", text: "workers: {w: {props: {n: {type: int, maximum: 4}}, memory: '${{ props.n }}'}}", props: []string{"n=5"}, err: `property "n" from cli: 5 is more than the maximum 4`},
		{name: "a value that does not fit", text: "workers: {w: {props: {m: string}, memory: '${{ props.m }}'}}", props: []string{"m=lots"}, err: `t.yaml:3:48: workers.w.memory: "lots" is not a size such as "512m" or "16g"`},
		{name: "division by zero", text: "workers: {w: {props: {n: int}, memory: '${{ 8 / props.n }}'}}", props: []string{"n=0"}, err: "t.yaml:3:45: workers.w.memory: "},
		{name: "what the conversion refuses", text: "workers: {w: {props: {n: int}, odd: '${{ props.n }}'}}", props: []string{"n=13"}, err: "t.yaml:3:37: workers.w.odd: 13 is out of luck"},
		{name: "all problems of one run", text: "workers: {w: {props: {n: int}, memory: '${{ 8 / props.n }}', odd: '${{ 9 / props.n }}'}}", props: []string{"n=0"}, err: "workers.w.odd"},
	} {
		t.Run(c.name, func(t *testing.T) {
			worker := c.worker
			if worker == "" {
				worker = "w"
			}
			s, err := rendered(t, head+c.text, worker, c.props...)
			if c.err != "" {
				var re *render.Error
				if !errors.As(err, &re) {
					t.Fatalf("error %v", err)
				}
				for _, line := range strings.Split(c.err, "\n") {
					if !strings.Contains(err.Error(), line) {
						t.Errorf("error %v\nwants %s", err, line)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := string(spec.AppendCanonical(nil, s.Create)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestCompileProblems(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{name: "a list for a size", text: "workers: {w: {memory: '${{ [1] }}'}}", want: []string{`t.yaml:3:28: workers.w.memory: a list cannot fill a size (string such as "512m", or bytes)`}},
		{name: "deep in a map", text: "workers: {w: {host: \"${{ {'dns': [1]} }}\"}}", want: []string{`t.yaml:3:26: workers.w.host.dns: an integer cannot fill a string`}},
		{name: "both spellings", text: "workers: {w: {memory: 1, Mem: 2}}", want: []string{`t.yaml:3:26: workers.w.Mem: "memory" and "Mem" are two spellings of one field`}},
		{name: "a constant that cannot be", text: "workers: {w: {props: {b: bool}, memory: \"${{ props.b ? '1g' : 'lots' }}\"}}", want: []string{`t.yaml:3:46: workers.w.memory: "lots" is not a size such as "512m" or "16g"`}},
		{name: "variables in a circle", text: "workers: {w: {vars: {a: '${{ vars.b }}', b: '${{ vars.a }}'}, image: x}}", want: []string{`t.yaml:3:22: workers.w.vars.a: variables need one another: a → b → a`}},
		{name: "an expression in a literal field", text: "workers: {w: {fixed: '${{ str(1) }}'}}", want: []string{`t.yaml:3:22: workers.w.fixed: this field must be known when the file is loaded: an expression cannot stand here`}},
		{name: "a secret where none may be", text: "workers: {w: {image: \"${{ secret('x') }}\"}}", want: []string{`t.yaml:3:27: workers.w.image: a secret cannot stand here`}},
		{name: "a list in a text", text: "workers: {w: {image: 'x${{ [1] }}'}}", want: []string{`t.yaml:3:28: workers.w.image: a list of integers cannot be put into a text`}},
		{name: "one mistake of a base, told once", text: "workers: {a: {memory: [1]}, w: {extends: a, count: 50}}", want: []string{`t.yaml:3:23: workers.a.memory: a list cannot fill a size (string such as "512m", or bytes)`}},
		{name: "defaults nobody uses", text: "defaults: {crate: {cpus: x}}\nworkers: {w: {image: x}}", want: []string{`t.yaml:3:26: defaults.crate.cpus: the string "x" cannot fill a number`}},
		{name: "the conversion's own, at load", text: "workers: {w: {odd: 13}}", want: []string{`t.yaml:3:20: workers.w.odd: 13 is out of luck`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, diags := compile(t, head+c.text)
			var got []string
			for _, d := range diags {
				got = append(got, d.String())
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestBackendChoice(t *testing.T) {
	const two = "version: 1\nbackends: {small: {box: {}}, big: {crate: {host: there}}}\n"
	const text = two + "workers: {w: {props: {n: int}, backend: \"${{ props.n > 8 ? 'big' : 'small' }}\", image: x, memory: 1k, cpus: 2}}"
	for n, want := range map[string]string{"n=1": `box small here {"image":"x","memory":1024}`, "n=9": `crate big there {"cpus":2,"image":"x"}`} {
		s, err := rendered(t, text, "w", n)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%s %s %s %s", s.Backend, s.Target, s.Endpoint, spec.AppendCanonical(nil, s.Create)); got != want {
			t.Errorf("%s: got %s, want %s", n, got, want)
		}
	}
	_, diags := compile(t, two+"workers: {w: {props: {n: int}, backend: \"${{ props.n > 8 ? 'bgi' : 'small' }}\", image: x, cpus: 2}}")
	want := []string{`t.yaml:3:46: workers.w.backend: no backend "bgi"; there are: big, small`, `t.yaml:3:91: workers.w.cpus: unknown field "cpus"`}
	var got []string
	for _, d := range diags {
		got = append(got, d.String())
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestReads: what any render of the worker may read, through variables too, and whichever way its conditions go.
func TestReads(t *testing.T) {
	s, err := rendered(t, head+`workers:
  w:
    props: {n: {type: int, default: 2}, "a-b": "string?", unread: "string?"}
    vars: {x: "${{ build.number > 3 ? 'a' : src[?'c'].?project.orValue('p') }}", unread: "${{ build.url }}"}
    image: "${{ vars.x }}-${{ props.n > 1 ? 'b' : str(props['a-b']) }}"
`, "w", "n=3")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"build.number", "build.url", "props.a-b", "props.n", "src.c.project"}
	if diff := cmp.Diff(want, s.Reads()); diff != "" {
		t.Error(diff)
	}
	for worker, want := range map[string][]string{"none": {}, "open": {"props"}} {
		s, err := rendered(t, head+"workers:\n  none: {image: i}\n  open: {props_open: true, image: '${{ string(size(props)) }}'}\n", worker)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, s.Reads()); diff != "" {
			t.Errorf("%s: %s", worker, diff)
		}
	}
}

func TestExplain(t *testing.T) {
	s, err := rendered(t, head+"defaults: {box: {memory: 1g}}\nworkers: {w: {props: {n: {type: int, default: 2}}, memory: '${{ props.n * 2 }}'}}", "w", "n=3")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"memory", "Mem"} {
		o, err := s.Explain(path)
		if err != nil || len(o) != 1 || len(o[0].Steps) != 2 {
			t.Fatalf("Explain(%q) = %+v, %v", path, o, err)
		}
		e := o[0].Steps[0].Expressions[0]
		if o[0].Value != field.Int(6) || o[0].Native != "Memory" || e.Source != "props.n * 2" || e.At.Pos.String() != "t.yaml:4:65" || e.Cost <= 0 {
			t.Errorf("%q: %+v", path, o[0])
		}
		if r := e.Reads[0]; r.Path != "props.n" || r.Value != field.Int(3) || r.From != "cli" || r.Declared.Pos.String() != "t.yaml:4:23" {
			t.Errorf("read %+v", r)
		}
		if d := o[0].Steps[1]; !d.Replaced || d.Layer != "defaults.box" || d.Raw != "1g" {
			t.Errorf("default %+v", d)
		}
	}
	if _, err := s.Explain("memry"); err == nil || !strings.Contains(err.Error(), `did you mean "memory"`) {
		t.Errorf("unknown path: %v", err)
	}
}

// A render's budget is one for all its expressions, and is told with the expression that broke it.
func TestBudgetSpansARender(t *testing.T) {
	var b strings.Builder
	b.WriteString(head + "workers: {w: {env: {")
	for i := range 40 {
		fmt.Fprintf(&b, "A%d: \"${{ string(lists.range(600).map(x, lists.range(100).filter(y, y < x).size()).size()) }}\", ", i)
	}
	b.WriteString("}}}")
	_, err := rendered(t, b.String(), "w")
	if err == nil || !strings.Contains(err.Error(), "one render") || !strings.Contains(err.Error(), "this expression spent") {
		t.Errorf("error %v", err)
	}
}

// Many at once give what one alone gives.
func TestConcurrent(t *testing.T) {
	set, diags := compile(t, head+"workers: {w: {props: {n: int}, vars: {a: '${{ props.n * 2 }}'}, image: 'x${{ vars.a }}', env: {N: '${{ str(vars.a) }}', S: \"${{ secret('s') }}\"}}}")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	tpl, err := set.Template("w")
	if err != nil {
		t.Fatal(err)
	}
	digests := make([]string, 8)
	render1 := func(n int) string {
		s, err := tpl.Render(context.Background(), &config.Build{Properties: map[string]config.Property{"n": {Value: field.Int(n)}}}, render.RenderOptions{})
		if err != nil {
			t.Error(err)
			return ""
		}
		return s.Digest
	}
	for n := range digests {
		digests[n] = render1(n)
	}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for n := range digests {
				if d := render1(n); d != digests[n] {
					t.Errorf("render %d of n=%d: %s, alone %s", i, n, d, digests[n])
				}
			}
		})
	}
	wg.Wait()
}

func TestPlanSize(t *testing.T) {
	limits := renderers.DefaultLimits()
	limits.PlanBytes = 100
	def, _ := config.Load([]config.Source{{Name: "t.yaml", Data: []byte(head + "workers: {w: {image: " + strings.Repeat("x", 200) + "}}")}}, config.Options{Kinds: map[string]config.Kind{"box": {Connection: box{}.Connection(), Worker: boxTable}}})
	set, diags := render.Compile(def, render.Options{Kinds: map[string]render.Kind{"box": box{"box"}}, CEL: cel.New(cel.Options{}), Limits: limits})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if _, err := set.Templates[0].Render(context.Background(), &config.Build{}, render.RenderOptions{}); err == nil || !strings.Contains(err.Error(), "at most 100 are allowed") {
		t.Errorf("error %v", err)
	}
}

// FuzzRender: whatever a property holds, a render ends, and gives the same digest twice.
func FuzzRender(f *testing.F) {
	_, diags := compile(f, head+"workers: {w: {props: {s: string, n: int}, vars: {v: '${{ props.s }}'}, image: 'a${{ vars.v }}', memory: '${{ props.s }}', env: {A: '${{ props.s }}', B: \"${{ {props.s: props.n}.map(k, k + secret2(k))[0] }}\"}}}")
	if len(diags) == 0 {
		f.Fatal("secret2 is no function")
	}
	set, diags := compile(f, head+"workers: {w: {props: {s: string, n: int}, vars: {v: '${{ props.s }}'}, image: 'a${{ vars.v }}', memory: '${{ props.n }}', env: \"${{ {props.s: str(props.n), 'B': props.s + props.s} }}\", host: {dns: \"${{ props.s.split(',') }}\"}}}")
	if diags.HasErrors() {
		f.Fatal(diags)
	}
	tpl := set.Templates[0]
	f.Add("main", int64(1))
	f.Add("${{ secret('x') }}", int64(-1))
	f.Add("\xff\x00\n", int64(1<<62))
	f.Fuzz(func(t *testing.T, s string, n int64) {
		build := &config.Build{Properties: map[string]config.Property{"s": {Value: field.String(s)}, "n": {Value: field.Int(n)}}}
		a, err := tpl.Render(context.Background(), build, render.RenderOptions{})
		b, err2 := tpl.Render(context.Background(), build, render.RenderOptions{Provenance: true})
		if (err == nil) != (err2 == nil) || err == nil && a.Digest != b.Digest {
			t.Errorf("two renders differ: %v, %v", err, err2)
		}
	})
}
