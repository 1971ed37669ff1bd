package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "rewrite what the tests expect")

// TestMain makes the test binary the command itself, for the scripts.
func TestMain(m *testing.M) {
	testscript.Main(withEngines(m), map[string]func(){"latent-engine": func() { os.Exit(runMain()) }})
}

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", UpdateScripts: *update, RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir+"/home")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": scriptCode, "schema": scriptSchema, "jsonlines": scriptLines},
	})
}

// scriptCode runs latent-engine and wants an exit code: code N args… .
func scriptCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command…")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("cannot run %v: %v", args[1:], err)
		}
		got = exit.ExitCode()
	}
	if fmt.Sprint(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// scriptSchema holds a JSON file against the schema of that name: schema NAME FILE.
func scriptSchema(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: schema NAME FILE")
	}
	err := checkSchema(args[0], []byte(ts.ReadFile(args[1])))
	if (err != nil) != neg {
		ts.Fatalf("schema %s: %v", args[0], err)
	}
}

// scriptLines is scriptSchema for each line of a file; an empty file is a mistake.
func scriptLines(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 || neg {
		ts.Fatalf("usage: jsonlines NAME FILE")
	}
	lines := strings.Split(strings.TrimSpace(ts.ReadFile(args[1])), "\n")
	for _, line := range lines {
		if err := checkSchema(args[0], []byte(line)); err != nil {
			ts.Fatalf("schema %s: %v\n%s", args[0], err, line)
		}
	}
}

// checkSchema holds JSON against what `latent-engine schema NAME` prints.
func checkSchema(name string, data []byte) error {
	var out, stderr bytes.Buffer
	if code := run(context.Background(), []string{"schema", name}, strings.NewReader(""), &out, &stderr); code != 0 {
		return fmt.Errorf("schema %s: exit code %d: %s", name, code, stderr.String())
	}
	doc, err := jsonschema.UnmarshalJSON(&out)
	if err != nil {
		return err
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("mem:///"+name, doc); err != nil {
		return err
	}
	s, err := c.Compile("mem:///" + name)
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

// TestCommandsAreDocumented: every command says what it does and shows how it is used.
func TestCommandsAreDocumented(t *testing.T) {
	root := (&app{}).root()
	for _, c := range append(root.Commands(), root) {
		if c.Name() == "help" {
			continue
		}
		if c.Short == "" || c.Example == "" {
			t.Errorf("%s: Short %q, Example %q", c.Name(), c.Short, c.Example)
		}
	}
}

// TestEveryCommandHasASchema: what has -o json has a schema, and every schema compiles.
func TestEveryCommandHasASchema(t *testing.T) {
	for _, c := range (&app{}).root().Commands() {
		if c.Name() == "help" || c.Name() == "completion" || c.Hidden {
			continue
		}
		if _, err := schemaOf(c.Name()); err != nil {
			t.Error(err)
		}
	}
	for _, name := range schemaNames() {
		if err := checkSchema(name, []byte("17")); err == nil {
			t.Errorf("the schema %q accepts anything", name)
		}
		data, err := schemaOf(name)
		if err != nil || !json.Valid(data) {
			t.Errorf("schema %q: %v", name, err)
		}
	}
}
