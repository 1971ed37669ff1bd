package archtest

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// module is the prefix of our own import paths.
const module = "github.com/latent-engine/latent-engine"

// source is every Go file of the module, on whatever platform it builds; nested modules are not part of it.
type source struct {
	root  string
	fset  *token.FileSet
	files []file
}

// file is one parsed file. Package is its folder, relative to the module: "engine/config", "" for the root.
type file struct {
	Package string
	Test    bool
	*ast.File
}

// at is where a node stands, relative to the module.
func (s *source) at(n ast.Node) string {
	p := s.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", p.Filename, p.Line)
}

// packages are the packages that have more than tests, sorted.
func (s *source) packages() []string {
	var out []string
	for _, f := range s.files {
		if !f.Test && !slices.Contains(out, f.Package) {
			out = append(out, f.Package)
		}
	}
	slices.Sort(out)
	return out
}

// load parses the module that the test stands in.
func load(t *testing.T) *source {
	t.Helper()
	s := &source{root: filepath.Join("..", ".."), fset: token.NewFileSet()}
	if _, err := os.Stat(filepath.Join(s.root, "go.mod")); err != nil {
		t.Fatalf("the test does not stand two folders below the module's root: %v", err)
	}
	err := filepath.WalkDir(s.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(s.root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return enter(path, rel, d.Name())
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		return s.add(path, filepath.ToSlash(rel))
	})
	if err != nil {
		t.Fatal(err)
	}
	// A walk that finds nothing would let every rule pass.
	if len(s.files) < 20 {
		t.Fatalf("only %d Go files found below %s", len(s.files), s.root)
	}
	return s
}

// enter says which folders belong to the module, as the go command sees it.
func enter(path, rel, name string) error {
	if rel == "." {
		return nil
	}
	if name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return fs.SkipDir
	}
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	switch {
	case err == nil:
		return fs.SkipDir
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}

func (s *source) add(path, rel string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	parsed, err := parser.ParseFile(s.fset, rel, content, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	folder := strings.TrimSuffix(strings.TrimSuffix(rel, filepath.Base(path)), "/")
	s.files = append(s.files, file{Package: folder, Test: strings.HasSuffix(rel, "_test.go"), File: parsed})
	return nil
}
