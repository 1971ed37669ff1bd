package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/render"
)

// maxRead bounds what is read of one file at all; the loaders have smaller limits of their own, with better messages.
const maxRead = 16 << 20

// definition is a definition loaded and compiled.
type definition struct {
	set *render.Set
	// root is the folder that build contexts are below: the first file's.
	root  string
	files int
	diags diag.List
}

// load reads the definition that -f names. Its warnings are printed; its errors are the error.
func (a *app) load() (*definition, error) {
	d, err := a.read(a.files)
	if err != nil {
		return nil, err
	}
	if d.diags.HasErrors() {
		return nil, &diagnosed{list: d.diags, files: d.files}
	}
	a.printDiagnostics(d.diags)
	return d, nil
}

// read loads and compiles paths as one definition.
func (a *app) read(paths []string) (*definition, error) {
	if len(paths) == 0 {
		paths = []string{defaultDefinition}
	}
	var sources []config.Source
	root := ""
	for _, path := range paths {
		found, dir, err := definitionFiles(path)
		if err != nil {
			return nil, err
		}
		if root == "" {
			root = dir
		}
		for _, name := range found {
			data, err := readFile(name)
			if err != nil {
				return nil, fmt.Errorf("cannot read definition %q: %w", name, err)
			}
			sources = append(sources, config.Source{Name: name, Data: data})
			a.sources[name] = data
		}
	}
	set, diags := compile(sources)
	return &definition{set: set, root: root, files: len(sources), diags: diags}, nil
}

// definitionFiles are the files that path names, and their folder.
func definitionFiles(path string) ([]string, string, error) {
	info, err := os.Stat(path)
	if err != nil {
		err := fmt.Errorf("cannot read definition %q: %w", path, cause(err))
		if path == defaultDefinition {
			return nil, "", &hinted{err: err, hint: "name the definition with -f FILE"}
		}
		return nil, "", err
	}
	if !info.IsDir() {
		return []string{path}, filepath.Dir(path), nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, "", fmt.Errorf("cannot read definition %q: %w", path, cause(err))
	}
	var out []string
	for _, e := range entries {
		if !e.IsDir() && !strings.HasPrefix(e.Name(), ".") && slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(e.Name()))) {
			out = append(out, filepath.Join(path, e.Name()))
		}
	}
	if len(out) == 0 {
		return nil, "", fmt.Errorf("cannot read definition %q: the folder holds no *.yaml, *.yml or *.json", path)
	}
	return out, path, nil
}

// readFile reads a file that is not absurdly large.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	return readAll(f)
}

func readAll(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxRead+1))
	if err != nil {
		return nil, cause(err)
	}
	if len(data) > maxRead {
		return nil, fmt.Errorf("it has more than %d MiB", maxRead>>20)
	}
	return data, nil
}

// cause is err without the operation and the path that the message names already.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// buildFlags are --build and -p.
type buildFlags struct {
	file  string
	props []string
}

func (b *buildFlags) add(a *app, cmd *cobra.Command) {
	cmd.Flags().StringVar(&b.file, "build", "", "build document: a `FILE`, or - for standard input (latent-engine schema build describes it)")
	cmd.Flags().StringArrayVarP(&b.props, "property", "p", nil, "property of the build, `NAME=VALUE`, over the build document's; may be repeated")
	_ = cmd.RegisterFlagCompletionFunc("property", a.completeProperties)
}

// build is the build that the flags describe, for a worker.
func (a *app) build(f buildFlags, w *config.Worker) (*config.Build, error) {
	b := &config.Build{Properties: map[string]config.Property{}, WorkerInfo: map[string]string{}}
	if f.file != "" {
		name, data, err := a.input(f.file)
		if err != nil {
			return nil, fmt.Errorf("cannot read build document %q: %w", f.file, err)
		}
		a.sources[name] = data
		loaded, diags := config.LoadBuild(name, data)
		if diags.HasErrors() {
			return nil, &diagnosed{list: diags, files: 1}
		}
		a.printDiagnostics(diags)
		b = loaded
	}
	for _, arg := range f.props {
		name, p, err := config.ParseProperty(arg)
		if err != nil {
			return nil, &usageError{message: err.Error()}
		}
		if err := declares(w, name); err != nil {
			return nil, err
		}
		b.Properties[name] = p
	}
	return b, nil
}

// declares says that a property given by hand is one that the worker reads: a build document may hold more than that, a
// hand that types -p means it.
func declares(w *config.Worker, name string) error {
	var names []string
	for _, p := range w.Props {
		if p.Name == name {
			return nil
		}
		names = append(names, p.Name)
	}
	if w.PropsOpen {
		return nil
	}
	hint := "it declares none under props:"
	if s := diag.Suggest(name, names); s != "" {
		hint = fmt.Sprintf("did you mean %q?", s)
	} else if len(names) > 0 {
		hint = "it declares " + strings.Join(names, ", ")
	}
	return &hinted{err: fmt.Errorf("worker %q declares no property %q", w.ID(), name), hint: hint}
}

// input reads a file, or standard input for "-".
func (a *app) input(path string) (name string, data []byte, err error) {
	if path == "-" {
		data, err = readAll(a.stdin)
		return "stdin", data, err
	}
	data, err = readFile(path)
	return path, data, err
}

// template is a worker's, by name.
func template(d *definition, worker string) (*render.Template, error) {
	t, err := d.set.Template(worker)
	if err != nil {
		message, hint, _ := strings.Cut(err.Error(), "; ")
		return nil, &hinted{err: errors.New(message), hint: hint}
	}
	return t, nil
}
