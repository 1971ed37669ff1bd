package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
)

func TestLabelStages(t *testing.T) {
	const l = "LABEL x=y"
	for _, c := range []struct {
		name, in, want string
		stages         int
	}{
		{"one", "FROM a\nRUN b\n", "FROM a\nLABEL x=y\nRUN b\n", 1},
		{"two, lower case, no last newline", "from a as b\n\tFrom c", "from a as b\nLABEL x=y\n\tFrom c\nLABEL x=y\n", 2},
		{"continued", "FROM \\\n # comment\n\n a\nRUN b\n", "FROM \\\n # comment\n\n a\nLABEL x=y\nRUN b\n", 1},
		{"other escape", "# escape=`\nFROM a\nRUN dir C:\\\nFROM `\nb\n", "# escape=`\nFROM a\nLABEL x=y\nRUN dir C:\\\nFROM `\nb\nLABEL x=y\n", 2},
		{"FROM within a RUN", "FROM a\nRUN x \\\nFROM b\n", "FROM a\nLABEL x=y\nRUN x \\\nFROM b\n", 1},
		{"directive too late", "FROM a\n# escape=`\nRUN x \\\nFROM b\n", "FROM a\nLABEL x=y\n# escape=`\nRUN x \\\nFROM b\n", 1},
		{"CRLF", "FROM a\r\nRUN b\r\n", "FROM a\r\nLABEL x=y\nRUN b\r\n", 1},
		{"ARG before", "ARG v\nFROM a:$v\n", "ARG v\nFROM a:$v\nLABEL x=y\n", 1},
		{"none", "RUN x\n", "RUN x\n", 0},
		{"empty", "", "", 0},
		{"a word that begins so", "FROM a\nFROMAGE b\n", "FROM a\nLABEL x=y\nFROMAGE b\n", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, stages := labelStages([]byte(c.in), l)
			if diff := cmp.Diff(c.want, string(got)); diff != "" || stages != c.stages {
				t.Errorf("%d stages, want %d (-want +got):\n%s", stages, c.stages, diff)
			}
		})
	}
}

func put(t *testing.T, root, name, text string) {
	t.Helper()
	p := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func seal(t *testing.T, root, path string) (string, error) {
	t.Helper()
	p := spec.Plan{Build: field.Object{"context": field.String(path)}}
	before := p.Build
	err := Kind{}.SealBuild(t.Context(), &p, root)
	if before["sha256"] != nil {
		t.Error("SealBuild changed a plan's object that others may share")
	}
	return planString(p.Build, "sha256"), err
}

// TestSealDependsOnContentsAlone: not on time, owner or the order of making; on names, modes, links and what is in the files.
func TestSealDependsOnContentsAlone(t *testing.T) {
	fill := func(root string) {
		put(t, root, "c/Dockerfile", "FROM a\n")
		put(t, root, "c/x/y", "1")
		if err := os.Symlink("/etc/passwd", filepath.Join(root, "c/link")); err != nil {
			t.Fatal(err)
		}
	}
	one, two := t.TempDir(), t.TempDir()
	fill(one)
	fill(two)
	if err := os.Chtimes(filepath.Join(two, "c/x/y"), time.Unix(1e9, 0), time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
	a, err := seal(t, one, "c")
	if err != nil || len(a) != 64 {
		t.Fatal(a, err)
	}
	if b, err := seal(t, two, "c"); err != nil || a != b {
		t.Errorf("%s and %s, %v", a, b, err)
	}
	put(t, two, "c/.dockerignore", "x\n")
	ignored, _ := seal(t, two, "c")
	put(t, two, "c/x/y", "2")
	if again, err := seal(t, two, "c"); err != nil || again != ignored {
		t.Errorf("an ignored file counts: %v", err)
	}
	if err := os.Chmod(filepath.Join(one, "c/x/y"), 0o755); err != nil {
		t.Fatal(err)
	}
	if b, _ := seal(t, one, "c"); a == b {
		t.Error("a file's mode does not count")
	}
}

// TestContextStaysInside: symlinks are sent as they are, and nothing outside the definition's folder is read.
func TestContextStaysInside(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	put(t, outside, "Dockerfile", "FROM secret\n")
	put(t, outside, "secret", "s3cr3t")
	put(t, root, "c/Dockerfile", "FROM a\n")
	for link, to := range map[string]string{"c/link": filepath.Join(outside, "secret"), "escape": outside, "tar": filepath.Join(outside, "secret")} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"escape", "tar", "..", "../" + filepath.Base(outside), outside, "/etc", "nothing", "c/Dockerfile"} {
		var own *contextError
		if sum, err := seal(t, root, path); err == nil || !errors.As(err, &own) || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: sealed as %q, %v", path, sum, err)
		}
	}
	var b bytes.Buffer
	c := contextOf(field.Object{"context": field.String("c")}, root)
	if _, err := c.write(context.Background(), &b, nil); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b.Bytes(), []byte("s3cr3t")) {
		t.Error("a file outside was read through a symlink")
	}
	r := tar.NewReader(&b)
	for {
		h, err := r.Next()
		if err == io.EOF {
			t.Fatal("the symlink is not there")
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "link" {
			if h.Typeflag != tar.TypeSymlink || h.Linkname != filepath.Join(outside, "secret") {
				t.Errorf("the symlink was sent as %+v", h)
			}
			break
		}
	}
	// A Dockerfile that is a symlink out of the folder is not followed either.
	put(t, root, "d/x", "")
	if err := os.Symlink(filepath.Join(outside, "Dockerfile"), filepath.Join(root, "d/Dockerfile")); err != nil {
		t.Fatal(err)
	}
	if sum, err := seal(t, root, "d"); err == nil {
		t.Errorf("a Dockerfile outside was sealed as %s", sum)
	}
}

// TestTarballs: plain, gzip and bzip2 of the same archive are the same context; a broken one is an error.
func TestTarballs(t *testing.T) {
	root := t.TempDir()
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	for name, text := range map[string]string{"./Dockerfile": "FROM a\n"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	sums := map[string]bool{}
	for _, encoding := range []string{"", "gzip", "bzip2"} {
		var b bytes.Buffer
		if encoding == "" {
			b = plain
		} else {
			z, err := compressor(&b, encoding)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := z.Write(plain.Bytes()); err != nil {
				t.Fatal(err)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
		}
		put(t, root, "c.tar", b.String())
		sum, err := seal(t, root, "c.tar")
		if err != nil {
			t.Errorf("%q: %v", encoding, err)
		}
		sums[sum] = true
		put(t, root, "broken.tar", b.String()[:b.Len()/2])
		if _, err := seal(t, root, "broken.tar"); err == nil && encoding != "" {
			t.Errorf("%q: a broken archive was sealed", encoding)
		}
	}
	if len(sums) != 1 {
		t.Errorf("one archive has the sums %v", sums)
	}
}
