//go:build integration

package testenv

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// pull has an engine pull a reference, and returns an error of the call or of the stream.
func pull(ctx context.Context, e *Engine, ref, user, password string) error {
	header := http.Header{}
	if user != "" {
		login, err := json.Marshal(map[string]string{"username": user, "password": password})
		if err != nil {
			return err
		}
		header.Set("X-Registry-Auth", base64.URLEncoding.EncodeToString(login))
	}
	answer, err := e.do(ctx, http.MethodPost, "/images/create?"+url.Values{"fromImage": {ref}}.Encode(), header, nil)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(answer) {
		var message struct{ Error string }
		if err := json.Unmarshal(line, &message); err != nil {
			return err
		}
		if message.Error != "" {
			return fmt.Errorf("%s", message.Error)
		}
	}
	return nil
}

// noise is content that no engine has and that does not compress.
func noise(size int) []byte {
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	return content
}

// remove takes an image away again, so that every pull has something to do.
func remove(t *testing.T, e *Engine, ref string) {
	t.Helper()
	call(t, e, http.MethodDelete, "/images/"+ref+"?force=1", "")
}

func TestRegistry(t *testing.T) {
	for _, e := range Engines(t) {
		t.Run(e.Name, func(t *testing.T) {
			r := NewRegistry(t)
			ref := r.Host() + "/group/worker:1"
			if err := pull(t.Context(), e, ref, "", ""); err == nil {
				t.Error("an image that is not there was pulled")
			}
			image := WorkerImage(t).WithFile(t, "/noise", 0o644, noise(1000)).With(func(c *ImageConfig) {
				c.Env = []string{"WORKER_EXIT=4"}
				c.Labels = map[string]string{"a": "b"}
			})
			digest := r.Push(t, "group/worker:1", image)
			for _, ref := range []string{ref, r.Host() + "/group/worker@" + digest} {
				if err := pull(t.Context(), e, ref, "", ""); err != nil {
					t.Errorf("pull %s: %v", ref, err)
				}
			}
			var found struct {
				RepoDigests []string
				Config      ImageConfig
			}
			if err := json.Unmarshal(call(t, e, http.MethodGet, "/images/"+ref+"/json", ""), &found); err != nil {
				t.Fatal(err)
			}
			if len(found.RepoDigests) != 1 || !strings.HasSuffix(found.RepoDigests[0], digest) || found.Config.Labels["a"] != "b" {
				t.Errorf("pulled %+v; want digest %s and label a=b", found, digest)
			}
			if code := wait(t, e, create(t, e, ref, nil, nil)); code != 4 {
				t.Errorf("the pulled worker exits with %d; want 4", code)
			}

			r.Stop()
			if conn, err := net.Dial("tcp", r.Host()); err == nil {
				conn.Close()
				t.Error("a stopped registry takes connections")
			}
			if err := pull(t.Context(), e, ref, "", ""); err == nil {
				t.Error("pulled from a stopped registry")
			}
			r.Start(t)
			if err := pull(t.Context(), e, ref, "", ""); err != nil {
				t.Errorf("after Start: %v", err)
			}
		})
	}
}

func TestRegistryAuth(t *testing.T) {
	for _, e := range Engines(t) {
		t.Run(e.Name, func(t *testing.T) {
			r := NewRegistry(t, WithAuth())
			r.Push(t, "worker:1", WorkerImage(t))
			ref := r.Host() + "/worker:1"
			for _, login := range [][2]string{{"", ""}, {r.Username, "wrong"}, {"nobody", r.Password}} {
				if err := pull(t.Context(), e, ref, login[0], login[1]); err == nil {
					t.Errorf("pulled as %q", login)
				} else {
					t.Logf("as %q: %v", login, err)
				}
			}
			if err := pull(t.Context(), e, ref, r.Username, r.Password); err != nil {
				t.Errorf("pull with credentials: %v", err)
			}
		})
	}
}

func TestRegistryFail(t *testing.T) {
	for _, e := range Engines(t) {
		t.Run(e.Name, func(t *testing.T) {
			r := NewRegistry(t)
			r.Push(t, "worker:1", WorkerImage(t))
			ref := r.Host() + "/worker:1"
			for _, status := range []int{429, 500, 503} {
				r.Fail(-1, status)
				err := pull(t.Context(), e, ref, "", "")
				if err == nil {
					t.Errorf("status %d: pulled", status)
				}
				t.Logf("status %d: %v", status, err)
				r.Fail(0, 0)
				if err := pull(t.Context(), e, ref, "", ""); err != nil {
					t.Errorf("after status %d: %v", status, err)
				}
				remove(t, e, ref)
			}
			// Counted exactly: no engine, so no retries that are not ours.
			r.Fail(2, http.StatusServiceUnavailable)
			var got []int
			for range 3 {
				response, err := http.Get("http://" + r.Host() + "/v2/")
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				got = append(got, response.StatusCode)
			}
			if fmt.Sprint(got) != "[503 503 200]" {
				t.Errorf("statuses %v; want two failures, then 200", got)
			}
			if requests := r.Requests(); requests[len(requests)-2] != "GET /v2/ (failed with 503)" || requests[len(requests)-1] != "GET /v2/" {
				t.Errorf("requests:\n%s", strings.Join(requests, "\n"))
			}
		})
	}
}

func TestRegistryStall(t *testing.T) {
	for _, e := range Engines(t) {
		t.Run(e.Name, func(t *testing.T) {
			r := NewRegistry(t)
			r.Push(t, "worker:1", WorkerImage(t).WithFile(t, "noise", 0o644, noise(1<<20)))
			ref := r.Host() + "/worker:1"

			r.Stall()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- pull(ctx, e, ref, "", "") }()
			r.WaitStalled(t)
			select {
			case err := <-done:
				t.Fatalf("the pull ended while stalled: %v", err)
			case <-time.After(300 * time.Millisecond):
			}
			cancel()
			if err := <-done; err == nil {
				t.Error("a cancelled pull succeeded")
			}
			// Debian's engine keeps the connections of a cancelled pull until they move again.
			r.Unstall()
			for deadline := time.Now().Add(20 * time.Second); r.Stalled() > 0; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d blobs still wait after Unstall", r.Stalled())
				}
			}

			r.Stall()
			go func() { done <- pull(t.Context(), e, ref, "", "") }()
			r.WaitStalled(t)
			r.Unstall()
			if err := <-done; err != nil {
				t.Errorf("after Unstall: %v", err)
			}
		})
	}
}
