package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// command runs a program in a folder, with settings of its own over the environment.
func command(t *testing.T, folder string, environ []string, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir = folder
	c.Env = append(os.Environ(), environ...)
	output, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, output)
	}
	return strings.TrimSpace(string(output))
}

// git is a command in a clone that no user's settings reach, at a fixed time.
func git(t *testing.T, folder string, args ...string) string {
	t.Helper()
	return command(t, folder, []string{
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_AUTHOR_DATE=2026-01-02T03:04:05+09:00", "GIT_COMMITTER_DATE=2026-01-02T03:04:05+09:00",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org",
	}, "git", args...)
}

func needsGit(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("there is no git in PATH: the version comes from it; on Debian or Ubuntu: apt-get install git")
	}
}

func TestVersionOf(t *testing.T) {
	needsGit(t)
	folder := t.TempDir()
	at := time.Date(2026, 1, 1, 18, 4, 5, 0, time.UTC)
	check := func(when, root, name string) {
		t.Helper()
		v := versionOf(t.Context(), root)
		if v.name != name {
			t.Errorf("%s: version %q, want %q", when, v.name, name)
		}
		if known := name != "devel"; known != (len(v.commit) == 40) || known && !v.date.Equal(at) {
			t.Errorf("%s: commit %q of %s", when, v.commit, v.date)
		}
	}
	check("no git", folder, "devel")
	if flags := versionOf(t.Context(), folder).ldflags(); flags != "-s -w" {
		t.Errorf("flags without a version: %s", flags)
	}
	git(t, folder, "init", "-q")
	check("no commit", folder, "devel")
	git(t, folder, "commit", "-q", "--allow-empty", "-m", "one")
	first := git(t, folder, "rev-parse", "HEAD")
	check("no tag", folder, "v0.0.0-g"+first[:12])
	git(t, folder, "tag", "nightly")
	check("another tag", folder, "v0.0.0-g"+first[:12])
	git(t, folder, "tag", "v1.2.3")
	check("a tag", folder, "v1.2.3")
	if flags, want := versionOf(t.Context(), folder).ldflags(), "-s -w -X main.stamp=v1.2.3,"+first+",2026-01-01T18:04:05Z"; flags != want {
		t.Errorf("flags %s, want %s", flags, want)
	}
	git(t, folder, "commit", "-q", "--allow-empty", "-m", "two")
	second := git(t, folder, "rev-parse", "HEAD")
	check("after a tag", folder, "v1.2.3-1-g"+second[:12])
	if err := os.Mkdir(filepath.Join(folder, "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	check("an archive in somebody else's clone", filepath.Join(folder, "below"), "devel")
	if err := os.WriteFile(filepath.Join(folder, "new"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check("changed", folder, "v1.2.3-1-g"+second[:12]+"-dirty")
}

func TestPack(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	files := []file{{"b/c/run", 0o755, []byte("x")}, {"a", 0o644, []byte("yy")}, {"b/d", 0o644, nil}}
	one, err := pack("top", files, at)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(files)
	if other, err := pack("top", files, at); err != nil || !bytes.Equal(one, other) {
		t.Errorf("the order of the files makes a difference (%v)", err)
	}
	var got []string
	for _, h := range entries(t, one) {
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || !h.ModTime.Equal(at) {
			t.Errorf("%s: owner %d:%d %q:%q, time %s", h.Name, h.Uid, h.Gid, h.Uname, h.Gname, h.ModTime)
		}
		got = append(got, fmt.Sprintf("%s %o %d", h.Name, h.Mode, h.Size))
	}
	if want := []string{"top/ 755 0", "top/a 644 2", "top/b/ 755 0", "top/b/c/ 755 0", "top/b/c/run 755 1", "top/b/d 644 0"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := pack("top", []file{{name: "a"}, {name: "a"}}, at); err == nil {
		t.Error("a file is there twice")
	}
}

func entries(t *testing.T, archive []byte) []*tar.Header {
	t.Helper()
	var out []*tar.Header
	unpack(t, archive, func(h *tar.Header, _ io.Reader) { out = append(out, h) })
	return out
}

func unpack(t *testing.T, archive []byte, each func(*tar.Header, io.Reader)) {
	t.Helper()
	plain, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(plain); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		each(h, r)
	}
}

// source copies this tree as it is, changes and all, to a folder, and commits it there.
func source(t *testing.T, to string) {
	t.Helper()
	root := filepath.Join("..", "..")
	for name := range strings.SplitSeq(command(t, root, nil, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00") {
		content, err := os.ReadFile(filepath.Join(root, name))
		if name == "" || errors.Is(err, os.ErrNotExist) {
			continue // Removed, and not committed yet.
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasSuffix(name, ".sh") {
			mode = 0o755
		}
		if err := os.WriteFile(path, content, mode); err != nil {
			t.Fatal(err)
		}
	}
	git(t, to, "init", "-q")
	git(t, to, "add", "-A")
	git(t, to, "commit", "-q", "-m", "all")
	git(t, to, "tag", "v1.2.3")
}

// TestSameCommitSameBytes makes the archive for this machine twice, from two clones in two places and with other settings of
// whoever builds, and looks at what is in it. Compiled packages come from the build cache the second time; that a compiler
// gives the same bytes for the same input is Go's own promise, and its own test.
func TestSameCommitSameBytes(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: this builds the command twice")
	}
	needsGit(t)
	if _, err := os.Stat(filepath.Join("..", "..", ".git")); err != nil {
		t.Skip("this is no clone: the test copies what git lists")
	}
	platform := runtime.GOOS + "/" + runtime.GOARCH
	archived := func(place string) (string, string) {
		t.Helper()
		root := filepath.Join(t.TempDir(), place)
		if err := os.MkdirAll(root, 0o755); err != nil {
			t.Fatal(err)
		}
		source(t, root)
		out := filepath.Join(root, "dist")
		var said bytes.Buffer
		if err := run(t.Context(), root, out, []string{platform}, &said); err != nil {
			t.Fatal(err)
		}
		// dist/ is ignored: a second run in the same tree has the same version.
		if v := versionOf(t.Context(), root); v.name != "v1.2.3" {
			t.Errorf("after a run the version is %q", v.name)
		}
		return out, said.String()
	}
	one, said := archived("one")
	t.Setenv("TZ", "Asia/Tokyo")
	t.Setenv("LC_ALL", "C")
	t.Setenv("GOFLAGS", "-buildvcs=true")
	t.Setenv("CGO_ENABLED", "1")
	two, again := archived("a/place/that/is/deeper")
	if said != again {
		t.Errorf("the same commit gives other bytes:\n%s%s", said, again)
	}
	name := fmt.Sprintf("latent-engine_v1.2.3_%s_%s", runtime.GOOS, runtime.GOARCH)
	archive, err := os.ReadFile(filepath.Join(one, name+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	if other, err := os.ReadFile(filepath.Join(two, name+".tar.gz")); err != nil || !bytes.Equal(archive, other) {
		t.Errorf("the archives differ (%v)", err)
	}
	sums, err := os.ReadFile(filepath.Join(one, "SHA256SUMS"))
	if want := fmt.Sprintf("%x  %s.tar.gz\n", sha256.Sum256(archive), name); err != nil || string(sums) != want || said != want {
		t.Errorf("SHA256SUMS has %q, want %q; %v; said %q", sums, want, err, said)
	}

	to := t.TempDir()
	unpack(t, archive, func(h *tar.Header, r io.Reader) {
		path := filepath.Join(to, h.Name)
		if h.Typeflag == tar.TypeDir {
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
			return
		}
		content, err := io.ReadAll(r)
		if err == nil {
			err = os.WriteFile(path, content, os.FileMode(h.Mode))
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	top := filepath.Join(to, name)
	binary := filepath.Join(top, "latent-engine")
	head := git(t, filepath.Dir(one), "rev-parse", "HEAD")
	if got, want := command(t, top, nil, binary, "version"), fmt.Sprintf("latent-engine v1.2.3 (%s, 2026-01-01T18:04:05Z), %s, %s; backends: ", head[:12], runtime.Version(), platform); !strings.HasPrefix(got, want) {
		t.Errorf("version says %q, want %q…", got, want)
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range info.Settings {
		if s.Key == "CGO_ENABLED" && s.Value != "0" || strings.HasPrefix(s.Key, "vcs") || strings.Contains(s.Value, to) {
			t.Errorf("built with %s=%s", s.Key, s.Value)
		}
	}
	for path, want := range map[string]string{
		"LICENSE":                              "Apache License",
		"README.md":                            "# latent-engine",
		"man/man1/latent-engine.1":             `.TH "LATENT-ENGINE" "1" "Jan 2026" "latent-engine v1.2.3"`,
		"man/man1/latent-engine-start.1":       "password-out",
		"completions/latent-engine.bash":       "__start_latent-engine",
		"completions/_latent-engine":           "#compdef latent-engine",
		"completions/latent-engine.fish":       "complete -c latent-engine",
		"integrations/buildbot/pyproject.toml": "LatentEngineWorker",
		"docs/install.md":                      "SHA256SUMS",
		"Dockerfile":                           "FROM scratch",
		"demo/demo.sh":                         "#!/usr/bin/env bash",
		"demo/worker/rootfs/worker":            "\x7fELF",
		"demo/worker/Dockerfile":               "FROM scratch",
	} {
		content, err := os.ReadFile(filepath.Join(top, path))
		if err != nil || !bytes.Contains(content, []byte(want)) {
			t.Errorf("%s: no %q in it; %v", path, want, err)
		}
	}
	// The shells that are here can read their completions.
	for shell, file := range map[string]string{"bash": "latent-engine.bash", "zsh": "_latent-engine", "fish": "latent-engine.fish"} {
		if _, err := exec.LookPath(shell); err == nil {
			command(t, top, nil, shell, "-n", filepath.Join("completions", file))
		}
	}
}

// TestPlatforms: a platform that is none is said to be so, and takes nothing away that was there.
func TestPlatforms(t *testing.T) {
	out := t.TempDir()
	old := filepath.Join(out, "latent-engine_v1_linux_amd64.tar.gz")
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	made := map[string][]byte{"latent-engine_v2_linux_amd64.tar.gz": []byte("new"), "SHA256SUMS": []byte("sum")}
	if err := run(t.Context(), t.TempDir(), out, []string{"linux"}, io.Discard); err == nil {
		t.Error("a tree without the command was built")
	}
	if _, err := os.Stat(old); err != nil {
		t.Error(err)
	}
	if err := replace(out, made); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(out)
	if err != nil || len(left) != 2 || left[0].Name() != "SHA256SUMS" || left[1].Name() != "latent-engine_v2_linux_amd64.tar.gz" {
		t.Errorf("left: %v, %v", left, err)
	}
}
