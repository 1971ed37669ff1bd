package config

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/latent-engine/latent-engine/engine/diag"
)

func compile(t *testing.T, raw []byte) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("mem:///schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("mem:///schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// instance is a YAML text as the data that a schema judges.
func instance(t *testing.T, src string) any {
	t.Helper()
	var list diag.List
	f := openFile("t.yaml", []byte(src), &list)
	root := (&tree{f: f, list: &list}).readYAML()
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(root.Plain())
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDefinitionSchema(t *testing.T) {
	opts := Options{Kinds: testKinds()}
	s := compile(t, DefinitionSchema(opts))
	const head = "version: 1\nbackends: {b: {docker: }}\nworkers:\n  w: "
	for _, src := range []string{
		manual,
		"version: 1\n",
		head + "{}\n",
		head + "\n",
		head + "{image: '${{ x }}', hostconfig: {Memory: 1024, mem_limit: '${{ y }}g'}, stop_timeout: 1m, autopull: '${{ true }}'}\n",
		head + "{env: {A: 1, B: true, C: null}, hostconfig: '${{ z }}', labels: {literal: {a: b}}, command: ['${{ a }}', b]}\n",
		head + "{props: {a: 'list(string)?', owner-name: string, b: {enum: [x, y], default: x}, _c: any}, vars: {v: [1, {a: b}]}}\n",
	} {
		if _, list := Load([]Source{{"t.yaml", []byte(src)}}, opts); len(list) > 0 {
			t.Errorf("Load refuses %q: %v", src, list.Err())
		}
		if err := s.Validate(instance(t, src)); err != nil {
			t.Errorf("%q: %v", src, err)
		}
	}
	for _, src := range []string{
		"{}\n", "version: 2\n", "version: 1\nx: y\n", "version: 1\ntenants: {}\n",
		"version: 1\nengine: {id: 'a b'}\n", "version: 1\nbackends: {b: {docker: {}, x: {}}}\n", "version: 1\nbackends: {b: {}}\n", "version: 1\nbackends: {b: {kubernetes: {}}}\n",
		"version: 1\nbackends: {b: {docker: {x: 1}}}\n", "version: 1\ndefaults: {docker: {x: 1}}\n",
		head + "{imgae: x}\n", head + "{image: [a]}\n", head + "{lxc_conf: x}\n", head + "{count: 0}\n", head + "{count: 1001}\n", head + "{count: '${{ 1 }}'}\n", head + "{extends: 'a b'}\n",
		head + "{hostconfig: {mem_limit: lots}}\n", head + "{hostconfig: {mem_limit: [1]}}\n", head + "{hostconfig: {x: 1}}\n", head + "{autopull: on}\n", head + "{env: [a]}\n",
		head + "{props: {a: strin}}\n", head + "{props: {a: {type: int, x: 1}}}\n", head + "{props: {a: {}}}\n", head + "{props: {1a: int}}\n", head + "{props_open: 'yes'}\n",
		head + "{properties: {a: b}}\n", "version: 1\nworkers: {'_w': {}}\n",
	} {
		if err := s.Validate(instance(t, src)); err == nil {
			t.Errorf("%q: accepted", src)
		}
	}
	if !bytes.Equal(DefinitionSchema(opts), DefinitionSchema(opts)) {
		t.Error("two schemas of one table differ")
	}
	compile(t, DefinitionSchema(Options{}))
}

func TestBuildSchema(t *testing.T) {
	s := compile(t, BuildSchema())
	good := []string{
		`{"version": 1}`,
		`{"version": 1, "properties": {"a": [null, "x"], "b": [{"x": [1]}, "y"]}, "build": {"id": 1, "tags": ["a"]}, "sourcestamps": [{"branch": null}, {"codebase": "x", "project": "p"}], "worker": {"info": {"a": "b"}}}`,
	}
	bad := []string{
		`{}`, `[]`, `{"version": 2}`, `{"version": 1, "x": 1}`, `{"version": 1, "properties": {"a": "x"}}`, `{"version": 1, "properties": {"a": ["x"]}}`,
		`{"version": 1, "properties": {"a": ["x", 1]}}`, `{"version": 1, "properties": {"a": ["x", "y", "z"]}}`, `{"version": 1, "build": {"id": "1"}}`, `{"version": 1, "build": {"x": 1}}`,
		`{"version": 1, "build": {"tags": [1]}}`, `{"version": 1, "sourcestamps": {}}`, `{"version": 1, "sourcestamps": [{"project": null}]}`, `{"version": 1, "worker": {"name": "x"}}`, `{"version": 1, "worker": {"info": {"a": 1}}}`,
	}
	for i, doc := range append(good, bad...) {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(doc)))
		if err != nil {
			t.Fatal(err)
		}
		_, list := LoadBuild("b.json", []byte(doc))
		if ok, want := s.Validate(v) == nil, i < len(good); ok != want || (len(list) == 0) != want {
			t.Errorf("%s: the schema says %v, LoadBuild says %v, want %v", doc, ok, list, want)
		}
	}
}

// TestSchemaAgrees: what the schema refuses in the goldens' readable files, Load refuses too (it is the stricter of the two).
func TestSchemaAgrees(t *testing.T) {
	opts := Options{Kinds: testKinds()}
	s := compile(t, DefinitionSchema(opts))
	cases, err := filepath.Glob("testdata/errors/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatal(cases, err)
	}
	for _, path := range cases {
		ar, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range ar.Files {
			var list diag.List
			file := openFile(f.Name, f.Data, &list)
			if f.Name == "want.txt" || f.Name == "build.json" || file == nil {
				continue
			}
			root := (&tree{f: file, list: &list}).readYAML()
			if root == nil || list.HasErrors() {
				continue
			}
			raw, _ := json.Marshal(root.Plain())
			v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
			if err != nil {
				t.Fatal(err)
			}
			if _, l := Load([]Source{{f.Name, f.Data}}, opts); len(l) == 0 && s.Validate(v) != nil {
				t.Errorf("%s: %s: Load accepts it, the schema says %v", path, f.Name, s.Validate(v))
			}
		}
	}
}
