// Command docgen writes the generated parts of docs/: what stands between `<!-- generated: NAME -->` and `<!-- /generated -->`
// is made anew from the field tables, the table of functions and the commands' own help. The rest of a document is written
// by hand.
//
//	go run ./internal/docgen          write them
//	go run ./internal/docgen -check   write nothing; fail and name the documents that are not up to date
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/latent-engine/latent-engine/backends/docker"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/renderers/cel"
)

func main() {
	check := flag.Bool("check", false, "write nothing, fail where something is not up to date")
	flag.Parse()
	if err := run("docs", blocks(), *check, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "docgen: error:", err)
		os.Exit(1)
	}
}

// block is a generated part.
type block struct {
	name string
	make func() (string, error)
}

func blocks() []block {
	return []block{
		{"docker-connection", func() (string, error) { return tables(docker.Kind{}.Connection(), "backends.NAME.docker"), nil }},
		{"docker-worker", func() (string, error) { return tables(docker.Kind{}.Worker(), "workers.NAME"), nil }},
		{"functions", func() (string, error) { return functions(cel.Functions()), nil }},
		{"commands", commands},
	}
}

func run(folder string, parts []block, check bool, stdout io.Writer) error {
	documents, err := filepath.Glob(filepath.Join(folder, "*.md"))
	if err != nil {
		return err
	}
	made := map[string]string{}
	used := map[string]bool{}
	content := func(name string) (string, error) {
		used[name] = true
		if text, ok := made[name]; ok {
			return text, nil
		}
		for _, b := range parts {
			if b.name == name {
				text, err := b.make()
				made[name] = text
				return text, err
			}
		}
		return "", fmt.Errorf("no generated part is named %q", name)
	}
	var stale []string
	for _, path := range documents {
		old, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text, err := fill(string(old), content)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if text == string(old) {
			continue
		}
		stale = append(stale, path)
		if !check {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				return err
			}
			fmt.Fprintln(stdout, "written:", path)
		}
	}
	for _, b := range parts {
		if !used[b.name] {
			return fmt.Errorf("no document in %s has the generated part %q", folder, b.name)
		}
	}
	if check && len(stale) > 0 {
		return fmt.Errorf("not up to date: %s; run `make docs`", strings.Join(stale, ", "))
	}
	return nil
}

const (
	opening = "<!-- generated: "
	closing = "<!-- /generated -->"
)

// fill puts the parts into a document.
func fill(text string, content func(name string) (string, error)) (string, error) {
	var out strings.Builder
	for {
		before, rest, ok := strings.Cut(text, opening)
		out.WriteString(before)
		if !ok {
			return out.String(), nil
		}
		name, rest, ok := strings.Cut(rest, " -->")
		if !ok {
			return "", errors.New("a marker of a generated part is not closed")
		}
		_, after, ok := strings.Cut(rest, closing)
		if !ok {
			return "", fmt.Errorf("the generated part %q has no end", name)
		}
		part, err := content(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "%s%s -->\n%s\n%s", opening, name, strings.TrimSpace(part), closing)
		text = after
	}
}

// tables are a field table and those below it, each under its path.
func tables(top *field.Table, path string) string {
	var out strings.Builder
	type place struct {
		path  string
		table *field.Table
	}
	queue := []place{{path, top}}
	seen := map[*field.Table]string{top: path}
	for len(queue) > 0 {
		p := queue[0]
		queue = queue[1:]
		fmt.Fprintf(&out, "\n### `%s`\n\n| field | value | default | becomes | |\n|---|---|---|---|---|\n", p.path)
		var retired []field.Field
		for _, f := range p.table.Fields {
			if f.Retired != "" {
				retired = append(retired, f)
				continue
			}
			var further strings.Builder
			for _, below := range nested(f.Type) {
				sub := p.path + "." + f.Name + below.suffix
				if first, ok := seen[below.table]; ok {
					fmt.Fprintf(&further, " Its fields are those of `%s`.", first)
					continue
				}
				seen[below.table] = sub
				queue = append(queue, place{sub, below.table})
			}
			fmt.Fprintf(&out, "| %s | %s | %s | %s | %s |\n", spellings(f), cell(f.Type.String()+marks(f)), cell(cmp.Or(f.Default, required(f))), native(f.Native), cell(f.Doc+further.String()))
		}
		for _, f := range retired {
			fmt.Fprintf(&out, "| %s | – | | | An error when the file is loaded: %s. |\n", spellings(f), cell(f.Retired))
		}
	}
	return out.String()
}

