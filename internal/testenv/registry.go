package testenv

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Registry is the distribution registry on a loopback port, where every engine takes it without
// TLS, behind a proxy that can make it fail. It ends with the test.
type Registry struct {
	Username, Password string // empty without WithAuth

	address string
	config  string
	folder  string
	binary  string
	direct  *http.Client // past the proxy

	mu       sync.Mutex // guards the fields below
	process  *process
	proxy    *http.Server
	failures int // how many requests are still to fail; negative: all
	status   int
	stalled  chan struct{} // not nil: blobs stop half-way until it is closed
	waiting  int           // how many blobs have stopped
	requests []string
}

// RegistryOption changes what NewRegistry makes.
type RegistryOption func(*registrySettings)

type registrySettings struct {
	auth bool
}

// WithAuth has the registry ask for a user and a password, by HTTP basic authentication.
func WithAuth() RegistryOption {
	return func(s *registrySettings) { s.auth = true }
}

// What WithAuth asks for. The file of the registry holds the bcrypt hash, which is kept here with
// its password so that no bcrypt is needed; it protects nothing but an empty test registry.
const (
	registryUser     = "registry-user"
	registryPassword = "registry-password"
	registryHash     = "$2a$04$FuSTtCMJ3zAKhLhOzHJetOxkL9RxBw9gyGsPklzyp4oFP0LgIdcsW"
)

// NewRegistry starts an empty registry.
func NewRegistry(t testing.TB, options ...RegistryOption) *Registry {
	t.Helper()
	var settings registrySettings
	for _, set := range options {
		set(&settings)
	}
	folder, err := built("registry")
	if err != nil {
		Missing(t, "registry", err)
	}
	// Not t.TempDir, whose path is longer than the address of a socket may be.
	work, err := os.MkdirTemp("", "latent-registry-") //nolint:usetesting // the reason stands above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(work) })

	r := &Registry{binary: filepath.Join(folder, "registry"), folder: work, config: filepath.Join(work, "config.yml")}
	config := fmt.Sprintf(`version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}
http: {net: unix, addr: %q, relativeurls: true, secret: test}
`, filepath.Join(work, "storage"), r.socket())
	if settings.auth {
		r.Username, r.Password = registryUser, registryPassword
		users := filepath.Join(work, "htpasswd")
		if err := os.WriteFile(users, []byte(registryUser+":"+registryHash+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		config += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", users)
	}
	if err := os.WriteFile(r.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	r.direct = &http.Client{Transport: r.transport()}

	if err := r.start("127.0.0.1:0"); err != nil {
		t.Fatalf("cannot start the registry: %v\n%s", err, r.log())
	}
	t.Cleanup(func() {
		r.Unstall()
		r.Stop()
		if t.Failed() {
			t.Logf("requests to registry %s:\n%s\nits log:\n%s", r.address, strings.Join(r.Requests(), "\n"), r.log())
		}
	})
	return r
}

func (r *Registry) socket() string { return filepath.Join(r.folder, "socket") }

func (r *Registry) transport() *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", r.socket())
	}, DisableKeepAlives: true}
}

// Host returns the registry's name in an image reference: "127.0.0.1:PORT".
func (r *Registry) Host() string { return r.address }

// Stop ends the registry: its port refuses connections, open ones break. What was pushed stays.
func (r *Registry) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process == nil {
		return
	}
	r.proxy.Close()
	r.process.end(syscall.SIGKILL, 10*time.Second)
	r.process, r.proxy = nil, nil
}

// Start starts the registry again, on the port and with the images that it had.
func (r *Registry) Start(t testing.TB) {
	t.Helper()
	if err := r.start(r.address); err != nil {
		t.Fatalf("cannot start the registry again: %v\n%s", err, r.log())
	}
}

func (r *Registry) start(address string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.process != nil {
		return nil
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	r.address = listener.Addr().String()
	_ = os.Remove(r.socket())
	env := []string{"PATH=" + systemPath, "HOME=" + r.folder, "OTEL_TRACES_EXPORTER=none"}
	p, err := startProcess(boundToUs(), filepath.Join(r.folder, "log"), env, r.binary, "serve", r.config)
	if err != nil {
		listener.Close()
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := listening(r.socket())
		if err == nil {
			break
		}
		if !p.running() || time.Now().After(deadline) {
			listener.Close()
			p.end(syscall.SIGKILL, 10*time.Second)
			return err
		}
	}
	forward := &httputil.ReverseProxy{
		Transport: r.transport(),
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme, pr.Out.URL.Host = "http", "registry"
			pr.Out.Host = pr.In.Host
		},
		FlushInterval:  -1,
		ModifyResponse: r.stall,
		// A registry that was stopped under a request is the test's own doing.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	server := &http.Server{Handler: r.faults(forward), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	r.process, r.proxy = p, server
	return nil
}

func (r *Registry) log() string {
	log, err := os.ReadFile(filepath.Join(r.folder, "log"))
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-8<<10):])
}

// Fail has the next n requests, of any kind, answered with an HTTP status and the registry API's
// error body: 429, 500, 503 are hiccups, 404 and 403 are final. A negative n fails all until the
// next call; n = 0 ends it. An engine may repeat a request by itself, and asks more than once for
// one pull.
func (r *Registry) Fail(n, status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures, r.status = n, status
}

