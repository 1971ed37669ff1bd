//go:build integration

package docker_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dsnet/compress/bzip2"
	"github.com/oklog/ulid/v2"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/backends/backendtest"
	"github.com/latent-engine/latent-engine/backends/docker"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/policy"
	"github.com/latent-engine/latent-engine/internal/testenv"
)

// untilLine reads an instance's log until a line that begins so.
func untilLine(t *testing.T, b backends.Backend, instance, prefix string) string {
	t.Helper()
	body, err := b.Logs(t.Context(), instance, backends.LogOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	stop := time.AfterFunc(30*time.Second, func() { body.Close() })
	defer stop.Stop()
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), prefix) {
			return lines.Text()
		}
	}
	t.Fatalf("the log has no line that begins with %q: %v", prefix, lines.Err())
	return ""
}

// TestKilledChild: a process beside the worker that the kernel killed for memory is a warning, however one looks; a worker that
// is killed by SIGKILL later was not ended by that; one that the kernel killed itself is final.
func TestKilledChild(t *testing.T) {
	each(t, func(t *testing.T, e *testenv.Engine) {
		r := newRig(t, e, nil)
		limit := field.Object{"mem_limit": field.String("48m"), "memswap_limit": field.String("48m")}
		told := make(chan backends.Status, 100)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = r.backend.Watch(ctx, nil, func(s backends.Status) { told <- s }) }()
		_, b := r.must(field.Object{"image": field.String(workerImage), "env": field.Object{"WORKER_CHILD_OOM": field.String("1")}, "hostconfig": limit})
		_, calm := r.must(field.Object{"image": field.String(workerImage)})
		if l := untilLine(t, r.backend, b.Instance, "the child ended"); !strings.HasSuffix(l, "killed") {
			t.Fatal(l)
		}
		warned := func(s *backends.Status) bool {
			if s == nil {
				return false
			}
			if s.State != backends.StateRunning || s.Failure != nil || s.Instance == calm.Instance && len(s.Warnings) > 0 {
				t.Errorf("status %+v, failure %+v", *s, s.Failure)
			}
			return s.Instance == b.Instance && len(s.Warnings) == 1 && strings.Contains(s.Warnings[0], "hostconfig.mem_limit")
		}
		within(t, 10*time.Second, "Inspect warns", func() bool {
			s, err := r.backend.Inspect(t.Context(), b.Instance)
			return err == nil && warned(&s)
		})
		within(t, 10*time.Second, "List warns", func() bool {
			list, err := r.backend.List(t.Context())
			return err == nil && slices.ContainsFunc(list, func(o backends.Object) bool { return warned(o.Status) })
		})
		within(t, 10*time.Second, "Watch warns", func() bool {
			select {
			case s := <-told:
				return s.State == backends.StateRunning && warned(&s)
			default:
				return false
			}
		})
		if s, err := r.backend.Inspect(t.Context(), calm.Instance); err != nil || len(s.Warnings) > 0 {
			t.Errorf("Inspect gave %+v, %v", s, err)
		}
		// Long after what happened to the child.
		time.Sleep(3 * time.Second)
		api(t, e, http.MethodPost, "/containers/"+b.ObjectName+"/kill?signal=KILL", nil)
		within(t, 10*time.Second, "the worker ends", func() bool {
			s, err := r.backend.Inspect(t.Context(), b.Instance)
			if err != nil || s.State != backends.StateExited {
				return false
			}
			if f := s.Failure; f == nil || f.Class != backends.ClassCrashed || !f.Retryable || !strings.Contains(f.Message, "SIGKILL") || !strings.Contains(f.Hint, "hostconfig.mem_limit") || len(s.Warnings) != 1 {
				t.Errorf("status %+v, failure %+v", s, s.Failure)
			}
			return true
		})
		_, b = r.must(field.Object{"image": field.String(workerImage), "env": field.Object{"WORKER_OOM": field.String("1")}, "hostconfig": limit})
		within(t, 20*time.Second, "the worker is killed", func() bool {
			s, err := r.backend.Inspect(t.Context(), b.Instance)
			if err != nil || s.State != backends.StateExited {
				return false
			}
			if f := s.Failure; f == nil || f.Class != backends.ClassOOM || f.Retryable || !strings.Contains(f.Message, "memory limit of 48MiB") || len(s.Warnings) != 0 {
				t.Errorf("status %+v, failure %+v", s, s.Failure)
			}
			return true
		})
	})
}

