//go:build integration

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/backends/docker"
	"github.com/latent-engine/latent-engine/engine"
	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

const realImage = "bench.latent-engine.local/worker:1"

// realDefinition starts the stand-in worker with the same settings as the two peers do.
func realDefinition(host string) []byte {
	return fmt.Appendf(nil, `version: 1
engine: {id: bench, advertise: "ci.example.org:9989"}
backends:
  local: {docker: {docker_host: %q}}
workers:
  linux: {backend: local, image: %q, hostconfig: {mem_limit: 512m}}
`, host, realImage)
}

// BenchmarkRealStart starts a container from a present image on the distribution's Docker Engine: through the engine, with
// two bare HTTP requests, and with `docker run`. What is measured ends when the container was started; it is removed
// outside of the time.
func BenchmarkRealStart(b *testing.B) {
	docked := testenv.Debian(b)
	docked.LoadWorkerImage(b, realImage)
	raw := newRaw(docked.Host())

	b.Run("engine", func(b *testing.B) {
		e := opened(b, docker.Kind{}, realDefinition(docked.Host()))
		for n := 0; b.Loop(); n++ {
			r, err := e.Start(b.Context(), engine.StartRequest{Worker: "linux", Build: &config.Build{}, As: fmt.Sprintf("w%d", n)})
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if _, err := e.Stop(b.Context(), r.Status.Instance, backends.StopOptions{Fast: true}); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	b.Run("raw", func(b *testing.B) {
		for b.Loop() {
			id, err := raw.start(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := raw.call(b.Context(), http.MethodDelete, "/containers/"+id+"?force=1", nil, nil); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	b.Run("docker-run", func(b *testing.B) {
		for b.Loop() {
			id := strings.TrimSpace(docked.Docker(b, "run", "--detach", "--init", "--memory=512m", realImage))
			b.StopTimer()
			if err := raw.call(b.Context(), http.MethodDelete, "/containers/"+id+"?force=1", nil, nil); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
}

// rawClient speaks to the Engine API with nothing in between.
type rawClient struct{ http.Client }

func newRaw(host string) *rawClient {
	return &rawClient{http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", strings.TrimPrefix(host, "unix://"))
	}}}}
}

func (c *rawClient) start(ctx context.Context) (string, error) {
	var made struct{ ID string }
	body := fmt.Sprintf(`{"Image":%q,"HostConfig":{"Init":true,"Memory":536870912}}`, realImage)
	if err := c.call(ctx, http.MethodPost, "/containers/create", strings.NewReader(body), &made); err != nil {
		return "", err
	}
	return made.ID, c.call(ctx, http.MethodPost, "/containers/"+made.ID+"/start", nil, nil)
}

func (c *rawClient) call(ctx context.Context, method, path string, body io.Reader, out any) error {
	request, err := http.NewRequestWithContext(ctx, method, "http://docker/v1.41"+path, body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("cannot %s %s: %s: %s", method, path, response.Status, bytes.TrimSpace(content))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(content, out)
}
