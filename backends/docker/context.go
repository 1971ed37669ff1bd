package docker

import (
	"archive/tar"
	"bufio"
	"bytes"
	stdbzip2 "compress/bzip2"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/dsnet/compress/bzip2"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
)

var _ backends.BuildSealer = Kind{}

const (
	dockerfileName = "Dockerfile"
	// dockerfileLimit bounds a Dockerfile, which is a part of the plan.
	dockerfileLimit = 1 << 20
	// contextLimit bounds a context, uncompressed: a small tarball can unpack to anything.
	contextLimit = 16 << 30
	// contextFiles bounds the number of its entries.
	contextFiles = 1 << 20
)

// buildContext is where a build's files come from: nothing but a Dockerfile's text, a folder, or a tarball.
type buildContext struct {
	text []byte // Dockerfile, in place of the context's own; nil = the context's own
	path string // below root; "" = no context
	root string // the definition's folder
}

func contextOf(build field.Object, root string) buildContext {
	c := buildContext{path: planString(build, "context"), root: root}
	if text, ok := build["dockerfile"].(field.String); ok {
		c.text = []byte(text)
	}
	return c
}

// SealBuild puts the SHA-256 of the context into the plan: of the tar that is sent, uncompressed, with the Dockerfile as the
// user wrote it. It depends on the files' names, modes and contents alone, and for a tarball on what its archive says. The
// context's own Dockerfile, where the definition has none, is put in as well: policy judges the images that it names.
func (Kind) SealBuild(ctx context.Context, p *spec.Plan, root string) error {
	if p.Build == nil {
		return nil
	}
	c := contextOf(p.Build, root)
	if c.path == "" {
		return nil
	}
	sum, dockerfile, err := c.write(ctx, nil, nil)
	switch {
	case err != nil:
		return err
	case len(bytes.TrimSpace(dockerfile)) == 0:
		return badContext("the Dockerfile of the context %q is empty", c.path)
	case !utf8.Valid(dockerfile):
		return badContext("the Dockerfile of the context %q is not in UTF-8", c.path)
	}
	// Plans are shared once they are made.
	build := maps.Clone(p.Build)
	build["sha256"] = field.String(sum)
	if c.text == nil {
		build["context_dockerfile"] = field.String(dockerfile)
	}
	p.Build = build
	return nil
}

// contextError is a context that cannot be sent, in the user's words.
type contextError struct{ text string }

func (e *contextError) Error() string { return e.text }

var errDockerfileLimit = badContext("the Dockerfile is longer than %d MiB", dockerfileLimit>>20)

func badContext(format string, args ...any) error {
	return &contextError{text: fmt.Sprintf(format, args...)}
}

// write writes the context as a tar to w (nil = nowhere), its Dockerfile through change, and gives the SHA-256 of what it is
// without that change, and the Dockerfile that is in it.
func (c buildContext) write(ctx context.Context, w io.Writer, change func([]byte) []byte) (sum string, dockerfile []byte, err error) {
	t := &contextTar{ctx: ctx, change: change, sum: sha256.New(), text: c.text}
	t.judged = tar.NewWriter(t.sum)
	if w != nil {
		t.sent = tar.NewWriter(w)
	}
	if err := c.entries(t); err != nil {
		return "", nil, c.explain(err)
	}
	if t.dockerfile == nil {
		if c.text == nil {
			return "", nil, badContext("the context %q has no Dockerfile", c.path)
		}
		if err := t.putDockerfile(&tar.Header{Typeflag: tar.TypeReg, Name: dockerfileName, Mode: 0o644, ModTime: time.Unix(0, 0)}, c.text); err != nil {
			return "", nil, err
		}
	}
	if err := t.judged.Close(); err != nil {
		return "", nil, err
	}
	if t.sent != nil {
		if err := t.sent.Flush(); err != nil {
			return "", nil, err
		}
	}
	return hex.EncodeToString(t.sum.Sum(nil)), t.dockerfile, nil
}

