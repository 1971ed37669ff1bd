package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/backends/docker"
	"github.com/latent-engine/latent-engine/engine"
	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/render"
	"github.com/latent-engine/latent-engine/engine/spec"
	celrenderer "github.com/latent-engine/latent-engine/renderers/cel"
)

// compile is what cmd wires, for one kind.
func compile(t testing.TB, kind backends.Kind, name string, text []byte) *render.Set {
	t.Helper()
	def, diags := config.Load([]config.Source{{Name: name, Data: text}}, config.Options{
		Kinds: map[string]config.Kind{kind.Name(): {Connection: kind.Connection(), Worker: kind.Worker()}},
	})
	set, more := render.Compile(def, render.Options{Kinds: map[string]render.Kind{kind.Name(): kind}, CEL: celrenderer.New(celrenderer.Options{})})
	for _, l := range []diag.List{diags, more} {
		if l.HasErrors() {
			t.Fatal(&diag.ListError{List: l})
		}
	}
	return set
}

func file(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func build(t testing.TB) *config.Build {
	t.Helper()
	b, diags := config.LoadBuild("build.json", file(t, "build.json"))
	if diags.HasErrors() {
		t.Fatal(&diag.ListError{List: diags})
	}
	return b
}

func template(t testing.TB) *render.Template {
	t.Helper()
	template, err := compile(t, docker.Kind{}, "worker.yaml", file(t, "worker.yaml")).Template("linux")
	if err != nil {
		t.Fatal(err)
	}
	return template
}

// BenchmarkRender renders the worker of testdata/worker.yaml: 8 renderables, 10 expressions, plan and digest.
func BenchmarkRender(b *testing.B) {
	t, doc := template(b), build(b)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := t.Render(ctx, doc, render.RenderOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRenderCEL evaluates the same expressions with cel-go's own programs and marshals the create object that comes of
// them, once: the floor under BenchmarkRender. It reads its properties from a map made beforehand, parses no size, merges no
// default, makes no digest.
func BenchmarkRenderCEL(b *testing.B) {
	p := newPeer(b)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.render(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// peer renders the worker with nothing but cel-go and encoding/json.
type peer struct {
	programs map[string]cel.Program
	vars     map[string]any
}

// peerExpressions are those of worker.yaml.
var peerExpressions = map[string]string{
	"project": `props.project`,
	"tag":     `props.tag`,
	"branch":  `props.branch`,
	"repo":    `props.?repo.orValue('none')`,
	"mem":     `string(props.cores * 2)`,
	"network": `props.network`,
	"shares":  `props.cores * 1024`,
	"cpus":    `props.?cpus.orValue('0-1')`,
}

// newPeer compiles with the libraries, the cost limit, the context and the interrupt checks that renderers/cel has.
func newPeer(t testing.TB) *peer {
	t.Helper()
	env, err := cel.NewEnv(
		cel.CrossTypeNumericComparisons(true), cel.OptionalTypes(), ext.Strings(), ext.Lists(), ext.Math(), ext.Sets(), ext.Bindings(), ext.TwoVarComprehensions(),
		cel.Variable("props", cel.MapType(cel.StringType, cel.DynType)),
	)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{programs: map[string]cel.Program{}}
	for name, text := range peerExpressions {
		tree, issues := env.Compile(text)
		if issues.Err() != nil {
			t.Fatal(issues.Err())
		}
		if p.programs[name], err = env.Program(tree, cel.CostLimit(1_000_000), cel.InterruptCheckFrequency(100)); err != nil {
			t.Fatal(err)
		}
	}
	var document struct{ Properties map[string][2]any }
	decoder := json.NewDecoder(bytes.NewReader(file(t, "build.json")))
	decoder.UseNumber()
	if err := decoder.Decode(&document); err != nil {
		t.Fatal(err)
	}
	props := map[string]any{}
	for name, pair := range document.Properties {
		props[name] = pair[0]
		if n, ok := pair[0].(json.Number); ok {
			if props[name], err = n.Int64(); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.vars = map[string]any{"props": props}
	return p
}

// peerObject is the create object, as a struct: the fastest thing that encoding/json takes.
type peerObject struct {
	Image      string
	Hostname   string
	HostConfig struct {
		Binds       []string
		Init        bool
		Memory      string
		NetworkMode string
		CPUShares   int64  `json:"CpuShares"`
		CPUSetCPUs  string `json:"CpusetCpus"`
	}
}

func (p *peer) render(ctx context.Context) ([]byte, error) {
	var failed error
	eval := func(name string) any {
		v, _, err := p.programs[name].ContextEval(ctx, p.vars)
		if err != nil {
			failed = err
			return nil
		}
		return v.Value()
	}
	text := func(name string) string { s, _ := eval(name).(string); return s }
	var o peerObject
	// Ten evaluations, as in worker.yaml: project is read three times.
	o.Image = "registry.corp/ci/" + text("project") + ":" + text("tag")
	o.Hostname = text("project") + "-" + text("branch")
	o.HostConfig.Binds = []string{"/srv/cache/" + text("project") + ":/cache", "/srv/git/" + text("repo") + ":/git:ro"}
	o.HostConfig.Init = true
	o.HostConfig.Memory = text("mem") + "g"
	o.HostConfig.NetworkMode = text("network")
	o.HostConfig.CPUShares, _ = eval("shares").(int64)
	o.HostConfig.CPUSetCPUs = text("cpus")
	if failed != nil {
		return nil, failed
	}
	return json.Marshal(o)
}

// created is the create object of a render, decoded.
func created(t testing.TB) map[string]any {
	t.Helper()
	s, err := template(t).Render(t.Context(), build(t), render.RenderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := spec.Encode(s.Create, nil)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(text, &object); err != nil {
		t.Fatal(err)
	}
	return object
}

// TestPeerAgrees: what is measured against each other gives the same object. The size stays text in the peer.
func TestPeerAgrees(t *testing.T) {
	ours := created(t)
	text, err := newPeer(t).render(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var peers map[string]any
	if err := json.Unmarshal(text, &peers); err != nil {
		t.Fatal(err)
	}
	hostConfig := peers["HostConfig"].(map[string]any)
	if hostConfig["Memory"] != "8g" {
		t.Errorf("the peer's Memory is %v, want 8g", hostConfig["Memory"])
	}
	hostConfig["Memory"] = float64(8 << 30)
	if !reflect.DeepEqual(ours, peers) {
		t.Errorf("ours %v, the peer's %v", ours, peers)
	}
}

// TestBuildbotAgrees holds what Buildbot rendered (`make bench` puts it into $LATENT_BENCH_BUILDBOT) against ours.
func TestBuildbotAgrees(t *testing.T) {
	path := os.Getenv(buildbotVariable)
	var rendered map[string]any
	// Without a Buildbot at hand, what 4.3.0 gave when it was last run stands in.
	text := []byte(`{"image": "registry.corp/ci/app:stable", "hostname": "app-main",
		"volumes": ["/srv/cache/app:/cache", "/srv/git/app.git:/git:ro"],
		"hostconfig": {"mem_limit": "8g", "network_mode": "bridge", "cpu_shares": 4096, "cpuset_cpus": "0-1"}}`)
	if path != "" {
		var err error
		if text, err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := json.Unmarshal(text, &rendered); err != nil {
		t.Fatal(err)
	}
	hostconfig := rendered["hostconfig"].(map[string]any)
	if hostconfig["mem_limit"] != "8g" {
		t.Errorf("Buildbot's mem_limit is %v, want 8g", hostconfig["mem_limit"])
	}
	want := map[string]any{
		"Image": rendered["image"], "Hostname": rendered["hostname"],
		"HostConfig": map[string]any{
			"Binds": rendered["volumes"], "Init": true, "Memory": float64(8 << 30), "NetworkMode": hostconfig["network_mode"],
			"CpuShares": hostconfig["cpu_shares"], "CpusetCpus": hostconfig["cpuset_cpus"],
		},
	}
	if ours := created(t); !reflect.DeepEqual(ours, want) {
		t.Errorf("ours %v, Buildbot's %v", ours, want)
	}
}

// BenchmarkRenderConcurrent renders from 200 goroutines at once, each of which begins the next render when the last is done,
// and reports what one of them waits.
func BenchmarkRenderConcurrent(b *testing.B) {
	const callers = 200
	t, doc := template(b), build(b)
	took := make([][]time.Duration, callers)
	var left atomic.Int64
	left.Store(int64(b.N))
	var group sync.WaitGroup
	b.ResetTimer()
	for i := range callers {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				began := time.Now()
				if _, err := t.Render(b.Context(), doc, render.RenderOptions{}); err != nil {
					b.Error(err)
					return
				}
				took[i] = append(took[i], time.Since(began))
			}
		})
	}
	group.Wait()
	b.StopTimer()
	all := slices.Concat(took...)
	slices.Sort(all)
	b.ReportMetric(float64(quantile(all, 0.5)), "p50-ns")
	b.ReportMetric(float64(quantile(all, 0.99)), "p99-ns")
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// large is a definition of 1,000 workers with 8 expressions each, of 200 different texts.
func large() []byte {
	var b strings.Builder
	b.WriteString("version: 1\nengine: {id: bench}\nbackends:\n  local: {docker: {}}\nworkers:\n")
	text := func(i int) string {
		i %= 200
		switch i % 4 {
		case 0:
			return fmt.Sprintf("props.branch == 'main' ? 'stable-%d' : 'edge-%d'", i, i)
		case 1:
			return fmt.Sprintf("string(props.cores * %d)", i+1)
		case 2:
			return fmt.Sprintf("props.?tag.orValue('v%d').upperAscii()", i)
		}
		return fmt.Sprintf("build.builder + '-' + string(build.number %% %d)", i+1)
	}
	for w := range 1000 {
		fmt.Fprintf(&b, "  w%d:\n    backend: local\n    props: {branch: string, tag: \"string?\", cores: {type: int, default: 2, minimum: 1, maximum: 16}}\n", w)
		fmt.Fprintf(&b, "    image: registry.corp/ci/linux:v1\n    env:\n")
		for e := range 8 {
			fmt.Fprintf(&b, "      E%d: \"${{ %s }}\"\n", e, text(w*8+e))
		}
	}
	return []byte(b.String())
}

// BenchmarkLoad loads and compiles the large definition, with nothing cached before.
func BenchmarkLoad(b *testing.B) {
	definition := large()
	b.ReportAllocs()
	b.SetBytes(int64(len(definition)))
	for b.Loop() {
		if set := compile(b, docker.Kind{}, "large.yaml", definition); len(set.Templates) != 1000 {
			b.Fatalf("%d templates", len(set.Templates))
		}
	}
}

// stub is a Docker Engine that answers at once: a present image, an empty list of containers. It keeps the calls.
type stub struct {
	mux   sync.Mutex
	calls []string
	spent time.Duration
}

func (s *stub) RoundTrip(r *http.Request) (*http.Response, error) {
	began := time.Now()
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
	status, body := http.StatusOK, `[]`
	path := r.URL.Path
	switch {
	case strings.HasSuffix(path, "/_ping"):
		body = "OK"
	case strings.HasSuffix(path, "/info"):
		body = `{"ID":"7f0c"}`
	case strings.HasSuffix(path, "/containers/create"):
		status, body = http.StatusCreated, `{"Id":"4f1c0ffee0","Warnings":[]}`
	case strings.HasSuffix(path, "/start"):
		status, body = http.StatusNoContent, ""
	case strings.Contains(path, "/images/") && !strings.HasSuffix(path, "/images/json"):
		body = `{"Id":"sha256:1","Os":"linux","Architecture":"amd64"}`
	}
	response := &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: int64(len(body)),
		Header: http.Header{"Api-Version": {"1.41"}, "Content-Type": {"application/json"}},
		Body:   io.NopCloser(strings.NewReader(body)),
	}
	s.mux.Lock()
	defer s.mux.Unlock()
	s.calls = append(s.calls, r.Method+" "+path)
	s.spent += time.Since(began)
	return response, nil
}

// stubKind is the Docker kind over a stub.
type stubKind struct {
	docker.Kind
	stub *stub
}

func (k stubKind) Connect(ctx context.Context, o backends.ConnectOptions) (backends.Backend, error) {
	return docker.ConnectHTTP(ctx, o, func(http.RoundTripper) http.RoundTripper { return k.stub })
}

// opened is an engine over a kind, with its journal on a disk.
func opened(t testing.TB, kind backends.Kind, text []byte) *engine.Engine {
	t.Helper()
	set := compile(t, kind, "worker.yaml", text)
	e, err := engine.Open(set, engine.Options{Kinds: []backends.Kind{kind}, CEL: celrenderer.New(celrenderer.Options{}), State: stateFolder(t), Root: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// stateFolder is below $LATENT_BENCH_DIR, by default /var/tmp, because /tmp may be memory, where syncing costs nothing.
func stateFolder(t testing.TB) string {
	t.Helper()
	parent := os.Getenv("LATENT_BENCH_DIR")
	if parent == "" {
		parent = "/var/tmp"
	}
	dir, err := os.MkdirTemp(parent, "latent-bench-") //nolint:usetesting // t.TempDir is below /tmp
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// BenchmarkStart starts the worker over a transport that answers at once: render, bind, policy, journal, and the backend's
// own work. own-ns is without what the stub took; calls are those of one start, the connection is there.
func BenchmarkStart(b *testing.B) {
	s := &stub{}
	e, doc := opened(b, stubKind{stub: s}, file(b, "worker.yaml")), build(b)
	if _, err := e.Start(b.Context(), engine.StartRequest{Worker: "linux", Build: doc, As: "first"}); err != nil {
		b.Fatal(err)
	}
	var own []time.Duration
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		s.mux.Lock()
		s.calls, s.spent = nil, 0
		s.mux.Unlock()
		began := time.Now()
		r, err := e.Start(b.Context(), engine.StartRequest{Worker: "linux", Build: doc, As: fmt.Sprintf("w%d", n)})
		took := time.Since(began)
		if err != nil {
			b.Fatal(err)
		}
		if len(s.calls) != 4 {
			b.Fatalf("%d calls: %q", len(s.calls), s.calls)
		}
		own = append(own, took-s.spent)
		b.StopTimer()
		if _, err := e.Stop(b.Context(), r.Status.Instance, backends.StopOptions{}); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	slices.Sort(own)
	b.ReportMetric(float64(quantile(own, 0.5)), "own-ns")
	b.ReportMetric(float64(quantile(own, 0.99)), "own-p99-ns")
	b.ReportMetric(4, "calls/op")
}

// BenchmarkSync is the disk's part of a start: two lines appended, each synced. For information.
func BenchmarkSync(b *testing.B) {
	f, err := os.OpenFile(filepath.Join(stateFolder(b), "journal"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	line := append(bytes.Repeat([]byte("x"), 300), '\n')
	for b.Loop() {
		for range 2 {
			if _, err := f.Write(line); err != nil {
				b.Fatal(err)
			}
			if err := f.Sync(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// TestStartCalls: a start from a present image makes exactly these calls.
func TestStartCalls(t *testing.T) {
	s := &stub{}
	e := opened(t, stubKind{stub: s}, file(t, "worker.yaml"))
	r, err := e.Start(t.Context(), engine.StartRequest{Worker: "linux", Build: build(t)})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"GET /_ping",      // once for each connection
		"GET /v1.41/info", // likewise, beside the others
		"GET /v1.41/containers/json",
		"GET /v1.41/images/registry.corp/ci/app:stable/json",
		"POST /v1.41/containers/create",
		"POST /v1.41/containers/4f1c0ffee0/start",
	}
	// It goes beside the others, and may come after any of them.
	if at := slices.Index(s.calls, want[1]); at > 0 {
		s.calls = slices.Insert(slices.Delete(s.calls, at, at+1), 1, want[1])
	}
	if !slices.Equal(s.calls, want) {
		t.Errorf("calls %q, want %q", s.calls, want)
	}
	if r.Status.NativeID != "4f1c0ffee0" {
		t.Errorf("status %+v", r.Status)
	}
}

// TestLarge: the definition that is measured is what it is said to be.
func TestLarge(t *testing.T) {
	texts := map[string]int{}
	for _, line := range strings.Split(string(large()), "\n") {
		if _, text, ok := strings.Cut(line, "${{"); ok {
			texts[text]++
		}
	}
	total := 0
	for _, n := range texts {
		total += n
	}
	if len(texts) != 200 || total != 8000 {
		t.Errorf("%d different expressions, %d in all; want 200 and 8,000", len(texts), total)
	}
}
