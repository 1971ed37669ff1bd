//go:build integration

package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/latent-engine/latent-engine/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// unpacked is the archive for the engines of this machine, unpacked as a user would have it.
func unpacked(t *testing.T) string {
	t.Helper()
	out := t.TempDir()
	if err := run(t.Context(), filepath.Join("..", ".."), out, []string{"linux/" + runtime.GOARCH}, io.Discard); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(out, "*.tar.gz"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	command(t, out, nil, "sha256sum", "--check", "SHA256SUMS")
	command(t, out, nil, "tar", "-xzf", found[0])
	return strings.TrimSuffix(found[0], ".tar.gz")
}

// TestArchive does with an unpacked archive what docs/install.md says that one can, on real engines.
func TestArchive(t *testing.T) {
	engines := testenv.Engines(t)
	top := unpacked(t)
	t.Run("demo", func(t *testing.T) {
		e := engines[0]
		t.Setenv("PATH", testenv.PathWithout(t, "go", "gofmt", "latent-engine"))
		demo := exec.CommandContext(t.Context(), filepath.Join(top, "demo", "demo.sh"))
		demo.Dir = "/"
		demo.Env = append(os.Environ(), "DOCKER_HOST="+e.Host(), "LATENT_CACHE="+t.TempDir())
		output, err := demo.CombinedOutput()
		for _, want := range []string{"for a build worker, from the archive", `starting worker "linux"; environment: `, "removed linux-", "That was it."} {
			if err != nil || !strings.Contains(string(output), want) {
				t.Fatalf("no %q (%v) in: %s", want, err, output)
			}
		}
		if containers, images := e.Objects(t, ""); len(containers)+len(images) > 0 {
			t.Errorf("left behind: containers %v, images %v", containers, images)
		}
	})
	for _, e := range engines {
		t.Run("image/"+e.Name, func(t *testing.T) { testImage(t, e, top) })
	}
}

// testImage builds the image of the archive's Dockerfile, and starts a worker from a container of it.
func testImage(t *testing.T, e *testenv.Engine, top string) {
	e.LoadWorkerImage(t, "worker:test")
	e.Docker(t, "build", "--quiet", "--tag", "latent-engine:test", top)
	defer e.Docker(t, "image", "rm", "--force", "latent-engine:test")

	definition := t.TempDir()
	if err := os.Chmod(definition, 0o755); err != nil {
		t.Fatal(err)
	}
	content := `version: 1
engine: {id: in-a-container, advertise: ci.example.org}
backends: {local: {docker: {}}}
workers:
  linux: {image: worker:test, autopull: false, env: {WORKER_LOG_LINES: "3"}}
`
	if err := os.WriteFile(filepath.Join(definition, "latent-engine.yaml"), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	socket := strings.TrimPrefix(e.Host(), "unix://")
	group := command(t, definition, nil, "stat", "-c", "%g", socket)
	e.Docker(t, "volume", "create", "state-test")
	defer e.Docker(t, "volume", "rm", "state-test")
	latent := func(args ...string) string {
		t.Helper()
		return e.Docker(t, append([]string{
			"run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--group-add=" + group,
			"-v", definition + ":/definition:ro", "-v", "state-test:/var/lib/latent-engine", "-v", socket + ":/var/run/docker.sock",
			"latent-engine:test",
		}, args...)...)
	}
	want := func(got, wanted string) {
		t.Helper()
		if !strings.Contains(got, wanted) {
			t.Errorf("no %q in %q", wanted, got)
		}
	}
	want(e.Docker(t, "run", "--rm", "--network=none", "latent-engine:test", "version"), "linux/"+runtime.GOARCH)
	want(e.Docker(t, "run", "--rm", "--network=none", "latent-engine:test"), "Available Commands:")
	want(latent("validate"), "latent-engine.yaml: 1 worker, 1 backend: ok")
	want(latent("version", "--backends"), "local: ")
	id := strings.TrimSpace(latent("start", "linux"))
	if len(id) != 26 {
		t.Fatalf("start gave %q", id)
	}
	// Another container knows of it, by the journal in the volume and by the engine.
	want(latent("ps"), "running")
	want(latent("ps", "-o", "json"), id)
	want(latent("logs", id), `starting worker "linux"`)
	want(latent("gc"), "nothing to remove")
	want(latent("stop", id), "removed linux-")
	if got := latent("ps", "-o", "json"); strings.TrimSpace(got) != "[]" {
		t.Errorf("left: %s", got)
	}
}
