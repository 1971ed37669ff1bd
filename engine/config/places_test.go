package config

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/latent-engine/latent-engine/engine/diag"
)

// checkPlaces holds every diagnostic against the rule that its place is inside its file (or just behind a line's end).
func checkPlaces(t *testing.T, list diag.List, sources map[string][]byte) {
	t.Helper()
	for _, d := range list {
		src, ok := sources[d.File]
		if !ok {
			t.Errorf("%s: in a file that was not read", d)
			continue
		}
		if len(src) > MaxFileBytes || !utf8.Valid(src) {
			continue // such a file is refused as a whole
		}
		lines := strings.Split(string(src), "\n")
		if d.Line < 1 || d.Line > len(lines) {
			t.Errorf("%s: line %d of %d", d, d.Line, len(lines))
			continue
		}
		line := lines[d.Line-1]
		if d.Line < len(lines) {
			line = strings.TrimSuffix(line, "\r")
		}
		width := utf8.RuneCountInString(line)
		if d.Column < 1 || d.Column > width+1 {
			t.Errorf("%s: column %d of %d", d, d.Column, width)
		}
		if d.EndColumn != 0 && (d.EndColumn < d.Column || d.EndColumn > max(width, d.Column)+1) {
			t.Errorf("%s: end column %d, the line has %d", d, d.EndColumn, width)
		}
		if d.Message == "" || strings.HasPrefix(d.Message, "yaml") {
			t.Errorf("%s: not a message of ours", d)
		}
	}
}

// checkExpressions holds every expression's places against the source: the code point at each of them is the expression's
// own, except where the source escapes or folds it. It returns how many expressions there are, and how many code points do
// not stand in the source as they are.
func checkExpressions(t *testing.T, def *Definition, sources map[string][]byte) (exprs, escaped int) {
	t.Helper()
	lines := map[string][][]rune{}
	for name, src := range sources {
		if !utf8.Valid(src) {
			continue
		}
		for _, l := range strings.Split(string(src), "\n") {
			lines[name] = append(lines[name], []rune(strings.TrimSuffix(l, "\r")))
		}
	}
	check := func(n *Node) {
		for _, s := range n.Segments {
			if !s.Expr {
				continue
			}
			exprs++
			at := diag.Pos{}
			for i, r := range []rune(s.Source) {
				p := s.At.At(i)
				ls := lines[p.File]
				if p.Line < 1 || p.Line > len(ls) || p.Column < 1 || p.Column > len(ls[p.Line-1])+1 {
					t.Errorf("expression %q: code point %d stands at %s, outside the file", s.Source, i, p)
					return
				}
				if p.Line < at.Line || p.Line == at.Line && p.Column <= at.Column {
					t.Errorf("expression %q: code point %d stands at %s, not behind the one before it at %s", s.Source, i, p, at)
				}
				at = p
				if r == ' ' || r == '\n' {
					continue // perhaps a folded line break
				}
				if p.Column > len(ls[p.Line-1]) {
					t.Errorf("expression %q: code point %d (%q) stands at %s, behind its line", s.Source, i, r, p)
					return
				}
				if got := ls[p.Line-1][p.Column-1]; got != r {
					if got != '\\' && got != '\'' {
						t.Errorf("expression %q: code point %d is %q, but at %s stands %q", s.Source, i, r, p, got)
					}
					escaped++
				}
			}
		}
	}
	var walk func(n *Node)
	walk = func(n *Node) {
		if n == nil {
			return
		}
		check(n)
		for _, i := range n.Items {
			walk(i)
		}
		for _, e := range n.Entries {
			// A key stands where its span says: as it is, or behind a quote.
			ls := lines[e.KeySpan.File]
			if p := e.KeySpan; p.Line < 1 || p.Line > len(ls) || p.Column < 1 || p.Column > len(ls[p.Line-1]) {
				t.Errorf("key %q stands at %s, outside the file", e.Key, p.Pos)
			} else if got, first := ls[p.Line-1][p.Column-1], []rune(e.Key + "\"")[0]; got != first && !strings.ContainsRune("\"'|>", got) {
				t.Errorf("key %q: at %s stands %q", e.Key, p.Pos, got)
			}
			walk(e.Value)
		}
	}
	for _, b := range def.Backends {
		walk(b.Settings)
	}
	for _, n := range def.Defaults {
		walk(n)
	}
	seen := map[*Node]bool{}
	for _, w := range def.Workers {
		if !seen[w.Backend] {
			walk(w.Backend)
			seen[w.Backend] = true
		}
		for _, v := range w.Vars {
			if !seen[v.Node] {
				walk(v.Node)
				seen[v.Node] = true
			}
		}
		for _, l := range w.Layers {
			if !seen[l.Node] {
				walk(l.Node)
				seen[l.Node] = true
			}
		}
	}
	return exprs, escaped
}

