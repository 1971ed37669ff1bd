package testenv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Engine is a running Docker Engine that belongs to this test binary alone. All its tests share
// it, so a test names its objects uniquely and removes them, and one that stops or restarts the
// engine does not run in parallel with others, or takes one of its own ([OwnEngines]).
type Engine struct {
	Name       string // "debian", "today" or "today-overlay2"; names the sub-test in a matrix
	Version    string // as the engine reports it
	APIVersion string // the newest that the engine speaks, like "1.41"

	programs programs
	slot     *slot
	client   *http.Client

	mu         sync.Mutex // guards the fields below
	containerd *process
	dockerd    *process
	watcher    *exec.Cmd
	more       []string // arguments of dockerd beside the programs' own
}

// programs says what an engine consists of.
type programs struct {
	name       string
	dockerd    string
	containerd string
	path       string   // PATH of both, where runc and docker-proxy are looked for
	args       []string // of dockerd, beside what every engine gets
	config     string   // its daemon.json
	copying    string   // storage driver where the folder is on overlayfs
}

// engines are those of this test binary.
//
//nolint:gochecknoglobals // an engine takes seconds to start, and tests of a binary share nothing else
var engines struct {
	mu     sync.Mutex
	byName map[string]*Engine
	failed map[string]error
}

// Debian returns the distribution's own Docker Engine: on Debian 12 that is 20.10, API 1.41.
func Debian(t testing.TB) *Engine {
	t.Helper()
	return get(t, "docker-debian", "docker-debian", debian)
}

// Today returns Docker Engine 29 with the containerd image store, its default.
func Today(t testing.TB) *Engine {
	t.Helper()
	return get(t, "docker-today", "docker-today", today)
}

// TodayOverlay2 returns Docker Engine 29 with its own image store, as an installation has it that was upgraded to 29. It is not
// one of [Engines]: what is between an engine and its images is all that differs.
func TodayOverlay2(t testing.TB) *Engine {
	t.Helper()
	return get(t, "docker-today", "docker-today-overlay2", todayOverlay2)
}

// Engines returns every engine that is there, for a matrix. It skips only if there is none.
func Engines(t testing.TB) []*Engine {
	t.Helper()
	return all(t, engine)
}

// all gets every engine that is there.
func all(t testing.TB, get func(name string, find func() (programs, error)) (*Engine, error)) []*Engine {
	t.Helper()
	var found []*Engine
	var reasons []error
	for name, find := range map[string]func() (programs, error){"docker-debian": debian, "docker-today": today} {
		e, err := get(name, find)
		switch {
		case err == nil:
			e.attach(t)
			found = append(found, e)
		case required(name):
			Missing(t, name, err)
		default:
			t.Logf("%s is missing, this test runs without it: %v", name, err)
			reasons = append(reasons, err)
		}
	}
	if len(found) == 0 {
		Missing(t, "every Docker Engine", errors.Join(reasons...))
	}
	slices.SortFunc(found, func(a, b *Engine) int { return strings.Compare(a.Name, b.Name) })
	return found
}

// OwnEngines is [Engines] with engines that are this test's alone: it may stop and kill them while
// other tests run. They end with the test.
func OwnEngines(t testing.TB) []*Engine {
	t.Helper()
	return all(t, func(_ string, find func() (programs, error)) (*Engine, error) {
		e, err := launch(find)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() {
			if err := e.close(); err != nil {
				t.Errorf("cannot end engine %s: %v", e.Name, err)
			}
		})
		return e, nil
	})
}

// Main runs the tests of a package and ends the engines that they started. It returns the exit
// code for os.Exit:
//
//	func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
func Main(m *testing.M) int {
	code := m.Run()
	engines.mu.Lock()
	defer engines.mu.Unlock()
	for _, e := range engines.byName {
		if err := e.close(); err != nil {
			fmt.Fprintf(os.Stderr, "testenv: cannot end engine %s: %v\n", e.Name, err)
			code = max(code, 1)
		}
	}
	return code
}

func debian() (programs, error) {
	dockerd, err := system("dockerd")
	if err != nil {
		return programs{}, err
	}
	containerd, err := system("containerd")
	if err != nil {
		return programs{}, err
	}
	return programs{name: "debian", dockerd: dockerd, containerd: containerd, path: systemPath, config: "{}\n", copying: "vfs"}, nil
}

