package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/latent-engine/latent-engine/backends/docker"
	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/render"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// block is a fenced part of docs/from-buildbot.md.
type block struct {
	line     int
	language string
	marker   string // of the comment above it: "golden: NAME", "build", "worker"; "" = none
	text     string
}

// row is a line of a table, without its code marks.
type row struct {
	line  int
	head  string // the table's header
	cells []string
}

// fromBuildbot reads the document.
func fromBuildbot(t *testing.T) (blocks []block, rows []row) {
	t.Helper()
	data, err := os.ReadFile("../../docs/from-buildbot.md")
	if err != nil {
		t.Fatal(err)
	}
	var open *block
	marker, head := "", ""
	for i, line := range strings.Split(string(data), "\n") {
		switch {
		case open != nil && line == "```":
			blocks, open = append(blocks, *open), nil
		case open != nil:
			open.text += line + "\n"
		case strings.HasPrefix(line, "```"):
			open = &block{line: i + 1, language: line[3:], marker: marker}
			marker = ""
		case strings.HasPrefix(line, "<!-- "):
			marker = strings.TrimSuffix(strings.TrimPrefix(line, "<!-- "), " -->")
		case !strings.HasPrefix(line, "|"):
			head = ""
		case head == "":
			head = line
		case !strings.HasPrefix(line, "|---"):
			rows = append(rows, row{line: i + 1, head: head, cells: cells(line)})
		}
	}
	if open != nil {
		t.Fatalf("the block at line %d has no end", open.line)
	}
	return blocks, rows
}

var bar = regexp.MustCompile(`(?:[^|\\]|\\.)*`)

// cells are the cells of a table's line; `\|` in them is a plain bar.
func cells(line string) []string {
	var out []string
	for _, c := range bar.FindAllString(strings.TrimSuffix(strings.TrimPrefix(line, "|"), "|"), -1) {
		out = append(out, strings.ReplaceAll(strings.TrimSpace(c), `\|`, "|"))
	}
	return out
}

// code takes the marks off a cell that is all code.
func code(cell string) string {
	if len(cell) > 1 && cell[0] == '`' && strings.Count(cell, "`") == 2 && cell[len(cell)-1] == '`' {
		return cell[1 : len(cell)-1]
	}
	return cell
}

// example is a part of a master.cfg, and the definition that stands for it.
type example struct {
	golden     string
	python     block
	definition block
}

func examples(t *testing.T, blocks []block) []example {
	t.Helper()
	var out []example
	var python *block
	for _, b := range blocks {
		name, golden := strings.CutPrefix(b.marker, "golden: ")
		switch {
		case b.language == "python" && strings.Contains(b.text, "DockerLatentWorker"):
			python = &b
		case b.language == "yaml" && golden:
			if python == nil {
				t.Fatalf("line %d: no part of a master.cfg stands above the definition %s", b.line, name)
			}
			out = append(out, example{name, *python, b})
			python = nil
		case b.language == "yaml" && b.marker != "worker":
			t.Errorf("line %d: a definition that is no golden case", b.line)
		}
	}
	return out
}

// TestFromBuildbotGoldens: each definition of the document is the one of a golden case, to the byte, and none is left out.
func TestFromBuildbotGoldens(t *testing.T) {
	blocks, _ := fromBuildbot(t)
	shown := map[string]bool{}
	for _, e := range examples(t, blocks) {
		shown[e.golden] = true
		archive, err := txtar.ParseFile(filepath.Join("../../testdata/pipeline", e.golden+".txtar"))
		if err != nil {
			t.Errorf("line %d: %v", e.definition.line, err)
			continue
		}
		i := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == "definition.yaml" })
		if i < 0 || string(archive.Files[i].Data) != e.definition.text {
			t.Errorf("line %d: the definition is not the one of %s.txtar", e.definition.line, e.golden)
		}
	}
	files, err := filepath.Glob("../../testdata/pipeline/buildbot_*.txtar")
	if err != nil || len(files) < 8 {
		t.Fatalf("only %d cases: %v", len(files), err)
	}
	for _, f := range files {
		if name := strings.TrimSuffix(filepath.Base(f), ".txtar"); !shown[name] {
			t.Errorf("%s is not in the document", name)
		}
	}
}

// answer is a kind of backend whose workers have one field, which takes any value: what an expression gives.
type answer struct{}

func (answer) Name() string { return "answer" }

func (answer) Connection() *field.Table { return field.NewTable("answer connection") }

func (answer) Worker() *field.Table {
	return field.NewTable("answer", field.Field{Name: "value", Type: &field.Type{Secret: true}, Native: "value"})
}

func (answer) Convert(in spec.ConvertInput) (spec.Plan, []field.Problem) {
	return spec.Plan{Create: in.Fields}, nil
}

const expressionHead = "| Buildbot | Here | Gives |"

// expressions are the rows of the tables of expressions.
func expressions(rows []row) []row {
	return slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return r.head != expressionHead })
}

// marked is the text of the one block with that marker.
func marked(t *testing.T, blocks []block, marker string) string {
	t.Helper()
	for _, b := range blocks {
		if b.marker == marker {
			return b.text
		}
	}
	t.Fatalf("no block is marked %q", marker)
	return ""
}