func (r *Registry) faults(next http.Handler) http.Handler {
	codes := map[int]string{
		http.StatusNotFound: "NAME_UNKNOWN", http.StatusUnauthorized: "UNAUTHORIZED",
		http.StatusForbidden: "DENIED", http.StatusTooManyRequests: "TOOMANYREQUESTS",
		http.StatusServiceUnavailable: "UNAVAILABLE",
	}
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r.mu.Lock()
		fail, status := r.failures != 0, r.status
		if r.failures > 0 {
			r.failures--
		}
		line := request.Method + " " + request.URL.Path
		if fail {
			line += fmt.Sprintf(" (failed with %d)", status)
		}
		r.requests = append(r.requests, line)
		r.mu.Unlock()
		if !fail {
			next.ServeHTTP(w, request)
			return
		}
		code := codes[status]
		if code == "" {
			code = "UNKNOWN"
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"fault made by the test","detail":null}]}`+"\n", code)
	})
}

// Requests returns what was asked through the port until now, in order: "GET /v2/…".
func (r *Registry) Requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.requests...)
}

// Stall has every blob that is asked for from now on stop half-way, until Unstall or until the
// asker hangs up: a pull that hangs. Docker Engine 20.10 does not hang up when a pull is cancelled.
func (r *Registry) Stall() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stalled == nil {
		r.stalled = make(chan struct{})
	}
}

// Unstall sends the rest of what was stalled.
func (r *Registry) Unstall() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stalled != nil {
		close(r.stalled)
		r.stalled = nil
	}
}

// Stalled returns how many blobs wait half-way now.
func (r *Registry) Stalled() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting
}

// WaitStalled waits until a blob waits half-way, so that a test knows a pull to be in the middle.
func (r *Registry) WaitStalled(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); r.Stalled() == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no blob was asked for while the registry stalled")
		}
	}
}

// stall is the proxy's look at every answer.
func (r *Registry) stall(response *http.Response) error {
	request := response.Request
	r.mu.Lock()
	release := r.stalled
	r.mu.Unlock()
	if release == nil || request.Method != http.MethodGet || response.StatusCode != http.StatusOK ||
		!strings.Contains(request.URL.Path, "/blobs/sha256:") {
		return nil
	}
	response.Body = &stalledBody{ReadCloser: response.Body, registry: r, left: response.ContentLength / 2, release: release, gone: request.Context().Done()}
	return nil
}

type stalledBody struct {
	io.ReadCloser
	registry *Registry
	left     int64 // until it stalls
	release  <-chan struct{}
	gone     <-chan struct{}
}

func (b *stalledBody) Read(buffer []byte) (int, error) {
	if b.left > 0 {
		n, err := b.ReadCloser.Read(buffer[:min(int64(len(buffer)), b.left)])
		b.left -= int64(n)
		return n, err
	}
	select {
	case <-b.release: // also for every read after the first
	default:
		b.registry.addWaiting(1)
		defer b.registry.addWaiting(-1)
		select {
		case <-b.release:
		case <-b.gone:
			return 0, context.Canceled
		}
	}
	return b.ReadCloser.Read(buffer)
}

func (r *Registry) addWaiting(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting += n
}

// Push stores an image under "repository:tag" and returns its digest, so that
// r.Host()+"/repository@"+digest names it too. It needs no engine, and no fault stands in its way.
func (r *Registry) Push(t testing.TB, repositoryTag string, image Image) string {
	t.Helper()
	digest, err := r.push(t.Context(), repositoryTag, image)
	if err != nil {
		t.Fatalf("cannot push %q: %v", repositoryTag, err)
	}
	return digest
}

func (r *Registry) push(ctx context.Context, repositoryTag string, image Image) (string, error) {
	repository, tag, ok := strings.Cut(repositoryTag, ":")
	if !ok {
		tag = "latest"
	}
	config, err := image.configJSON()
	if err != nil {
		return "", err
	}
	type descriptor struct {
		MediaType string `json:"mediaType"`
		Size      int    `json:"size"`
		Digest    string `json:"digest"`
	}
	const mediaType = "application/vnd.docker.distribution.manifest.v2+json"
	index := struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Config        descriptor   `json:"config"`
		Layers        []descriptor `json:"layers"`
	}{2, mediaType, descriptor{"application/vnd.docker.container.image.v1+json", len(config), digest(config)}, nil}
	blobs := [][]byte{config}
	for _, l := range image.layers {
		blobs = append(blobs, l.compressed)
		index.Layers = append(index.Layers, descriptor{"application/vnd.docker.image.rootfs.diff.tar.gzip", len(l.compressed), digest(l.compressed)})
	}
	for _, blob := range blobs {
		if err := r.pushBlob(ctx, repository, blob); err != nil {
			return "", err
		}
	}
	body, err := json.Marshal(index)
	if err != nil {
		return "", err
	}
	if _, err := r.call(ctx, http.MethodPut, "/v2/"+repository+"/manifests/"+tag, mediaType, body, http.StatusCreated); err != nil {
		return "", err
	}
	return digest(body), nil
}

func (r *Registry) pushBlob(ctx context.Context, repository string, blob []byte) error {
	header, err := r.call(ctx, http.MethodPost, "/v2/"+repository+"/blobs/uploads/", "", nil, http.StatusAccepted)
	if err != nil {
		return err
	}
	upload, err := url.Parse(header.Get("Location"))
	if err != nil {
		return err
	}
	query := upload.Query()
	query.Set("digest", digest(blob))
	_, err = r.call(ctx, http.MethodPut, upload.Path+"?"+query.Encode(), "application/octet-stream", blob, http.StatusCreated)
	return err
}

func (r *Registry) call(ctx context.Context, method, path, mediaType string, body []byte, want int) (http.Header, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://registry"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if mediaType != "" {
		request.Header.Set("Content-Type", mediaType)
	}
	if r.Username != "" {
		request.SetBasicAuth(r.Username, r.Password)
	}
	response, err := r.direct.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != want {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, response.Status, bytes.TrimSpace(answer))
	}
	return response.Header, nil
}
