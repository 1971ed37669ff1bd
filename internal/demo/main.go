// Command demo is what scripts/demo.sh cannot do with a shell alone: ask whether a Docker Engine answers, and give it a
// worker image without any registry.
//
//	go run ./internal/demo ping HOST        prints the engine's version, or fails and says why
//	go run ./internal/demo image HOST REF   builds the stand-in worker for that engine and imports it as REF
//	go run ./internal/demo remove HOST REF  removes the image
//
// HOST is unix:///path or tcp://host:port. It speaks to the Engine API with nothing but net/http, so that the demo depends
// on no client.
package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) < 2 {
		return errors.New("usage: demo ping HOST | image HOST REF | remove HOST REF")
	}
	e, err := connect(args[1])
	if err != nil {
		return err
	}
	switch {
	case args[0] == "ping" && len(args) == 2:
		v, err := e.version(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "Docker Engine %s (API %s, %s/%s)\n", v.Version, v.APIVersion, v.OS, v.Arch)
		return nil
	case args[0] == "image" && len(args) == 3:
		return e.image(ctx, args[2])
	case args[0] == "remove" && len(args) == 3:
		return e.call(ctx, http.MethodDelete, "/images/"+args[2], nil, nil)
	}
	return fmt.Errorf("unknown command %q", args[0])
}

// engine is a Docker Engine.
type engine struct {
	client http.Client
	base   string
}

func connect(host string) (*engine, error) {
	scheme, address, _ := strings.Cut(host, "://")
	switch scheme {
	case "unix":
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", address)
		}
		return &engine{client: http.Client{Transport: &http.Transport{DialContext: dial}}, base: "http://docker"}, nil
	case "tcp", "http":
		return &engine{base: "http://" + strings.TrimSuffix(address, "/")}, nil
	}
	return nil, fmt.Errorf("cannot connect to %q: the demo speaks to unix:// and tcp:// (without TLS) alone; latent-engine itself to all of them", host)
}

type version struct {
	Version    string
	APIVersion string `json:"ApiVersion"`
	OS         string `json:"Os"`
	Arch       string
}

func (e *engine) version(ctx context.Context) (version, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var v version
	err := e.call(ctx, http.MethodGet, "/version", nil, &v)
	if err == nil && v.OS != "linux" {
		err = fmt.Errorf("the engine runs %s containers, the demo's worker is a Linux program", v.OS)
	}
	return v, err
}

// image imports a root file system that holds the worker and nothing else.
func (e *engine) image(ctx context.Context, ref string) error {
	v, err := e.version(ctx)
	if err != nil {
		return err
	}
	binary, err := worker(ctx, v.Arch)
	if err != nil {
		return err
	}
	var root bytes.Buffer
	archive := tar.NewWriter(&root)
	if err := archive.WriteHeader(&tar.Header{Name: "worker", Mode: 0o755, Size: int64(len(binary)), ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	if _, err := archive.Write(binary); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	query := url.Values{"fromSrc": {"-"}, "repo": {ref}, "changes": {`ENTRYPOINT ["/worker"]`, "USER 1000:1000"}}
	if at := strings.LastIndexByte(ref, ':'); at > strings.LastIndexByte(ref, '/') {
		query.Set("repo", ref[:at])
		query.Set("tag", ref[at+1:])
	}
	var progress struct{ Error string }
	if err := e.call(ctx, http.MethodPost, "/images/create?"+query.Encode(), &root, &progress); err != nil {
		return err
	}
	if progress.Error != "" {
		return fmt.Errorf("cannot import %s: %s", ref, progress.Error)
	}
	return e.call(ctx, http.MethodGet, "/images/"+ref+"/json", nil, nil)
}

// worker builds the stand-in worker as a static binary.
func worker(ctx context.Context, arch string) ([]byte, error) {
	folder, err := os.MkdirTemp("", "latent-demo-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "worker")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "./internal/testenv/worker")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot build the worker for linux/%s: %w: %s", arch, err, output)
	}
	return os.ReadFile(path)
}

// call sends one request; out, where not nil, gets the first JSON object of the answer.
func (e *engine) call(ctx context.Context, method, path string, body io.Reader, out any) error {
	request, err := http.NewRequestWithContext(ctx, method, e.base+path, body)
	if err != nil {
		return err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/x-tar")
	}
	response, err := e.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("cannot %s %s: %s: %s", method, path, response.Status, bytes.TrimSpace(content))
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(bytes.NewReader(content)).Decode(out)
}
