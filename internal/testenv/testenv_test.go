package testenv

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// TestPins holds pins.txt, which says where a built program is found, to the file that pins what is built.
func TestPins(t *testing.T) {
	pinnedBy := map[string]struct{ file, pin string }{
		"engine29":      {"engine29/go.mod", "MODULE VERSION"},
		"runc":          {"runc/go.mod", "MODULE VERSION"},
		"registry":      {"registry/go.mod", "MODULE VERSION"},
		"buildbot-venv": {"buildbot/requirements.txt", "buildbot==VERSION"},
		// install.sh reads these two versions from pins.txt itself.
		"buildbot-www":    {},
		"buildbot-worker": {},
	}
	found := 0
	for line := range strings.Lines(pins) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if len(fields) != 4 {
			t.Fatalf("cannot read %q", line)
		}
		by, ok := pinnedBy[fields[0]]
		if !ok {
			t.Errorf("pins.txt has %s; say here which file pins it", fields[0])
			continue
		}
		found++
		if by.file == "" {
			continue
		}
		text, err := os.ReadFile(by.file)
		if err != nil {
			t.Fatal(err)
		}
		pin := strings.NewReplacer("MODULE", fields[1], "VERSION", fields[2]).Replace(by.pin)
		if !regexp.MustCompile(`(?m)^(require )?\s*` + regexp.QuoteMeta(pin) + `$`).Match(text) {
			t.Errorf("%s does not pin %s", by.file, pin)
		}
	}
	if found != len(pinnedBy) {
		t.Errorf("pins.txt has %d lines; want %d", found, len(pinnedBy))
	}
}

// recorder stands in for the test of somebody else.
type recorder struct {
	testing.TB
	skipped, failed bool
}

func (r *recorder) Helper()              {}
func (r *recorder) Skipf(string, ...any) { r.skipped = true; runtime.Goexit() }
func (r *recorder) Fatalf(string, ...any) {
	r.failed = true
	runtime.Goexit()
}

func TestMissing(t *testing.T) {
	tests := []struct {
		require string
		failed  bool
	}{
		{"", false},
		{"registry,docker-today", false},
		{"docker", false},
		{"docker-debian", true},
		{"registry, docker-debian", true},
	}
	for _, test := range tests {
		t.Run(test.require, func(t *testing.T) {
			t.Setenv(RequireVariable, test.require)
			r := &recorder{TB: t}
			done := make(chan struct{})
			go func() {
				defer close(done)
				Missing(r, "docker-debian", errors.New("not installed"))
			}()
			<-done
			if r.failed != test.failed || r.skipped == test.failed {
				t.Errorf("failed %v, skipped %v; want failed %v", r.failed, r.skipped, test.failed)
			}
		})
	}
}

func TestImage(t *testing.T) {
	first, err := newImage(file{name: "a", mode: 0o644, content: []byte("1")})
	if err != nil {
		t.Fatal(err)
	}
	second := first.With(func(c *ImageConfig) { c.Env = append(c.Env, "A=1"); c.Labels = map[string]string{"k": "v"} })
	third := second.With(func(c *ImageConfig) { c.Labels["k"] = "w" }).WithFile(t, "/b", 0o755, []byte("2"))
	if len(first.config.Env) != 0 || second.config.Labels["k"] != "v" || len(second.layers) != 1 || len(third.layers) != 2 {
		t.Errorf("an image was changed: %+v, %+v, %+v", first.config, second.config, third.config)
	}
	archive, err := third.archive("registry:5000/name")
	if err != nil {
		t.Fatal(err)
	}
	again, err := third.archive("registry:5000/name")
	if err != nil || !bytes.Equal(archive, again) {
		t.Errorf("the same image is not the same archive (%v)", err)
	}
	names := map[string]string{}
	entries := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := entries.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(entries)
		if err != nil {
			t.Fatal(err)
		}
		names[header.Name] = string(content)
	}
	if len(names) != 4 || !strings.Contains(names["manifest.json"], `"registry:5000/name:latest"`) {
		t.Errorf("archive holds %v", names)
	}
}
