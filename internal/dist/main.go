// Command dist makes what is released: one archive per platform with the static binary, its manual pages and completions, the
// demo and a Dockerfile, and SHA256SUMS over them. One commit, built by one version of Go, gives the same bytes on whatever
// machine, in whatever folder and at whatever time.
//
//	go run ./internal/dist              writes dist/
//	go run ./internal/dist -ldflags     prints what stamps the version into a binary that `go build` makes
package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

func main() {
	out := flag.String("out", "dist", "folder to write to")
	platforms := flag.String("platforms", "linux/amd64,linux/arm64,darwin/arm64", "what to build for, GOOS/GOARCH")
	ldflags := flag.Bool("ldflags", false, "print the linker's flags that stamp the version, and build nothing")
	flag.Parse()
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	var err error
	if *ldflags {
		_, err = fmt.Println(versionOf(ctx, ".").ldflags())
	} else {
		err = run(ctx, ".", *out, strings.Split(*platforms, ","), os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "dist: error:", err)
		os.Exit(1)
	}
}

// run makes the archives of the tree in root and puts them, and SHA256SUMS, in the place of those that out has.
func run(ctx context.Context, root, out string, platforms []string, stdout io.Writer) error {
	work, err := os.MkdirTemp("", "latent-dist-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	r := release{root: root, version: versionOf(ctx, root), work: work}
	// Pages and completions are the same on all platforms; this machine's own binary writes them.
	own, err := r.build(ctx, "./cmd/latent-engine", runtime.GOOS, runtime.GOARCH)
	if err != nil {
		return err
	}
	same, err := r.documents(ctx, own)
	if err != nil {
		return err
	}
	made := map[string][]byte{}
	var sums strings.Builder
	for _, platform := range slices.Sorted(slices.Values(platforms)) {
		goos, goarch, ok := strings.Cut(platform, "/")
		if !ok {
			return fmt.Errorf("cannot build for %q: it is not GOOS/GOARCH", platform)
		}
		name := fmt.Sprintf("latent-engine_%s_%s_%s", r.version.name, goos, goarch)
		files, err := r.files(ctx, same, goos, goarch)
		if err != nil {
			return err
		}
		archive, err := pack(name, files, r.version.date)
		if err != nil {
			return err
		}
		made[name+".tar.gz"] = archive
		fmt.Fprintf(&sums, "%x  %s.tar.gz\n", sha256.Sum256(archive), name)
	}
	made["SHA256SUMS"] = []byte(sums.String())
	if err := replace(out, made); err != nil {
		return err
	}
	fmt.Fprint(stdout, sums.String())
	return nil
}

// replace writes files to a folder, after the archives of other versions there were removed.
func replace(folder string, files map[string][]byte) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(folder, "latent-engine_*.tar.gz"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// version is what git says of a tree.
type version struct {
	name   string // v1.2.3, v1.2.3-4-gabcdef012345 or v0.0.0-gabcdef012345, with -dirty where files differ; (devel) without git
	commit string
	date   time.Time // the commit's
}

// versionOf asks git. Without git, or outside of a clone, there is a version all the same: one may build a source archive.
func versionOf(ctx context.Context, root string) version {
	git := func(args ...string) (string, error) {
		command := exec.CommandContext(ctx, "git", args...)
		command.Dir = root
		output, err := command.Output()
		return strings.TrimSpace(string(output)), err
	}
	none := version{name: "devel", date: time.Unix(0, 0).UTC()}
	// A source archive that lies in somebody else's clone is not that clone's.
	if prefix, err := git("rev-parse", "--show-prefix"); err != nil || prefix != "" {
		return none
	}
	commit, err := git("rev-parse", "HEAD")
	if err != nil {
		return none
	}
	seconds, err := git("show", "-s", "--format=%cI", "HEAD")
	if err != nil {
		return none
	}
	date, err := time.Parse(time.RFC3339, seconds)
	if err != nil {
		return none
	}
	// A fixed length: git's own choice depends on how many objects a clone has.
	name, err := git("describe", "--tags", "--match=v[0-9]*", "--abbrev=12")
	if err != nil {
		name = "v0.0.0-g" + commit[:12]
	}
	if changed, err := git("status", "--porcelain"); err != nil || changed != "" {
		name += "-dirty"
	}
	return version{name: name, commit: commit, date: date.UTC()}
}

// ldflags stamp the version into cmd/latent-engine. Nothing is stamped where nothing is known: the program then says what the
// go command knows.
func (v version) ldflags() string {
	flags := "-s -w"
	if v.commit != "" {
		flags += fmt.Sprintf(" -X main.stamp=%s,%s,%s", v.name, v.commit, v.date.Format(time.RFC3339))
	}
	return flags
}

// release is one making of all archives.
type release struct {
	root    string
	version version
	work    string
}

// build makes a static binary, and gives its path.
func (r release) build(ctx context.Context, pkg, goos, goarch string) (string, error) {
	to := filepath.Join(r.work, strings.Join([]string{filepath.Base(pkg), goos, goarch}, "_"))
	if _, err := os.Stat(to); err == nil {
		return to, nil
	}
	command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags="+r.version.ldflags(), "-o", to, pkg)
	command.Dir = r.root
	// Whatever else changes the bytes has a value of its own here.
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOEXPERIMENT=", "GOWORK=off")
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build %s for %s/%s: %w: %s", pkg, goos, goarch, err, bytes.TrimSpace(output))
	}
	return to, nil
}

// file is one entry of an archive, below its folder.
type file struct {
	name    string
	mode    int64
	content []byte
}

// documents are the manual pages and completions that the binary writes, and the files of the tree that go into every archive.
func (r release) documents(ctx context.Context, binary string) ([]file, error) {
	var out []file
	man := filepath.Join(r.work, "man")
	program := func(args ...string) ([]byte, error) {
		command := exec.CommandContext(ctx, binary, args...)
		// Pages and completions must not depend on who asks for them.
		command.Env = []string{"HOME=/"}
		output, err := command.Output()
		if err != nil {
			return nil, fmt.Errorf("cannot run latent-engine %s: %w", strings.Join(args, " "), err)
		}
		return output, nil
	}
	if _, err := program("man", man); err != nil {
		return nil, err
	}
	for shell, name := range map[string]string{"bash": "latent-engine.bash", "zsh": "_latent-engine", "fish": "latent-engine.fish"} {
		content, err := program("completion", shell)
		if err != nil {
			return nil, err
		}
		out = append(out, file{"completions/" + name, 0o644, content})
	}
	for _, from := range []struct{ path, to string }{
		{man, "man/man1"},
		{filepath.Join(r.root, "LICENSE"), "LICENSE"},
		{filepath.Join(r.root, "README.md"), "README.md"},
		{filepath.Join(r.root, "ARCHITECTURE.md"), "ARCHITECTURE.md"},
		{filepath.Join(r.root, "RATIONALE.md"), "RATIONALE.md"},
		{filepath.Join(r.root, "CONTRIBUTING.md"), "CONTRIBUTING.md"},
		{filepath.Join(r.root, "docs"), "docs"},
		{filepath.Join(r.root, "internal", "dist", "Dockerfile"), "Dockerfile"},
		{filepath.Join(r.root, "scripts", "demo.sh"), "demo/demo.sh"},
		{filepath.Join(r.root, "testdata", "demo"), "demo"},
		{filepath.Join(r.root, "integrations", "buildbot", "README.md"), "integrations/buildbot/README.md"},
		{filepath.Join(r.root, "integrations", "buildbot", "pyproject.toml"), "integrations/buildbot/pyproject.toml"},
		{filepath.Join(r.root, "integrations", "buildbot", "src"), "integrations/buildbot/src"},
	} {
		files, err := read(from.path, from.to)
		if err != nil {
			return nil, err
		}
		out = append(out, files...)
	}
	return out, nil
}

// read gives a file, or all files of a folder, under a name of the archive.
func read(from, to string) ([]file, error) {
	var out []file
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == "__pycache__" || strings.HasSuffix(d.Name(), ".egg-info") { // what Python leaves in a clone that was used
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("cannot pack %s: it is not a file", p)
		}
		content, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		mode := int64(0o644)
		if strings.HasSuffix(p, ".sh") {
			mode = 0o755
		}
		out = append(out, file{path.Join(to, filepath.ToSlash(below)), mode, content})
		return nil
	})
	return out, err
}