// explain keeps a context's own errors and those of whoever reads it, and puts the file system's in the user's words.
func (c buildContext) explain(err error) error {
	var own *contextError
	var pe *fs.PathError
	switch {
	case errors.As(err, &own):
		return err
	case errors.Is(err, fs.ErrNotExist):
		if errors.As(err, &pe) && pe.Path != c.path && pe.Path != "." {
			return badContext("the context %q: %s is not there any more", c.path, pe.Path)
		}
		return badContext("the context %q does not exist below the definition's folder", c.path)
	case errors.As(err, &pe):
		return badContext("the context %q: cannot %s %s: %v", c.path, strings.TrimSuffix(pe.Op, "at"), pe.Path, pe.Err)
	}
	return err
}

func (c buildContext) entries(t *contextTar) error {
	if c.path == "" {
		return nil
	}
	if !path.IsAbs(c.path) && c.root == "" {
		return badContext("the context %q is below no folder that is known", c.path)
	}
	// A root does not let anything out of it, by whatever symlink.
	top, err := os.OpenRoot(c.root)
	if err != nil {
		return badContext("cannot open the definition's folder: %v", err)
	}
	defer top.Close()
	info, err := top.Stat(c.path)
	if err != nil {
		if strings.Contains(err.Error(), "escapes") {
			return badContext("the context %q is not below the definition's folder", c.path)
		}
		return err
	}
	switch {
	case info.IsDir():
		r, err := top.OpenRoot(c.path)
		if err != nil {
			return err
		}
		defer r.Close()
		return t.folder(r)
	case info.Mode().IsRegular():
		f, err := top.OpenFile(c.path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		return t.tarball(f, c.path)
	}
	return badContext("the context %q is neither a folder nor a tarball", c.path)
}

// contextTar writes every entry twice: as it is judged, into a hash, and as it is sent.
type contextTar struct {
	ctx        context.Context
	judged     *tar.Writer
	sent       *tar.Writer // nil = nothing is sent
	sum        hash.Hash
	change     func([]byte) []byte
	text       []byte // replaces the context's Dockerfile
	dockerfile []byte // as it stands; nil = not met yet
	written    int64
	entries    int
}

func (t *contextTar) count(size int64) error {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	t.entries++
	if t.written += size; t.written > contextLimit || t.written < 0 || size < 0 {
		return badContext("the context is larger than %d GiB", contextLimit>>30)
	}
	if t.entries > contextFiles {
		return badContext("the context has more than %d files", contextFiles)
	}
	return nil
}

// put writes one entry with its content.
func (t *contextTar) put(h *tar.Header, content io.Reader) error {
	if err := t.count(h.Size); err != nil {
		return err
	}
	if err := t.judged.WriteHeader(h); err != nil {
		return badContext("cannot put %q into the context: %v", h.Name, err)
	}
	var w io.Writer = t.judged
	if t.sent != nil {
		if err := t.sent.WriteHeader(h); err != nil {
			return err
		}
		w = io.MultiWriter(t.judged, t.sent)
	}
	if h.Size == 0 || content == nil {
		return nil
	}
	n, err := io.Copy(w, io.LimitReader(content, h.Size))
	if err != nil {
		return err
	}
	if n < h.Size {
		return badContext("%s became shorter while it was read", h.Name)
	}
	return nil
}

// putDockerfile writes the Dockerfile: as the user wrote it into the hash, changed to the engine.
func (t *contextTar) putDockerfile(h *tar.Header, text []byte) error {
	if len(text) > dockerfileLimit {
		return errDockerfileLimit
	}
	if err := t.count(int64(len(text))); err != nil {
		return err
	}
	t.dockerfile = text
	one := func(w *tar.Writer, text []byte) error {
		c := *h
		c.Size = int64(len(text))
		if err := w.WriteHeader(&c); err != nil {
			return err
		}
		_, err := w.Write(text)
		return err
	}
	if err := one(t.judged, text); err != nil {
		return badContext("cannot put the Dockerfile into the context: %v", err)
	}
	if t.sent == nil {
		return nil
	}
	if t.change != nil {
		text = t.change(text)
	}
	return one(t.sent, text)
}

// folder writes a folder's files, in the order of their names, with nothing of the machine in them: no owner, no time.
func (t *contextTar) folder(r *os.Root) error {
	ignored, err := ignorer(r)
	if err != nil {
		return err
	}
	own := dockerfileName
	if _, err := r.Lstat(own); errors.Is(err, fs.ErrNotExist) {
		// The builder's own fallback.
		if _, err := r.Lstat("dockerfile"); err == nil && t.text == nil {
			own = "dockerfile"
		}
	}
	return t.walk(r, ".", own, ignored)
}

// ignorer is the context's .dockerignore. The Dockerfile and the file itself are sent in any case: the builder reads them, and
// takes them out after.
func ignorer(r *os.Root) (*patternmatcher.PatternMatcher, error) {
	f, err := r.OpenFile(".dockerignore", os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	patterns, err := ignorefile.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, badContext("cannot read .dockerignore: %v", err)
	}
	if len(patterns) == 0 {
		return nil, nil
	}
	pm, err := patternmatcher.New(append(patterns, "!"+dockerfileName, "!dockerfile", "!.dockerignore"))
	if err != nil {
		return nil, badContext("cannot read .dockerignore: %v", err)
	}
	return pm, nil
}

func (t *contextTar) walk(r *os.Root, dir, own string, ignored *patternmatcher.PatternMatcher) error {
	f, err := r.Open(dir)
	if err != nil {
		return err
	}
	list, err := f.ReadDir(-1)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range list {
		name := path.Join(dir, e.Name())
		out := false
		if ignored != nil {
			if out, err = ignored.MatchesOrParentMatches(name); err != nil {
				return badContext("cannot hold %q against .dockerignore: %v", name, err)
			}
		}
		info, err := r.Lstat(name)
		if err != nil {
			return err
		}
		if info.IsDir() {
			if !out {
				if err := t.put(header(info, name+"/", tar.TypeDir), nil); err != nil {
					return err
				}
			} else if !reaches(ignored, name) {
				continue
			}
			if err := t.walk(r, name, own, ignored); err != nil {
				return err
			}
			continue
		}
		if out {
			continue
		}
		if err := t.file(r, info, name, name == own); err != nil {
			return err
		}
	}
	return nil
}

// reaches reports whether an exception of .dockerignore may bring something below an ignored folder back.
func reaches(ignored *patternmatcher.PatternMatcher, dir string) bool {
	if !ignored.Exclusions() {
		return false
	}
	for _, p := range ignored.Patterns() {
		if !p.Exclusion() {
			continue
		}
		text := p.String()
		if strings.ContainsAny(text, "*?[") || strings.HasPrefix(text+"/", dir+"/") {
			return true
		}
	}
	return false
}

func (t *contextTar) file(r *os.Root, info fs.FileInfo, name string, dockerfile bool) error {
	switch {
	case info.Mode()&fs.ModeSymlink != 0 && !dockerfile:
		target, err := r.Readlink(name)
		if err != nil {
			return err
		}
		h := header(info, name, tar.TypeSymlink)
		h.Linkname = target
		return t.put(h, nil)
	case info.Mode()&fs.ModeSocket != 0:
		// The builder could do nothing with it.
		return nil
	case !info.Mode().IsRegular() && !dockerfile:
		return badContext("cannot send %s: it is neither a file, a folder nor a symlink", name)
	}
	if dockerfile && t.text != nil {
		return t.putDockerfile(header(info, name, tar.TypeReg), t.text)
	}
	f, err := r.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	now, err := f.Stat()
	if err != nil {
		return err
	}
	if !now.Mode().IsRegular() {
		return badContext("cannot send %s: it is not a file", name)
	}
	h := header(now, name, tar.TypeReg)
	if dockerfile {
		text, err := io.ReadAll(io.LimitReader(f, dockerfileLimit+1))
		if err != nil {
			return err
		}
		return t.putDockerfile(h, text)
	}
	h.Size = now.Size()
	return t.put(h, f)
}

func header(info fs.FileInfo, name string, kind byte) *tar.Header {
	mode := int64(info.Mode().Perm())
	for bit, as := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if info.Mode()&bit != 0 {
			mode |= as
		}
	}
	if kind == tar.TypeSymlink {
		mode = 0o777
	}
	return &tar.Header{Typeflag: kind, Name: name, Mode: mode, ModTime: time.Unix(0, 0), Format: tar.FormatUnknown}
}

