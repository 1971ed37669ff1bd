package docker

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latent-engine/latent-engine/backends"
)

// TestSampleFindsEngine: the engine that the docker command would speak to is the one that a first definition names.
func TestSampleFindsEngine(t *testing.T) {
	home := t.TempDir()
	docker := filepath.Join(home, ".docker")
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	context := func(name, text string) {
		sum := sha256.Sum256([]byte(name))
		write(filepath.Join(docker, "contexts", "meta", hex.EncodeToString(sum[:]), "meta.json"), text)
	}
	context("lab", `{"Name":"lab","Endpoints":{"docker":{"Host":"ssh://ci@lab:22"}}}`)
	context("torn", `{"Name":`)
	run := filepath.Join(home, "run")
	write(filepath.Join(run, "x"), "")
	listener, err := net.Listen("unix", filepath.Join(run, "docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var socket backends.Sample
	if info, err := os.Stat(strings.TrimPrefix(DefaultHost, "unix://")); err == nil && info.Mode().Type() == os.ModeSocket {
		socket = backends.Sample{Address: DefaultHost, Source: "a socket is there"}
	} else {
		socket = backends.Sample{Address: "unix://" + run + "/docker.sock", Source: "a socket is there"}
	}
	for _, c := range []struct {
		name    string
		environ map[string]string
		config  string
		want    backends.Sample
	}{
		{"DOCKER_HOST", map[string]string{"DOCKER_HOST": "tcp://e:2375", "DOCKER_CONTEXT": "lab"}, `{}`, backends.Sample{Address: "tcp://e:2375", Source: "$DOCKER_HOST"}},
		{"as the docker command spells it", map[string]string{"DOCKER_HOST": "e:2375"}, `{}`, backends.Sample{Address: "tcp://e:2375", Source: "$DOCKER_HOST"}},
		{"DOCKER_HOST that is none", map[string]string{"DOCKER_HOST": "what?"}, `{}`, socket},
		{"an expression", map[string]string{"DOCKER_HOST": "unix:///a${{ b }}"}, `{}`, socket},
		{"DOCKER_CONTEXT", map[string]string{"DOCKER_CONTEXT": "lab"}, `{}`, backends.Sample{Address: "ssh://ci@lab:22", Source: `docker's context "lab"`}},
		{"current context", nil, `{"currentContext":"lab"}`, backends.Sample{Address: "ssh://ci@lab:22", Source: `docker's context "lab"`}},
		{"default context", nil, `{"currentContext":"default"}`, socket},
		{"no such context", nil, `{"currentContext":"gone"}`, socket},
		{"a torn context", nil, `{"currentContext":"torn"}`, socket},
		{"a torn configuration", nil, `{`, socket},
		{"a configuration elsewhere", map[string]string{"DOCKER_CONFIG": run}, `{"currentContext":"lab"}`, socket},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(filepath.Join(docker, "config.json"), c.config)
			got := Kind{}.Sample(func(name string) string {
				switch name {
				case "HOME":
					return home
				case "XDG_RUNTIME_DIR":
					return run
				}
				return c.environ[name]
			})
			if got.Address != c.want.Address || got.Source != c.want.Source {
				t.Errorf("found %q by %q, want %q by %q", got.Address, got.Source, c.want.Address, c.want.Source)
			}
			if !strings.Contains(got.Text, "docker_host: \""+c.want.Address+"\"\n") || strings.Contains(got.Text, "@") && !strings.Contains(c.want.Address, "@") {
				t.Errorf("the definition does not name it:\n%s", got.Text)
			}
		})
	}
	none := Kind{}.Sample(func(string) string { return "" })
	if none.Address != DefaultHost || !strings.Contains(none.Text, DefaultHost) {
		t.Errorf("without any setting: %+v", none)
	}
}
