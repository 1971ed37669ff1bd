package config

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/latent-engine/latent-engine/engine/diag"
)

var update = flag.Bool("update", false, "rewrite the goldens in testdata/errors")

// TestErrors loads the files of each case in testdata/errors as one definition (build.json: as a build document) and compares
// what is printed with the case's want.txt.
func TestErrors(t *testing.T) {
	cases, err := filepath.Glob("testdata/errors/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatalf("cases: %v, %v", cases, err)
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var files []Source
			var list diag.List
			sources := map[string][]byte{}
			want := -1
			for i, f := range ar.Files {
				switch f.Name {
				case "want.txt":
					want = i
				case "build.json":
					_, l := LoadBuild(f.Name, f.Data)
					list = append(list, l...)
					sources[f.Name] = f.Data
				default:
					files = append(files, Source{f.Name, f.Data})
					sources[f.Name] = f.Data
				}
			}
			_, l := Load(files, Options{Kinds: testKinds()})
			list = append(list, l...)
			var out bytes.Buffer
			if err := diag.Print(&out, list, sources, diag.PrintOptions{}); err != nil {
				t.Fatal(err)
			}
			out.WriteString(diag.Summary(list, len(sources)) + "\n")
			if *update {
				if want < 0 {
					ar.Files = append(ar.Files, txtar.File{Name: "want.txt"})
					want = len(ar.Files) - 1
				}
				ar.Files[want].Data = out.Bytes()
				if err := os.WriteFile(path, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want < 0 {
				t.Fatal("the case has no want.txt")
			}
			if d := cmp.Diff(string(ar.Files[want].Data), out.String()); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			checkPlaces(t, list, sources)
		})
	}
}
