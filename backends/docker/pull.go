package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/registry"

	"github.com/latent-engine/latent-engine/backends"
)

// pullKey: pulls that agree in it are one.
type pullKey struct{ ref, platform, policy string }

// pulls are the pulls under way on one connection.
type pulls struct {
	mu    sync.Mutex
	going map[pullKey]*pulling // guarded by mu
}

// pulling is one pull and those who wait for it. It goes on until it is done or nobody waits any more.
type pulling struct {
	done    chan struct{}
	err     error // set before done is closed
	cancel  context.CancelFunc
	mu      sync.Mutex
	waiting map[int]func(backends.Progress) // guarded by mu
	next    int
}

// pull brings an image to the engine, once for all who ask for it at the same time.
func (b *backend) pull(ctx context.Context, key pullKey, grace time.Duration, progress func(backends.Progress)) error {
	named, err := pullName(key.ref)
	if err != nil {
		return err
	}
	shared := pullKey{ref: named.String(), platform: key.platform, policy: key.policy}
	p, leave := b.pulls.join(ctx, shared, progress, func(ctx context.Context, tell func(backends.Progress)) error {
		return b.pullFor(ctx, named, key, grace, tell)
	})
	defer leave()
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return &callError{what: "pull " + key.ref, err: ctx.Err()}
	}
}

func (g *pulls) join(ctx context.Context, key pullKey, progress func(backends.Progress), work func(context.Context, func(backends.Progress)) error) (*pulling, func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.going == nil {
		g.going = map[pullKey]*pulling{}
	}
	p := g.going[key]
	if p == nil {
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		p = &pulling{done: make(chan struct{}), cancel: cancel, waiting: map[int]func(backends.Progress){}}
		g.going[key] = p
		go func() {
			p.err = work(own, p.tell)
			cancel()
			g.mu.Lock()
			if g.going[key] == p {
				delete(g.going, key)
			}
			g.mu.Unlock()
			close(p.done)
		}()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.next
	p.next++
	p.waiting[n] = progress
	return p, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		p.mu.Lock()
		delete(p.waiting, n)
		nobody := len(p.waiting) == 0
		p.mu.Unlock()
		if nobody {
			// Whoever comes now begins anew: this one is ending.
			if g.going[key] == p {
				delete(g.going, key)
			}
			p.cancel()
		}
	}
}

func (p *pulling) tell(r backends.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.waiting {
		if f != nil {
			f(r)
		}
	}
}

// pullName is what to ask the registry for: an image id has no registry, and a digest beats a tag beside it.
func pullName(ref string) (reference.Named, error) {
	final := func(cause string) error {
		return &backends.Failure{Class: backends.ClassImage, Image: ref, Field: "image", Message: fmt.Sprintf("cannot pull %s: %s", ref, cause)}
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		if _, err := reference.ParseAnyReference(ref); err == nil {
			return nil, final("an image id cannot be pulled, and no image on the docker host has it")
		}
		return nil, final(errReference.Error())
	}
	if d, ok := named.(reference.Digested); ok {
		return reference.WithDigest(reference.TrimNamed(named), d.Digest())
	}
	return reference.TagNameOnly(named), nil
}

// pullFor pulls, and again after a hiccup of the registry's, until the grace is over.
func (b *backend) pullFor(ctx context.Context, named reference.Named, key pullKey, grace time.Duration, tell func(backends.Progress)) error {
	until := time.Now().Add(grace)
	wait := 500 * time.Millisecond
	for {
		err := b.pullOnce(ctx, named, key, tell)
		if err == nil || ctx.Err() != nil {
			return err
		}
		f := b.pullFailure(ctx, key.ref, err)
		if !f.Retryable || f.Class != backends.ClassImage || !hiccup(f) {
			return f
		}
		left := time.Until(until)
		if left < wait {
			f.Message += fmt.Sprintf(" (tried for %s)", grace.Round(time.Second))
			return f
		}
		tell(backends.Progress{Phase: "waiting", Subject: key.ref, Message: f.Reason})
		if !pause(ctx, wait) {
			return &callError{what: "pull " + key.ref, err: ctx.Err()}
		}
		wait = min(2*wait, 10*time.Second)
	}
}

// hiccup reports whether the table says so: what fits none of its lines is not tried again.
func hiccup(f *backends.Failure) bool {
	p := find(pullPhrases, f.Reason)
	return p != nil && p.retry
}