func today() (programs, error) {
	folder, err := built("engine29")
	if err != nil {
		return programs{}, err
	}
	runc, err := built("runc")
	if err != nil {
		return programs{}, err
	}
	containerd, err := system("containerd")
	if err != nil {
		return programs{}, err
	}
	return programs{
		name:    "today",
		dockerd: filepath.Join(folder, "dockerd"), containerd: containerd,
		// Engine 29 needs a newer runc than Debian 12 has.
		path:   runc + ":" + folder + ":" + systemPath,
		args:   []string{"--userland-proxy-path=" + filepath.Join(folder, "docker-proxy")},
		config: "{}\n", copying: "native",
	}, nil
}

func todayOverlay2() (programs, error) {
	p, err := today()
	p.name, p.config, p.copying = "today-overlay2", `{"features": {"containerd-snapshotter": false}}`+"\n", "vfs"
	return p, err
}

func get(t testing.TB, required, name string, find func() (programs, error)) *Engine {
	t.Helper()
	e, err := engine(name, find)
	if err != nil {
		Missing(t, required, err)
	}
	e.attach(t)
	return e
}

// engine starts an engine on the first call; a failure is kept, so that every test tells it but
// only the first waits for it.
func engine(name string, find func() (programs, error)) (*Engine, error) {
	engines.mu.Lock()
	defer engines.mu.Unlock()
	if e := engines.byName[name]; e != nil {
		return e, nil
	}
	if err := engines.failed[name]; err != nil {
		return nil, err
	}
	e, err := launch(find)
	if err != nil {
		if engines.failed == nil {
			engines.failed = map[string]error{}
		}
		engines.failed[name] = err
		return nil, err
	}
	if engines.byName == nil {
		engines.byName = map[string]*Engine{}
	}
	engines.byName[name] = e
	return e, nil
}

func launch(find func() (programs, error)) (*Engine, error) {
	if err := checkHost(); err != nil {
		return nil, err
	}
	p, err := find()
	if err != nil {
		return nil, err
	}
	s, err := takeSlot()
	if err != nil {
		return nil, err
	}
	e := &Engine{Name: p.name, programs: p, slot: s}
	e.client = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", e.socket())
		},
		DisableKeepAlives: true, // a connection of before a restart is a dead one
	}}
	if err := e.launch(); err != nil {
		log := e.logTail(0)
		return nil, errors.Join(err, errors.New(log), e.close())
	}
	return e, nil
}

func (e *Engine) launch() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	config := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = %q
`, e.file("containerd-root"), e.file("containerd-state"), e.file("containerd.sock"))
	if err := os.WriteFile(e.file("containerd.toml"), []byte(config), 0o600); err != nil {
		return err
	}
	// Without a file of our own dockerd reads the one in /etc/docker.
	if err := os.WriteFile(e.file("daemon.json"), []byte(e.programs.config), 0o600); err != nil {
		return err
	}
	if err := os.MkdirAll(e.file("tmp"), 0o700); err != nil {
		return err
	}
	var err error
	// An own containerd, because dockerd by itself joins the machine's if there is one.
	// It is not bound to us but left to the watcher: dockerd needs it to stop its containers.
	e.containerd, err = startProcess(onItsOwn(), e.file("log"), e.environment(), e.programs.containerd, "--config", e.file("containerd.toml"))
	if err != nil {
		return err
	}
	if err := e.watch(); err != nil {
		return err
	}
	if err := e.containerdReady(); err != nil {
		return err
	}
	if err := e.startDockerd(); err != nil {
		return err
	}
	var version struct{ Version, APIVersion string }
	if err := e.get("/version", &version); err != nil {
		return err
	}
	e.Version, e.APIVersion = version.Version, version.APIVersion
	return nil
}

// watch starts a process that outlives us: when we are gone it waits for dockerd, which gets a
// signal of the kernel then and stops its containers, and ends containerd.
func (e *Engine) watch() error {
	const script = `read -r _; i=0
