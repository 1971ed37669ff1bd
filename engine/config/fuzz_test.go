package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/latent-engine/latent-engine/engine/diag"
)

// seeds are the texts of all goldens and style documents.
func seeds(f *testing.F) []string {
	f.Helper()
	out := []string{manual}
	for _, doc := range styleDocs {
		out = append(out, "version: 1\nbackends: {b: {docker: }}\nworkers:\n  w:\n    vars:\n"+indent(doc, "      "))
	}
	cases, err := filepath.Glob("testdata/errors/*.txtar")
	if err != nil || len(cases) == 0 {
		f.Fatal(cases, err)
	}
	for _, path := range cases {
		ar, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range ar.Files {
			if file.Name != "want.txt" {
				out = append(out, string(file.Data))
			}
		}
	}
	data, err := os.ReadFile("../../testdata/security/config.json")
	if err != nil {
		f.Fatal(err)
	}
	var security []struct{ Input string }
	if err := json.Unmarshal(data, &security); err != nil {
		f.Fatal(err)
	}
	for _, c := range security {
		out = append(out, c.Input)
	}
	return out
}

// FuzzLoad: no panic; every diagnostic is inside its file; every expression's places hold the expression's own characters
// where nothing is escaped; every scalar is located.
func FuzzLoad(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s, false)
	}
	kinds := testKinds()
	f.Fuzz(func(t *testing.T, src string, asJSON bool) {
		name := "f.yaml"
		if asJSON {
			name = "f.json"
		}
		start := time.Now()
		def, list := Load([]Source{{name, []byte(src)}}, Options{Kinds: kinds})
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%d bytes took %v", len(src), d)
		}
		if def == nil {
			t.Fatal("no definition")
		}
		checkPlaces(t, list, def.Sources)
		checkExpressions(t, def, def.Sources)
		if !asJSON {
			if n := inexact(t, src); len(n) > 0 {
				t.Errorf("not located: %q", n)
			}
		}
		build, problems := LoadBuild("b.json", []byte(src))
		checkPlaces(t, problems, map[string][]byte{"b.json": []byte(src)})
		if (build == nil) != problems.HasErrors() {
			t.Errorf("build %v, problems %v", build, problems)
		}
		if build != nil && !json.Valid([]byte(src)) {
			t.Error("LoadBuild accepts what is not JSON")
		}
		if err := diag.Print(discard{}, list, def.Sources, diag.PrintOptions{}); err != nil {
			t.Fatal(err)
		}
	})
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// FuzzLex: no panic; what is cut can be put together again; problems lie inside the text.
func FuzzLex(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !utf8.ValidString(text) {
			return // the loader never hands such a text on
		}
		pieces, problems := lex(text)
		points := []rune(text)
		for _, p := range problems {
			if p.from < 0 || p.from >= p.to || p.to > len(points) || !strings.HasPrefix(string(points[p.from:p.to]), "${{") {
				t.Fatalf("problem %+v in %q", p, text)
			}
		}
		var back strings.Builder
		for i, p := range pieces {
			if !p.expr {
				back.WriteString(p.text)
				if i > 0 && !pieces[i-1].expr {
					t.Errorf("two literals in a row: %q", text)
				}
				continue
			}
			if got := string(points[p.from : p.from+utf8.RuneCountInString(p.text)]); got != p.text {
				t.Errorf("expression %q, but at its place stands %q", p.text, got)
			}
			if p.text == "" || strings.Trim(p.text, " \t\r\n") != p.text {
				t.Errorf("expression %q is not trimmed", p.text)
			}
			back.WriteString("${{" + p.text + "}}")
		}
		if len(problems) > 0 {
			return
		}
		// Without "$${{" and the blanks around expressions, nothing may be lost.
		squeeze := func(s string) string {
			return strings.NewReplacer(" ", "", "\t", "", "\r", "", "\n", "", "$${{", "${{").Replace(s)
		}
		if squeeze(back.String()) != squeeze(text) && !strings.Contains(text, "$$") {
			t.Errorf("%q became %q", text, back.String())
		}
	})
}
