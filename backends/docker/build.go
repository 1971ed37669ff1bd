package docker

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
)

var (
	errChanged  = errors.New("the context changed after it was judged")
	errUnwanted = errors.New("the builder wants no more of the context")
)

// buildImage builds the plan's image where it is to be built.
func (s *start) buildImage(ctx context.Context) error {
	tag := planString(s.bound.Build, "tag")
	if err := checkReference(tag); err != nil {
		return err
	}
	if planString(s.bound.Build, "when") == "absent" {
		// Starts that want the same image wait for the one that builds it.
		unlock, ok := s.builds.lock(ctx, tag)
		if !ok {
			return &callError{what: "build image " + tag, err: ctx.Err()}
		}
		defer unlock()
		there, err := s.imageThere(ctx, tag, planString(s.bound.Build, "platform"))
		if err != nil || there {
			return err
		}
	}
	s.made = true
	grace := s.opts.PullGrace
	if grace == 0 {
		grace = s.grace
	}
	until, wait := time.Now().Add(grace), 500*time.Millisecond
	for {
		err := s.build(ctx, tag)
		if err == nil {
			return nil
		}
		var f *backends.Failure
		if !errors.As(err, &f) || !f.Retryable || f.Class != backends.ClassImage || !hiccup(f) || time.Until(until) < wait {
			return err
		}
		// The base image's registry; what the steps do themselves is never tried again.
		s.progress("waiting", tag, f.Reason, 0, 0)
		if !pause(ctx, wait) {
			return &callError{what: "build image " + tag, err: ctx.Err()}
		}
		wait = min(2*wait, 10*time.Second)
	}
}

// building is one POST /build under way.
type building struct {
	*start
	tag    string
	stages int
	log    []string
	rest   strings.Builder // the line that has no end yet
	// uncut says that a step is under way that goes on when the connection is cut; container is what the present step runs in.
	uncut     atomic.Bool
	container atomic.Pointer[string]
}

// abortWait is how long the end of a step is waited for that nothing can end.
const abortWait = 30 * time.Second

// abort ends a build whose caller has gone. It cannot simply cut the connection: the step under way, a COPY or a commit, would go
// on behind our back and leave its image after we have looked. So it takes away the container of each step until the builder
// gives up by its own word; quiet says that it did. Before the first step and while a base image is pulled, a cut does it.
func (w *building) abort(ctx context.Context, done <-chan error) (quiet bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortWait)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	removed := ""
	for w.uncut.Load() {
		if id := w.container.Load(); id != nil && *id != removed {
			removed = *id
			_ = w.do(ctx, call{what: "remove container " + *id, method: http.MethodDelete, path: "/containers/" + *id, query: url.Values{"force": {"1"}, "v": {"1"}}})
		}
		select {
		case err := <-done:
			return true, err
		case <-ctx.Done():
			return false, nil
		case <-tick.C:
		}
	}
	return false, nil
}

func (s *start) build(ctx context.Context, tag string) error {
	w := &building{start: s, tag: tag}
	if label := s.engine + s.bound.Instance; strings.ContainsFunc(label, func(r rune) bool {
		return !(r == '.' || r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	}) {
		return configFailure("", "cannot build image %s: the engine's or the instance's id cannot be a label", tag)
	}
	q, err := w.query()
	if err != nil {
		return err
	}
	source := contextOf(s.bound.Build, s.opts.Root)
	header := http.Header{"Content-Type": {"application/x-tar"}}
	if err := w.authHeader(header); err != nil {
		return err
	}

	// The context is judged while it is sent: if it is another one in the end, the archive is never finished, and the builder,
	// which begins when it has all of it, does not begin.
	pr, pw := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := w.send(ctx, source, pw)
		pw.CloseWithError(err)
		sent <- err
	}()
	calling, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- w.follow(calling, q, header, pr) }()
	quiet := true
	select {
	case err = <-done:
	case <-ctx.Done():
		if quiet, err = w.abort(ctx, done); !quiet {
			cancel()
			err = <-done
		}
	}
	pr.CloseWithError(errUnwanted)
	bad := <-sent
	switch {
	case ctx.Err() != nil:
		if !quiet {
			w.settle(ctx)
		}
		return &callError{what: "build image " + tag, err: ctx.Err()}
	case errors.Is(bad, errChanged):
		return &backends.Failure{
			Class: backends.ClassConfig, Retryable: true, Image: tag, Field: "custom_context",
			Message: fmt.Sprintf("cannot build image %s: %v", tag, bad), Hint: "start again: what is sent must be what was judged",
		}
	case bad != nil && !errors.Is(bad, io.ErrClosedPipe) && !errors.Is(bad, errUnwanted):
		var ce *contextError
		if errors.As(bad, &ce) {
			return &backends.Failure{Class: backends.ClassConfig, Image: tag, Field: "custom_context", Message: fmt.Sprintf("cannot build image %s: %s", tag, ce.text)}
		}
		if err == nil {
			err = bad
		}
	}
	if err != nil {
		return w.failed(ctx, err)
	}
	if w.stages > 1 {
		// Stages before the last stay as nameless images, which nothing uses any more.
		return s.removeImagesLeft(ctx)
	}
	return nil
}