while [ $i -lt 150 ] && [ -e "$1" ] && kill -0 "$(cat "$1")"; do i=$((i+1)); sleep 0.2; done
grep -q "$3" "/proc/$2/cmdline" && kill "$2"`
	watcher := exec.CommandContext(context.Background(), "/bin/sh", "-c", script, "watch",
		e.file("docker.pid"), fmt.Sprint(e.containerd.cmd.Process.Pid), e.file("containerd.toml"))
	watcher.SysProcAttr = onItsOwn()
	// Never written to and never closed: it reads its end when this process has ended.
	if _, err := watcher.StdinPipe(); err != nil {
		return err
	}
	if err := watcher.Start(); err != nil {
		return err
	}
	e.watcher = watcher
	return nil
}

func (e *Engine) containerdReady() error {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := listening(e.file("containerd.sock"))
		if err == nil {
			return nil
		}
		if !e.containerd.running() || time.Now().After(deadline) {
			return fmt.Errorf("cannot start containerd: %w", err)
		}
	}
}

func (e *Engine) startDockerd() error {
	args := []string{
		"--config-file=" + e.file("daemon.json"),
		"--data-root=" + e.file("data"),
		"--exec-root=" + e.file("exec"),
		"--pidfile=" + e.file("docker.pid"),
		"--host=" + e.Host(),
		"--group=root",
		"--containerd=" + e.file("containerd.sock"),
		"--exec-opt=native.cgroupdriver=cgroupfs",
		"--bridge=" + e.slot.bridge,
		"--default-address-pool=base=" + e.slot.pool.String() + ",size=27",
		"--iptables=false",
		"--ip6tables=false",
		"--ip-masq=false",
	}
	if onOverlay(e.slot.dir) {
		args = append(args, "--storage-driver="+e.programs.copying)
	}
	var err error
	e.dockerd, err = startProcess(boundToUs(), e.file("log"), e.environment(), e.programs.dockerd, slices.Concat(args, e.programs.args, e.more)...)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := e.get("/_ping", nil)
		if err == nil {
			return nil
		}
		if !e.dockerd.running() || time.Now().After(deadline) {
			return fmt.Errorf("cannot start dockerd: %w", err)
		}
	}
}

// environment is all that the daemons see: no proxy that would stand before a loopback registry,
// no socket of a service supervisor.
func (e *Engine) environment() []string {
	return []string{"PATH=" + e.programs.path, "HOME=" + e.slot.dir, "TMPDIR=" + e.file("tmp")}
}

func (e *Engine) file(name string) string { return filepath.Join(e.slot.dir, name) }

func (e *Engine) socket() string { return e.file("docker.sock") }

// Host returns the engine's address as DOCKER_HOST has it: "unix:///…/docker.sock".
func (e *Engine) Host() string { return "unix://" + e.socket() }

// Gateway returns the address under which a container on the default bridge reaches this process,
// for a stand-in build master: listen on this address or on all.
func (e *Engine) Gateway() string { return e.slot.address.Addr().String() }

// LogFile returns the path of the file that dockerd and containerd log to.
func (e *Engine) LogFile() string { return e.file("log") }

// Restart stops the engine in order, with SIGTERM, and starts it on the same data. It has no
// live restore: its running containers are stopped, and only those with a restart policy run
// again.
func (e *Engine) Restart(t testing.TB) {
	t.Helper()
	e.Stop(t)
	e.Start(t)
}

// RestartWith restarts the engine with further arguments of dockerd, in place of those of an earlier RestartWith. When the test
// is over it is started without.
func (e *Engine) RestartWith(t testing.TB, args ...string) {
	t.Helper()
	with := func(args []string) {
		e.Stop(t)
		e.mu.Lock()
		e.more = args
		e.mu.Unlock()
		e.Start(t)
	}
	if len(e.more) == 0 {
		t.Cleanup(func() { with(nil) })
	}
	with(args)
}

// Stop ends the engine with SIGTERM; it stops its containers before. A test that calls it calls
// Start before it ends, or the engine is started when the test is over.
func (e *Engine) Stop(t testing.TB) {
	t.Helper()
	e.end(t, syscall.SIGTERM)
}

// Kill ends the engine with SIGKILL, as a crash or the kernel would. Its containers run on until
// Start, which ends them, for there is no live restore.
func (e *Engine) Kill(t testing.TB) {
	t.Helper()
	e.end(t, syscall.SIGKILL)
}

func (e *Engine) end(t testing.TB, signal syscall.Signal) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	t.Cleanup(func() { e.Start(t) })
	if !e.dockerd.end(signal, 60*time.Second) {
		t.Fatalf("engine %s does not end on %s", e.Name, signal)
	}
}

// Start starts the engine again after Stop or Kill, and waits until it answers. It does nothing if
// the engine runs.
func (e *Engine) Start(t testing.TB) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.dockerd.running() {
		return
	}
	if err := e.startDockerd(); err != nil {
		t.Fatalf("cannot start engine %s again: %v\n%s", e.Name, err, e.logTail(0))
	}
}

// close ends the engine and removes everything that it made on this machine.
func (e *Engine) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.watcher != nil {
		_ = e.watcher.Process.Kill()
		_ = e.watcher.Wait()
	}
	for _, p := range []*process{e.dockerd, e.containerd} {
		if p != nil {
			p.end(syscall.SIGKILL, 10*time.Second)
		}
	}
	return e.slot.giveBack()
}

// attach has the engine's log of this test printed if the test fails.
func (e *Engine) attach(t testing.TB) {
	t.Helper()
	var from int64
	if info, err := os.Stat(e.LogFile()); err == nil {
		from = info.Size()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of engine %s:\n%s", e.Name, e.logTail(from))
		}
	})
}

// logTail returns the end of what was logged after an offset.
func (e *Engine) logTail(from int64) string {
	log, err := os.ReadFile(e.LogFile())
	if err != nil {
		return err.Error()
	}
	log = log[min(from, int64(len(log))):]
	const most = 16 << 10
	if len(log) > most {
		log = append([]byte("…"), log[len(log)-most:]...)
	}
	return string(log)
}

// Objects returns the ids of all containers in any state, and of all images, intermediate ones of
// a build included; with a filter only those with that label ("key" or "key=value"). Compare two
// calls to see what was left behind.
func (e *Engine) Objects(t testing.TB, labelFilter string) (containers, images []string) {
	t.Helper()
	return e.ids(t, "/containers/json?all=1", labelFilter), e.ids(t, "/images/json?all=1", labelFilter)
}

// Networks returns the ids of all networks, the three that every engine has included; with a
// filter only those with that label.
func (e *Engine) Networks(t testing.TB, labelFilter string) []string {
	t.Helper()
	return e.ids(t, "/networks?", labelFilter)
}

// Volumes returns the names of all volumes; with a filter only those with that label.
func (e *Engine) Volumes(t testing.TB, labelFilter string) []string {
	t.Helper()
	var list struct{ Volumes []struct{ Name string } }
	if err := e.get("/volumes?"+filters(labelFilter), &list); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range list.Volumes {
		names = append(names, v.Name)
	}
	slices.Sort(names)
	return names
}

func (e *Engine) ids(t testing.TB, path, labelFilter string) []string {
	t.Helper()
	var list []struct{ ID string }
	if err := e.get(path+"&"+filters(labelFilter), &list); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, o := range list {
		ids = append(ids, o.ID)
	}
	slices.Sort(ids)
	return ids
}

func filters(label string) string {
	if label == "" {
		return ""
	}
	text, err := json.Marshal(map[string][]string{"label": {label}})
	if err != nil {
		panic(fmt.Sprintf("internal error: %v", err))
	}
	return url.Values{"filters": {string(text)}}.Encode()
}

// Load puts an image on the engine under a reference, as `docker load` does, and returns its id.
func (e *Engine) Load(t testing.TB, ref string, image Image) string {
	t.Helper()
	archive, err := image.archive(ref)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := e.do(t.Context(), http.MethodPost, "/images/load?quiet=1", http.Header{"Content-Type": {"application/x-tar"}}, bytes.NewReader(archive))
	if err != nil {
		t.Fatalf("cannot load image %q: %v", ref, err)
	}
	var found struct{ ID string }
	if err := e.get("/images/"+ref+"/json", &found); err != nil {
		t.Fatalf("cannot load image %q: %v; the engine said: %s", ref, err, answer)
	}
	return found.ID
}

// LoadWorkerImage puts the image of [WorkerImage] on the engine under a reference, and returns its
// id. It stays there; loading it again costs little and changes nothing.
func (e *Engine) LoadWorkerImage(t testing.TB, ref string) string {
	t.Helper()
	return e.Load(t, ref, WorkerImage(t))
}

// Docker runs the docker command of the PATH against the engine, with a configuration folder of
// its own, and returns its standard output. A test uses it where the docker command is the peer,
// not for its own set-up: the test is skipped where there is none.
func (e *Engine) Docker(t testing.TB, args ...string) string {
	t.Helper()
	docker, err := exec.LookPath("docker")
	if err != nil {
		Missing(t, "the docker command", err)
	}
	cmd := exec.CommandContext(t.Context(), docker, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+e.Host(), "DOCKER_CONFIG="+t.TempDir(), "DOCKER_CONTEXT=", "DOCKER_TLS_VERIFY=")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(stdout)
}

func (e *Engine) get(path string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	answer, err := e.do(ctx, http.MethodGet, path, nil, nil)
	if err != nil || into == nil {
		return err
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("cannot read %s: %w", path, err)
	}
	return nil
}

// do makes a call of the Engine API in the newest version that every engine here speaks.
func (e *Engine) do(ctx context.Context, method, path string, header http.Header, body io.Reader) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://docker/v1.41"+path, body)
	if err != nil {
		return nil, err
	}
	maps.Copy(request.Header, header)
	response, err := e.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= http.StatusBadRequest {
		return answer, fmt.Errorf("%s %s: %s: %s", method, path, response.Status, bytes.TrimSpace(answer))
	}
	return answer, nil
}