// pullFailure is the verdict on what a registry said.
func (b *backend) pullFailure(ctx context.Context, ref string, err error) *backends.Failure {
	var f *backends.Failure
	if errors.As(err, &f) {
		return f
	}
	if f := ended(ctx, err); f != nil {
		return f
	}
	var said *streamError
	var ce *callError
	switch {
	case errors.As(err, &said):
	case errors.As(err, &ce) && ce.status != 0:
		said = &streamError{message: ce.message}
	default:
		return b.failure(ctx, err)
	}
	f = &backends.Failure{
		Class: backends.ClassImage, Retryable: true, Image: ref, Field: "image", Reason: said.message,
		Message: fmt.Sprintf("%s: %s", ref, shortPull(said.message)),
	}
	if p := find(pullPhrases, said.message); p != nil {
		f.Class, f.Retryable, f.Hint = p.class, p.retry, p.hint
	}
	return f
}

// shortPull takes the engine's own words before a registry's out.
func shortPull(m string) string {
	for _, prefix := range []string{"Error response from daemon: ", "rpc error: code = Unknown desc = ", "failed to pull and unpack image "} {
		m = strings.TrimPrefix(m, prefix)
	}
	return clip(m, 1000)
}

// streamError is an error within a stream.
type streamError struct{ message string }

func (e *streamError) Error() string { return e.message }

// streamMessage is one message of a pull's or a build's stream.
type streamMessage struct {
	Stream   string `json:"stream"`
	Status   string `json:"status"`
	ID       string `json:"id"`
	Progress *struct {
		Current int64 `json:"current"`
		Total   int64 `json:"total"`
	} `json:"progressDetail"`
	ErrorDetail *struct {
		Message string `json:"message"`
	} `json:"errorDetail"`
	Error string `json:"error"`
	Aux   *struct {
		ID string `json:"ID"`
	} `json:"aux"`
}

func (m streamMessage) err() error {
	if m.ErrorDetail != nil && m.ErrorDetail.Message != "" {
		return &streamError{message: m.ErrorDetail.Message}
	}
	if m.Error != "" {
		return &streamError{message: m.Error}
	}
	return nil
}

func (b *backend) pullOnce(ctx context.Context, named reference.Named, key pullKey, tell func(backends.Progress)) error {
	auth, err := b.registryAuth(named)
	if err != nil {
		return err
	}
	q := url.Values{"fromImage": {named.Name()}}
	switch n := named.(type) {
	case reference.Digested:
		q.Set("tag", n.Digest().String())
	case reference.Tagged:
		q.Set("tag", n.Tag())
	}
	if key.platform != "" {
		q.Set("platform", strings.ToLower(key.platform))
	}
	resp, err := b.send(ctx, call{
		what: "pull " + key.ref, method: http.MethodPost, path: "/images/create", query: q, stream: true,
		header: http.Header{http.CanonicalHeaderKey(registry.AuthHeader): {auth}, "Content-Type": {"text/plain"}},
	})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	tell(backends.Progress{Phase: "pulling", Subject: key.ref})
	stream := newMessages(resp.Body)
	sum := newLayers()
	for {
		var m streamMessage
		switch err := stream.next(&m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return &callError{what: "pull " + key.ref, err: err}
		}
		if err := m.err(); err != nil {
			return err
		}
		if sum.add(m) {
			done, total := sum.bytes()
			tell(backends.Progress{Phase: "pulling", Subject: key.ref, Done: done, Total: total})
		}
	}
}

// maxLayers bounds what a stream can make us remember.
const maxLayers = 1024

// layers adds up the progress of a pull over its layers.
type layers struct {
	of   map[string]*layer
	last time.Time
}

type layer struct {
	done, total int64
}

func newLayers() *layers { return &layers{of: map[string]*layer{}} }

// add takes a message in, and reports whether it is time to tell: a few times a second.
func (l *layers) add(m streamMessage) bool {
	if m.ID == "" {
		return false
	}
	known := l.of[m.ID]
	switch {
	case m.Status == "Downloading" && m.Progress != nil:
		if known == nil {
			if len(l.of) == maxLayers {
				return false
			}
			known = &layer{}
			l.of[m.ID] = known
		}
		known.done, known.total = m.Progress.Current, max(m.Progress.Total, m.Progress.Current, known.total)
	case known != nil && (m.Status == "Download complete" || m.Status == "Pull complete" || m.Status == "Verifying Checksum"):
		known.done = known.total
	default:
		return false
	}
	if now := time.Now(); now.Sub(l.last) > 100*time.Millisecond {
		l.last = now
		return true
	}
	return false
}

func (l *layers) bytes() (done, total int64) {
	for _, e := range l.of {
		done, total = done+e.done, total+e.total
	}
	return done, total
}
