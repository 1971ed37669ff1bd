package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/latent-engine/latent-engine/engine/field"
)

func ptr[T any](v T) *T { return &v }

func TestLoadBuild(t *testing.T) {
	const doc = `{
	"version": 1,
	"properties": {
		"branch": ["main", "Change"],
		"n": [9007199254740993, "Force Build Form"],
		"any": [{"a": [1, 2.5, null, true, "\u0000\ud83d\ude00"]}, "x"],
		"odd name \u2028": [null, ""]
	},
	"build": {"id": 7, "number": -1, "builder": "b", "reason": "r", "url": "u", "tags": ["t"], "files": ["a.c", "b.c"], "owners": []},
	"sourcestamps": [
		{"codebase": "", "branch": "main", "revision": null, "repository": "r", "project": "p"},
		{"codebase": "lib", "revision": "abc"}
	],
	"worker": {"info": {"os": "linux"}}
}`
	want := &Build{
		Properties: map[string]Property{
			"branch":          {Value: field.String("main"), Source: "Change"},
			"n":               {Value: field.Int(9007199254740993), Source: "Force Build Form"},
			"any":             {Value: field.Object{"a": field.List{field.Int(1), field.Float(2.5), nil, field.Bool(true), field.String("\x00😀")}}, Source: "x"},
			"odd name \u2028": {},
		},
		ID: 7, Number: -1, Builder: "b", Reason: "r", URL: "u", Tags: []string{"t"}, Files: []string{"a.c", "b.c"}, Owners: []string{},
		SourceStamps: []SourceStamp{
			{Branch: ptr("main"), Repository: "r", Project: "p"},
			{Codebase: "lib", Revision: ptr("abc")},
		},
		WorkerInfo: map[string]string{"os": "linux"},
	}
	got, list := LoadBuild("b.json", []byte(doc))
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	if got, list := LoadBuild("b.json", []byte(`{"version":1}`)); len(list) > 0 || len(got.Properties) != 0 || got.Properties == nil {
		t.Errorf("least document: %+v, %v", got, list)
	}
}

// TestBuildRefused: each document is refused with a problem at its own place.
func TestBuildRefused(t *testing.T) {
	for _, c := range []struct{ name, doc, want string }{
		{"empty", "", "b.json:1:1: the file is empty"},
		{"blank", " \n", "b.json:1:1: the file is empty"},
		{"no object", "[1]", "b.json:1:1: expected a map here, not a list"},
		{"no version", "{}", "b.json:1:1: version: missing"},
		{"version 2", `{"version": 2}`, "b.json:1:13: version: this version reads build documents of version 1 only"},
		{"version as text", `{"version": "1"}`, "b.json:1:13: version: this version reads"},
		{"trailing", `{"version": 1} {}`, "b.json:1:16: text after the end of the JSON document"},
		{"truncated", `{"version": 1`, `b.json:1:14: the file ends where "," or "}" is expected`},
		{"truncated value", `{"version":`, "b.json:1:12: version: the file ends where a value is expected"},
		{"truncated string", `{"version`, "b.json:1:2: this string is not closed"},
		{"truncated escape", `{"a\`, `b.json:1:4: "\" is not an escape in JSON`},
		{"comma", `{"version": 1,}`, "b.json:1:15: expected a key in double quotes here"},
		{"list comma", `{"version": 1, "build": {"tags": ["a",]}}`, `b.json:1:39: build.tags[1]: a JSON value cannot start with "]"`},
		{"not UTF-8", "{\"version\": 1, \"a\xff\": 1}", "b.json:1:18: the file is not UTF-8 here: byte FF"},
		{"raw control", "{\"version\": 1, \"a\nb\": 1}", `b.json:1:18: a string cannot hold the character U+000A as it is`},
		{"lone surrogate", `{"version": 1, "build": {"url": "\ud800"}}`, `b.json:1:34: build.url: "\ud800" is not an escape in JSON`},
		{"swapped surrogates", `{"version": 1, "build": {"url": "\ude00\ud83d"}}`, `"\ude00" is not an escape in JSON`},
		{"duplicate", `{"version": 1, "version": 1}`, `b.json:1:16: version: key "version" stands here twice; first at b.json:1:2`},
		{"escaped duplicate", `{"version": 1, "vers\u0069on": 1}`, `key "version" stands here twice`},
		{"deep duplicate", `{"version": 1, "properties": {"a": [{"x": {"k": 1, "k": 2}}, "s"]}}`, `properties.a[0].x.k: key "k" stands here twice`},
		{"unknown", `{"version": 1, "propertis": {}}`, `b.json:1:16: propertis: unknown key "propertis"`},
		{"case", `{"version": 1, "Build": {}}`, `b.json:1:16: Build: unknown key "Build"`},
		{"leading zero", `{"version": 1, "build": {"id": 007}}`, "a JSON number cannot start with 0: 007"},
		{"plus", `{"version": 1, "build": {"id": +7}}`, `b.json:1:32: build.id: a JSON value cannot start with "+"`},
		{"bare point", `{"version": 1, "build": {"id": 7.}}`, "7. is not a JSON number"},
		{"minus", `{"version": 1, "build": {"id": -}}`, "- is not a JSON number"},
		{"NaN", `{"version": 1, "build": {"id": NaN}}`, `a JSON value cannot start with "N"`},
		{"large", `{"version": 1, "build": {"id": 9223372036854775808}}`, "the integer 9223372036854775808 does not fit into 64 bits"},
		{"exponent", `{"version": 1, "build": {"id": 1e3}}`, "b.json:1:32: build.id: expected an integer here, not a number"},
		{"comment", "{\"version\": 1 // x\n}", `expected "," or "}" here`},
		{"deep", `{"version": 1, "properties": {"a": [` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `, "s"]}}`, "nested more than 64 levels deep"},
		{"null properties", `{"version": 1, "properties": null}`, "properties: expected a map here, not null"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, list := LoadBuild("b.json", []byte(c.doc))
			if b != nil || len(list) == 0 {
				t.Fatal("accepted")
			}
			checkPlaces(t, list, map[string][]byte{"b.json": []byte(c.doc)})
			if !strings.Contains(list.Err().Error(), c.want) {
				t.Errorf("got %v, want %s", list.Err(), c.want)
			}
		})
	}
}

func TestParseProperty(t *testing.T) {
	for _, c := range []struct{ arg, name, value, err string }{
		{"branch=main", "branch", "main", ""},
		{"a=b=c", "a", "b=c", ""},
		{"a=", "a", "", ""},
		{"owner-name=x", "owner-name", "x", ""},
		{"_x.y:z/w=1", "_x.y:z/w", "1", ""},
		{"a", "", "", `cannot read property "a": expected name=value`},
		{"=x", "", "", `cannot read property "=x": the name is empty`},
		{"a b=x", "", "", `cannot read property "a b=x": "a b" cannot be the name of a property`},
		{"1a=x", "", "", `cannot read property "1a=x": "1a" cannot be the name of a property`},
		{"", "", "", `cannot read property "": expected name=value`},
	} {
		name, p, err := ParseProperty(c.arg)
		if c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("%q: error %v, want %s", c.arg, err, c.err)
			}
			continue
		}
		want := Property{Value: field.String(c.value), Source: "cli", Text: true}
		if err != nil || name != c.name || !cmp.Equal(p, want) {
			t.Errorf("%q: got %q, %+v, %v", c.arg, name, p, err)
		}
	}
}