// within waits until something is so.
func within(t *testing.T, limit time.Duration, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, limit)
		}
	}
}

// environmentOf is an image's.
func environmentOf(t *testing.T, e *testenv.Engine, ref string) []string {
	t.Helper()
	var image struct{ Config struct{ Env []string } }
	if err := json.Unmarshal(api(t, e, http.MethodGet, "/images/"+ref+"/json", nil), &image); err != nil {
		t.Fatal(err)
	}
	return image.Config.Env
}

// TestBuildTarget: the stages up to the target are built and none behind it, with the build's arguments, from every form of a
// context; and nothing stays when the instance goes.
func TestBuildTarget(t *testing.T) {
	const text = `ARG BASE=nowhere:1
FROM ${BASE} AS base
ARG GREETING=none
ENV GREETING=$GREETING
COPY data/a /a
RUN ["/worker", "WORKER_LOG_LINES=1", "WORKER_EXIT=0"]
FROM base AS wanted
ENV STAGE=wanted
FROM base AS broken
RUN ["/worker", "WORKER_EXIT=9"]
`
	var plain bytes.Buffer
	w := tar.NewWriter(&plain)
	for _, f := range [][2]string{{"Dockerfile", text}, {"data/a", "content"}} {
		if err := w.WriteHeader(&tar.Header{Name: f[0], Mode: 0o644, Size: int64(len(f[1])), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var zipped, bzipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	b, err := bzip2.NewWriter(&bzipped, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []io.WriteCloser{z, b} {
		if _, err := to.Write(plain.Bytes()); err != nil {
			t.Fatal(err)
		}
		if err := to.Close(); err != nil {
			t.Fatal(err)
		}
	}
	each(t, func(t *testing.T, e *testenv.Engine) {
		before := objects(t, e)
		for _, c := range []struct {
			name     string
			archive  []byte // nil = a folder
			encoding field.String
			magic    string // of what is sent
		}{
			{"folder", nil, "", "\x1f\x8b"},
			{"plain", plain.Bytes(), "", "\x1f\x8b"},
			{"plain sent as bzip2", plain.Bytes(), "bzip2", "BZh"},
			{"gzip", zipped.Bytes(), "gzip", "\x1f\x8b"},
			{"bzip2", bzipped.Bytes(), "bzip", "BZh"},
		} {
			t.Run(c.name, func(t *testing.T) {
				r := newRig(t, e, nil)
				fields := field.Object{"target": field.String("wanted"), "buildargs": field.Object{"BASE": field.String(workerImage), "GREETING": field.String("hello " + c.name)}}
				if c.archive == nil {
					writeFile(t, filepath.Join(r.root, "c", "Dockerfile"), text)
					writeFile(t, filepath.Join(r.root, "c", "data", "a"), "content")
					fields["custom_context"] = field.String("c")
				} else {
					// As Buildbot's users have it.
					writeFile(t, filepath.Join(r.root, "c.tar"), string(c.archive))
					fields["custom_context"], fields["dockerfile"] = field.Bool(true), field.String("c.tar")
				}
				if c.encoding != "" {
					fields["encoding"] = c.encoding
				}
				s, bound := r.must(fields)
				untilLine(t, r.backend, s.Instance, "starting worker")
				env := environmentOf(t, e, string(bound.Create["Image"].(field.String)))
				if !slices.Contains(env, "STAGE=wanted") || !slices.Contains(env, "GREETING=hello "+c.name) {
					t.Errorf("the image has %q", env)
				}
				if got := fileOf(t, e, bound.ObjectName, "/a"); got != "content" {
					t.Errorf("/a is %q", got)
				}
				sent := ""
				for _, call := range r.calls.Calls() {
					if strings.HasSuffix(call.Path, "/build") {
						sent = string(call.Body)
					}
				}
				if !strings.HasPrefix(sent, c.magic) {
					t.Errorf("the context was sent as %.4q", sent)
				}
				if err := r.backend.Stop(t.Context(), s.Instance, backends.StopOptions{Fast: true}); err != nil {
					t.Error(err)
				}
				if left := objects(t, e); !slices.Equal(left, before) {
					t.Errorf("left: %v, before: %v", left, before)
				}
			})
		}
	})
}

// fileOf reads a file of a container.
func fileOf(t *testing.T, e *testenv.Engine, container, path string) string {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(api(t, e, http.MethodGet, "/containers/"+container+"/archive?path="+path, nil)))
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestTerminal: a container with a terminal has one stream without frames. No option of a definition makes one; the plan can.
func TestTerminal(t *testing.T) {
	each(t, func(t *testing.T, e *testenv.Engine) {
		r := newRig(t, e, nil)
		start := func(env field.Object) string {
			bound, err := backendtest.Plan(t.Context(), docker.Kind{}, backends.ConvertInput{
				Tenant: "web", Worker: "linux", Target: "local", Connection: r.fields, Fields: field.Object{"image": field.String(workerImage), "env": env},
			}, r.root, r.engine, ulid.Make().String())
			if err != nil {
				t.Fatal(err)
			}
			bound.Create["Tty"] = field.Bool(true)
			a, _, err := policy.Judge(t.Context(), docker.Kind{}, bound)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.backend.Start(t.Context(), a, backends.StartOptions{Fill: r.secrets.Fill}); err != nil {
				t.Fatal(err)
			}
			return bound.Instance
		}
		read := func(instance string, o backends.LogOptions) []string {
			body, err := r.backend.Logs(t.Context(), instance, o)
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			text, err := io.ReadAll(body)
			if err != nil {
				t.Fatal(err)
			}
			return strings.Split(strings.TrimSuffix(string(text), "\r\n"), "\r\n")
		}
		instance := start(field.Object{"WORKER_LOG_LINES": field.String("5"), "WORKER_SLEEP": field.String("1"), "WORKER_EXIT": field.String("3")})
		// Follows from the first line to the worker's end.
		all := read(instance, backends.LogOptions{Follow: true})
		if len(all) != 7 || !strings.HasPrefix(all[0], "starting worker") || all[5] != "line 5 of 5" || all[6] != "exiting with code 3" {
			t.Errorf("the log is %q", all)
		}
		if got := read(instance, backends.LogOptions{Tail: 2}); !slices.Equal(got, all[5:]) {
			t.Errorf("the log's last two lines are %q", got)
		}
		for i, l := range read(instance, backends.LogOptions{Tail: 3, Timestamps: true}) {
			stamp, rest, _ := strings.Cut(l, " ")
			if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil || rest != all[4+i] {
				t.Errorf("a line with its time is %q", l)
			}
		}
		within(t, 10*time.Second, "the worker ends", func() bool {
			s, err := r.backend.Inspect(t.Context(), instance)
			if err != nil || s.State != backends.StateExited {
				return false
			}
			if f := s.Failure; f == nil || !slices.Equal(f.Log, all) {
				t.Errorf("the failure is %+v", s.Failure)
			}
			return true
		})
	})
}

// TestNamedBuildCancelled: a build of a named image that is cancelled about its end leaves the image with its name, or nothing.
func TestNamedBuildCancelled(t *testing.T) {
	each(t, func(t *testing.T, e *testenv.Engine) {
		before := objects(t, e)
		for n, wait := range []time.Duration{0, 60, 240} {
			r := newRig(t, e, nil)
			name := fmt.Sprintf("cancelled:%d", n)
			a, _ := r.admit(field.Object{"image": field.String(name), "dockerfile": field.String(fmt.Sprintf("FROM %s\nENV N=%d\nENV LAST=%d\n", workerImage, n, n))})
			ctx, cancel := context.WithCancel(t.Context())
			_, err := r.backend.Start(ctx, a, backends.StartOptions{Fill: r.secrets.Fill, Progress: func(p backends.Progress) {
				if strings.Contains(p.Message, "ENV LAST") {
					time.AfterFunc(wait*time.Millisecond, cancel)
				}
			}})
			cancel()
			if f := backends.AsFailure(err); err != nil && f.Class != backends.ClassCancelled {
				t.Errorf("%dms: %v", wait, err)
			}
			list, err := r.backend.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range list {
				if o.Kind == "image" && !strings.HasSuffix(o.Name, "/"+name) {
					t.Errorf("%dms: left %+v", wait, o)
				}
				if err := r.backend.Remove(t.Context(), o); err != nil {
					t.Error(err)
				}
			}
			if left := objects(t, e); !slices.Equal(left, before) {
				t.Errorf("%dms: left %v, before %v", wait, left, before)
			}
		}
	})
}
