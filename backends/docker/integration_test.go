//go:build integration

package docker_test

import (
	"archive/tar"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-cmp/cmp"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/backends/backendtest"
	"github.com/latent-engine/latent-engine/backends/docker"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
	"github.com/latent-engine/latent-engine/internal/testenv"
)

// TestMain makes the test binary the process that TestKilledInTheMiddle kills, too.
func TestMain(m *testing.M) {
	if task := os.Getenv(childVariable); task != "" {
		fmt.Fprintln(os.Stderr, killedChild(task))
		os.Exit(1)
	}
	os.Exit(testenv.Main(m))
}

const workerImage = "worker:test"

func TestConformance(t *testing.T) {
	for _, e := range testenv.Engines(t) {
		t.Run(e.Name, func(t *testing.T) { conformance(t, e) })
	}
}

// TestConformanceOverlay2: Engine 29 with the image store that it had before.
func TestConformanceOverlay2(t *testing.T) { conformance(t, testenv.TodayOverlay2(t)) }

func conformance(t *testing.T, e *testenv.Engine) {
	e.LoadWorkerImage(t, workerImage)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	registry := testenv.NewRegistry(t)
	backendtest.Suite{Kind: docker.Kind{}, New: func(t *testing.T) *backendtest.Env { return newEnv(t, e, registry) }}.Run(t)
}

func settings(e *testenv.Engine) field.Object {
	return field.Object{"docker_host": field.String(e.Host())}
}