// files are all files of one platform's archive.
func (r release) files(ctx context.Context, same []file, goos, goarch string) ([]file, error) {
	// Containers run Linux also where the command does not.
	out := slices.Clone(same)
	for _, b := range []struct{ pkg, goos, name string }{
		{"./cmd/latent-engine", goos, "latent-engine"},
		{"./internal/testenv/worker", "linux", "demo/worker/rootfs/worker"},
	} {
		binary, err := r.build(ctx, b.pkg, b.goos, goarch)
		if err != nil {
			return nil, err
		}
		content, err := os.ReadFile(binary)
		if err != nil {
			return nil, err
		}
		out = append(out, file{b.name, 0o755, content})
	}
	return out, nil
}

// pack makes an archive whose bytes are a function of its files alone: sorted, with one owner and one time.
func pack(folder string, files []file, date time.Time) ([]byte, error) {
	files = slices.SortedFunc(slices.Values(files), func(a, b file) int { return cmp.Compare(a.name, b.name) })
	var out bytes.Buffer
	zipped, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	archive := tar.NewWriter(zipped)
	folders := map[string]bool{}
	var write func(name string) error
	write = func(name string) error {
		if name == "." || folders[name] {
			return nil
		}
		folders[name] = true
		return errors.Join(write(path.Dir(name)), archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: date, Format: tar.FormatUSTAR}))
	}
	for i, f := range files {
		if i > 0 && files[i-1].name == f.name {
			return nil, fmt.Errorf("cannot pack %s: it is there twice", f.name)
		}
		name := path.Join(folder, f.name)
		if err := write(path.Dir(name)); err != nil {
			return nil, err
		}
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: f.mode, Size: int64(len(f.content)), ModTime: date, Format: tar.FormatUSTAR}); err != nil {
			return nil, err
		}
		if _, err := archive.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(archive.Close(), zipped.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
