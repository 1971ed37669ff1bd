//go:build integration

package docker_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/backends/backendtest"
	"github.com/latent-engine/latent-engine/backends/docker"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/policy"
	"github.com/latent-engine/latent-engine/engine/spec"
	"github.com/latent-engine/latent-engine/internal/testenv"
)

// -record writes testdata/messages.json: what the engines and the registry said, for the tests that need none.
var record = flag.Bool("record", false, "record the engines' messages")

// rig is one connection for a test.
type rig struct {
	t       *testing.T
	e       *testenv.Engine
	engine  string
	root    string
	backend backends.Backend
	calls   *backendtest.Recorder
	secrets *backendtest.Secrets
	fields  field.Object // connection settings
}

func newRig(t *testing.T, e *testenv.Engine, more field.Object) *rig {
	t.Helper()
	r := &rig{t: t, e: e, engine: "e-" + strings.ToLower(ulid.Make().String()), root: t.TempDir(), calls: &backendtest.Recorder{}, secrets: backendtest.NewSecrets()}
	r.fields = settings(e)
	maps.Copy(r.fields, more)
	r.backend = r.connect()
	t.Cleanup(func() {
		objects, err := r.backend.List(context.Background())
		if err != nil {
			t.Error(err)
		}
		for _, o := range objects {
			if err := r.backend.Remove(context.Background(), o); err != nil {
				t.Error(err)
			}
		}
		r.backend.Close()
	})
	return r
}

