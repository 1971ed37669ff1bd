package archtest

import (
	"errors"
	"go/ast"
	"go/token"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/latent-engine/latent-engine/engine/policy"
)

// TestAdmittedIsMadeByPolicyAlone shows that the type system keeps the gate shut: no field of an Admitted can be set from
// outside, nothing else is derived from it, only policy.Judge gives one, and the zero value starts nothing.
func TestAdmittedIsMadeByPolicyAlone(t *testing.T) {
	if _, err := (policy.Admitted{}).Bound(); !errors.Is(err, policy.ErrNotAdmitted) {
		t.Errorf("the zero Admitted gives error %v, want ErrNotAdmitted", err)
	}
	for f := range reflect.TypeFor[policy.Admitted]().Fields() {
		if f.IsExported() || f.Anonymous {
			t.Errorf("policy.Admitted has the field %s, which others can set", f.Name)
		}
	}
	s := load(t)
	var makers, declared []string
	for _, f := range s.files {
		if f.Test {
			continue
		}
		for _, spec := range f.Imports {
			if spec.Path.Value == `"unsafe"` {
				t.Errorf("%s: unsafe goes around every rule", s.at(spec))
			}
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.GenDecl:
				for _, sp := range d.Specs {
					ts, ok := sp.(*ast.TypeSpec)
					if !ok {
						continue
					}
					if ts.Name.Name == "Admitted" {
						declared = append(declared, f.Package)
					}
					if isAdmitted(ts.Type, f.Package) {
						t.Errorf("%s: type %s is made of policy.Admitted", s.at(ts), ts.Name.Name)
					}
				}
			case *ast.FuncDecl:
				// Others hand on what Judge gave them; inside of policy a second maker would be a second gate.
				if f.Package != "engine/policy" || d.Type.Results == nil {
					continue
				}
				for _, r := range d.Type.Results.List {
					if isAdmitted(r.Type, f.Package) {
						makers = append(makers, f.Package+"."+d.Name.Name)
					}
				}
			}
		}
	}
	if want := []string{"engine/policy"}; !slices.Equal(declared, want) {
		t.Errorf("Admitted is declared in %v, want %v", declared, want)
	}
	if want := []string{"engine/policy.Judge"}; !slices.Equal(makers, want) {
		t.Errorf("an Admitted is given by %v, want %v", makers, want)
	}
}

// isAdmitted reports whether a type expression is policy.Admitted or a pointer to it.
func isAdmitted(x ast.Expr, pkg string) bool {
	switch x := x.(type) {
	case *ast.StarExpr:
		return isAdmitted(x.X, pkg)
	case *ast.Ident:
		return pkg == "engine/policy" && x.Name == "Admitted"
	case *ast.SelectorExpr:
		return x.Sel.Name == "Admitted"
	}
	return false
}

// TestNothingRegistersItself: what exists is wired in cmd, where it can be read, not by the side effects of imports.
func TestNothingRegistersItself(t *testing.T) {
	s := load(t)
	for _, f := range s.files {
		if f.Test {
			continue
		}
		for _, spec := range f.Imports {
			// The standard library's hashes exist by import alone.
			if spec.Name != nil && spec.Name.Name == "_" && spec.Path.Value != `"embed"` && !strings.HasPrefix(spec.Path.Value, `"crypto/`) {
				t.Errorf("%s: %s is imported for its side effects", s.at(spec), spec.Path.Value)
			}
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					t.Errorf("%s: func init", s.at(d))
				}
			case *ast.GenDecl:
				if d.Tok != token.VAR {
					continue
				}
				ast.Inspect(d, func(n ast.Node) bool {
					switch n := n.(type) {
					case *ast.FuncLit:
						return false
					case *ast.CallExpr:
						if name := called(n.Fun); strings.HasPrefix(name, "Register") || strings.HasPrefix(name, "MustRegister") {
							t.Errorf("%s: a package variable registers something with %s", s.at(n), name)
						}
					}
					return true
				})
			}
		}
	}
}

func called(fun ast.Expr) string {
	switch x := fun.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.SelectorExpr:
		return x.Sel.Name
	}
	return ""
}

// avoided are words that say nothing about what a thing is, or that mean something else in this field. CONTRIBUTING.md has
// what to write in their place.
var avoided = []string{"manager", "helper", "util", "common", "shared", "misc", "runtime", "job", "task", "manifest", "driver"}

// TestNames: packages and exported names avoid those words.
func TestNames(t *testing.T) {
	s := load(t)
	for _, f := range s.files {
		if w := avoidedWord(f.File.Name.Name); w != "" {
			t.Errorf("%s: package %s has the word %q in its name", s.at(f.File.Name), f.File.Name.Name, w)
		}
		if f.Test {
			continue
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			for _, id := range declaredNames(n) {
				if id.IsExported() && avoidedWord(id.Name) != "" {
					t.Errorf("%s: %s has the word %q in its name", s.at(id), id.Name, avoidedWord(id.Name))
				}
			}
			return true
		})
	}
}

func declaredNames(n ast.Node) []*ast.Ident {
	switch n := n.(type) {
	case *ast.FuncDecl:
		return []*ast.Ident{n.Name}
	case *ast.TypeSpec:
		return []*ast.Ident{n.Name}
	case *ast.ValueSpec:
		return n.Names
	case *ast.Field:
		return n.Names
	}
	return nil
}

// avoidedWord is the first avoided word in a name, "" where there is none.
func avoidedWord(name string) string {
	for _, w := range words(name) {
		for _, a := range avoided {
			if w == a || w == a+"s" {
				return a
			}
		}
	}
	return ""
}

// words are the words of a name in mixedCaps or snake_case, in lower case.
func words(name string) []string {
	var out []string
	var word []rune
	end := func() {
		if len(word) > 0 {
			out = append(out, strings.ToLower(string(word)))
			word = nil
		}
	}
	runes := []rune(name)
	for i, r := range runes {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			end()
			continue
		case unicode.IsUpper(r) && i > 0 && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])):
			end()
		}
		word = append(word, r)
	}
	end()
	return out
}

// TestNamesFinds shows that the check finds what it is for, and does not find it in other words.
func TestNamesFinds(t *testing.T) {
	for name, want := range map[string]string{
		"PodManager": "manager", "TaskID": "task", "IDTask": "task", "HTTPUtils": "util", "common": "common", "image_helper": "helper",
		"Uncommon": "", "Multitask": "", "Commonly": "", "Jobless": "", "Instance": "",
	} {
		if got := avoidedWord(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
