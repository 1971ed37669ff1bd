package archtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// row is a line of the package table. A name that ends in "/..." stands for the folder and all below it.
type row struct {
	packages []string // relative to the module
	imports  []string // of ours, relative to the module
	sole     []string // import paths that no other row may import
	line     int
}

// matches reports whether a pattern of the table covers a path.
func matches(pattern, path string) bool {
	if below, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == below || strings.HasPrefix(path, below+"/")
	}
	return path == pattern
}

func matchesAny(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, path) })
}

var code = regexp.MustCompile("`([^`]+)`")

// parseTable reads the table between the markers. Names are what stands between backticks; a cell "–" is empty on purpose.
func parseTable(text string) ([]row, error) {
	const begin, end = "<!-- packages -->", "<!-- /packages -->"
	from, to := strings.Index(text, begin), strings.Index(text, end)
	if from < 0 || to < from {
		return nil, fmt.Errorf("no table between %s and %s", begin, end)
	}
	first := strings.Count(text[:from], "\n") + 1
	var rows []row
	for i, line := range strings.Split(text[from:to], "\n") {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.Trim(line, "|-: ") == "" {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 4 {
			return nil, fmt.Errorf("line %d: %d cells, not 4: %s", first+i, len(cells), line)
		}
		r := row{line: first + i, packages: names(cells[0]), imports: names(cells[2]), sole: names(cells[3])}
		if len(r.packages) == 0 {
			if strings.TrimSpace(cells[0]) == "package" {
				continue
			}
			return nil, fmt.Errorf("line %d: no package in backticks: %s", first+i, line)
		}
		for _, cell := range []string{cells[2], cells[3]} {
			if len(names(cell)) == 0 && strings.TrimSpace(cell) != "–" {
				return nil, fmt.Errorf("line %d: a cell names nothing in backticks and is not –: %q", first+i, cell)
			}
		}
		rows = append(rows, r)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("the table has no rows")
	}
	return rows, nil
}

func names(cell string) []string {
	var out []string
	for _, m := range code.FindAllStringSubmatch(cell, -1) {
		out = append(out, m[1])
	}
	return out
}

// rowOf is the row of a package: the one that names it, else the longest that covers it.
func rowOf(rows []row, path string) *row {
	var best *row
	length := -1
	for i := range rows {
		for _, p := range rows[i].packages {
			if p == path {
				return &rows[i]
			}
			if matches(p, path) && len(p) > length {
				best, length = &rows[i], len(p)
			}
		}
	}
	return best
}

// edge is one import.
type edge struct {
	from, to string // to is relative to the module where ours is set
	ours     bool
	at       string
}

// edges are the imports of all files but tests.
func edges(s *source) []edge {
	var out []edge
	for _, f := range s.files {
		if f.Test {
			continue
		}
		for _, spec := range f.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				panic(err) // the parser took it
			}
			e := edge{from: f.Package, to: path, at: s.at(spec)}
			if rel, ok := strings.CutPrefix(path, module); ok {
				e.to, e.ours = strings.TrimPrefix(rel, "/"), true
			}
			out = append(out, e)
		}
	}
	return out
}

// broken says what of the table does not hold.
func broken(rows []row, packages []string, all []edge) []string {
	var out []string
	complain := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, p := range packages {
		if rowOf(rows, p) == nil {
			complain("package %q is not in the table", p)
		}
	}
	for _, r := range rows {
		for _, p := range r.packages {
			if !slices.ContainsFunc(packages, func(path string) bool { return matches(p, path) }) {
				complain("ARCHITECTURE.md:%d: there is no package %q", r.line, p)
			}
		}
		for _, p := range r.imports {
			if !slices.ContainsFunc(packages, func(path string) bool { return matches(p, path) }) {
				complain("ARCHITECTURE.md:%d: may import %q, which is no package", r.line, p)
			}
		}
		for _, path := range r.sole {
			if !slices.ContainsFunc(all, func(e edge) bool {
				return !e.ours && matches(path+"/...", e.to) && matchesAny(r.packages, e.from)
			}) {
				complain("ARCHITECTURE.md:%d: sole importer of %q, but does not import it", r.line, path)
			}
		}
	}
	for _, e := range all {
		mine := rowOf(rows, e.from)
		if mine == nil {
			continue // said above
		}
		if e.ours {
			if e.to != e.from && !matchesAny(mine.imports, e.to) {
				complain("%s: %s imports %s, which the table does not allow; it may import: %s", e.at, e.from, e.to, list(mine.imports))
			}
			continue
		}
		for i := range rows {
			for _, path := range rows[i].sole {
				if matches(path+"/...", e.to) && &rows[i] != mine {
					complain("%s: %s imports %s, which %s alone may import", e.at, e.from, e.to, list(rows[i].packages))
				}
			}
		}
	}
	return out
}

