package docker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/policy"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// stub is an engine within the process: it answers by method and path without its version, and remembers what was asked.
type stub struct {
	mu     sync.Mutex
	calls  []string // guarded by mu
	bodies []string // guarded by mu
	answer map[string]func(*http.Request) *http.Response
}

func (s *stub) RoundTrip(r *http.Request) (*http.Response, error) {
	path := r.URL.Path
	if rest, ok := strings.CutPrefix(path, "/v"); ok {
		_, rest, _ = strings.Cut(rest, "/")
		path = "/" + rest
	}
	key := r.Method + " " + path
	body := ""
	if r.Body != nil {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body = string(text)
	}
	s.mu.Lock()
	s.calls = append(s.calls, key)
	s.bodies = append(s.bodies, body)
	s.mu.Unlock()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if f := s.answer[key]; f != nil {
		if resp := f(r); resp != nil {
			return resp, nil
		}
		return nil, errors.New("the stub gives no answer")
	}
	return reply200(404, `{"message":"the stub knows no `+key+`"}`), nil
}

func reply200(status int, body string) *http.Response {
	return replyWith(status, io.NopCloser(strings.NewReader(body)))
}

func replyWith(status int, body io.ReadCloser) *http.Response {
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: http.Header{"Api-Version": {"1.41"}, "Content-Type": {"application/json"}}, Body: body}
}

func fixed(status int, body string) func(*http.Request) *http.Response {
	return func(*http.Request) *http.Response { return reply200(status, body) }
}

// healthy answers everything that a start from a present image asks for.
func healthy() *stub {
	return &stub{answer: map[string]func(*http.Request) *http.Response{
		"GET /_ping":                      fixed(200, "OK"),
		"GET /containers/json":            fixed(200, "[]"),
		"GET /images/json":                fixed(200, "[]"),
		"GET /images/worker:test/json":    fixed(200, `{"Id":"sha256:1","Os":"linux","Architecture":"amd64"}`),
		"POST /containers/create":         fixed(201, `{"Id":"c1","Warnings":null}`),
		"POST /containers/c1/start":       fixed(204, ""),
		"POST /networks/second/connect":   fixed(200, ""),
		"POST /networks/third%2F/connect": fixed(200, ""),
	}}
}

func (s *stub) connect(t testing.TB) backends.Backend {
	t.Helper()
	b, err := ConnectHTTP(context.Background(), backends.ConnectOptions{Target: "local", Engine: "e1", Settings: field.Object{"docker_host": field.String("tcp://stub:2375")}},
		func(http.RoundTripper) http.RoundTripper { return s })
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *stub) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls, s.bodies = nil, nil
}

func (s *stub) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.calls...)
}

// bodyOf is what was sent with the first call of that name.
func (s *stub) bodyOf(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range s.calls {
		if c == key {
			return s.bodies[i]
		}
	}
	return ""
}

const stubInstance = "01J8Z3"

func stubBound(change func(*spec.Bound)) spec.Bound {
	labels := map[string]string{spec.LabelEngine: "e1", spec.LabelInstance: stubInstance, spec.NoteWorker: "web/linux", spec.LabelWorker: "linux"}
	b := spec.Bound{
		Plan: spec.Plan{
			Backend: "docker", Pull: field.Object{"image": field.String("worker:test"), "policy": field.String("missing")},
			Create: field.Object{
				"name": field.String("linux-01j8z3"), "Image": field.String("worker:test"),
				"Env":        field.List{field.String("WORKERNAME=linux"), field.Text{{Text: "WORKERPASS="}, {Secret: field.SecretRef{Provider: spec.InstanceProvider, Name: "password"}}}},
				"Labels":     objectOf(labels),
				"HostConfig": field.Object{"Init": field.Bool(true), "Memory": field.Int(1 << 30), "CapDrop": field.List{field.String("net_raw")}},
			},
		},
		Identity: spec.Identity{
			Engine: "e1", Instance: stubInstance, Worker: "web/linux", WorkerName: "linux", ObjectName: "linux-01j8z3", Labels: labels,
			Env: []spec.EnvVar{{Name: "WORKERNAME", Value: field.String("linux")}, {Name: "WORKERPASS", Value: field.Text{{Secret: field.SecretRef{Provider: spec.InstanceProvider, Name: "password"}}}}},
		},
		Digest: "v1:abc",
	}
	if change != nil {
		change(&b)
	}
	return b
}

func stubAdmit(t testing.TB, b spec.Bound) policy.Admitted {
	t.Helper()
	a, _, err := policy.Judge(context.Background(), Kind{}, b)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const stubPassword = "pa55w0rd"

func stubOptions() backends.StartOptions {
	return backends.StartOptions{PullGrace: time.Millisecond, Fill: func(field.SecretRef) (string, error) { return stubPassword, nil }}
}

// endless is a reply that never ends.
type endless struct{ text []byte }

func (e endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], e.text)
	}
	return n, nil
}

func (endless) Close() error { return nil }

func repeat(text string) io.ReadCloser { return endless{bytes.Repeat([]byte(text), 1+4096/len(text))} }

func objectOf(m map[string]string) field.Object {
	o := make(field.Object, len(m))
	for k, v := range m {
		o[k] = field.String(v)
	}
	return o
}