func (r *rig) connect() backends.Backend {
	r.t.Helper()
	b, err := docker.ConnectHTTP(r.t.Context(), backends.ConnectOptions{Target: "local", Engine: r.engine, Settings: r.fields, Fill: r.secrets.Fill}, r.calls.Wrap)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

func (r *rig) admit(fields field.Object) (policy.Admitted, spec.Bound) {
	r.t.Helper()
	b, err := backendtest.Plan(r.t.Context(), docker.Kind{}, backends.ConvertInput{Tenant: "web", Worker: "linux", Target: "local", Connection: r.fields, Fields: fields}, r.root, r.engine, ulid.Make().String())
	if err != nil {
		r.t.Fatal(err)
	}
	a, _, err := policy.Judge(r.t.Context(), docker.Kind{}, b)
	if err != nil {
		r.t.Fatal(err)
	}
	return a, b
}

func (r *rig) start(fields field.Object, grace time.Duration) (backends.Status, spec.Bound, error) {
	r.t.Helper()
	a, b := r.admit(fields)
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	s, err := r.backend.Start(ctx, a, backends.StartOptions{Fill: r.secrets.Fill, Root: r.root, PullGrace: grace})
	return s, b, err
}

func (r *rig) must(fields field.Object) (backends.Status, spec.Bound) {
	r.t.Helper()
	s, b, err := r.start(fields, 10*time.Second)
	if err != nil {
		r.t.Fatal(err)
	}
	return s, b
}

// message is one recorded message and the verdict on it.
type message struct {
	Engine    string         `json:"engine"`
	Case      string         `json:"case"`
	Table     string         `json:"table"`
	Text      string         `json:"text"`
	Class     backends.Class `json:"class"`
	Retryable bool           `json:"retryable"`
	Field     string         `json:"field,omitempty"`
}

// TestFailures holds what real engines say to the verdict that is wanted.
func TestFailures(t *testing.T) {
	var recorded []message
	for _, e := range testenv.Engines(t) {
		t.Run(e.Name, func(t *testing.T) {
			e.LoadWorkerImage(t, workerImage)
			t.Setenv("DOCKER_CONFIG", t.TempDir())
			open, closed, dead := testenv.NewRegistry(t), testenv.NewRegistry(t, testenv.WithAuth()), testenv.NewRegistry(t)
			open.Push(t, "there:1", testenv.WorkerImage(t))
			open.Push(t, "other:1", testenv.WorkerImage(t).WithFile(t, "other", 0o644, nil))
			closed.Push(t, "there:1", testenv.WorkerImage(t))
			dead.Push(t, "there:1", testenv.WorkerImage(t))
			dead.Stop()
			wrong := t.TempDir()
			writeFile(t, filepath.Join(wrong, "config.json"), fmt.Sprintf(`{"auths":{%q:{"username":"nobody","password":"wr0ng-s3cr3t"}}}`, closed.Host()))
			noHelper := t.TempDir()
			writeFile(t, filepath.Join(noHelper, "config.json"), fmt.Sprintf(`{"credHelpers":{%q:"not-there"}}`, closed.Host()))

			image := func(ref string) field.Object { return field.Object{"image": field.String(ref)} }
			with := func(more field.Object) field.Object {
				f := image(workerImage)
				maps.Copy(f, more)
				return f
			}
			host := func(k string, v field.Value) field.Object {
				return with(field.Object{"hostconfig": field.Object{k: v}})
			}
			// Without docker's init, which would start, and fail by itself.
			bare := func(entrypoint field.String) field.Object {
				return with(field.Object{"entrypoint": entrypoint, "hostconfig": field.Object{"init": field.Bool(false)}})
			}
			build := func(text string) field.Object { return field.Object{"dockerfile": field.String(text)} }
			text := func(s string) field.String { return field.String(s) }
			const final, again = false, true
			for _, c := range []struct {
				name      string
				only      string // engine
				table     string
				settings  field.Object
				fields    field.Object
				before    func(*testing.T)
				class     backends.Class
				retryable bool
				field     string
				hint      string
				log       string
				pulled    bool // an image stays that was pulled
			}{
				{name: "pull_unknown_repository", table: "pull", fields: image(open.Host() + "/nope:1"), class: backends.ClassImage, retryable: final, field: "image"},
				{name: "pull_unknown_tag", table: "pull", fields: image(open.Host() + "/there:2"), class: backends.ClassImage, retryable: final, field: "image"},
				{name: "pull_unknown_digest", table: "pull", fields: image(open.Host() + "/there@sha256:" + strings.Repeat("ab", 32)), class: backends.ClassImage, retryable: final, field: "image"},
				{name: "pull_no_credentials", table: "pull", fields: image(closed.Host() + "/there:1"), class: backends.ClassImage, retryable: final, field: "image", hint: "docker_config"},
				{name: "pull_wrong_credentials", table: "pull", settings: field.Object{"docker_config": text(wrong)}, fields: image(closed.Host() + "/there:1"), class: backends.ClassImage, retryable: final, field: "image", hint: "docker_config"},
				{name: "pull_helper_missing", settings: field.Object{"docker_config": text(noHelper)}, fields: image(closed.Host() + "/there:1"), class: backends.ClassConfig, retryable: final, field: "docker_config", hint: "credential helper"},
				{name: "pull_429", table: "pull", fields: image(open.Host() + "/there:1"), before: func(*testing.T) { open.Fail(-1, 429) }, class: backends.ClassImage, retryable: again, field: "image", hint: "mirror"},
				{name: "pull_500", table: "pull", fields: image(open.Host() + "/there:1"), before: func(*testing.T) { open.Fail(-1, 500) }, class: backends.ClassImage, retryable: again, field: "image"},
				{name: "pull_503", table: "pull", fields: image(open.Host() + "/there:1"), before: func(*testing.T) { open.Fail(-1, 503) }, class: backends.ClassImage, retryable: again, field: "image"},
				{name: "pull_403", table: "pull", fields: image(open.Host() + "/there:1"), before: func(*testing.T) { open.Fail(-1, 403) }, class: backends.ClassImage, retryable: final, field: "image"},
				{name: "pull_refused", table: "pull", fields: image(dead.Host() + "/there:1"), class: backends.ClassImage, retryable: again, field: "image"},
				{name: "pull_other_platform", table: "call", pulled: true, fields: field.Object{"image": text(open.Host() + "/other:1"), "platform": text("linux/s390x")}, class: backends.ClassConfig, retryable: final, field: "platform", before: func(t *testing.T) {
					t.Cleanup(func() { api(t, e, http.MethodDelete, "/images/"+open.Host()+"/other:1?force=1", nil) })
				}},
				{name: "pull_of_id", fields: image("sha256:" + strings.Repeat("ab", 32)), class: backends.ClassImage, retryable: final, field: "image"},
				{name: "autopull_off", fields: field.Object{"image": text("nowhere:1"), "autopull": field.Bool(false)}, class: backends.ClassImage, retryable: final, field: "image", hint: "autopull"},

				{name: "start_no_program", table: "call", fields: bare(text("/nope")), class: backends.ClassConfig, field: "command", hint: "no such program"},
				{name: "start_no_program_in_path", table: "call", fields: bare(text("nope")), class: backends.ClassConfig, field: "command", hint: "no such program"},
				{name: "start_not_executable", table: "call", fields: bare(text("/etc/passwd")), class: backends.ClassConfig, field: "command", hint: "not executable"},
				{name: "start_unknown_user", table: "call", fields: with(field.Object{"user": text("nobody-here")}), class: backends.ClassConfig, field: "user"},
				{name: "create_missing_bind", table: "call", fields: host("mounts", field.List{field.Object{"Type": text("bind"), "Source": text("/not/there"), "Target": text("/x")}}), class: backends.ClassConfig, field: "hostconfig.mounts"},
				{name: "create_cpus", table: "call", fields: host("nano_cpus", field.Int(4000e9)), class: backends.ClassConfig, field: "hostconfig.nano_cpus"},
				{name: "create_cpuset", table: "call", fields: host("cpuset_cpus", text("4000")), class: backends.ClassConfig, field: "hostconfig.cpuset_cpus"},
				{name: "create_runtime", table: "call", fields: host("runtime", text("nope")), class: backends.ClassConfig, field: "hostconfig.runtime"},
				{name: "create_log_driver", table: "call", fields: host("log_config", field.Object{"Type": text("nope")}), class: backends.ClassConfig, field: "hostconfig.log_config"},
				{name: "start_device", table: "call", fields: host("devices", field.List{text("/dev/nope:/dev/nope:rwm")}), class: backends.ClassConfig, field: "hostconfig.devices"},
				{name: "create_gpu", table: "call", fields: host("device_requests", field.List{field.Object{"Count": field.Int(1), "Capabilities": field.List{field.List{text("gpu")}}}}), class: backends.ClassConfig, field: "hostconfig.device_requests"},
				{name: "start_port_taken", table: "call", fields: host("port_bindings", field.Object{"80/tcp": field.Int(45671)}), class: backends.ClassCapacity, retryable: again, field: "hostconfig.port_bindings", before: func(t *testing.T) {
					api(t, e, http.MethodPost, "/containers/create?name=taker", map[string]any{"Image": workerImage, "HostConfig": map[string]any{"PortBindings": map[string]any{"80/tcp": []any{map[string]string{"HostPort": "45671"}}}}, "ExposedPorts": map[string]any{"80/tcp": map[string]any{}}})
					api(t, e, http.MethodPost, "/containers/taker/start", nil)
					t.Cleanup(func() { api(t, e, http.MethodDelete, "/containers/taker?force=1", nil) })
				}},
				{name: "no_network", table: "call", fields: with(field.Object{"networks": field.List{text("nope")}}), class: backends.ClassConfig, field: "networks"},
				{name: "no_second_network", table: "call", fields: with(field.Object{"networks": field.List{text("bridge"), text("nope")}}), class: backends.ClassConfig, field: "networks"},

				{name: "build_unknown_instruction", table: "build", fields: build("FROM worker:test\nFOO bar\n"), class: backends.ClassConfig, field: "dockerfile"},
				{name: "build_no_from", table: "build", fields: build("RUN x\n"), class: backends.ClassConfig, field: "dockerfile"},
				{name: "build_only_comment", table: "build", fields: build("# nothing\n"), class: backends.ClassConfig, field: "dockerfile"},
				{name: "build_run_mount", table: "build", fields: build("FROM worker:test\nRUN --mount=type=cache,target=/x [\"/worker\",\"WORKER_EXIT=0\"]\n"), class: backends.ClassConfig, field: "dockerfile", hint: "BuildKit"},
				{name: "build_copy_link", only: "debian", table: "build", fields: build("FROM worker:test AS a\nFROM worker:test\nCOPY --link --from=a /worker /w\n"), class: backends.ClassConfig, field: "dockerfile", hint: "BuildKit"},
				{name: "build_heredoc", table: "build", fields: build("FROM worker:test\nCOPY <<EOF /x\nhello\nEOF\n"), class: backends.ClassConfig, field: "dockerfile", hint: "BuildKit"},
				{name: "build_run_heredoc", table: "build", fields: build("# syntax=docker/dockerfile:1\nFROM worker:test\nRUN <<EOF\necho hello\nEOF\n"), class: backends.ClassConfig, field: "dockerfile", hint: "BuildKit"},
				{name: "build_step_fails", table: "build", fields: build("FROM worker:test\nRUN [\"/worker\",\"WORKER_EXIT=4\"]\n"), class: backends.ClassImage, field: "dockerfile", log: "exiting with code 4"},
				{name: "build_no_file", table: "build", fields: build("FROM worker:test\nCOPY nope /x\n"), class: backends.ClassImage, field: "custom_context"},
				{name: "build_no_target", table: "build", fields: field.Object{"dockerfile": text("FROM worker:test AS a\n"), "target": text("b")}, class: backends.ClassConfig, field: "target"},
				{name: "build_no_base", table: "build", fields: build("FROM " + open.Host() + "/nope:1\nENV a=b\n"), class: backends.ClassImage},
				{name: "build_base_wants_credentials", table: "build", fields: build("FROM " + closed.Host() + "/there:1\nENV a=b\n"), class: backends.ClassImage, hint: "docker_config"},
				{name: "build_base_503", table: "build", fields: build("FROM " + open.Host() + "/there:1\nENV a=b\n"), before: func(*testing.T) { open.Fail(-1, 503) }, class: backends.ClassImage, retryable: again},
			} {
				if c.only != "" && c.only != e.Name {
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					r := newRig(t, e, c.settings)
					if c.before != nil {
						c.before(t)
						t.Cleanup(func() { open.Fail(0, 0) })
					}
					kept := objects(t, e)
					_, b, err := r.start(c.fields, 1200*time.Millisecond)
					var f *backends.Failure
					if !errors.As(err, &f) {
						t.Fatalf("Start gave %v", err)
					}
					t.Logf("%s (%s, retryable %t, field %q)\n  reason %q\n  hint %s\n  log %q", f.Message, f.Class, f.Retryable, f.Field, f.Reason, f.Hint, f.Log)
					if f.Class != c.class || f.Retryable != c.retryable || c.field != "" && f.Field != c.field || !strings.Contains(f.Hint, c.hint) {
						t.Errorf("got class %s, retryable %t, field %q, hint %q; want %s, %t, %q, …%s…", f.Class, f.Retryable, f.Field, f.Hint, c.class, c.retryable, c.field, c.hint)
					}
					if c.log != "" && !slices.ContainsFunc(f.Log, func(l string) bool { return strings.Contains(l, c.log) }) {
						t.Errorf("the log is %q", f.Log)
					}
					r.secrets.Unseen(t, fmt.Sprintf("%+v", *f))
					if strings.Contains(fmt.Sprintf("%+v", *f), "wr0ng") {
						t.Error("a credential is seen")
					}
					if now := objects(t, e); !c.pulled && !slices.Equal(now, kept) {
						t.Errorf("something was left: before %v, after %v", kept, now)
					}
					if s, err := r.backend.Inspect(t.Context(), b.Instance); err != nil || s.State != backends.StateGone {
						t.Errorf("Inspect gave %+v, %v", s, err)
					}
					if c.table != "" {
						recorded = append(recorded, message{Engine: e.Version, Case: c.name, Table: c.table, Text: f.Reason, Class: f.Class, Retryable: f.Retryable, Field: f.Field})
					}
				})
			}
		})
	}
	if *record && !t.Failed() {
		text, err := json.MarshalIndent(recorded, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("testdata/messages.json", append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
