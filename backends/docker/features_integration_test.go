//go:build integration

package docker_test

import (
	"bufio"
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
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
