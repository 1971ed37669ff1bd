package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/latent-engine/latent-engine/engine/spec"
)

// TestPipeline runs the whole flow over every case of testdata/pipeline: definition and build in, plan or error out.
// testdata/README.md says what is in a case.
func TestPipeline(t *testing.T) {
	dir, err := filepath.Abs("../../testdata/pipeline")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err != nil || len(files) < 60 {
		t.Fatalf("only %d cases: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { runCase(t, file) })
	}
}

// expectations are the files of a case that are held against what comes out.
var expectations = []string{"create.json", "plan.json", "bound.json", "error.txt"}

func runCase(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(archive.Comment, []byte("# ")) {
		t.Error("the case does not begin with a line that says what it shows")
	}
	want := map[string]*txtar.File{}
	t.Chdir(t.TempDir())
	args := []string{"validate"}
	for i := range archive.Files {
		f := &archive.Files[i]
		switch {
		case slices.Contains(expectations, f.Name):
			want[f.Name] = f
			continue
		case f.Name == "args":
			args = append([]string{"render", "-f", "definition.yaml", "--full"}, strings.Fields(string(f.Data))...)
			continue
		case args[0] == "validate" && f.Name != "build.json":
			args = append(args, f.Name)
		}
		if name, inside, ok := strings.Cut(f.Name, ".tar.gz/"); ok {
			writeTarball(t, name+".tar.gz", inside, f.Data)
			continue
		}
		if err := os.MkdirAll(filepath.Dir(f.Name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.Name, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat("build.json"); err == nil {
		args = append(args, "--build", "build.json")
	}
	if len(want) == 0 {
		t.Fatal("the case expects nothing")
	}
	var stdout, stderr bytes.Buffer
	code := run(context.Background(), args, strings.NewReader(""), &stdout, &stderr)

	got := map[string]string{}
	if want["error.txt"] != nil {
		got["error.txt"] = stderr.String()
		if denied := strings.HasPrefix(stderr.String(), "denied: "); code != exitFailed && !denied || denied && code != exitDenied {
			t.Errorf("exit code %d", code)
		}
		if len(want) > 1 {
			t.Error("an error has no plan beside it")
		}
	} else {
		if code != exitOK || stderr.Len() > 0 {
			t.Fatalf("exit code %d\n%s", code, stderr.String())
		}
		plan(t, stdout.Bytes(), want, got)
	}
	changed := false
	for _, name := range expectations {
		f := want[name]
		if f == nil || string(f.Data) == got[name] {
			continue
		}
		if *update {
			f.Data, changed = []byte(got[name]), true
			continue
		}
		t.Errorf("%s (-want +got; -update rewrites it)\n%s", name, cmp.Diff(string(f.Data), got[name]))
	}
	if changed {
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// writeTarball makes a tarball of one file.
func writeTarball(t *testing.T, path, name string, content []byte) {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))})
	if err == nil {
		_, err = w.Write(content)
	}
	if err := errors.Join(err, w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// plan takes render --full apart.
func plan(t *testing.T, full []byte, want map[string]*txtar.File, got map[string]string) {
	t.Helper()
	var out map[string]any
	dec := json.NewDecoder(bytes.NewReader(full))
	dec.UseNumber()
	if err := dec.Decode(&out); err != nil {
		t.Fatal(err)
	}
	if err := checkSchema("render", full); err != nil {
		t.Error(err)
	}
	create, _ := out["spec"].(map[string]any)
	got["bound.json"] = indented(t, create)
	parts := map[string]any{}
	for _, k := range []string{"target", "pull", "build", "objects", "after"} {
		if v := out[k]; v != nil && !empty(v) {
			parts[k] = v
		}
	}
	if f := want["plan.json"]; f != nil && bytes.Contains(f.Data, []byte(`"digest"`)) {
		parts["digest"] = out["digest"]
	}
	withoutIdentity(t, create, parts["build"])
	got["create.json"] = indented(t, create)
	got["plan.json"] = indented(t, parts)
}

func empty(v any) bool {
	l, ok := v.([]any)
	return ok && len(l) == 0
}

func indented(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// withoutIdentity takes out what the engine puts into every object, and wants it to be there: bound.json shows it.
func withoutIdentity(t *testing.T, create map[string]any, build any) {
	t.Helper()
	if name, _ := create["name"].(string); !strings.HasSuffix(name, "-"+strings.Repeat("0", 26)) {
		t.Errorf("the object's name is %q", name)
	}
	delete(create, "name")
	left := []any{}
	reserved := map[string]int{}
	env, _ := create["Env"].([]any)
	for _, e := range env {
		s, _ := e.(string)
		name, _, _ := strings.Cut(s, "=")
		if slices.Contains([]string{spec.EnvMaster, spec.EnvPort, spec.EnvProtocol, spec.EnvWorker, spec.EnvPassword}, name) {
			reserved[name]++
			continue
		}
		left = append(left, e)
	}
	if len(reserved) != 5 {
		t.Errorf("the reserved environment is %v", reserved)
	}
	create["Env"] = left
	if len(left) == 0 {
		delete(create, "Env")
	}
	labels := 0
	for _, o := range []any{create, build} {
		m, _ := o.(map[string]any)
		for _, key := range []string{"Labels", "labels"} {
			have, _ := m[key].(map[string]any)
			maps.DeleteFunc(have, func(k string, _ any) bool {
				ours := strings.HasPrefix(k, spec.LabelPrefix)
				if ours {
					labels++
				}
				return ours
			})
			if have != nil && len(have) == 0 {
				delete(m, key)
			}
		}
	}
	if labels < 7 {
		t.Errorf("there are %d labels of the engine's", labels)
	}
}
