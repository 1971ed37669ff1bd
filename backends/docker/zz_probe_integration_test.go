//go:build integration

package docker_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/latent-engine/latent-engine/internal/testenv"
)

func TestProbeBuild(t *testing.T) {
	for _, e := range testenv.Engines(t) {
		t.Run(e.Name, func(t *testing.T) {
			e.LoadWorkerImage(t, "worker:test")
			c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return net.Dial("unix", e.Host()[len("unix://"):])
			}}}
			do := func(method, path string) string {
				req, _ := http.NewRequest(method, "http://d/v1.41"+path, nil)
				r, err := c.Do(req)
				if err != nil {
					return err.Error()
				}
				b, _ := io.ReadAll(r.Body)
				r.Body.Close()
				return string(b)
			}
			show := func(title string) {
				var im []struct {
					Id, ParentId string
					RepoTags     []string
					Labels       map[string]string
				}
				json.Unmarshal([]byte(do("GET", "/images/json?all=1")), &im)
				var heads []struct{ Id string }
				json.Unmarshal([]byte(do("GET", "/images/json")), &heads)
				h := map[string]bool{}
				for _, x := range heads {
					h[x.Id] = true
				}
				t.Log("==", title)
				for _, i := range im {
					t.Log("  image", i.Id[7:19], "parent", i.ParentId, i.RepoTags, i.Labels, "head", h[i.Id])
				}
				var co []struct {
					Id, Image, State string
					Names            []string
					Labels           map[string]string
				}
				json.Unmarshal([]byte(do("GET", "/containers/json?all=1")), &co)
				for _, i := range co {
					t.Log("  container", i.Id[:12], i.Names, i.Image, i.State, i.Labels)
				}
			}
			build := func(ctx context.Context, df, extra string) string {
				var b bytes.Buffer
				w := tar.NewWriter(&b)
				w.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o644, Size: int64(len(df))})
				w.Write([]byte(df))
				w.Close()
				req, _ := http.NewRequestWithContext(ctx, "POST", "http://d/v1.41/build?rm=1&forcerm=1"+extra, &b)
				r, err := c.Do(req)
				if err != nil {
					return err.Error()
				}
				defer r.Body.Close()
				out, err := io.ReadAll(r.Body)
				return string(out) + fmt.Sprint(err)
			}
			df := func(n string, secs int) string {
				return fmt.Sprintf("FROM worker:test\nLABEL latent-engine.io/engine=E latent-engine.io/build=X\nENV A=%s\nRUN [\"/worker\",\"WORKER_SLEEP=%ds\",\"WORKER_EXIT=0\"]\nENV B=%s\nFROM worker:test\nLABEL latent-engine.io/engine=E latent-engine.io/build=X\nENV C=%s\n", n, secs, n, n)
			}
			show("before")
			t.Log(build(context.Background(), df("one", 0), "&t=built:one&labels="+url.QueryEscape(`{"final":"yes","latent-engine.io/build":""}`)))
			show("after success of multi-stage")
			ctx, cancel := context.WithCancel(context.Background())
			go func() { time.Sleep(2 * time.Second); show("in the middle"); cancel() }()
			t.Log(build(ctx, df("two", 10), ""))
			for _, d := range []int{0, 300, 1000, 3000} {
				time.Sleep(time.Duration(d) * time.Millisecond)
				show(fmt.Sprint("after cancel ", d))
			}
			t.Log(build(context.Background(), "FROM worker:test\nLABEL latent-engine.io/engine=E latent-engine.io/build=Y\nRUN [\"/worker\",\"WORKER_EXIT=4\"]\n", ""))
			show("after failed")
			t.Log(do("DELETE", "/images/built:one?force=1"))
			show("after rmi")
			t.Log(do("GET", "/images/json?filters="+url.QueryEscape(`{"label":["latent-engine.io/engine=E"]}`)))
		})
	}
}
