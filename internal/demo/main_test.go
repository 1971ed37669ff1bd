package main

import (
	"archive/tar"
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestImage imports the worker into an engine that keeps what it is sent.
func TestImage(t *testing.T) {
	var sent []byte
	var query string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + " " + r.URL.Path {
		case "GET /version":
			io.WriteString(w, `{"Version":"20.10.24","ApiVersion":"1.41","Os":"linux","Arch":"amd64"}`)
		case "POST /images/create":
			query = r.URL.Query().Get("repo") + " " + r.URL.Query().Get("tag") + " " + r.URL.Query().Get("changes")
			sent, _ = io.ReadAll(r.Body)
			io.WriteString(w, `{"status":"sha256:1"}`)
		case "GET /images/demo.local/w:1/json":
			io.WriteString(w, `{}`)
		default:
			http.Error(w, `{"message":"no such thing"}`, http.StatusNotFound)
		}
	}))
	defer server.Close()
	host := strings.Replace(server.URL, "http://", "tcp://", 1)
	t.Chdir("../..")
	if err := run(t.Context(), []string{"image", host, "demo.local/w:1"}, io.Discard); err != nil {
		t.Fatal(err)
	}
	if want := `demo.local/w 1 ENTRYPOINT ["/worker"]`; query != want {
		t.Errorf("query %q, want %q", query, want)
	}
	archive := tar.NewReader(bytes.NewReader(sent))
	h, err := archive.Next()
	if err != nil || h.Name != "worker" || h.Mode != 0o755 {
		t.Fatalf("first file %+v, %v", h, err)
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(archive, head); err != nil || string(head) != "\x7fELF" {
		t.Errorf("the worker begins with %q, %v", head, err)
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"ping", host}, &out); err != nil || out.String() != "Docker Engine 20.10.24 (API 1.41, linux/amd64)\n" {
		t.Errorf("ping: %q, %v", out.String(), err)
	}
	if err := run(t.Context(), []string{"remove", host, "no:1"}, io.Discard); err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("remove of what is absent: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	for _, args := range [][]string{{}, {"ping"}, {"dance", "tcp://x"}, {"ping", "ssh://x"}, {"ping", "unix:///no/such/socket"}} {
		if err := run(t.Context(), args, io.Discard); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
}

// TestDefinition: the definition of the demo is good, renders for both builds, and the broken one has its three mistakes.
func TestDefinition(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "latent-engine")
	t.Chdir(filepath.Join("..", ".."))
	if output, err := exec.Command("go", "build", "-o", binary, "./cmd/latent-engine").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	t.Chdir(filepath.Join("testdata", "demo"))
	tests := []struct {
		args []string
		code int
		want []string
	}{
		{args: []string{"validate"}, want: []string{"3 workers, 1 backend: ok"}},
		{args: []string{"render", "linux", "--build", "main.json"}, want: []string{"worker:stable", `"Memory": 268435456`, `"JOBS=4"`, `"REVISION=9f2c4e1"`}},
		{args: []string{"render", "linux", "--build", "feature.json"}, want: []string{"worker:edge", `"Memory": 134217728`, `"TAG=v2"`}},
		{args: []string{"render", "linux-big-2", "--build", "main.json"}, want: []string{`"INDEX=2"`, `"Memory": 1073741824`}},
		{args: []string{"validate", "broken.yaml"}, code: 1, want: []string{`unknown property "brnach"`, "a list cannot fill a size", `unknown field "privilegd"`, "3 problems in 1 file"}},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			command := exec.Command(binary, tt.args...)
			output, _ := command.CombinedOutput()
			if code := command.ProcessState.ExitCode(); code != tt.code {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, output)
			}
			for _, w := range tt.want {
				if !strings.Contains(string(output), w) {
					t.Errorf("no %q in: %s", w, output)
				}
			}
		})
	}
}