func list(names []string) string {
	if len(names) == 0 {
		return "nothing of ours"
	}
	return strings.Join(names, ", ")
}

// TestPackageTable holds every import of the module against ARCHITECTURE.md.
func TestPackageTable(t *testing.T) {
	s := load(t)
	text, err := os.ReadFile(filepath.Join(s.root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := parseTable(string(text))
	if err != nil {
		t.Fatalf("ARCHITECTURE.md: %v", err)
	}
	for _, b := range broken(rows, s.packages(), edges(s)) {
		t.Error(b)
	}
}

// TestPackageTableFinds shows that the check finds what it is for.
func TestPackageTableFinds(t *testing.T) {
	const text = "prose\n<!-- packages -->\n| package | what | may import (ours) | sole importer of |\n|---|---|---|---|\n" +
		"| `a` | leaf | – | `example.com/lib` |\n| `b`, `b/x` | middle | `a` | – |\n| `c/...` | top | `a`, `b/...` | – |\n<!-- /packages -->\n"
	rows, err := parseTable(text)
	if err != nil {
		t.Fatal(err)
	}
	packages := []string{"a", "b", "b/x", "c", "c/deep"}
	good := []edge{
		{from: "a", to: "example.com/lib/sub"},
		{from: "a", to: "strings"},
		{from: "b", to: "a", ours: true},
		{from: "c/deep", to: "b/x", ours: true},
	}
	tests := []struct {
		name     string
		packages []string
		edges    []edge
		want     []string
	}{
		{name: "holds", packages: packages, edges: good},
		{
			name: "import upwards", packages: packages,
			edges: append(slices.Clone(good), edge{from: "a", to: "b", ours: true, at: "a/a.go:3"}),
			want:  []string{"a/a.go:3: a imports b, which the table does not allow; it may import: nothing of ours"},
		},
		{
			name: "another one's library", packages: packages,
			edges: append(slices.Clone(good), edge{from: "c/deep", to: "example.com/lib", at: "c/deep/x.go:5"}),
			want:  []string{"c/deep/x.go:5: c/deep imports example.com/lib, which a alone may import"},
		},
		{name: "a library of a longer name is another one", packages: packages, edges: append(slices.Clone(good), edge{from: "b", to: "example.com/library"})},
		{name: "package without a row", packages: append(slices.Clone(packages), "d"), edges: good, want: []string{`package "d" is not in the table`}},
		{
			name: "row without a package", packages: []string{"a", "b", "c"}, edges: good,
			want: []string{`ARCHITECTURE.md:6: there is no package "b/x"`},
		},
		{name: "library that is not used", packages: packages, edges: good[1:], want: []string{`ARCHITECTURE.md:5: sole importer of "example.com/lib", but does not import it`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := broken(rows, tt.packages, tt.edges); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	for _, bad := range []string{"", "<!-- packages --><!-- /packages -->", "<!-- packages -->\n| `a` | b |\n<!-- /packages -->", "<!-- packages -->\n| `a` | b | | – |\n<!-- /packages -->"} {
		if _, err := parseTable(bad); err == nil {
			t.Errorf("a table like %q passes", bad)
		}
	}
}