// removeImagesLeft removes the nameless images of a build that is done.
func (s *start) removeImagesLeft(ctx context.Context) error {
	for range 50 {
		images, err := s.images(ctx)
		if err != nil {
			return err
		}
		removed := false
		for _, i := range images {
			if firstTag(i) == "" && i.Labels[labelBuild] == s.bound.Instance {
				removed = s.removeImage(ctx, i.ID) == nil || removed
			}
		}
		if !removed {
			return nil
		}
	}
	return nil
}

// query is the call's query: what the plan says, and one label more, which ends the marks of a build under way.
func (w *building) query() (url.Values, error) {
	b := w.bound.Build
	q := url.Values{"t": {w.tag}, "rm": {"1"}, "forcerm": {"1"}}
	if planBool(b, "pull") {
		q.Set("pull", "1")
	}
	if t := planString(b, "target"); t != "" {
		q.Set("target", t)
	}
	if p := planString(b, "platform"); p != "" {
		q.Set("platform", strings.ToLower(p))
	}
	if args := planObject(b, "buildargs"); len(args) > 0 {
		text, err := spec.Encode(args, w.fill.fill)
		if err != nil {
			return nil, configFailure("buildargs", "cannot build image %s: %v", w.tag, err)
		}
		q.Set("buildargs", string(text))
	}
	labels := field.Object{labelBuild: field.String("")}
	maps.Copy(labels, planObject(b, "labels"))
	text, err := spec.Encode(labels, w.fill.fill)
	if err != nil {
		return nil, configFailure("labels", "cannot build image %s: %v", w.tag, err)
	}
	q.Set("labels", string(text))
	return q, nil
}

// authHeader gives the builder the credentials for the base images that the Dockerfile names.
func (w *building) authHeader(header http.Header) error {
	auth, err := w.buildAuth(baseNames(builtText(w.bound.Build), planObject(w.bound.Build, "buildargs")))
	if err != nil {
		return err
	}
	text, err := json.Marshal(auth)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	header.Set("X-Registry-Config", base64.URLEncoding.EncodeToString(text))
	return nil
}

// send writes the compressed context, and fails at its very end if it is not what was judged.
func (w *building) send(ctx context.Context, source buildContext, to io.Writer) error {
	z, err := compressor(to, planString(w.bound.Build, "encoding"))
	if err != nil {
		return err
	}
	label := marks(w.engine, w.bound.Instance)
	buffered := bufio.NewWriterSize(z, 64<<10)
	sum, _, err := source.write(ctx, buffered, func(text []byte) []byte {
		out, stages := labelStages(text, label)
		w.stages = stages
		return out
	})
	if err != nil {
		return err
	}
	if want := planString(w.bound.Build, "sha256"); source.path != "" && sum != want {
		return errChanged
	}
	// The end of a tar: two empty blocks. Only now, for without them the builder does not begin.
	if _, err := buffered.Write(make([]byte, 1024)); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	return z.Close()
}

// follow posts the build and reads what the builder says until it ends.
func (w *building) follow(ctx context.Context, q url.Values, header http.Header, body io.Reader) error {
	what := "build image " + w.tag
	w.progress("building", w.tag, "", 0, 0)
	resp, err := w.backend.send(ctx, call{what: what, method: http.MethodPost, path: "/build", query: q, header: header, body: body, stream: true})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	stream, sum, id := newMessages(resp.Body), newLayers(), ""
	defer w.flush()
	for {
		var m streamMessage
		switch err := stream.next(&m); {
		case errors.Is(err, io.EOF) && id == "":
			return &streamError{message: "the builder ended without an image"}
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return &callError{what: what, err: err}
		}
		if err := m.err(); err != nil {
			return err
		}
		if m.Aux != nil && m.Aux.ID != "" {
			id = m.Aux.ID
		}
		if sum.add(m) {
			done, total := sum.bytes()
			w.progress("building", w.tag, "pulling the base image", done, total)
		}
		w.text(m.Stream)
	}
}

