//go:build integration

package demo

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latent-engine/latent-engine/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// run runs the demo and wants each of some texts in what it says.
func run(t *testing.T, environ []string, wanted ...string) {
	t.Helper()
	demo := exec.CommandContext(t.Context(), filepath.Join("..", "..", "scripts", "demo.sh"))
	demo.Env = append(os.Environ(), environ...)
	output, err := demo.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	for _, want := range wanted {
		if !strings.Contains(string(output), want) {
			t.Errorf("no %q in: %s", want, output)
		}
	}
}

// whole is what a demo says that has an engine.
func whole() []string {
	return []string{
		"ok\n", "3 problems in 1 file", `build.target = "stable"`, "HostConfig.Memory = 268435456", `starting worker "linux"`, "line 2 of 2",
		"running", "removed linux-", "nothing to remove", "That was it.",
	}
}

func nothingLeft(t *testing.T, e *testenv.Engine) {
	t.Helper()
	if containers, images := e.Objects(t, ""); len(containers)+len(images) > 0 {
		t.Errorf("left behind: containers %v, images %v", containers, images)
	}
}

// TestDemo runs `make demo` against real Docker Engines, twice on each, and looks for what it left there.
func TestDemo(t *testing.T) {
	t.Setenv("LATENT_CACHE", t.TempDir())
	for _, e := range testenv.Engines(t) {
		t.Run(e.Name, func(t *testing.T) {
			for range 2 {
				run(t, []string{"DOCKER_HOST=" + e.Host()}, append(whole(), "internal/testenv/worker")...)
				nothingLeft(t, e)
			}
		})
	}
}

// TestDemoWithoutGo: with nothing but the binary, the worker is made of the machine's own shell.
func TestDemoWithoutGo(t *testing.T) {
	e := testenv.Debian(t)
	folder := t.TempDir()
	binary := filepath.Join(folder, "latent-engine")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/latent-engine")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	t.Setenv("PATH", testenv.PathWithout(t, "go", "gofmt", "latent-engine"))
	t.Setenv("LATENT_CACHE", t.TempDir())
	if path, err := exec.LookPath("go"); err == nil {
		t.Fatalf("there is Go: %s", path)
	}
	environ := []string{"DOCKER_HOST=" + e.Host(), "LATENT_ENGINE=" + binary}
	run(t, environ, append(whole(), "this machine's sh with worker.sh", "ci.example.org:9989 (pb), password of 26 characters")...)
	nothingLeft(t, e)

	// A clone without Go, in which nothing was built, and then something.
	clone := t.TempDir()
	for _, folder := range []string{"scripts", "testdata/demo"} {
		if err := os.CopyFS(filepath.Join(clone, folder), os.DirFS(filepath.Join("..", "..", folder))); err != nil {
			t.Fatal(err)
		}
	}
	inClone := func(environ ...string) (string, error) {
		demo := exec.CommandContext(t.Context(), filepath.Join(clone, "scripts", "demo.sh"))
		demo.Env = append(os.Environ(), append(environ, "DOCKER_HOST=unix:///nowhere/docker.sock")...)
		output, err := demo.CombinedOutput()
		return string(output), err
	}
	if output, err := inClone(); err == nil || !strings.Contains(output, "demo: error: no latent-engine: name one with LATENT_ENGINE=") {
		t.Errorf("without any binary: %v: %s", err, output)
	}
	if output, err := inClone("LATENT_ENGINE=" + folder); err == nil || !strings.Contains(output, "is no program") {
		t.Errorf("with a folder for a binary: %v: %s", err, output)
	}
	if err := os.CopyFS(filepath.Join(clone, "bin"), os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	if output, err := inClone(); err != nil || !strings.Contains(output, "it validated and rendered") {
		t.Errorf("with bin/latent-engine: %v: %s", err, output)
	}
}

// TestDemoWithoutEngine validates and renders, says what is missing, and is well.
func TestDemoWithoutEngine(t *testing.T) {
	run(t, []string{"DOCKER_HOST=unix://" + filepath.Join(t.TempDir(), "no.sock"), "LATENT_CACHE=" + t.TempDir()},
		"3 problems in 1 file", `build.target = "stable"`, "answers at", "no such file", "set DOCKER_HOST to an engine that answers")
}
