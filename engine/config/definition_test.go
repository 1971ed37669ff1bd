package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/latent-engine/latent-engine/engine/field"
)

// manual is the definition of the design, as far as this version reads it.
const manual = `version: 1
engine: {id: ci-1, advertise: "ci.corp:9989"}
backends:
  local: {docker: {docker_host: unix:///var/run/docker.sock}}
  prod:  {docker: {docker_host: "tcp://prod:2376", password: "${{ secret('prod') }}"}}
defaults:
  docker: {hostconfig: {mem_limit: 2g, pids_limit: 1024, cap_drop: [ALL]}}
workers:
  linux-big: {extends: linux, count: 2, hostconfig: {mem_limit: 16g}, vars: {more: x, suffix: own}, props: {cores: int}}
  linux:
    backend: "${{ props.cores > 8 ? 'prod' : 'local' }}"
    props: {branch: string, tag: "string?", cores: {type: int, default: 2, minimum: 1, maximum: 16, doc: Cores to use.}}
    props_open: true
    vars: {suffix: "${{ props.branch == 'main' ? 'stable' : 'edge' }}", z: 1}
    image: registry.corp/ci/linux:${{ vars.suffix }}
    env: {JOBS: "${{ string(props.cores) }}", CASH: "$${{ no }}", SHELL: "${HOME}"}
  named: {backend: local, name: other, image: x, count: 1}
  last: {extends: named, image: null}
`

func load(t *testing.T, src string) *Definition {
	t.Helper()
	def, list := Load([]Source{{"ci.yaml", []byte(src)}}, Options{Kinds: testKinds()})
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	return def
}

