package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latent-engine/latent-engine/engine/field"
)

func TestFill(t *testing.T) {
	content := func(name string) (string, error) {
		if name == "no" {
			return "", errors.New("no such part")
		}
		return "\nnew " + name + "\n\n", nil
	}
	tests := []struct{ name, text, want, err string }{
		{name: "none", text: "by hand\n", want: "by hand\n"},
		{
			name: "two", text: "a\n<!-- generated: x -->\nold\n<!-- /generated -->\nb\n<!-- generated: y --><!-- /generated -->",
			want: "a\n<!-- generated: x -->\nnew x\n<!-- /generated -->\nb\n<!-- generated: y -->\nnew y\n<!-- /generated -->",
		},
		{name: "no end", text: "<!-- generated: x -->\n", err: `"x" has no end`},
		{name: "not closed", text: "<!-- generated: x", err: "not closed"},
		{name: "unknown", text: "<!-- generated: no --><!-- /generated -->", err: "no such part"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := fill(tt.text, content)
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %q, %v", got, err)
			}
			if tt.err == "" {
				if again, err := fill(got, content); err != nil || again != got {
					t.Errorf("a second time gives %q, %v", again, err)
				}
			}
		})
	}
}

// TestTables: every field of a table and of the tables below it has its line, once.
func TestTables(t *testing.T) {
	inner := field.NewTable("inner", field.Field{Name: "key", Type: field.Of(field.StringKind), Doc: "a|b"})
	outer := field.NewTable("outer",
		field.Field{Name: "one", Aliases: []string{"One"}, Type: field.ObjectOf(inner), Native: "One", Doc: "First."},
		field.Field{Name: "many", Type: field.ListOf(field.ObjectOf(inner)), Doc: "Second.", Required: true},
		field.Field{Name: "old", Type: field.Of(field.Any), Retired: "use one"},
		field.Field{Name: "pass", Type: field.MapOf(&field.Type{Kind: field.StringKind, Secret: true})},
	)
	got := tables(outer, "top")
	for _, want := range []string{
		"### `top`\n", "| `one`, `One` | a map |  | `One` | First. |\n", "| **required** |", "Its fields are those of `top.one`.",
		"### `top.one`\n", `| a\|b |`, "| `old` | – | | | An error when the file is loaded: use one. |", "; may be a secret",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	if n := strings.Count(got, "`key`"); n != 1 {
		t.Errorf("the inner field stands %d times", n)
	}
}

// TestUpToDate holds the documents of the tree against what would be generated.
func TestUpToDate(t *testing.T) {
	t.Chdir(filepath.Join("..", ".."))
	if err := run("docs", blocks(), true, io.Discard); err != nil {
		t.Error(err)
	}
}

// TestCheckFinds: a check writes nothing and fails; a run writes, and then the check passes.
func TestCheckFinds(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "x.md")
	write := func(names ...string) {
		var text strings.Builder
		for _, n := range names {
			text.WriteString("<!-- generated: " + n + " -->\n<!-- /generated -->\n")
		}
		if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parts := []block{
		{"first", func() (string, error) { return "one", nil }},
		{"second", func() (string, error) { return "two", nil }},
	}
	write("second")
	if err := run(folder, parts, true, io.Discard); err == nil || !strings.Contains(err.Error(), "first") {
		t.Errorf("a part that no document has: %v", err)
	}
	write("first", "second")
	if err := run(folder, parts, true, io.Discard); err == nil || !strings.Contains(err.Error(), "x.md") {
		t.Errorf("a stale document: %v", err)
	}
	if err := run(folder, parts, false, io.Discard); err != nil {
		t.Fatal(err)
	}
	if err := run(folder, parts, true, io.Discard); err != nil {
		t.Errorf("after writing: %v", err)
	}
}
