//go:build integration

package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/internal/testenv"
)

// TestTwoDefinitions has two definitions with one engine id, one state folder and one name for two Docker Engines. Neither takes
// what the other's engine holds for lost.
func TestTwoDefinitions(t *testing.T) {
	t.Parallel()
	one, two := newTerminal(t, testenv.Debian(t), "definitions"), newTerminal(t, testenv.Today(t), "definitions")
	all := []*terminal{one, two}
	two.shares(one)
	ids := map[*terminal]string{}
	for i, w := range all {
		w.docker.LoadWorkerImage(t, workerImage)
		stdout, _ := w.run(0, "start", "runs", "--as", []string{"one", "two"}[i])
		ids[w] = strings.TrimSpace(stdout)
	}
	live := func() {
		t.Helper()
		for _, w := range all {
			if stdout, _ := w.run(0, "gc"); stdout != "nothing to remove\n" {
				t.Errorf("gc: %s", stdout)
			}
		}
		for _, w := range all {
			containers, _ := w.ours()
			var list []backends.Status
			w.json(0, &list, "ps")
			running, unknown := 0, 0
			for _, s := range list {
				switch {
				case s.State == backends.StateRunning && s.Instance == ids[w]:
					running++
				case s.State == backends.StateUnknown && s.Failure != nil:
					unknown++
				}
			}
			if len(containers) != 1 || len(list) != 2 || running != 1 || unknown != 1 {
				t.Errorf("containers %v; ps: %+v", containers, list)
			}
		}
	}
	live()
	live()

	// A worker lives once, wherever that is, and is stopped where it lives.
	for _, args := range [][]string{{"start", "runs", "--as", "one"}, {"start", "runs", "--as", "one", "--replace"}, {"start", "runs", "--as", "one", "--id", ids[one]}, {"stop", ids[one]}, {"logs", ids[one]}} {
		if _, stderr := two.run(1, args...); !strings.Contains(stderr, `is on another docker than the backend "local" is now`) {
			t.Errorf("%v: %s", args, stderr)
		}
	}
	live()

	// One that is cut off is for its own engine's gc.
	p := one.held(http.MethodPost, "/containers/.+/start", before)
	start := one.begin("start", "runs", "--as", "cut", "-f", "held.yaml")
	p.reached(start)
	start.signal(os.Kill)
	<-start.done
	p.dropped(t)
	if stdout, _ := two.run(0, "gc"); stdout != "nothing to remove\n" {
		t.Errorf("gc: %s", stdout)
	}
	if containers, _ := one.ours(); len(containers) != 2 {
		t.Errorf("containers %v", containers)
	}
	if _, stderr := two.run(1, "start", "runs", "--as", "cut"); !strings.Contains(stderr, "is on another docker") {
		t.Errorf("start: %s", stderr)
	}
	if stdout, _ := one.run(0, "gc"); !strings.HasPrefix(stdout, "removed container cut-") {
		t.Errorf("gc: %s", stdout)
	}
	live()

	// A container that went while its engine's definition was not at hand.
	containers, _ := one.ours()
	ask(t, one.docker, http.MethodDelete, "/containers/"+containers[0]+"?force=1", nil, nil)
	if stdout, _ := two.run(0, "gc"); stdout != "nothing to remove\n" {
		t.Errorf("gc: %s", stdout)
	}
	if stdout, _ := two.run(0, "stop", "--forget", ids[one]); !strings.HasPrefix(stdout, "forgot one-") {
		t.Errorf("stop --forget: %s", stdout)
	}
	two.run(0, "start", "runs", "--as", "one")
	two.stopAll()
	two.clean()
	one.clean()
}

// shares gives w the state folder of another terminal.
func (w *terminal) shares(other *terminal) {
	w.Helper()
	state := filepath.Join(other.dir, "state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		w.Fatal(err)
	}
	if err := os.Symlink(state, filepath.Join(w.dir, "state")); err != nil {
		w.Fatal(err)
	}
}