func newEnv(t *testing.T, e *testenv.Engine, registry *testenv.Registry) *backendtest.Env {
	network := "net-" + strings.ToLower(t.Name()[strings.LastIndex(t.Name(), "/")+1:])
	api(t, e, http.MethodPost, "/networks/create", map[string]any{"Name": network})
	t.Cleanup(func() { api(t, e, http.MethodDelete, "/networks/"+network, nil) })
	root := t.TempDir()
	writeFile(t, filepath.Join(root, "ctx", "Dockerfile"), buildText(0)+"COPY data /data2\n")
	writeFile(t, filepath.Join(root, "ctx", "data", "a.txt"), "a")
	pulled := func(name string) string {
		tag := fmt.Sprintf("%s:%d", name, time.Now().UnixNano())
		registry.Push(t, tag, testenv.WorkerImage(t).WithFile(t, "unique", 0o644, []byte(tag)))
		return registry.Host() + "/" + tag
	}
	env := &backendtest.Env{
		Target: "local", Settings: settings(e), Root: root, Connect: docker.ConnectHTTP, Restart: func(t *testing.T) { e.Restart(t) },
		Judged: judged,
	}
	worker := func(w backendtest.Worker) field.Object {
		vars := field.Object{"GREETING": field.Text{{Text: "hello "}, {Secret: field.SecretRef{Name: "greeting"}}}}
		f := field.Object{
			"image": field.String(workerImage), "env": vars, "autopull": field.Bool(true), "working_dir": field.String("/"),
			"labels":     field.Object{"team": field.String("web")},
			"hostconfig": field.Object{"mem_limit": field.String("128m"), "cap_drop": field.List{field.String("net_raw")}},
			"networks":   field.List{field.String("bridge"), field.String(network)},
		}
		switch w.Does {
		case backendtest.Exits:
			vars["WORKER_EXIT"] = field.String(fmt.Sprint(w.Code))
			vars["WORKER_SLEEP"] = field.String(w.After.String())
		case backendtest.OOMs:
			vars["WORKER_OOM"] = field.String("1")
			f["hostconfig"] = field.Object{"mem_limit": field.String("32m"), "memswap_limit": field.String("32m")}
		case backendtest.Pulls:
			f["image"] = field.String(pulled("pulled"))
		case backendtest.Builds:
			delete(f, "image")
			f["custom_context"], f["encoding"] = field.String("ctx"), field.String("bzip2")
			f["buildargs"] = field.Object{"TOKEN": field.Text{{Secret: field.SecretRef{Name: "token"}}}}
		case backendtest.Runs:
		}
		return f
	}
	env.Worker = func(_ *testing.T, w backendtest.Worker) field.Object { return worker(w) }
	before := objects(t, e)
	env.Left = func(t *testing.T, engine string) []string {
		var left []string
		for _, o := range objects(t, e) {
			if !slices.Contains(before, o) {
				left = append(left, o)
			}
		}
		return left
	}
	env.Phases = func(t *testing.T) []backendtest.Phase {
		runs := worker(backendtest.Worker{Does: backendtest.Runs})
		building := func(seconds int) field.Object {
			f := worker(backendtest.Worker{Does: backendtest.Runs})
			delete(f, "image")
			f["dockerfile"] = field.String(buildText(seconds))
			f["buildargs"] = field.Object{"TOKEN": field.String("x")}
			return f
		}
		at := func(name, method, suffix string, f field.Object) []backendtest.Phase {
			hit := func(want bool) func(*http.Request, bool) bool {
				return func(r *http.Request, after bool) bool {
					return after == want && r.Method == method && strings.HasSuffix(r.URL.Path, suffix)
				}
			}
			return []backendtest.Phase{{Name: name + "Before", Worker: f, At: hit(false)}, {Name: name + "After", Worker: f, At: hit(true)}}
		}
		said := func(text string) func(backends.Progress) bool {
			return func(p backends.Progress) bool { return p.Phase == "building" && strings.Contains(p.Message, text) }
		}
		slow := worker(backendtest.Worker{Does: backendtest.Pulls})
		return slices.Concat(
			at("List", http.MethodGet, "/containers/json", runs),
			at("Image", http.MethodGet, "/worker:test/json", runs),
			at("PullRequest", http.MethodPost, "/images/create", withImage(runs, registry.Host()+"/missing:1")),
			[]backendtest.Phase{{Name: "PullStalled", Worker: slow, Reached: func(t *testing.T) {
				registry.WaitStalled(t)
				t.Cleanup(registry.Unstall)
			}, At: func(r *http.Request, after bool) bool {
				if !after && strings.HasSuffix(r.URL.Path, "/images/create") {
					registry.Stall()
				}
				return false
			}}},
			at("BuildRequest", http.MethodPost, "/build", building(0)),
			[]backendtest.Phase{
				{Name: "BuildFirstStep", Worker: building(0), Progress: said("Step 1/")},
				{Name: "BuildRunning", Worker: building(20), Progress: said("starting worker")},
				{Name: "BuildSecondStage", Worker: building(0), Progress: said("COPY --from")},
				{Name: "BuildDone", Worker: building(0), Progress: said("Successfully built")},
				{Name: "BuildOfFolder", Worker: worker(backendtest.Worker{Does: backendtest.Builds}), Progress: said("COPY data")},
			},
			at("Create", http.MethodPost, "/containers/create", runs),
			at("CreateOfBuilt", http.MethodPost, "/containers/create", building(0)),
			at("Connect", http.MethodPost, "/connect", runs),
			at("Start", http.MethodPost, "/start", runs),
			at("StartOfBuilt", http.MethodPost, "/start", building(0)),
		)
	}
	return env
}

func withImage(f field.Object, image string) field.Object {
	c := spec.CloneValue(f).(field.Object)
	c["image"] = field.String(image)
	return c
}

// buildText is a Dockerfile of two stages, with a volume, whose first stage takes its time.
func buildText(seconds int) string {
	text := fmt.Sprintf("# escape=\\\nFROM worker:test AS one\nARG TOKEN\nENV A=1\nRUN [\"/worker\",\"WORKER_SLEEP=%ds\",\"WORKER_EXIT=0\"]\nENV B=1\n\nfrom \\\n  worker:test\nCOPY --from=one /worker /worker2\nVOLUME /data\n", seconds)
	return text
}

