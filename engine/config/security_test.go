package config

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"unicode/utf16"
)

// TestSecurityCases reads each document of testdata/security/config.json, alone and as a worker's fields, and holds what is
// reported against what must be.
func TestSecurityCases(t *testing.T) {
	data, err := os.ReadFile("../../testdata/security/config.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct{ ID, Input string }
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	// What some problem must say; "" = the case is about a later phase, and the document is fine for this one.
	want := map[string]string{
		"config-yaml-billion-laughs": "anchors are not read",
		"config-yaml-small-alias":    "aliases are not read",
		"config-yaml-merge-key":      `merge keys ("<<") are not read`,
		"config-yaml-twin-case":      "only in case",
		"config-yaml-norway":         "", // stays text: checked below
		"config-yaml-binary":         "tags are not read",
		"config-yaml-custom-tag":     "tags are not read",
		"config-yaml-bom-utf16":      "byte order mark",
		"config-json-dup":            "stands here twice",
		"config-json-number":         "", // exact: checked below
		"config-json-exponent":       "out of range",
		"config-json-nul":            "control character U+0000",
		"config-json-polyglot":       "after the end of the JSON document",
		"config-env-subst":           "", // stays text: checked below
		"config-policy-in-tenant":    `unknown field "policy"`,
		"config-regex-unanchored":    "", // of the policy; our own patterns are anchored: TestPatternIsAnchored
		"config-glob-star-slash":     "", // of the policy
		"config-glob-empty":          "", // of the policy
	}
	for _, c := range cases {
		t.Run(c.ID, func(t *testing.T) {
			message, known := want[c.ID]
			if !known {
				t.Fatal("no verdict for this case")
			}
			name, src := "c.yaml", "version: 1\nbackends: {b: {docker: }}\nworkers:\n  w:\n    "+strings.ReplaceAll(strings.TrimSuffix(c.Input, "\n"), "\n", "\n    ")+"\n"
			opts := Options{}
			switch {
			case strings.HasPrefix(c.ID, "config-json"):
				name, src = "c.json", `{"version": 1, "backends": {"b": {"docker": {}}}, "workers": {"w": `+c.Input+`}}`
				if c.ID == "config-json-polyglot" {
					src = `{"version": 1} # ` + "\n"
				}
			case c.ID == "config-yaml-bom-utf16":
				src = c.Input
			case c.ID == "config-policy-in-tenant":
				opts.Kinds = testKinds()
			}
			def, list := Load([]Source{{name, []byte(src)}}, opts)
			checkPlaces(t, list, def.Sources)
			if message == "" {
				if len(list) > 0 {
					t.Fatalf("refused: %v", list.Err())
				}
				return
			}
			for _, d := range list {
				if strings.Contains(d.Message, message) {
					return
				}
			}
			t.Errorf("no problem says %q: %v", message, list)
		})
	}
	t.Run("utf16", func(t *testing.T) {
		var raw []byte
		for _, u := range utf16.Encode([]rune("\ufeffhostNetwork: true")) {
			raw = append(raw, byte(u), byte(u>>8))
		}
		if _, list := Load([]Source{{"u.yaml", raw}}, Options{}); len(list) != 1 || list[0].Message != "the file is UTF-16" {
			t.Errorf("got %v", list)
		}
	})
}

// TestCoreTypes: an unquoted scalar has the type of YAML 1.2's core schema, and no other.
func TestCoreTypes(t *testing.T) {
	type null struct{}
	for src, want := range map[string]any{
		"on": "on", "off": "off", "yes": "yes", "No": "No", "y": "y", "n": "n",
		"true": true, "True": true, "FALSE": false, "tRue": "tRue",
		"~": null{}, "null": null{}, "NULL": null{}, "nULL": "nULL", "": null{},
		"0": int64(0), "-0": int64(0), "+5": int64(5), "-17": int64(-17), "9007199254740993": int64(9007199254740993),
		"9223372036854775807": int64(9223372036854775807), "-9223372036854775808": int64(-9223372036854775808),
		"0o17": int64(15), "0xff": int64(255), "0xFF": int64(255), "0b11": "0b11", "1_000": "1_000", "190:20:30": "190:20:30", "22:22": "22:22",
		"1.5": 1.5, ".5": .5, "5.": 5.0, "1e3": 1000.0, "1E-2": .01, "-1.5e+3": -1500.0, "0.5": .5, "1.2.3": "1.2.3", "1e": "1e", "e3": "e3", ".": ".",
		"--5": "--5", "+-5": "+-5", "0x": "0x", "0o8": "0o8", "-": nil, "1,5": "1,5", "2024-01-01": "2024-01-01", "12e03": 12000.0,
		"${DOCKER_AUTH}": "${DOCKER_AUTH}", "$HOME": "$HOME", "a b": "a b", "-x": "-x", "=": "=", "!": nil,
		"0777": nil, "-01": nil, "00": nil, "08": nil, "00.5": nil, ".inf": nil, "-.Inf": nil, ".nan": nil, "1e999": nil, "9223372036854775808": nil, "0x8000000000000000": nil, "<<": nil,
	} {
		def, list := Load([]Source{{"t.yaml", []byte("version: 1\nbackends: {b: {docker: }}\nworkers:\n  w:\n    x: " + src + "\n")}}, Options{})
		if want == nil {
			if len(list) == 0 {
				t.Errorf("%s: accepted", src)
			}
			continue
		}
		if len(list) > 0 {
			t.Errorf("%s: %v", src, list.Err())
			continue
		}
		var got any
		switch n := def.Workers[0].Layers[0].Node.Get("x"); n.Kind {
		case NullNode:
			got = null{}
		case BoolNode:
			got = n.Bool
		case IntNode:
			got = n.Int
		case FloatNode:
			got = n.Float
		case StringNode:
			got = n.Str
		}
		if got != want {
			t.Errorf("%s: got %#v, want %#v", src, got, want)
		}
	}
}