// written is a node as text: kinds and contents, without places.
func written(n *Node) string {
	if n == nil {
		return "-"
	}
	switch n.Kind {
	case NullNode:
		return "null"
	case BoolNode:
		return fmt.Sprint(n.Bool)
	case IntNode:
		return fmt.Sprint(n.Int)
	case FloatNode:
		return fmt.Sprint("f", n.Float)
	case StringNode:
		return fmt.Sprintf("%q", n.Str)
	case TextNode:
		var b strings.Builder
		for _, s := range n.Segments {
			if s.Expr {
				b.WriteString("«" + s.Source + "»")
			} else {
				b.WriteString(s.Text)
			}
		}
		return b.String()
	}
	var parts []string
	for _, i := range n.Items {
		parts = append(parts, written(i))
	}
	for _, e := range n.Entries {
		parts = append(parts, e.Key+": "+written(e.Value))
	}
	switch n.Kind {
	case ListNode:
		return "[" + strings.Join(parts, ", ") + "]"
	case LiteralNode:
		return "literal(" + parts[0] + ")"
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

func TestLoad(t *testing.T) {
	def := load(t, manual)
	var got []string
	add := func(format string, args ...any) { got = append(got, fmt.Sprintf(format, args...)) }
	add("engine %s %s at %s", def.Engine.ID, def.Engine.Advertise, def.Engine.AdvertiseSpan.Pos)
	for _, b := range def.Backends {
		add("backend %s %s %s", b.Name, b.Kind, written(b.Settings))
	}
	add("defaults %s", written(def.Defaults["docker"]))
	for _, w := range def.Workers {
		add("worker %s key %s name %s index %d open %v at %s", w.Name, w.Key, w.WorkerName, w.Index, w.PropsOpen, w.NameSpan.Pos)
		add("  backend %s", written(w.Backend))
		for _, p := range w.Props {
			add("  prop %s %s %v required %v %s", p.Name, p.Decl, p.Default, p.Required(), p.Doc)
		}
		for _, v := range w.Vars {
			add("  var %s %s", v.Name, written(v.Node))
		}
		for _, l := range w.Layers {
			add("  layer %s %s", l.From, written(l.Node))
		}
	}
	linux := []string{
		"  layer workers.linux {image: registry.corp/ci/linux:«vars.suffix», env: {JOBS: «string(props.cores)», CASH: \"${{ no }}\", SHELL: \"${HOME}\"}}",
	}
	big := append(append([]string{
		"  backend «props.cores > 8 ? 'prod' : 'local'»",
		"  prop branch string <nil> required true ",
		"  prop cores int <nil> required true ",
		"  prop tag string? <nil> required false ",
		`  var suffix "own"`,
		"  var z 1",
		`  var more "x"`,
	}, linux...), `  layer workers.linux-big {hostconfig: {mem_limit: "16g"}}`)
	want := append([]string{
		"engine ci-1 ci.corp:9989 at ci.yaml:2:31",
		`backend local docker {docker_host: "unix:///var/run/docker.sock"}`,
		`backend prod docker {docker_host: "tcp://prod:2376", password: «secret('prod')»}`,
		`defaults {hostconfig: {mem_limit: "2g", pids_limit: 1024, cap_drop: ["ALL"]}}`,
		"worker linux-big-1 key linux-big name linux-big-1 index 1 open true at ci.yaml:9:3",
	}, big...)
	want = append(append(want, "worker linux-big-2 key linux-big name linux-big-2 index 2 open true at ci.yaml:9:3"), big...)
	want = append(append(want,
		"worker linux key linux name linux index 0 open true at ci.yaml:10:3",
		"  backend «props.cores > 8 ? 'prod' : 'local'»",
		"  prop branch string <nil> required true ",
		"  prop cores int 2 required false Cores to use.",
		"  prop tag string? <nil> required false ",
		"  var suffix «props.branch == 'main' ? 'stable' : 'edge'»",
		"  var z 1",
	), linux...)
	want = append(want,
		"worker named-1 key named name other-1 index 1 open false at ci.yaml:17:3",
		`  backend "local"`,
		`  layer workers.named {image: "x"}`,
		"worker last key last name last index 0 open false at ci.yaml:18:3",
		`  backend "local"`,
		`  layer workers.named {image: "x"}`,
		"  layer workers.last {image: null}",
	)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	for _, w := range def.Workers {
		if w.Incomplete {
			t.Errorf("%s is incomplete", w.Name)
		}
	}
	if a, b := def.Workers[0], def.Workers[1]; a.Layers[1].Node != b.Layers[1].Node || a.Backend != def.Workers[2].Backend {
		t.Error("workers of one count, and those that extend one, must share their nodes")
	}
	if n, _ := checkExpressions(t, def, def.Sources); n != 5 {
		t.Errorf("%d expressions", n)
	}
}

func TestLiteral(t *testing.T) {
	def := load(t, `version: 1
backends: {b: {docker: }}
workers:
  w:
    labels: {literal: {wasm: "${{ x }}", A: 1, a: [{cel: "$${{"}]}}
    env: {A: {literal: "${{ y }}"}, wasm: x, with: y, cel: z}
`)
	want := `{labels: literal({wasm: "${{ x }}", A: 1, a: [{cel: "$${{"}]}), env: {A: literal("${{ y }}"), wasm: "x", with: "y", cel: "z"}}`
	if d := cmp.Diff(want, written(def.Workers[0].Layers[0].Node)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// TestUndoubled: the places of a text with "$${{" in it are those of its characters as they are after it is read.
func TestUndoubled(t *testing.T) {
	def := load(t, "version: 1\nbackends: {b: {docker: }}\nworkers:\n  w:\n    image: 'é$${{ a $${{b'\n    hostname: |\n      $${{\n      c\n")
	lines := strings.Split(string(def.Sources["ci.yaml"]), "\n")
	for _, e := range def.Workers[0].Layers[0].Node.Entries {
		for i, r := range []rune(e.Value.Str) {
			p := e.Value.Text.At(i)
			if line := []rune(lines[p.Line-1] + "\n"); line[p.Column-1] != r {
				t.Errorf("%q: %q stands at %s, where %q stands", e.Value.Str, r, p, line[p.Column-1])
			}
		}
		if e.Value.Kind != StringNode || strings.Contains(e.Value.Str, "$$") {
			t.Errorf("got %v %q", e.Value.Kind, e.Value.Str)
		}
	}
}

// TestRaw: spans and raw texts are what the user wrote.
func TestRaw(t *testing.T) {
	def := load(t, `version: 1
backends: {b: {docker: }}
workers:
  w:
    image: 'a''b'   # comment
    hostname: |-  # why
      text
    command: [a, "b c",
      d]
    labels:
      x: 0x10
      y: {literal: {a: b}}
    env: {
      A: b c
        d}
`)
	got := map[string]string{}
	var walk func(path string, n *Node)
	walk = func(path string, n *Node) {
		got[path] = fmt.Sprintf("%d:%d-%d %s", n.Span.Line, n.Span.Column, n.Span.EndColumn, n.Raw)
		for i, item := range n.Items {
			walk(field.IndexPath(path, i), item)
		}
		for _, e := range n.Entries {
			walk(field.JoinPath(path, e.Key), e.Value)
		}
	}
	for _, e := range def.Workers[0].Layers[0].Node.Entries {
		walk(e.Key, e.Value)
	}
	want := map[string]string{
		"image":      "5:12-18 'a''b'",
		"hostname":   "6:15-17 |-",
		"command":    "8:14-0 ",
		"command[0]": "8:15-16 a", "command[1]": `8:18-23 "b c"`, "command[2]": "9:7-8 d",
		"labels": "11:7-14 x: 0x10", "labels.x": "11:10-14 0x10", "labels.y": "12:10-27 {literal: {a: b}}", "labels.y[0]": "12:20-26 {a: b}", "labels.y[0].a": "12:24-25 b",
		"env": "13:10-0 ", "env.A": "14:10-13 b c",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestPropTypes(t *testing.T) {
	for src, want := range map[string]string{
		"string": "string", "string?": "string?", " int ? ": "int?", "bool": "bool", "float": "float", "any": "any", "any?": "any?",
		"list(string)": "list(string)", "list( int? )?": "list(int?)?", "map(string,list(int))": "map(list(int))",
		"map(string, map(string, list(any)))": "map(map(list(any)))",
		"strings":                             "", "list": "", "list()": "", "list(string": "", "map(string)": "", "map(int, int)": "", "string)": "", "?": "", "int??": "",
		"list(list(list(list(int))))": "", "LIST(int)": "", "list(int,int)": "",
	} {
		typ, from, to, message := parseType(src)
		if got := typeText(typ); got != want {
			t.Errorf("%q: got %q, want %q", src, got, want)
		}
		if (message == "") != (typ != nil) || from > to || to > len(src) {
			t.Errorf("%q: %d, %d, %q", src, from, to, message)
		}
	}
}

func typeText(t *field.Type) string {
	if t == nil {
		return ""
	}
	s := map[field.Kind]string{
		field.StringKind: "string", field.IntKind: "int", field.BoolKind: "bool", field.FloatKind: "float", field.Any: "any", field.ListKind: "list", field.MapKind: "map",
	}[t.Kind]
	if t.Elem != nil {
		s += "(" + typeText(t.Elem) + ")"
	}
	if t.Nullable {
		s += "?"
	}
	return s
}

// TestPatternIsAnchored: a pattern must match the whole text.
func TestPatternIsAnchored(t *testing.T) {
	def := load(t, "version: 1\nbackends: {b: {docker: }}\nworkers: {w: {image: x, props: {p: {type: string, pattern: 'ci|tenant-a'}, e: {enum: [a, b]}, l: {type: list(int), max_length: 2}}}}\n")
	props := map[string]*Prop{}
	for _, p := range def.Workers[0].Props {
		props[p.Name] = p
	}
	for _, c := range []struct {
		prop string
		v    field.Value
		ok   bool
	}{
		{"p", field.String("ci"), true},
		{"p", field.String("tenant-a"), true},
		{"p", field.String("evil-tenant-a-x"), false},
		{"p", field.String("ci\n"), false},
		{"p", field.String("cix"), false},
		{"p", field.Int(1), false},
		{"e", field.String("b"), true},
		{"e", field.String("c"), false},
		{"l", field.List{field.Int(1)}, true},
		{"l", field.List{field.Int(1), field.Int(1), field.Int(1)}, false},
	} {
		if _, problems := props[c.prop].Type.Coerce(c.v); (len(problems) == 0) != c.ok {
			t.Errorf("%s: %v: %v", c.prop, c.v, problems)
		}
	}
}

// TestKeepsGoing: a worker with a mistake is there all the same, marked as incomplete, and so are the others.
func TestKeepsGoing(t *testing.T) {
	def, list := Load([]Source{{"ci.yaml", []byte(`version: 1
backends: {b: {docker: }}
workers:
  a: {image: "${{ x", hostname: h}
  b: {image: x, env: {A: &x b}}
  c: {extends: a}
  d: {image: x}
  e: {extends: nobody}
`)}}, Options{Kinds: testKinds()})
	if len(list) != 3 {
		t.Errorf("got %v", list)
	}
	got := map[string]bool{}
	for _, w := range def.Workers {
		got[w.Name] = w.Incomplete
	}
	if d := cmp.Diff(map[string]bool{"a": true, "b": true, "c": true, "d": false}, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if d := cmp.Diff(`{hostname: "h"}`, written(def.Workers[0].Layers[0].Node)); d != "" {
		t.Error(d)
	}
}

// TestFilesInOrder: the problems of each file stay together, in the order of the files.
func TestFilesInOrder(t *testing.T) {
	_, list := Load([]Source{{"z.yaml", []byte("version: 1\nx: 1\ny: 2\n")}, {"a.yaml", []byte("version: 1\nz: [")}, {"m.yaml", []byte("version: 1\nx: 1\n")}}, Options{})
	var got []string
	for _, d := range list {
		got = append(got, d.Pos.String())
	}
	if d := cmp.Diff([]string{"z.yaml:2:1", "z.yaml:3:1", "a.yaml:2:4", "m.yaml:2:1"}, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("a", 64)
	for name, want := range map[string][2]bool{
		"a": {true, true}, "A9": {true, true}, "9a": {true, false}, "a.b_c-d": {true, true}, "": {}, "_": {false, true}, "__x": {false, true}, "-a": {}, ".a": {},
		"a b": {}, "a/b": {false, true}, "a:b": {false, true}, "ä": {}, long: {false, true}, long[1:]: {true, true}, "a\n": {}, strings.Repeat(long, 4): {},
	} {
		if got := [2]bool{ValidName(name), ValidProperty(name)}; got != want {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
	}
}

func TestAdvertise(t *testing.T) {
	for s, want := range map[string]bool{
		"ci.corp": true, "ci.corp:9989": true, "10.0.0.1": true, "10.0.0.1:1": true, "[2001:db8::1]": true, "[2001:db8::1]:9989": true, "2001:db8::1": true,
		"": false, ":9989": false, "ci:": false, "ci:0": false, "ci:65536": false, "ci:99999999999999999999": false, "ci:x": false, "[::1": false, "[::1]x": false, "[]:1": false,
		"http://ci": false, "a b": false, "a@b": false, "a/b": false,
	} {
		if got := validAdvertise(s); got != want {
			t.Errorf("%q: got %v", s, got)
		}
	}
}
