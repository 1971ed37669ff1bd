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
	if _, _, err := c.write(context.Background(), &b, nil); err != nil {
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

// entry is one of a tarball's: a file with text, or a link to link.
type entry struct {
	name, text, link string
	kind             byte
}

func tarball(t *testing.T, entries ...entry) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		if e.kind == 0 {
			e.kind = tar.TypeReg
		}
		if err := w.WriteHeader(&tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.text)), Typeflag: e.kind, Linkname: e.link}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestJudgedDockerfileIsBuilt: the plan holds the context's own Dockerfile, and whatever an archive puts beside it, that one is
// the last that is sent, as the builder reads it.
func TestJudgedDockerfileIsBuilt(t *testing.T) {
	const good, evil = "FROM good\n", "FROM evil\n"
	for _, c := range []struct {
		name, dockerfile string
		entries          []entry
		want             string
	}{
		{"one", "", []entry{{name: "a", text: "1"}, {name: "Dockerfile", text: good}}, good},
		{"dot", "", []entry{{name: "./Dockerfile", text: good}}, good},
		{"the last counts", "", []entry{{name: "Dockerfile", text: evil}, {name: "Dockerfile", text: good}}, good},
		{"absolute", "", []entry{{name: "Dockerfile", text: evil}, {name: "/Dockerfile", text: good}}, good},
		{"by a detour", "", []entry{{name: "Dockerfile", text: evil}, {name: "x/../Dockerfile", text: good}}, good},
		{"lower case", "", []entry{{name: "dockerfile", text: evil}, {name: "dockerfile", text: good}}, good},
		{"lower case beside", "", []entry{{name: "Dockerfile", text: good}, {name: "dockerfile", text: evil}}, good},
		{"lower case before", "", []entry{{name: "dockerfile", text: evil}, {name: "Dockerfile", text: good}}, good},
		{"a symlink over it", "", []entry{{name: "Dockerfile", text: good}, {name: "e", text: evil}, {name: "Dockerfile", kind: tar.TypeSymlink, link: "e"}}, good},
		{"a symlink beside lower case", "", []entry{{name: "dockerfile", text: good}, {name: "e", text: evil}, {name: "Dockerfile", kind: tar.TypeSymlink, link: "e"}}, good},
		{"through a symlink", "", []entry{{name: "Dockerfile", text: good}, {name: "d", kind: tar.TypeSymlink, link: "."}, {name: "d/Dockerfile", text: evil}}, good},
		{"hard link", "", []entry{{name: "Dockerfile", text: good}, {name: "x", kind: tar.TypeLink, link: "Dockerfile"}}, good},
		{"the definition's", good, []entry{{name: "Dockerfile", text: evil}, {name: "a", text: "1"}}, good},
		{"the definition's alone", good, []entry{{name: "a", text: "1"}}, good},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			put(t, root, "c.tar", tarball(t, c.entries...))
			p := spec.Plan{Build: field.Object{"context": field.String("c.tar")}}
			if c.dockerfile != "" {
				p.Build["dockerfile"] = field.String(c.dockerfile)
			}
			if err := (Kind{}).SealBuild(t.Context(), &p, root); err != nil {
				t.Fatal(err)
			}
			if got := builtText(p.Build); got != c.want {
				t.Errorf("the plan says %q", got)
			}
			var sent bytes.Buffer
			sum, _, err := contextOf(p.Build, root).write(t.Context(), &sent, func(b []byte) []byte { return append(b, "LABEL x=y\n"...) })
			if err != nil || sum != planString(p.Build, "sha256") {
				t.Fatalf("sent is %s, sealed was %s; %v", sum, planString(p.Build, "sha256"), err)
			}
			r := tar.NewReader(&sent)
			var last *tar.Header
			var text []byte
			for {
				h, err := r.Next()
				if err != nil {
					break
				}
				last = h
				if text, err = io.ReadAll(r); err != nil {
					t.Fatal(err)
				}
			}
			if last == nil || last.Name != "Dockerfile" || last.Typeflag != tar.TypeReg || string(text) != c.want+"LABEL x=y\n" {
				t.Errorf("the last entry is %+v %q", last, text)
			}
		})
	}
}

// TestViewHoldsTheContextsImages: policy sees what a context's own Dockerfile starts from.
func TestViewHoldsTheContextsImages(t *testing.T) {
	root := t.TempDir()
	put(t, root, "c/Dockerfile", "ARG V=1\nFROM registry.corp/base:$V AS b\nFROM scratch\nCOPY --from=evil/x / /\n")
	put(t, root, "lower/dockerfile", "FROM registry.corp/lower\n")
	put(t, root, "empty/Dockerfile", " \n")
	put(t, root, "latin/Dockerfile", "# \xe9\nFROM a\n")
	put(t, root, "long/Dockerfile", strings.Repeat("#\n", dockerfileLimit/2+1))
	put(t, root, "long.tar", tarball(t, entry{name: "Dockerfile", text: strings.Repeat("#\n", dockerfileLimit/2+1)}, entry{name: "Dockerfile", text: "FROM a"}))
	view := func(fields field.Object) (spec.View, error) {
		p, problems := Kind{}.Convert(spec.ConvertInput{Target: "local", Fields: fields})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if _, err := (Kind{}).View(must(t, p)); err == nil {
			t.Error("a build whose context was not read has a view")
		}
		if err := (Kind{}).SealBuild(t.Context(), &p, root); err != nil {
			return spec.View{}, err
		}
		return Kind{}.View(must(t, p))
	}
	for _, c := range []struct {
		context string
		want    []string
	}{
		{"c", []string{"registry.corp/made:1", "registry.corp/base:2", "docker.io/evil/x:latest"}},
		{"lower", []string{"registry.corp/made:1", "registry.corp/lower:latest"}},
	} {
		v, err := view(field.Object{"image": field.String("registry.corp/made:1"), "custom_context": field.String(c.context), "buildargs": field.Object{"V": field.String("2")}})
		if diff := cmp.Diff(c.want, v.Images); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", c.context, err, diff)
		}
	}
	for context, cause := range map[string]string{"empty": "is empty", "latin": "not in UTF-8", "long": "longer than 1 MiB", "long.tar": "longer than 1 MiB"} {
		var own *contextError
		if _, err := view(field.Object{"custom_context": field.String(context)}); !errors.As(err, &own) || !strings.Contains(err.Error(), cause) {
			t.Errorf("%s: %v", context, err)
		}
	}
}

func must(t *testing.T, p spec.Plan) spec.Bound {
	t.Helper()
	b, err := Kind{}.Bind(p, sampleIdentity(""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