func required(f field.Field) string {
	if f.Required {
		return "**required**"
	}
	return ""
}

func spellings(f field.Field) string {
	var out []string
	for _, n := range append([]string{f.Name}, f.Aliases...) {
		out = append(out, "`"+n+"`")
	}
	return strings.Join(out, ", ")
}

// marks say what else a value may be.
func marks(f field.Field) string {
	switch {
	case f.Literal:
		return "; no expression"
	case secret(f.Type):
		return "; may be a secret"
	}
	return ""
}

func secret(t *field.Type) bool {
	switch {
	case t == nil:
		return false
	case t.Secret:
		return true
	}
	return slices.ContainsFunc(t.Of, secret) || t.Kind != field.ObjectKind && secret(t.Elem)
}

func native(path string) string {
	if path == "" {
		return ""
	}
	return "`" + path + "`"
}

// cell keeps a text inside of its cell.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(text)
}

type subtable struct {
	suffix string
	table  *field.Table
}

// nested are the tables that a type's values are made of.
func nested(t *field.Type) []subtable {
	if t == nil {
		return nil
	}
	var out []subtable
	switch t.Kind {
	case field.ObjectKind:
		if t.Fields != nil {
			out = append(out, subtable{"", t.Fields})
		}
	case field.ListKind:
		for _, s := range nested(t.Elem) {
			out = append(out, subtable{"[]" + s.suffix, s.table})
		}
	case field.MapKind:
		for _, s := range nested(t.Elem) {
			out = append(out, subtable{".KEY" + s.suffix, s.table})
		}
	case field.OneOfKind:
		for _, o := range t.Of {
			out = append(out, nested(o)...)
		}
	}
	return out
}

// functions are all functions, under the headings of their table.
func functions(all []cel.FunctionDoc) string {
	var out strings.Builder
	group := ""
	for _, f := range all {
		if f.Group != group {
			group = f.Group
			fmt.Fprintf(&out, "\n### %s\n\n| function | gives |\n|---|---|\n", group)
		}
		fmt.Fprintf(&out, "| `%s` | %s |\n", strings.ReplaceAll(f.Signature, "|", `\|`), cell(f.Doc))
	}
	return out.String()
}

// commands are the help of every command, as it prints it itself.
func commands() (string, error) {
	work, err := os.MkdirTemp("", "latent-docgen-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	binary := filepath.Join(work, "latent-engine")
	if output, err := exec.Command("go", "build", "-o", binary, "./cmd/latent-engine").CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build the command: %w: %s", err, output)
	}
	help := func(args ...string) (string, error) {
		command := exec.Command(binary, append([]string{"help"}, args...)...)
		// Help must not depend on who asks for it.
		command.Env = []string{"HOME=/", "PATH=" + os.Getenv("PATH")}
		output, err := command.Output()
		if err != nil {
			return "", fmt.Errorf("cannot run help %v: %w", args, err)
		}
		return strings.TrimSpace(string(output)), nil
	}
	top, err := help()
	if err != nil {
		return "", err
	}
	var out strings.Builder
	fmt.Fprintf(&out, "\n```\n%s\n```\n", top)
	_, list, ok := strings.Cut(top, "Available Commands:\n")
	if !ok {
		return "", errors.New("help lists no commands")
	}
	for line := range strings.Lines(list) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "" {
			break
		}
		if name == "help" || name == "completion" {
			continue
		}
		text, err := help(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "\n## latent-engine %s\n\n```\n%s\n```\n", name, text)
	}
	return out.String(), nil
}