// TestFromBuildbotExpressions evaluates the column "Here" of every row, and compares with the column "Gives".
func TestFromBuildbotExpressions(t *testing.T) {
	blocks, rows := fromBuildbot(t)
	build, diags := config.LoadBuild("build.json", []byte(marked(t, blocks, "build")))
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	worker := marked(t, blocks, "worker")
	rows = expressions(rows)
	if len(rows) < 100 {
		t.Fatalf("only %d rows", len(rows))
	}
	for _, r := range rows {
		here, want := code(r.cells[1]), code(r.cells[2])
		if here == "–" {
			if want != "error" {
				t.Errorf("line %d: there is nothing here that could give %s", r.line, want)
			}
			continue
		}
		got, err := gives(t, worker, here, build)
		switch {
		case want == "error" && err == nil:
			t.Errorf("line %d: %s gives %s, and should be an error", r.line, here, got)
		case want == "error":
			if !strings.Contains(err.Error(), "is missing in this build") {
				t.Errorf("line %d: %s: %v", r.line, here, err)
			}
		case err != nil:
			t.Errorf("line %d: %s: %v", r.line, here, err)
		case got != canonical(t, want):
			t.Errorf("line %d: %s gives %s, not %s", r.line, here, got, want)
		}
	}
}

// gives is what a value of a definition comes to, as JSON, through the loader, the type check and the renderer.
func gives(t *testing.T, worker, value string, build *config.Build) (string, error) {
	t.Helper()
	text := "version: 1\nbackends: {b: {answer: {}}}\nworkers:\n  w:\n" + declarations(worker, value)
	if !strings.Contains(value, "${{") {
		value = "${{ " + value + " }}"
	}
	text += "    value: " + strconv.Quote(value) + "\n"
	def, diags := config.Load([]config.Source{{Name: "row.yaml", Data: []byte(text)}}, config.Options{
		Kinds: map[string]config.Kind{"answer": {Connection: answer{}.Connection(), Worker: answer{}.Worker()}},
	})
	if diags.HasErrors() {
		return "", &diag.ListError{List: diags}
	}
	set, diags := render.Compile(def, render.Options{Kinds: map[string]render.Kind{"answer": answer{}}, CEL: newCEL()})
	if diags.HasErrors() {
		return "", &diag.ListError{List: diags}
	}
	template, err := set.Template("w")
	if err != nil {
		return "", err
	}
	s, err := template.Render(context.Background(), build, render.RenderOptions{})
	if err != nil {
		return "", err
	}
	return string(spec.AppendRedacted(nil, s.Fields["value"])), nil
}

// declarations are the lines of the worker block that a value needs: "needed" alone makes the build incomplete.
func declarations(worker, value string) string {
	props, vars, _ := strings.Cut(worker, "vars:\n")
	if !strings.Contains(value, "vars.") {
		vars = ""
	}
	var b strings.Builder
	for line := range strings.Lines(props) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name != "needed" || strings.Contains(value, name) {
			fmt.Fprintf(&b, "    %s", line)
		}
	}
	if vars != "" {
		b.WriteString("    vars:\n")
		for line := range strings.Lines(vars) {
			fmt.Fprintf(&b, "    %s", line)
		}
	}
	return b.String()
}

// canonical is JSON in the form in which values are compared.
func canonical(t *testing.T, text string) string {
	t.Helper()
	v, err := config.ParseJSON("cell", []byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return string(spec.AppendRedacted(nil, v))
}

const optionHead = "| Option | Buildbot | Here | Why |"

var codeSpan = regexp.MustCompile("`[^`]*`")

// optionsShown are the names in the first column of the tables of options, with what their rows say.
func optionsShown(rows []row) map[string]row {
	out := map[string]row{}
	for _, r := range rows {
		if r.head != optionHead {
			continue
		}
		for _, name := range codeSpan.FindAllString(r.cells[0], -1) {
			out[strings.Trim(name, "`")] = r
		}
	}
	return out
}

// TestFromBuildbotOptions: the tables have every option that the field tables say is Buildbot's, and what they say of an
// option that stays in master.cfg is so: a definition with it does not load, and is told why.
func TestFromBuildbotOptions(t *testing.T) {
	_, rows := fromBuildbot(t)
	shown := optionsShown(rows)
	for _, table := range []*field.Table{docker.Kind{}.Worker(), docker.Kind{}.Connection()} {
		for _, f := range table.Fields {
			if f.Buildbot != "" && shown[f.Buildbot].cells == nil {
				t.Errorf("Buildbot's %s has no row", f.Buildbot)
			}
		}
	}
	for name, r := range shown {
		if len(r.cells) != 4 {
			t.Errorf("line %d: %d cells", r.line, len(r.cells))
			continue
		}
		message := loadError(t, name)
		switch {
		case strings.HasPrefix(r.cells[2], "on the worker class"):
			if want := fmt.Sprintf("%q belongs on the Buildbot worker class, not in a definition", name); message != want {
				t.Errorf("line %d: a definition with %s: %q", r.line, name, message)
			}
		case strings.HasPrefix(r.cells[2], "`backends.NAME.docker."):
			if !strings.Contains(message, "backends") {
				t.Errorf("line %d: a definition with %s: %q", r.line, name, message)
			}
		case strings.HasPrefix(message, "unknown field") && !slices.Contains([]string{"init", "lxc_conf", "init_path"}, name):
			t.Errorf("line %d: a definition with %s: %q", r.line, name, message)
		}
	}
}

// loadError is the first message of loading a worker with that option and an odd value; "" = none.
func loadError(t *testing.T, option string) string {
	t.Helper()
	text := fmt.Sprintf("version: 1\nbackends: {b: {docker: {}}}\nworkers: {w: {image: a, %s: null}}\n", option)
	if option == "image" {
		text = "version: 1\nbackends: {b: {docker: {}}}\nworkers: {w: {image: a}}\n"
	}
	_, diags := compile([]config.Source{{Name: "option.yaml", Data: []byte(text)}})
	if len(diags) == 0 {
		return ""
	}
	return diags[0].Message
}