// lineLimit bounds a line of the builder's output that is waited for: more than any secret.
const lineLimit = 2 * secretLimit

// text takes in a piece of the builder's output. A line is looked at when it is there in full: what it tells may come in
// pieces, a secret in it too.
func (w *building) text(piece string) {
	for piece != "" {
		part, rest, ended := strings.Cut(piece, "\n")
		if room := lineLimit - w.rest.Len(); len(part) <= room {
			w.rest.WriteString(part)
		} else if room >= 0 {
			w.rest.WriteString(part[:room] + cutMark)
		}
		if piece = rest; ended {
			w.flush()
		}
	}
}

// flush takes in the line that is there, also one that has no end.
func (w *building) flush() {
	l := w.rest.String()
	w.rest.Reset()
	w.line(l)
}

// line takes in a line of the builder's output, which is what a step wrote as well.
func (w *building) line(l string) {
	if l = strings.TrimRight(plainLine(stripColour(l)), " "); l == "" {
		return
	}
	if step, ok := strings.CutPrefix(l, "Step "); ok {
		_, instruction, _ := strings.Cut(step, " : ")
		w.container.Store(nil)
		w.uncut.Store(len(instruction) < 5 || !strings.EqualFold(instruction[:5], "FROM "))
	}
	if id, ok := strings.CutPrefix(l, " ---> Running in "); ok && hexadecimal(id) && id != "" {
		w.container.Store(&id)
	}
	if strings.Contains(l, "LABEL "+spec.LabelPrefix) {
		return
	}
	l = clip(w.fill.redact(l), 1000)
	if w.log = append(w.log, l); len(w.log) > 2*failureLines {
		w.log = append([]string(nil), w.log[len(w.log)-failureLines:]...)
	}
	w.progress("building", w.tag, l, 0, 0)
}

// stripColour takes out the colour that the builder puts around what a step writes to its standard error.
func stripColour(s string) string {
	for {
		i := strings.Index(s, "\x1b[")
		if i < 0 {
			return s
		}
		j := strings.IndexByte(s[i:], 'm')
		if j < 0 {
			return s[:i]
		}
		s = s[:i] + s[i+j+1:]
	}
}

// failed is the verdict on what the builder said.
func (w *building) failed(ctx context.Context, err error) error {
	var said *streamError
	var ce *callError
	switch {
	case errors.As(err, &said):
	case errors.As(err, &ce) && ce.status != 0:
		said = &streamError{message: ce.message}
	default:
		return w.failure(ctx, err)
	}
	said = &streamError{message: w.fill.redact(said.message)}
	f := &backends.Failure{
		Class: backends.ClassImage, Image: w.tag, Reason: said.message, Field: "dockerfile",
		Message: fmt.Sprintf("cannot build image %s: %s", w.tag, clip(said.message, 2000)),
	}
	if n := len(w.log); n > 0 {
		f.Log = w.log[max(0, n-failureLines):]
	}
	if p := find(buildPhrases, said.message); p != nil {
		f.Class, f.Retryable, f.Hint = p.class, p.retry, p.hint
		if p.field != "" {
			f.Field = p.field
		}
	} else if p := find(pullPhrases, said.message); p != nil {
		f.Class, f.Retryable, f.Hint = p.class, p.retry, p.hint
	}
	if f.Hint == "" && needsBuildKit(builtText(w.bound.Build)) {
		f.Class, f.Retryable, f.Hint = backends.ClassConfig, false, buildKitHint
	}
	return f
}

// settle removes what a build left whose connection was cut, and looks again until nothing comes any more.
func (w *building) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanWait/2)
	defer cancel()
	for quiet := 0; quiet < 3; quiet++ {
		containers, err1 := w.containers(ctx, labelBuild+"="+w.bound.Instance)
		images, err2 := w.images(ctx)
		if err1 != nil || err2 != nil {
			return
		}
		for _, c := range containers {
			_ = w.removeContainer(ctx, c.ID)
			quiet = 0
		}
		for _, i := range images {
			if o := imageObject(i); o.Instance == w.bound.Instance && !o.Kept {
				_ = w.removeImage(ctx, i.ID)
				quiet = 0
			}
		}
		if !pause(ctx, 150*time.Millisecond) {
			return
		}
	}
}
