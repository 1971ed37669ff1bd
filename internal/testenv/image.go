package testenv

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// workerSource is embedded and not built from its folder, so that a test binary works anywhere.
//
//go:embed worker/main.go
var workerSource []byte

// Image is a container image made in memory. It is immutable: every method returns another.
type Image struct {
	config ImageConfig
	layers []layer
}

// ImageConfig is what a container of an image gets unless it says otherwise.
type ImageConfig struct {
	User         string              `json:",omitempty"`
	Env          []string            `json:",omitempty"`
	Entrypoint   []string            `json:",omitempty"`
	Cmd          []string            `json:",omitempty"`
	WorkingDir   string              `json:",omitempty"`
	Labels       map[string]string   `json:",omitempty"`
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Volumes      map[string]struct{} `json:",omitempty"`
	StopSignal   string              `json:",omitempty"`
}

// layer is a tar, as an archive of `docker save` has it and, compressed, as a registry has it.
type layer struct {
	plain, compressed []byte
}

// WorkerImage returns an image that holds the stand-in worker of the folder worker/ as its
// entrypoint, /etc/passwd with the users root and worker (1000), and nothing else. Its source
// lists the environment variables that tell it what to do.
func WorkerImage(t testing.TB) Image {
	t.Helper()
	binary, err := workerBinary(t.Context())
	if err != nil {
		t.Fatalf("cannot build the worker: %v", err)
	}
	image, err := newImage(
		file{name: "worker", mode: 0o755, content: binary},
		file{name: "etc/", mode: 0o755},
		file{name: "etc/passwd", mode: 0o644, content: []byte("root:x:0:0:root:/:/worker\nworker:x:1000:1000:worker:/:/worker\n")},
		file{name: "etc/group", mode: 0o644, content: []byte("root:x:0:\nworker:x:1000:\n")},
		file{name: "tmp/", mode: 0o1777},
	)
	if err != nil {
		t.Fatalf("cannot make the worker image: %v", err)
	}
	return image.With(func(c *ImageConfig) { c.Entrypoint = []string{"/worker"} })
}

// With returns the image with a changed configuration, which gives it another digest.
func (i Image) With(change func(*ImageConfig)) Image {
	c := i.config
	c.Env, c.Entrypoint, c.Cmd = slices.Clone(c.Env), slices.Clone(c.Entrypoint), slices.Clone(c.Cmd)
	c.Labels, c.ExposedPorts, c.Volumes = maps.Clone(c.Labels), maps.Clone(c.ExposedPorts), maps.Clone(c.Volumes)
	change(&c)
	i.config = c
	return i
}

// WithFile returns the image with one more layer that holds a file. A test that must see a pull
// transfer something puts content of its own there: an engine does not fetch a layer that it has.
func (i Image) WithFile(t testing.TB, name string, mode int64, content []byte) Image {
	t.Helper()
	added, err := newImage(file{name: strings.TrimPrefix(name, "/"), mode: mode, content: content})
	if err != nil {
		t.Fatalf("cannot add %q to the image: %v", name, err)
	}
	i.layers = append(slices.Clone(i.layers), added.layers...)
	return i
}

// file is one entry of a layer; a name that ends in a slash is a folder.
type file struct {
	name    string
	mode    int64
	content []byte
}

func newImage(files ...file) (Image, error) {
	var plain, compressed bytes.Buffer
	archive := tar.NewWriter(&plain)
	for _, f := range files {
		// No time of day in it: the same files are the same image.
		header := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg}
		if strings.HasSuffix(f.name, "/") {
			header.Typeflag = tar.TypeDir
		}
		if err := archive.WriteHeader(header); err != nil {
			return Image{}, err
		}
		if _, err := archive.Write(f.content); err != nil {
			return Image{}, err
		}
	}
	if err := archive.Close(); err != nil {
		return Image{}, err
	}
	zip := gzip.NewWriter(&compressed)
	if _, err := zip.Write(plain.Bytes()); err != nil {
		return Image{}, err
	}
	if err := zip.Close(); err != nil {
		return Image{}, err
	}
	return Image{layers: []layer{{plain.Bytes(), compressed.Bytes()}}}, nil
}

// configJSON is the image's configuration as both the archive and a registry hold it; its digest
// is the image's id.
func (i Image) configJSON() ([]byte, error) {
	var ids []string
	for _, l := range i.layers {
		ids = append(ids, digest(l.plain))
	}
	return json.Marshal(map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",
		"config":       i.config,
		"rootfs":       map[string]any{"type": "layers", "diff_ids": ids},
	})
}

// archive is the image in the format of `docker save`.
func (i Image) archive(ref string) ([]byte, error) {
	if at := strings.LastIndexByte(ref, ':'); at <= strings.LastIndexByte(ref, '/') {
		ref += ":latest"
	}
	config, err := i.configJSON()
	if err != nil {
		return nil, err
	}
	files := []file{{name: hexDigest(config) + ".json", content: config}}
	var layers []string
	for _, l := range i.layers {
		name := hexDigest(l.plain) + "/layer.tar"
		layers = append(layers, name)
		files = append(files, file{name: name, content: l.plain})
	}
	index, err := json.Marshal([]any{map[string]any{
		"Config": files[0].name, "RepoTags": []string{ref}, "Layers": layers,
	}})
	if err != nil {
		return nil, err
	}
	for n := range files {
		files[n].mode = 0o644
	}
	outer, err := newImage(append(files, file{name: "manifest.json", mode: 0o644, content: index})...)
	if err != nil {
		return nil, err
	}
	return outer.layers[0].plain, nil
}

func hexDigest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func digest(content []byte) string { return "sha256:" + hexDigest(content) }

// workerBinary builds the worker once per content of its source, whoever asks for it.
func workerBinary(ctx context.Context) ([]byte, error) {
	cache, err := cacheFolder()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(cache, "worker-"+runtime.GOARCH+"-"+hexDigest(workerSource)[:16])
	if binary, err := os.ReadFile(path); err == nil {
		return binary, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(cache, ".worker-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	if err := os.WriteFile(filepath.Join(work, "main.go"), workerSource, 0o600); err != nil {
		return nil, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", "worker", "main.go")
	build.Dir = work
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH, "GOFLAGS=", "GO111MODULE=auto", "GOWORK=off")
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, output)
	}
	// Renamed into its place, so that another test binary sees all of it or nothing.
	if err := os.Rename(filepath.Join(work, "worker"), path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}
