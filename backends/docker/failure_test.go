package docker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
)

// TestRecordedMessages holds the tables against what real engines said; TestFailures in the integration tests records it anew
// (-record).
func TestRecordedMessages(t *testing.T) {
	text, err := os.ReadFile("testdata/messages.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []struct {
		Engine, Case, Table, Text, Field string
		Class                            backends.Class
		Retryable                        bool
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) < 60 {
		t.Errorf("only %d messages are recorded", len(all))
	}
	b := &backend{}
	for _, c := range all {
		t.Run(c.Case+"/"+c.Engine, func(t *testing.T) {
			var f *backends.Failure
			switch c.Table {
			case "pull":
				f = b.pullFailure(t.Context(), "x:1", &streamError{message: c.Text})
			case "build":
				w := &building{start: &start{backend: b, fill: newFiller(nil)}, tag: "x:1"}
				err := w.failed(t.Context(), &streamError{message: c.Text})
				if !errors.As(err, &f) {
					t.Fatal(err)
				}
				if strings.Contains(c.Case, "heredoc") {
					// These are told by the Dockerfile, which is not recorded.
					return
				}
			default:
				f = b.failure(t.Context(), &callError{what: "start x", status: 500, message: c.Text})
			}
			if f.Class != c.Class || f.Retryable != c.Retryable {
				t.Errorf("%q: class %s, retryable %t; want %s, %t", c.Text, f.Class, f.Retryable, c.Class, c.Retryable)
			}
		})
	}
}

func TestCallFailures(t *testing.T) {
	dead, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		name      string
		ctx       context.Context
		err       error
		class     backends.Class
		retryable bool
		message   string
	}{
		{"cancelled", dead, &callError{what: "create container x", err: context.Canceled}, backends.ClassCancelled, true, "cannot create container x: cancelled"},
		{"permission", nil, &callError{what: "list containers", err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)}}, backends.ClassInfra, true, "cannot list containers: permission denied"},
		{"no socket", nil, &callError{what: "list containers", err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENOENT)}}, backends.ClassInfra, true, "cannot list containers: no such file"},
		{"refused", nil, &callError{what: "list containers", err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, backends.ClassInfra, true, "cannot list containers: connection refused"},
		{"closed", nil, &callError{what: "list containers", err: io.EOF}, backends.ClassInfra, true, "cannot list containers: docker closed the connection"},
		{"no answer", nil, &callError{what: "list containers", err: errNoAnswer}, backends.ClassInfra, true, "cannot list containers: docker gives no answer"},
		{"400", nil, &callError{what: "x", status: 400, message: "bad"}, backends.ClassConfig, false, "cannot x: bad"},
		{"403", nil, &callError{what: "x", status: 403, message: "authorization denied by plugin"}, backends.ClassInfra, false, "cannot x: authorization denied by plugin"},
		{"404", nil, &callError{what: "x", status: 404, message: "gone"}, backends.ClassLost, true, "cannot x: gone"},
		{"500", nil, &callError{what: "x", status: 500, message: "strange"}, backends.ClassUnknown, true, "cannot x: strange"},
		{"503", nil, &callError{what: "x", status: 503, message: "swarm"}, backends.ClassInfra, true, "cannot x: swarm"},
		{"windows", nil, &callError{what: "create container x", status: 500, message: `hcsshim::CreateComputeSystem: The container operating system does not match the host operating system.`}, backends.ClassConfig, false, ""},
		{"not ours", nil, errors.New("strange"), backends.ClassUnknown, false, "strange"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := c.ctx
			if ctx == nil {
				ctx = context.Background()
			}
			f := (&backend{}).failure(ctx, c.err)
			if f.Class != c.class || f.Retryable != c.retryable || c.message != "" && f.Message != c.message {
				t.Errorf("got %+v", f)
			}
		})
	}
}

func TestConnectFailures(t *testing.T) {
	answer := func(f func(*http.Request) *http.Response) func(http.RoundTripper) http.RoundTripper {
		return func(http.RoundTripper) http.RoundTripper {
			return &stub{answer: map[string]func(*http.Request) *http.Response{"GET /_ping": f}}
		}
	}
	noVersion := func(*http.Request) *http.Response {
		r := reply200(200, "<html>hello</html>")
		r.Header = http.Header{}
		return r
	}
	for _, c := range []struct {
		name     string
		settings field.Object
		wrap     func(http.RoundTripper) http.RoundTripper
		class    backends.Class
		message  string
		hint     string
	}{
		{"no socket", field.Object{"docker_host": field.String("unix:///not/there.sock")}, nil, backends.ClassInfra, "cannot connect to docker at unix:///not/there.sock: no such file", "running"},
		{"refused", field.Object{"docker_host": field.String("tcp://127.0.0.1:1")}, nil, backends.ClassInfra, "cannot connect to docker at tcp://127.0.0.1:1: connection refused", "running"},
		{"scheme", field.Object{"docker_host": field.String("gopher://x")}, nil, backends.ClassConfig, "cannot connect to docker at gopher://x: no way to gopher://", ""},
		{"no scheme", field.Object{"docker_host": field.String("nonsense")}, nil, backends.ClassConfig, "", ""},
		{"no engine", nil, answer(noVersion), backends.ClassConfig, "what answers is no Docker Engine", ""},
		{"denied", nil, answer(fixed(403, "<html>no</html>")), backends.ClassInfra, "cannot connect to docker at unix:///var/run/docker.sock: HTTP status", ""},
		{"no certificate", field.Object{"docker_host": field.String("tcp://127.0.0.1:1"), "tls": field.Object{"ca_cert": field.String("/not/there.pem")}}, nil, backends.ClassConfig, "cannot read the CA certificate", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ConnectHTTP(t.Context(), backends.ConnectOptions{Engine: "e1", Settings: c.settings}, c.wrap)
			var f *backends.Failure
			if !errors.As(err, &f) || f.Class != c.class || !strings.Contains(f.Message, c.message) || !strings.Contains(f.Hint, c.hint) {
				t.Errorf("got %+v, %v", f, err)
			}
		})
	}
}

