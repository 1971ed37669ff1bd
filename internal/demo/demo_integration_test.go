//go:build integration

package demo

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
	run(t, environ, append(whole(), "this machine's sh with worker.sh", "ci.example.org:9989 (pb), password of 32 characters", "stopping")...)
	nothingLeft(t, e)

	t.Run("nothing at all", func(t *testing.T) {
		if bin := filepath.Join("..", "..", "bin", "latent-engine"); exists(bin) {
			t.Skipf("%s is there, which the demo would take; make clean removes it", bin)
		}
		if found, _ := filepath.Glob(filepath.Join("..", "..", "dist", "*.tar.gz")); len(found) > 0 {
			t.Skipf("%v is there, which the demo would take; make clean removes it", found)
		}
		demo := exec.CommandContext(t.Context(), filepath.Join("..", "..", "scripts", "demo.sh"))
		output, err := demo.CombinedOutput()
		if err == nil || !strings.Contains(string(output), "name one with LATENT_ENGINE=") {
			t.Errorf("%v: %s", err, output)
		}
	})
	t.Run("no program", func(t *testing.T) {
		demo := exec.CommandContext(t.Context(), filepath.Join("..", "..", "scripts", "demo.sh"))
		demo.Env = append(slices.Clone(os.Environ()), "LATENT_ENGINE="+folder)
		output, err := demo.CombinedOutput()
		if err == nil || !strings.Contains(string(output), "is no program") {
			t.Errorf("%v: %s", err, output)
		}
	})
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// TestDemoWithoutEngine validates and renders, says what is missing, and is well.
func TestDemoWithoutEngine(t *testing.T) {
	run(t, []string{"DOCKER_HOST=unix://" + filepath.Join(t.TempDir(), "no.sock"), "LATENT_CACHE=" + t.TempDir()},
		"3 problems in 1 file", `build.target = "stable"`, "answers at", "no such file", "set DOCKER_HOST to an engine that answers")
}
