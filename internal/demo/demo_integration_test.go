//go:build integration

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latent-engine/latent-engine/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// TestDemo runs `make demo` against real Docker Engines, twice on each, and looks for what it left there.
func TestDemo(t *testing.T) {
	t.Setenv("LATENT_CACHE", t.TempDir())
	for _, e := range testenv.Engines(t) {
		t.Run(e.Name, func(t *testing.T) {
			for range 2 {
				demo := exec.CommandContext(t.Context(), filepath.Join("..", "..", "scripts", "demo.sh"))
				demo.Env = append(os.Environ(), "DOCKER_HOST="+e.Host())
				output, err := demo.CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %s", err, output)
				}
				for _, want := range []string{"ok\n", "3 problems in 1 file", "worker:stable", "HostConfig.Memory = 268435456", `starting worker "linux"`, "line 2 of 2", "running", "removed linux-", "nothing to remove"} {
					if !strings.Contains(string(output), want) {
						t.Errorf("no %q in: %s", want, output)
					}
				}
				containers, images := e.Objects(t, "")
				if len(containers)+len(images) > 0 {
					t.Errorf("left behind: containers %v, images %v", containers, images)
				}
			}
		})
	}
}

// TestDemoWithoutEngine validates and renders, says what is missing, and is well.
func TestDemoWithoutEngine(t *testing.T) {
	demo := exec.CommandContext(t.Context(), filepath.Join("..", "..", "scripts", "demo.sh"))
	demo.Env = append(os.Environ(), "DOCKER_HOST=unix://"+filepath.Join(t.TempDir(), "no.sock"), "LATENT_CACHE="+t.TempDir())
	output, err := demo.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	for _, want := range []string{"3 problems in 1 file", "worker:stable", "None answers at", "set DOCKER_HOST to an engine that answers"} {
		if !strings.Contains(string(output), want) {
			t.Errorf("no %q in: %s", want, output)
		}
	}
}