// styles are ways to write one expression in YAML. %s is a value's place in a line of its own.
var styleDocs = []string{
	"x: ${{ props.größe + 1 }}\n",
	"x: 'a ''quoted'' ${{ props.b == ''x'' }} text'\n",
	"x: \"a \\\"b\\\" \\x41\\u00e9\\U0001F600 ${{ props.b == \\\"x\\\" }}\"\n",
	"x: \"one ${{ props.a\n    + props.b }}\n\n    two ${{ c }}\"\n",
	"x: \"one \\\n    ${{ a }} \\\n\n\n   ${{ b }}\"\n",
	"x: 'one\n\n\n    ${{ a\n      + b }} two'\n",
	"x: one\n    ${{ a\n     + b }}\n\n    two ${{ c }}\n",
	"x: |\n    one\n      ${{ a }}\n\n    ${{ b\n     + c }}\n",
	"x: |-\n  ü ${{ a }}\n\n\n",
	"x: |2\n    ${{ a }}\n   b\n",
	"x: |+3\n    ${{ a }}\n   b\n\n\n",
	"x: >\n  one ${{ a }}\n  two\n\n   ${{ b }}\n   three\n  ${{ c\n  + d }}\n",
	"x: >-\n\n\n  one\n  ${{ a }}\n\n\n  ${{ b }}",
	"x: >+\n  ${{ a }}  \n  ${{ b }} \t\n\n",
	"x: [ 'a', \"${{ b }}\", c ]\n",
	"x: {a: '${{ b }}', \"ключ\": \"${{ значение }}\"}\n",
	"x:\n- ${{ a }}\n- - ${{ b }}\n  - |\n    ${{ c }}\n- >2\n    ${{ d }}\n",
	"x: \"\\t${{ a }}\\n${{ b }}\\\n  c\"\n",
	"x: # a comment\n   ${{ a }} # another\n",
	"x:   \"  ${{ a }}  \n\n   ${{ b }} \"\n",
	"x: \"$${{ literal }} ${{ a }}\"\n",
	"x: | # comment\n\n\n  ${{ a }}\n",
	"x: \"\\/\\e\\_\\N\\L\\P\\0\"\n",
}

// TestPlaces checks, for every way of writing a text, that each code point of each expression is found where it stands.
func TestPlaces(t *testing.T) {
	for _, doc := range styleDocs {
		for _, eol := range []string{"\n", "\r\n"} {
			src := strings.ReplaceAll("version: 1\nbackends: {b: {docker: }}\nworkers:\n  w:\n    vars:\n"+indent(doc, "      "), "\n", eol)
			def, list := Load([]Source{{"t.yaml", []byte(src)}}, Options{})
			if len(list) > 0 && !strings.Contains(doc, `\0`) {
				t.Errorf("%q: %v", src, list.Err())
				continue
			}
			want := strings.Count(doc, "${{") - strings.Count(doc, "$${{")
			if got, _ := checkExpressions(t, def, def.Sources); got != want {
				t.Errorf("%q: %d expressions, want %d", src, got, want)
			}
		}
	}
}

// TestLocateIsExact: on the corpus, the second reading of every scalar agrees with the YAML library's.
func TestLocateIsExact(t *testing.T) {
	for _, doc := range styleDocs {
		src := "v:\n" + indent(doc, "    ")
		if n := inexact(t, src); len(n) > 0 {
			t.Errorf("%q: not located: %q", src, n)
		}
	}
}

func indent(s, by string) string {
	lines := strings.SplitAfter(s, "\n")
	for i, l := range lines {
		if strings.TrimSpace(l) != "" {
			lines[i] = by + l
		}
	}
	return strings.Join(lines, "")
}

// inexact are the scalars of a document whose code points could not be located.
func inexact(t *testing.T, src string) []string {
	t.Helper()
	var list diag.List
	f := openFile("t.yaml", []byte(src), &list)
	if f == nil {
		return nil
	}
	root, _, err := parseYAML(src)
	if err != nil || root == nil {
		return nil
	}
	tr := &tree{f: f, list: &list}
	return slices.Clone(tr.inexact(root, -1))
}