// tarball writes a tarball's entries, in its order and with what it says of them, but the Dockerfile last: whatever an archive
// puts in its place as well (the name twice, a symlink, a path through one), the builder reads the one that was judged.
func (t *contextTar) tarball(f io.Reader, name string) error {
	plain, err := decompress(f)
	if err != nil {
		return badContext("the context %q is neither a folder nor a tarball: plain, gzip or bzip2", name)
	}
	r := tar.NewReader(plain)
	var own tar.Header
	var text []byte
	upper := false
	for n := 0; ; n++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			if n == 0 {
				return badContext("the context %q is an empty tarball", name)
			}
			break
		}
		if err != nil {
			return badContext("cannot read the context %q: %v", name, err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		// The reader has put together what the format spreads out; the writer chooses a format anew.
		h.Format = tar.FormatUnknown
		maps.DeleteFunc(h.PAXRecords, func(k, _ string) bool { return strings.HasPrefix(k, "GNU.sparse.") })
		if h.Typeflag == tar.TypeGNUSparse {
			h.Typeflag = tar.TypeReg
		}
		h.AccessTime, h.ChangeTime, h.ModTime = time.Time{}, time.Time{}, h.ModTime.Truncate(time.Second)
		clean := path.Clean("/" + h.Name)[1:]
		if h.Typeflag != tar.TypeReg || clean != dockerfileName && (clean != "dockerfile" || upper) {
			if err := t.put(h, tarReader{r, name}); err != nil {
				return err
			}
			continue
		}
		if text, err = io.ReadAll(io.LimitReader(r, dockerfileLimit+1)); err != nil {
			return badContext("cannot read the context %q: %v", name, err)
		}
		if len(text) > dockerfileLimit {
			return errDockerfileLimit
		}
		// Where it stands as well: a hard link may want it there.
		if err := t.put(h, bytes.NewReader(text)); err != nil {
			return err
		}
		own, upper = *h, clean == dockerfileName
	}
	if own.Name == "" {
		return nil
	}
	if own.Name = dockerfileName; t.text != nil {
		text = t.text
	}
	return t.putDockerfile(&own, text)
}

// tarReader puts a broken tarball in the user's words.
type tarReader struct {
	r    io.Reader
	name string
}

func (t tarReader) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = badContext("cannot read the context %q: %v", t.name, err)
	}
	return n, err
}

func decompress(f io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(f, 64<<10)
	magic, _ := b.Peek(512)
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(b)
	case bytes.HasPrefix(magic, []byte("BZh")):
		return stdbzip2.NewReader(b), nil
	case len(magic) == 512 && (bytes.Equal(magic[257:262], []byte("ustar")) || bytes.Count(magic, []byte{0}) > 200):
		return b, nil
	}
	return nil, errors.New("unknown format")
}

// compressor is the writer for an encoding. Both are deterministic.
func compressor(w io.Writer, encoding string) (io.WriteCloser, error) {
	switch encoding {
	case "bzip2", "bzip":
		return bzip2.NewWriter(w, &bzip2.WriterConfig{Level: bzip2.DefaultCompression})
	case "", "gzip":
		return gzip.NewWriterLevel(w, gzip.BestSpeed)
	}
	return nil, badContext("no encoding %q is known: gzip or bzip2", encoding)
}
