//go:build integration

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/internal/testenv"
)

// asked is what testdata/buildbot/answers.py reads, answers what it writes.
type asked struct {
	Build       json.RawMessage   `json:"build"`
	Secrets     map[string]string `json:"secrets"`
	Expressions []string          `json:"expressions"`
	Examples    []string          `json:"examples"`
}

type answers struct {
	Version string `json:"version"`
	Answers []struct {
		Value json.RawMessage `json:"value"`
		Error string          `json:"error"`
	} `json:"answers"`
	Examples []struct {
		Workers map[string]string `json:"workers"`
		Error   string            `json:"error"`
	} `json:"examples"`
	Options []string `json:"options"`
}

// TestFromBuildbotAnswers: Buildbot itself gives what the column "Gives" says, takes the parts of a master.cfg, makes workers of
// the names that the definitions beside them make, and has no option without a row.
func TestFromBuildbotAnswers(t *testing.T) {
	python := testenv.BuildbotPython(t)
	blocks, all := fromBuildbot(t)
	rows, pairs := expressions(all), examples(t, blocks)
	question := asked{Build: json.RawMessage(marked(t, blocks, "build")), Secrets: map[string]string{"token": "***"}}
	for _, r := range rows {
		question.Expressions = append(question.Expressions, code(r.cells[0]))
	}
	for _, e := range pairs {
		question.Examples = append(question.Examples, e.python.text)
	}
	stdin, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, filepath.Join("testdata", "buildbot", "answers.py"))
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	var got answers
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Answers) != len(rows) || len(got.Examples) != len(pairs) || len(got.Options) < 25 {
		t.Fatalf("%d answers to %d rows, %d to %d examples, %d options", len(got.Answers), len(rows), len(got.Examples), len(pairs), len(got.Options))
	}
	t.Logf("Buildbot %s: %d rows, %d examples", got.Version, len(rows), len(pairs))
	for i, r := range rows {
		a, want := got.Answers[i], code(r.cells[2])
		switch {
		case want == "error" && a.Error == "":
			t.Errorf("line %d: Buildbot gives %s for %s, and should refuse it", r.line, a.Value, r.cells[0])
		case want == "error":
		case a.Error != "":
			t.Errorf("line %d: Buildbot refuses %s: %s", r.line, r.cells[0], a.Error)
		case canonical(t, string(a.Value)) != canonical(t, want):
			t.Errorf("line %d: Buildbot gives %s for %s, not %s", r.line, a.Value, r.cells[0], want)
		}
	}
	for i, e := range pairs {
		a := got.Examples[i]
		if a.Error != "" {
			t.Errorf("line %d: Buildbot refuses this part of a master.cfg: %s", e.python.line, a.Error)
			continue
		}
		def, diags := config.Load([]config.Source{{Name: "definition.yaml", Data: []byte(e.definition.text)}}, config.Options{Kinds: configKinds()})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		var here []string
		for _, w := range def.Workers {
			here = append(here, w.WorkerName)
		}
		slices.Sort(here)
		if there := slices.Sorted(maps.Keys(a.Workers)); !slices.Equal(here, there) {
			t.Errorf("line %d: the definition makes the workers %q, Buildbot %q", e.definition.line, here, there)
		}
	}
	shown := optionsShown(all)
	for _, name := range got.Options {
		if shown[name].cells == nil {
			t.Errorf("Buildbot's option %s has no row", name)
		}
	}
}
