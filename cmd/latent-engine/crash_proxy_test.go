//go:build integration

package main

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latent-engine/latent-engine/internal/testenv"
)

// when is how far a call gets before it is held.
type when int

const (
	before when = iota // it was seen, and is not forwarded
	after              // the engine's answer was read to its end, and none of it is passed on
	within             // the answer was passed on until it said a text
)

// moment is where a [proxy] holds a call. Only the first call that fits is held.
type moment struct {
	method string
	path   *regexp.Regexp // of the path without the API's version
	when   when
	said   string // for within
	// late has a call whose client went away delivered all the same, once it is let go: the bytes were in the socket already.
	late bool
}

// proxy stands between the command and a Docker Engine, on a socket of its own. It passes everything on as it comes, but for
// the one call that it holds. A client that goes away takes its connection to the engine with it, as if there were no proxy.
type proxy struct {
	host   string // for docker_host
	at     moment
	next   *http.Transport
	held   chan struct{} // closed when the call is held
	letGo  chan struct{} // closed when it may go on
	over   chan struct{} // closed when the held call has ended, whichever way
	taken  sync.Once
	goOnce sync.Once
}

func newProxy(t testing.TB, e *testenv.Engine, at moment) *proxy {
	t.Helper()
	// Not t.TempDir, whose path is longer than the address of a socket may be.
	dir, err := os.MkdirTemp("", "latent-proxy-") //nolint:usetesting // the reason stands above
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "docker.sock")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{
		host: "unix://" + socket, at: at,
		held: make(chan struct{}), letGo: make(chan struct{}), over: make(chan struct{}),
		next: &http.Transport{DialContext: dialEngine(e), DisableKeepAlives: true, DisableCompression: true},
	}
	server := &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() {
		p.release()
		_ = server.Close()
		_ = os.RemoveAll(dir)
	})
	return p
}

func dialEngine(e *testenv.Engine) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(e.Host(), "unix://"))
	}
}

// release lets the held call go on.
func (p *proxy) release() { p.goOnce.Do(func() { close(p.letGo) }) }

// version is what stands before the path of a call.
var version = regexp.MustCompile(`^/v[0-9.]+`)

// holds reports whether this call is the one to be held.
func (p *proxy) holds(r *http.Request) bool {
	if p.at.path == nil || r.Method != p.at.method || !p.at.path.MatchString(version.ReplaceAllString(r.URL.Path, "")) {
		return false
	}
	first := false
	p.taken.Do(func() { first = true })
	return first
}

// hold says that the call is held, and waits until it may go on; the connection is cut if its client goes away before.
func (p *proxy) hold(ctx context.Context) {
	close(p.held)
	select {
	case <-p.letGo:
	case <-ctx.Done():
		cut()
	}
}

// cut ends the client's connection without an answer.
func cut() { panic(http.ErrAbortHandler) }

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// With its body read to the end, the server notices when the client goes away.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		cut()
	}
	ctx, held := r.Context(), p.holds(r)
	if held {
		defer close(p.over)
		if p.at.late {
			ctx = context.WithoutCancel(ctx)
		}
		if p.at.when == before {
			p.hold(ctx)
		}
	}
	out, err := http.NewRequestWithContext(ctx, r.Method, "http://docker"+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		cut()
	}
	out.Header = r.Header.Clone()
	answer, err := p.next.RoundTrip(out)
	if err != nil {
		cut()
	}
	defer answer.Body.Close()
	from := io.Reader(answer.Body)
	if held && p.at.when == after {
		whole, err := io.ReadAll(answer.Body)
		if err != nil {
			cut()
		}
		p.hold(ctx)
		from = bytes.NewReader(whole)
	}
	maps.Copy(w.Header(), answer.Header)
	w.WriteHeader(answer.StatusCode)
	flush := http.NewResponseController(w)
	_ = flush.Flush()
	said, buffer := []byte(nil), make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				cut()
			}
			_ = flush.Flush()
		}
		if held && p.at.when == within && n > 0 {
			if said = append(said, buffer[:n]...); bytes.Contains(said, []byte(p.at.said)) {
				held = false
				p.hold(ctx)
			}
		}
		switch err {
		case nil:
		case io.EOF:
			return
		default:
			cut()
		}
	}
}

// reached waits until the call is held that a process is to make.
func (p *proxy) reached(by *process) {
	by.Helper()
	select {
	case <-p.held:
	case <-by.done:
		by.Fatalf("%v ended before it made the call that was to be held\nstdout: %s\nstderr: %s", by.cmd.Args, by.stdout, by.stderr)
	case <-time.After(time.Minute):
		by.Fatalf("%v does not make the call that is to be held\nstdout: %s\nstderr: %s", by.cmd.Args, by.stdout, by.stderr)
	}
}

// dropped waits until the held call's connection to the engine is closed, because its client is gone.
func (p *proxy) dropped(t testing.TB) {
	t.Helper()
	select {
	case <-p.over:
	case <-time.After(20 * time.Second):
		t.Fatal("the proxy does not notice that its client is gone")
	}
}