// api makes a call of the engine's, for a test's own set-up.
func api(t *testing.T, e *testenv.Engine, method, path string, body any) []byte {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", strings.TrimPrefix(e.Host(), "unix://"))
	}}}
	var r io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		r = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://docker/v1.41"+path, r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 400 {
		t.Fatalf("%s %s: %s %s %v", method, path, resp.Status, text, err)
	}
	return text
}

// objects are all things of an engine that a start could leave.
func objects(t *testing.T, e *testenv.Engine) []string {
	t.Helper()
	containers, images := e.Objects(t, "")
	var all []string
	for kind, ids := range map[string][]string{"container": containers, "image": images, "volume": e.Volumes(t, "")} {
		for _, id := range ids {
			all = append(all, kind+" "+id)
		}
	}
	slices.Sort(all)
	return all
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// judged holds every call of a start against the Bound, and refuses a call that none of it asks for.
func judged(t *testing.T, calls []backendtest.Call, b spec.Bound, s *backendtest.Secrets) {
	t.Helper()
	var seen []string
	networks, _ := b.After["networks"].(field.List)
	for _, c := range calls {
		_, path, _ := strings.Cut(strings.TrimPrefix(c.Path, "/"), "/")
		switch {
		case path == "images/create":
			seen = append(seen, "pull")
			sentPull(t, c, b.Pull)
		case path == "build":
			seen = append(seen, "build")
			sentBuild(t, c, b.Build, s)
		case path == "containers/create":
			seen = append(seen, "create")
			sent := restored(t, c.Body, s).(field.Object)
			for _, k := range []string{"name", "platform"} {
				if v := c.Query[k]; v != nil {
					sent[k] = field.String(v[0])
				}
			}
			same(t, "create", sent, b.Create)
			onlyQuery(t, c, "name", "platform")
		case strings.HasPrefix(path, "networks/") && strings.HasSuffix(path, "/connect"):
			seen = append(seen, "connect")
			if len(networks) == 0 {
				t.Errorf("a network too many: %s", c)
				continue
			}
			n := networks[0].(field.Object)
			networks = networks[1:]
			sent := restored(t, c.Body, s).(field.Object)
			delete(sent, "Container")
			name := strings.TrimSuffix(strings.TrimPrefix(path, "networks/"), "/connect")
			want := field.Object{"network": n["network"]}
			got := field.Object{"network": field.String(name)}
			if n["config"] != nil {
				want["config"] = n["config"]
			}
			if sent["EndpointConfig"] != nil {
				got["config"] = sent["EndpointConfig"]
			}
			same(t, "connect", got, want)
			onlyQuery(t, c)
		case strings.HasPrefix(path, "containers/") && strings.HasSuffix(path, "/start"):
			seen = append(seen, "start")
			onlyQuery(t, c)
			if len(c.Body) > 0 {
				t.Errorf("start has a body: %s", c.Body)
			}
		case c.Method == http.MethodDelete && strings.HasPrefix(path, "images/sha256:") && b.Build != nil:
			// What the stages before the last left.
		default:
			t.Errorf("nothing that was judged asks for %s", c)
		}
	}
	if len(networks) > 0 {
		t.Errorf("networks that were not connected: %v", networks)
	}
	want := []string{"create", "connect", "start"}
	switch {
	case b.Build != nil:
		want = append([]string{"build"}, want...)
	case slices.Contains(seen, "pull"):
		want = append([]string{"pull"}, want...)
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("calls of a start (-want +got):\n%s", diff)
	}
}

func restored(t *testing.T, body []byte, s *backendtest.Secrets) field.Value {
	t.Helper()
	v, err := s.Restore(body)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func same(t *testing.T, what string, got, want field.Value) {
	t.Helper()
	if diff := cmp.Diff(backendtest.Plain(want), backendtest.Plain(got)); diff != "" {
		t.Errorf("%s: what was sent is not what was judged (-judged +sent):\n%s", what, diff)
	}
}

func onlyQuery(t *testing.T, c backendtest.Call, allowed ...string) {
	t.Helper()
	for k := range c.Query {
		if !slices.Contains(allowed, k) {
			t.Errorf("%s: the query has %s=%q, which nobody judged", c, k, c.Query[k])
		}
	}
}

func sentPull(t *testing.T, c backendtest.Call, pull field.Object) {
	t.Helper()
	onlyQuery(t, c, "fromImage", "tag", "platform")
	judgedRef, err := reference.ParseNormalizedNamed(string(pull["image"].(field.String)))
	if err != nil {
		t.Fatal(err)
	}
	separator := ":"
	if strings.Contains(c.Query["tag"][0], ":") {
		separator = "@"
	}
	if sent := c.Query["fromImage"][0] + separator + c.Query["tag"][0]; sent != judgedRef.String() {
		t.Errorf("pulled %s, judged was %s", sent, judgedRef)
	}
	if p, ok := pull["platform"].(field.String); ok != (c.Query["platform"] != nil) || ok && c.Query["platform"][0] != string(p) {
		t.Errorf("pulled for %v, judged was %v", c.Query["platform"], pull["platform"])
	}
}

func sentBuild(t *testing.T, c backendtest.Call, build field.Object, s *backendtest.Secrets) {
	t.Helper()
	onlyQuery(t, c, "t", "rm", "forcerm", "pull", "target", "platform", "buildargs", "labels")
	got := field.Object{"tag": field.String(c.Query["t"][0])}
	for _, k := range []string{"target", "platform"} {
		if v := c.Query[k]; v != nil {
			got[k] = field.String(v[0])
		}
	}
	if v := c.Query["pull"]; v != nil {
		got["pull"] = field.Bool(v[0] == "1")
	}
	for _, k := range []string{"buildargs", "labels"} {
		if v := c.Query[k]; v != nil {
			got[k] = restored(t, []byte(v[0]), s)
		}
	}
	// The mark that ends those of the steps is the engine's own.
	labels := got["labels"].(field.Object)
	if labels[spec.LabelPrefix+"working-for"] != field.String("") {
		t.Errorf("the build's mark is not ended: %v", labels)
	}
	delete(labels, spec.LabelPrefix+"working-for")
	want := field.Object{}
	for k, v := range build {
		switch k {
		case "temporary", "when", "context", "encoding":
		default:
			want[k] = v
		}
	}
	var plain io.Reader
	switch {
	case bytes.HasPrefix(c.Body, []byte("BZh")):
		plain = bzip2.NewReader(bytes.NewReader(c.Body))
		got["encoding"] = field.String("bzip2")
	default:
		z, err := gzip.NewReader(bytes.NewReader(c.Body))
		if err != nil {
			t.Fatal(err)
		}
		plain, got["encoding"] = z, field.String("gzip")
	}
	if build["encoding"] != nil && build["encoding"] != got["encoding"] {
		t.Errorf("the context is %s, judged was %s", got["encoding"], build["encoding"])
	}
	delete(got, "encoding")
	// The context as it came, without the marks, has the sum that was judged.
	stripped := &bytes.Buffer{}
	w, r := tar.NewWriter(stripped), tar.NewReader(plain)
	text := ""
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == "Dockerfile" {
			text = withoutMarks(string(content))
			content = []byte(text)
			h.Size = int64(len(content))
		}
		h.Format = tar.FormatUnknown
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if build["dockerfile"] != nil {
		got["dockerfile"] = field.String(text)
	}
	if build["context"] != nil {
		sum := sha256.Sum256(stripped.Bytes())
		got["sha256"] = field.String(hex.EncodeToString(sum[:]))
	}
	if build["context_dockerfile"] != nil {
		got["context_dockerfile"] = field.String(text)
	}
	same(t, "build", got, want)
}

func withoutMarks(dockerfile string) string {
	var out []string
	for _, l := range strings.SplitAfter(dockerfile, "\n") {
		if !strings.HasPrefix(l, "LABEL "+spec.LabelEngine+"=") {
			out = append(out, l)
		}
	}
	return strings.Join(out, "")
}