// TestHostileReplies: whatever answers, a call ends, within bounds, as a failure and not as a panic.
func TestHostileReplies(t *testing.T) {
	t.Parallel()
	replies := map[string]func() *http.Response{
		"not JSON":             func() *http.Response { return reply200(200, "<html>hello</html>") },
		"other JSON":           func() *http.Response { return reply200(200, `{"a":[1,2,{"b":null}]}`) },
		"list of null":         func() *http.Response { return reply200(200, `[null,null]`) },
		"null":                 func() *http.Response { return reply200(200, `null`) },
		"wrong types":          func() *http.Response { return reply200(200, `[{"Id":7,"Labels":["x"]}]`) },
		"empty":                func() *http.Response { return reply200(200, ``) },
		"deep":                 func() *http.Response { return reply200(200, strings.Repeat("[", 1<<20)) },
		"endless blanks":       func() *http.Response { return replyWith(200, repeat(" ")) },
		"endless string":       func() *http.Response { return replyWith(200, repeat(`"aaaa`)) },
		"endless list":         func() *http.Response { return replyWith(200, repeat(`[{"Id":"x"},`)) },
		"endless messages":     func() *http.Response { return replyWith(200, repeat(`{"status":"Downloading","id":"a"}`)) },
		"endless error":        func() *http.Response { return replyWith(500, repeat("x")) },
		"long text":            func() *http.Response { return reply200(200, `{"ID":"`+strings.Repeat("x", 1<<20)+`"}`) },
		"error of nothing":     func() *http.Response { return reply200(500, "") },
		"redirect":             func() *http.Response { return reply200(301, "") },
		"huge frame":           func() *http.Response { return reply200(200, "\x01\x00\x00\x00\xff\xff\xff\xff"+"x") },
		"endless empty frames": func() *http.Response { return replyWith(200, repeat("\x01\x00\x00\x00\x00\x00\x00\x00")) },
	}
	all := []string{
		"GET /containers/json", "GET /images/json", "GET /images/worker:test/json", "POST /images/create", "POST /containers/create", "POST /containers/c1/start",
		"GET /containers/c1/json", "GET /containers/c1/logs", "GET /events", "GET /version", "GET /info", "GET /networks/bridge",
	}
	for name, reply := range replies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, hostile := range all {
				s := healthy()
				s.answer["GET /containers/json"] = fixed(200, `[{"Id":"c1","Names":["/linux-01j8z3"],"State":"exited","Labels":{"latent-engine.io/instance":"`+stubInstance+`"}}]`)
				s.answer["GET /containers/c1/json"] = fixed(200, `{"Id":"c1","Name":"/linux-01j8z3","State":{"Status":"exited","ExitCode":3},"Config":{"Labels":{}}}`)
				s.answer["GET /containers/c1/logs"] = fixed(200, "")
				s.answer[hostile] = func(*http.Request) *http.Response { return reply() }
				b := s.connect(t)
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				began := time.Now()
				_, _ = b.Inspect(ctx, stubInstance)
				_, _ = b.List(ctx)
				_, _ = b.Info(ctx)
				if id, _ := b.ID(ctx); len(id) > 200 {
					t.Errorf("%s: an id of %d bytes", hostile, len(id))
				}
				_, _ = b.AdvertiseFor(ctx)
				if body, err := b.Logs(ctx, stubInstance, backends.LogOptions{}); err == nil {
					// Logs are as long as they are: the reader ends it.
					_, _ = io.CopyN(io.Discard, body, 1<<20)
					body.Close()
				}
				_ = b.Watch(ctx, nil, func(backends.Status) {})
				_ = b.Stop(ctx, stubInstance, backends.StopOptions{})
				cancel()
				if hostile != "GET /containers/json" {
					s.answer["GET /containers/json"] = fixed(200, "[]")
				}
				ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
				if strings.HasPrefix(hostile, "POST /images") {
					s.answer["GET /images/worker:test/json"] = fixed(404, "")
				}
				_, _ = b.Start(ctx, stubAdmit(t, stubBound(nil)), stubOptions())
				cancel()
				if took := time.Since(began); took > 20*time.Second {
					t.Errorf("%s: it took %s", hostile, took)
				}
			}
		})
	}
}
