//go:build integration

package docker_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/backends/backendtest"
	"github.com/latent-engine/latent-engine/backends/docker"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/policy"
	"github.com/latent-engine/latent-engine/internal/testenv"
)

func each(t *testing.T, test func(*testing.T, *testenv.Engine)) {
	for _, e := range testenv.Engines(t) {
		t.Run(e.Name, func(t *testing.T) {
			e.LoadWorkerImage(t, workerImage)
			t.Setenv("DOCKER_CONFIG", t.TempDir())
			test(t, e)
		})
	}
}

// TestReferences: a digest, an id, a short id and docker.io/… are found with the one look that a start takes.
func TestReferences(t *testing.T) {
	each(t, func(t *testing.T, e *testenv.Engine) {
		registry := testenv.NewRegistry(t)
		digest := registry.Push(t, "repo:1", testenv.WorkerImage(t))
		id := e.LoadWorkerImage(t, workerImage)
		for _, ref := range []string{
			registry.Host() + "/repo@" + digest, registry.Host() + "/repo:1@" + digest, registry.Host() + "/repo:1",
			id, strings.TrimPrefix(id, "sha256:")[:12], "docker.io/library/worker:test", "library/worker:test",
		} {
			r := newRig(t, e, nil)
			for n := range 2 {
				before := len(r.calls.Calls())
				_, b := r.must(field.Object{"image": field.String(ref)})
				looks, pulls := 0, 0
				for _, c := range r.calls.Calls()[before:] {
					if strings.Contains(c.Path, "/images/") && c.Method == http.MethodGet {
						looks++
					}
					if strings.HasSuffix(c.Path, "/images/create") {
						pulls++
					}
				}
				if looks != 1 || n == 1 && pulls != 0 {
					t.Errorf("%s: start %d took %d looks and %d pulls", ref, n, looks, pulls)
				}
				if err := r.backend.Stop(t.Context(), b.Instance, backends.StopOptions{Fast: true}); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// TestPullOnce: ten starts from one absent image are one pull; one that gives up does not take it from the others.
func TestPullOnce(t *testing.T) {
	each(t, func(t *testing.T, e *testenv.Engine) {
		registry := testenv.NewRegistry(t, testenv.WithAuth())
		registry.Push(t, "once:1", testenv.WorkerImage(t).WithFile(t, "once", 0o644, []byte(e.Name)))
		r := newRig(t, e, field.Object{"docker_config": field.String(credentials(t, registry))})
		registry.Stall()
		first, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for n := range 10 {
			a, _ := r.admit(field.Object{"image": field.String(registry.Host() + "/once:1")})
			ctx := t.Context()
			if n == 0 {
				ctx = first
			}
			wg.Go(func() {
				_, err := r.backend.Start(ctx, a, backends.StartOptions{Fill: r.secrets.Fill})
				if (err != nil) != (n == 0) {
					t.Errorf("start %d: %v", n, err)
				}
			})
		}
		registry.WaitStalled(t)
		time.Sleep(300 * time.Millisecond)
		cancel()
		time.Sleep(100 * time.Millisecond)
		registry.Unstall()
		wg.Wait()
		pulls := 0
		for _, c := range r.calls.Calls() {
			if strings.HasSuffix(c.Path, "/images/create") {
				pulls++
			}
		}
		if pulls != 1 {
			t.Errorf("there were %d pulls", pulls)
		}
	})
}

// credentials is docker's configuration folder with what an asking registry wants, by way of a credential helper.
func credentials(t *testing.T, registry *testenv.Registry) string {
	t.Helper()
	folder := t.TempDir()
	helper := fmt.Sprintf("#!/bin/sh\ncat >/dev/null\necho '{\"ServerURL\":%q,\"Username\":%q,\"Secret\":%q}'\n", registry.Host(), registry.Username, registry.Password)
	if err := os.WriteFile(filepath.Join(folder, "docker-credential-test"), []byte(helper), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(folder, "config.json"), fmt.Sprintf(`{"credHelpers":{%q:"test"}}`, registry.Host()))
	t.Setenv("PATH", folder+":"+os.Getenv("PATH"))
	return folder
}

// TestPullHiccup: a registry that fails for a moment is asked again within the grace.
func TestPullHiccup(t *testing.T) {
	each(t, func(t *testing.T, e *testenv.Engine) {
		registry := testenv.NewRegistry(t)
		registry.Push(t, "hiccup:1", testenv.WorkerImage(t).WithFile(t, "hiccup", 0o644, []byte(e.Name)))
		r := newRig(t, e, nil)
		registry.Fail(-1, 503)
		time.AfterFunc(1500*time.Millisecond, func() { registry.Fail(0, 0) })
		if _, _, err := r.start(field.Object{"image": field.String(registry.Host() + "/hiccup:1")}, 30*time.Second); err != nil {
			t.Error(err)
		}
	})
}

// TestTLS reaches the engine as a remote one, with a client certificate, and without.
func TestTLS(t *testing.T) {
	each(t, func(t *testing.T, e *testenv.Engine) {
		addr, ca, cert, key := e.TCP(t)
		with := field.Object{"ca_cert": field.String(ca), "client_cert": field.Object{"cert": field.String(cert), "key": field.String(key)}}
		r := newRig(t, e, field.Object{"docker_host": field.String("tcp://" + addr), "tls": with})
		_, b := r.must(field.Object{"image": field.String(workerImage)})
		if s, err := r.backend.Inspect(t.Context(), b.Instance); err != nil || s.State != backends.StateRunning {
			t.Errorf("Inspect gave %+v, %v", s, err)
		}
		if a, err := r.backend.AdvertiseFor(t.Context()); err != nil || a != e.Gateway() {
			t.Errorf("AdvertiseFor gave %q, %v; want %s", a, err, e.Gateway())
		}
		for name, tls := range map[string]field.Value{"plain": nil, "no certificate": field.Object{"ca_cert": field.String(ca)}, "unknown CA": field.Bool(true)} {
			_, err := docker.Kind{}.Connect(t.Context(), backends.ConnectOptions{Engine: "e1", Settings: field.Object{"docker_host": field.String("tcp://" + addr), "tls": tls}})
			var f *backends.Failure
			if !errors.As(err, &f) || !strings.HasPrefix(f.Message, "cannot connect to docker at tcp://") {
				t.Errorf("%s: %v", name, err)
			} else {
				t.Logf("%s: %s (%s)", name, f.Message, f.Class)
			}
		}
	})
}

// TestVersion: a version that the engine does not speak is the operator's mistake.
func TestVersion(t *testing.T) {
	each(t, func(t *testing.T, e *testenv.Engine) {
		b, err := docker.Kind{}.Connect(t.Context(), backends.ConnectOptions{Engine: "e1", Settings: field.Object{"docker_host": field.String(e.Host()), "version": field.String("1.99")}})
		if err == nil {
			defer b.Close()
			_, err = b.List(t.Context())
		}
		var f *backends.Failure
		if !errors.As(err, &f) || f.Class != backends.ClassConfig || f.Field != "version" {
			t.Errorf("got %+v, %v", f, err)
		}
	})
}

// TestKeptImageStays: a named image is built once, stays after its instances, and its build leaves nothing beside it.
func TestKeptImageStays(t *testing.T) {
	each(t, func(t *testing.T, e *testenv.Engine) {
		r := newRig(t, e, nil)
		fields := field.Object{"image": field.String("kept:1"), "dockerfile": field.String(buildText(0)), "buildargs": field.Object{"TOKEN": field.String("x")}}
		for range 2 {
			_, b := r.must(fields)
			if err := r.backend.Stop(t.Context(), b.Instance, backends.StopOptions{Fast: true}); err != nil {
				t.Error(err)
			}
		}
		builds := 0
		for _, c := range r.calls.Calls() {
			if strings.HasSuffix(c.Path, "/build") {
				builds++
			}
		}
		objects, err := r.backend.List(t.Context())
		if err != nil || len(objects) != 1 || !objects[0].Kept || objects[0].Instance != "" || builds != 1 {
			t.Errorf("after %d builds List gave %+v, %v", builds, objects, err)
		}
	})
}

// TestChangedContextIsNotBuilt: what is sent is what was judged, or nothing is built.
func TestChangedContextIsNotBuilt(t *testing.T) {
	each(t, func(t *testing.T, e *testenv.Engine) {
		r := newRig(t, e, nil)
		writeFile(t, filepath.Join(r.root, "c", "Dockerfile"), "FROM worker:test\nCOPY f /f\n")
		writeFile(t, filepath.Join(r.root, "c", "f"), "1")
		a, _ := r.admit(field.Object{"custom_context": field.String("c")})
		writeFile(t, filepath.Join(r.root, "c", "f"), "2")
		before := objects(t, e)
		_, err := r.backend.Start(t.Context(), a, backends.StartOptions{Fill: r.secrets.Fill, Root: r.root})
		if f := backends.AsFailure(err); f == nil || f.Class != backends.ClassConfig || !strings.Contains(f.Message, "the context changed") {
			t.Errorf("Start gave %v", err)
		}
		if now := objects(t, e); len(now) != len(before) {
			t.Errorf("left: %v, before %v", now, before)
		}
	})
}

const childVariable = "LATENT_TEST_DOCKER_CHILD"

// TestKilledInTheMiddle kills a process that starts, with SIGKILL, in the middle of its build: what is left is found by
// List, as that instance's, and Stop takes all of it away.
func TestKilledInTheMiddle(t *testing.T) {
	each(t, func(t *testing.T, e *testenv.Engine) {
		for _, moment := range []string{"starting worker", "COPY --from", "ENV A=1"} {
			t.Run(moment, func(t *testing.T) {
				before := objects(t, e)
				r := newRig(t, e, nil)
				cmd := exec.Command(os.Args[0])
				seconds := "0"
				if moment == "starting worker" {
					seconds = "20"
				}
				cmd.Env = append(os.Environ(), childVariable+"="+strings.Join([]string{e.Host(), r.engine, moment, seconds}, "|"))
				out, err := cmd.CombinedOutput()
				if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != -1 {
					t.Fatalf("the child was not killed: %v\n%s", err, out)
				}
				// The engine ends the step in its own time.
				time.Sleep(1500 * time.Millisecond)
				left, err := r.backend.List(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if len(left) == 0 {
					t.Log("nothing was left")
				}
				for _, o := range left {
					if o.Instance != childInstance || o.Kept || o.Status != nil {
						t.Errorf("List gave %+v", o)
					}
				}
				if err := r.backend.Stop(t.Context(), childInstance, backends.StopOptions{Fast: true}); err != nil {
					t.Error(err)
				}
				if now := objects(t, e); strings.Join(now, "\n") != strings.Join(before, "\n") {
					t.Errorf("left: %v, before: %v", now, before)
				}
			})
		}
	})
}

const childInstance = "01J8Z3KILLEDKILLEDKILLEDKI"

// killedChild is the process that TestKilledInTheMiddle kills: it starts what task says (docker_host, engine id, the words
// of progress at which it dies, seconds that a step of the build sleeps), and ends only where it was not killed.
func killedChild(task string) error {
	parts := strings.Split(task, "|")
	if len(parts) != 4 {
		return fmt.Errorf("%s is not HOST|ENGINE|MOMENT|SECONDS", childVariable)
	}
	seconds, err := strconv.Atoi(parts[3])
	if err != nil {
		return err
	}
	ctx := context.Background()
	fields := field.Object{"dockerfile": field.String(buildText(seconds)), "buildargs": field.Object{"TOKEN": field.String("x")}}
	plan, err := backendtest.Plan(ctx, docker.Kind{}, backends.ConvertInput{Tenant: "web", Worker: "linux", Target: "local", Fields: fields}, "", parts[1], childInstance)
	if err != nil {
		return err
	}
	a, _, err := policy.Judge(ctx, docker.Kind{}, plan)
	if err != nil {
		return err
	}
	b, err := docker.Kind{}.Connect(ctx, backends.ConnectOptions{Engine: parts[1], Settings: field.Object{"docker_host": field.String(parts[0])}})
	if err != nil {
		return err
	}
	_, err = b.Start(ctx, a, backends.StartOptions{
		Fill: func(field.SecretRef) (string, error) { return "x", nil },
		Progress: func(p backends.Progress) {
			if strings.Contains(p.Message, parts[2]) {
				self, _ := os.FindProcess(os.Getpid())
				_ = self.Kill()
				select {}
			}
		},
	})
	return fmt.Errorf("it was not killed: %v", err)
}
