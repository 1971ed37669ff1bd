//go:build integration

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/spec"
	"github.com/latent-engine/latent-engine/internal/testenv"
)

const workerImage = "latent-engine.test/worker:cli"

// terminal is a folder with a definition, and the command run in it as a process of its own.
type terminal struct {
	testing.TB
	docker *testenv.Engine
	dir    string
	id     string // engine id
}

// onEngines runs a test on every Docker Engine, and wants it to leave nothing behind.
func onEngines(t *testing.T, test func(*testing.T, *terminal)) {
	for _, e := range testenv.Engines(t) {
		t.Run(e.Name, func(t *testing.T) {
			e.LoadWorkerImage(t, workerImage)
			id := "cli-" + strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
			term := &terminal{TB: t, docker: e, dir: t.TempDir(), id: id}
			term.define("")
			test(t, term)
			term.nothingLeft()
		})
	}
}

// define writes the definition: workers that end in different ways, and more. Without an engine id the state folder's counts.
func (w *terminal) define(more string) {
	w.Helper()
	id := ""
	if w.id != "" {
		id = "id: " + w.id + ", "
	}
	w.write("ci.yaml", fmt.Sprintf(`version: 1
engine: {%sadvertise: ci.corp}
backends: {local: {docker: {docker_host: %q}}}
workers:
  runs:
    image: %s
    autopull: false
    env: {WORKER_LOG_LINES: 3}
    stop_timeout: 5
  other: {image: %s, autopull: false}
  exits:
    props: {code: {type: int, default: 3}}
    image: %s
    autopull: false
    env: {WORKER_LOG_LINES: 2, WORKER_EXIT: "${{ string(props.code) }}"}
  absent: {image: latent-engine.test/absent:none, autopull: false}
%s`, id, w.docker.Host(), workerImage, workerImage, workerImage, more))
}

func (w *terminal) write(name, content string) {
	w.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(content), 0o600); err != nil {
		w.Fatal(err)
	}
}

// process is a command that runs.
type process struct {
	*terminal
	cmd            *exec.Cmd
	stdout, stderr *locked
	done           chan struct{}
}

type locked struct {
	mux sync.Mutex
	b   bytes.Buffer // guarded by mux
}

func (l *locked) Write(p []byte) (int, error) {
	l.mux.Lock()
	defer l.mux.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mux.Lock()
	defer l.mux.Unlock()
	return l.b.String()
}

// begin starts `latent-engine args…` in the folder; the test binary is the command (see TestMain).
func (w *terminal) begin(args ...string) *process {
	w.Helper()
	self, err := os.Executable()
	if err != nil {
		w.Fatal(err)
	}
	p := &process{terminal: w, stdout: &locked{}, stderr: &locked{}, done: make(chan struct{})}
	ctx := w.Context()
	if ctx.Err() != nil {
		ctx = context.WithoutCancel(ctx) // a cleanup: the test's context has ended
	}
	p.cmd = exec.CommandContext(ctx, self)
	p.cmd.Args = append([]string{"latent-engine"}, args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = w.dir, p.stdout, p.stderr
	p.cmd.Env = append(os.Environ(), "LATENT_ENGINE_STATE="+filepath.Join(w.dir, "state"), "HOME="+w.dir)
	if err := p.cmd.Start(); err != nil {
		w.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	return p
}

// end waits for the process, and gives its exit code.
func (p *process) end() int {
	p.Helper()
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		_ = p.cmd.Process.Kill()
		p.Fatalf("%v did not end\nstdout: %s\nstderr: %s", p.cmd.Args, p.stdout, p.stderr)
	}
	return p.cmd.ProcessState.ExitCode()
}

// until waits for a text in what the process writes.
func (p *process) until(out *locked, text string) {
	p.Helper()
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(out.String(), text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.Fatalf("%v: no %q\nstdout: %s\nstderr: %s", p.cmd.Args, text, p.stdout, p.stderr)
		}
	}
}

func (p *process) signal(s os.Signal) {
	p.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.Fatal(err)
	}
}

// run runs a command on ci.yaml to its end, and wants an exit code.
func (w *terminal) run(code int, args ...string) (stdout, stderr string) {
	w.Helper()
	p := w.begin(append(args, "-f", "ci.yaml")...)
	if got := p.end(); got != code {
		w.Fatalf("latent-engine %s: exit code %d, want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), got, code, p.stdout, p.stderr)
	}
	return p.stdout.String(), p.stderr.String()
}

// json runs a command with -o json, holds what it prints against its schema, and decodes it.
func (w *terminal) json(code int, into any, args ...string) {
	w.Helper()
	stdout, _ := w.run(code, append(args, "-o", "json")...)
	if err := checkSchema(args[0], []byte(stdout)); err != nil {
		w.Fatalf("%v: %v\n%s", args, err, stdout)
	}
	if err := json.Unmarshal([]byte(stdout), into); err != nil {
		w.Fatal(err)
	}
}

// events are the JSON lines of start --follow.
func (w *terminal) events(stdout string) []startEvent {
	w.Helper()
	var out []startEvent
	for line := range strings.Lines(stdout) {
		if err := checkSchema("start", []byte(line)); err != nil {
			w.Fatalf("%v\n%s", err, line)
		}
		var e startEvent
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			w.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

func (w *terminal) ours() (containers, images []string) {
	w.Helper()
	return w.docker.Objects(w, spec.LabelEngine+"="+w.id)
}

func (w *terminal) nothingLeft() {
	w.Helper()
	if containers, images := w.ours(); len(containers)+len(images) > 0 {
		w.Errorf("left behind: containers %v, images %v", containers, images)
		for _, id := range images {
			w.Log(w.docker.Docker(w, "image", "inspect", "--format", "{{.Id}} tags {{.RepoTags}} parent {{.Parent}} made {{.Created}} labels {{json .Config.Labels}}", id))
		}
	}
	var list []backends.Status
	w.json(0, &list, "ps")
	if len(list) > 0 {
		w.Errorf("ps still lists %+v", list)
	}
}

func TestDockerLife(t *testing.T) {
	onEngines(t, func(t *testing.T, w *terminal) {
		stdout, stderr := w.run(0, "start", "runs", "--password-out", "w.pass")
		id := strings.TrimSpace(stdout)
		if len(id) != 26 || !strings.Contains(stderr, "created") || !strings.Contains(stderr, "docker://local") || !strings.Contains(stderr, "running") {
			t.Errorf("start printed %q and %q", stdout, stderr)
		}
		pass, err := os.ReadFile(filepath.Join(w.dir, "w.pass"))
		info, _ := os.Stat(filepath.Join(w.dir, "w.pass"))
		if err != nil || len(strings.TrimSpace(string(pass))) < 20 || info.Mode().Perm() != 0o600 {
			t.Errorf("the password file: %v, %d bytes, %v", err, len(pass), info.Mode())
		}
		if env := w.docker.Docker(t, "inspect", "--format", "{{json .Config.Env}}", "runs-"+strings.ToLower(id)); !strings.Contains(env, `"WORKERPASS=`+strings.TrimSpace(string(pass))+`"`) {
			t.Errorf("the container has another password: %s", env)
		}

		var list []backends.Status
		w.json(0, &list, "ps")
		if len(list) != 1 || list[0].Instance != id || list[0].State != backends.StateRunning {
			t.Fatalf("ps: %+v", list)
		}
		stdout, _ = w.run(0, "ps")
		short := "runs-" + strings.ToLower(id[20:])
		if !strings.HasPrefix(stdout, "INSTANCE") || !strings.Contains(stdout, short) || !strings.Contains(stdout, "docker/local") {
			t.Errorf("ps printed %s", stdout)
		}
		for _, name := range []string{id, strings.ToLower(id), short, "runs-" + strings.ToLower(id), id[18:]} {
			var s backends.Status
			w.json(0, &s, "inspect", name)
			if s.Instance != id || s.Image != workerImage {
				t.Errorf("inspect %s: %+v", name, s)
			}
		}
		stdout, _ = w.run(0, "inspect", short)
		if !strings.Contains(stdout, id) {
			t.Errorf("inspect printed %s", stdout)
		}
		time.Sleep(300 * time.Millisecond) // for the log to be written
		stdout, _ = w.run(0, "logs", short)
		if !strings.Contains(stdout, "line 3 of 3\n") || strings.Contains(stdout, strings.TrimSpace(string(pass))) {
			t.Errorf("logs printed %s", stdout)
		}
		stdout, _ = w.run(0, "logs", short, "--tail", "1", "-o", "json")
		if err := checkSchema("logs", []byte(stdout)); err != nil || strings.Count(stdout, "\n") != 1 || !strings.Contains(stdout, `"time":"2`) {
			t.Errorf("logs -o json: %v\n%s", err, stdout)
		}
		var gc gcResult
		w.json(0, &gc, "gc")
		if len(gc.Removed)+len(gc.Cleared) > 0 {
			t.Errorf("gc took a running instance: %+v", gc)
		}
		stdout, _ = w.run(0, "stop", short)
		if !strings.HasPrefix(stdout, "removed "+short) {
			t.Errorf("stop printed %s", stdout)
		}
		w.run(0, "stop", id)
		w.run(1, "inspect", short)
		// version asks the engine itself.
		var v versionResult
		w.json(0, &v, "version", "--backends")
		if len(v.Backends) != 1 || v.Backends[0].Version != w.docker.Version {
			t.Errorf("version: %+v", v)
		}
	})
}

func TestDockerWait(t *testing.T) {
	onEngines(t, func(t *testing.T, w *terminal) {
		stdout, _ := w.run(0, "start", "exits")
		id := strings.TrimSpace(stdout)
		stdout, stderr := w.run(1, "wait", id)
		if stdout != "" || !strings.Contains(stderr, "failed (crashed): ") || !strings.Contains(stderr, "  | line 2 of 2\n") {
			t.Errorf("wait printed %q and %q", stdout, stderr)
		}
		var s backends.Status
		w.json(1, &s, "wait", id)
		if s.ExitCode == nil || *s.ExitCode != 3 || s.State != backends.StateExited {
			t.Errorf("wait: %+v", s)
		}
		stdout, _ = w.run(0, "ps")
		if !strings.Contains(stdout, "exited (3)") {
			t.Errorf("ps printed %s", stdout)
		}
		// A dead instance of the same worker makes room by itself.
		stdout, _ = w.run(0, "start", "exits", "-p", "code=0")
		next := strings.TrimSpace(stdout)
		stdout, _ = w.run(0, "wait", next)
		if !strings.Contains(stdout, " ended with 0") {
			t.Errorf("wait printed %s", stdout)
		}
		// Ctrl-C ends the wait and nothing else.
		stdout, _ = w.run(0, "start", "runs")
		p := w.begin("wait", strings.TrimSpace(stdout), "-f", "ci.yaml")
		time.Sleep(500 * time.Millisecond)
		p.signal(syscall.SIGINT)
		if code := p.end(); code != 1 {
			t.Errorf("wait after Ctrl-C: exit code %d: %s", code, p.stderr)
		}
		w.run(0, "stop", next, strings.TrimSpace(stdout))
	})
}

func TestDockerFollow(t *testing.T) {
	onEngines(t, func(t *testing.T, w *terminal) {
		p := w.begin("start", "runs", "--follow", "-f", "ci.yaml")
		p.until(p.stdout, "  | line 3 of 3\n")
		p.signal(syscall.SIGINT)
		if code := p.end(); code != 0 || !strings.Contains(p.stderr.String(), "once more to leave it running") || !strings.HasSuffix(p.stderr.String(), "removed\n") {
			t.Errorf("exit code %d\n%s", code, p.stderr)
		}
		w.nothingLeft()

		// A worker that ends by itself is removed too; the exit code is its own.
		stdout, _ := w.run(1, "start", "exits", "--follow", "-o", "json")
		var seen []string
		for _, e := range w.events(stdout) {
			seen = append(seen, e.Event)
			if e.Event == "exited" && (e.Instance.ExitCode == nil || *e.Instance.ExitCode != 3 || e.Instance.Failure == nil) {
				t.Errorf("exited: %+v", e)
			}
		}
		if got := strings.Join(seen, " "); !strings.HasPrefix(got, "accepted started log log log") || !strings.HasSuffix(got, "log exited removed") {
			t.Errorf("events: %s\n%s", got, stdout)
		}
		w.run(0, "start", "exits", "-p", "code=0", "--follow")
		w.nothingLeft()

		// A second Ctrl-C leaves it running, and says so.
		w.define("  stubborn: {image: " + workerImage + ", autopull: false, env: {WORKER_STUBBORN: 1}, stop_timeout: 60}\n")
		p = w.begin("start", "stubborn", "--follow", "-f", "ci.yaml", "-o", "json")
		p.until(p.stdout, `"event":"log"`)
		p.signal(syscall.SIGINT)
		time.Sleep(500 * time.Millisecond)
		p.signal(syscall.SIGINT)
		if code := p.end(); code != 1 || !strings.Contains(p.stdout.String(), `"event":"left"`) {
			t.Errorf("exit code %d\n%s\n%s", code, p.stdout, p.stderr)
		}
		var list []backends.Status
		w.json(0, &list, "ps")
		if len(list) != 1 || list[0].State != backends.StateRunning {
			t.Fatalf("ps: %+v", list)
		}
		w.run(0, "stop", "--fast", list[0].Instance)
	})
}

func TestDockerIdentity(t *testing.T) {
	onEngines(t, func(t *testing.T, w *terminal) {
		const id = "01J8Z3W6R4T5Y7N8B2V1C0X9M3"
		var first, second startResult
		w.json(0, &first, "start", "runs", "--id", id, "--password-out", "w.pass")
		password, _ := os.ReadFile(filepath.Join(w.dir, "w.pass"))
		w.json(0, &second, "start", "runs", "--id", strings.ToLower(id), "--password-out", "w.pass")
		if first.Instance.Instance != id || second.Instance.NativeID != first.Instance.NativeID || first.PasswordOut != "w.pass" || second.PasswordOut != "" {
			t.Errorf("the same id twice: %+v, %+v", first, second)
		}
		if again, _ := os.ReadFile(filepath.Join(w.dir, "w.pass")); !bytes.Equal(again, password) {
			t.Error("the second start of one id changed its password")
		}
		if files, _ := filepath.Glob(filepath.Join(w.dir, ".latent-engine-*")); len(files) > 0 {
			t.Errorf("left: %v", files)
		}

		// Another start of the same worker is refused; under another name, or of another worker, it is not.
		_, stderr := w.run(1, "start", "runs")
		if !strings.Contains(stderr, `worker "runs" has an instance already: `+id) || !strings.Contains(stderr, "--replace") {
			t.Errorf("start printed %s", stderr)
		}
		var refused startResult
		w.json(1, &refused, "start", "runs")
		if refused.Started || refused.Failure == nil {
			t.Errorf("start: %+v", refused)
		}
		w.run(0, "start", "runs", "--as", "another")
		w.run(0, "start", "other")
		var replaced startResult
		w.write("pass", "given\n")
		w.json(0, &replaced, "start", "runs", "--replace", "--password-file", "pass")
		if replaced.Instance.Instance == id {
			t.Error("--replace gave the old instance")
		}
		if env := w.docker.Docker(t, "inspect", "--format", "{{json .Config.Env}}", replaced.Instance.Object); !strings.Contains(env, `"WORKERPASS=given"`) {
			t.Errorf("the given password did not arrive: %s", env)
		}
		var list []backends.Status
		w.json(0, &list, "ps")
		if len(list) != 3 {
			t.Errorf("ps: %+v", list)
		}
		var ids []string
		for _, s := range list {
			ids = append(ids, s.Instance)
		}
		var stopped []stopResult
		w.json(0, &stopped, append([]string{"stop", "--fast"}, ids...)...)
		if len(stopped) != 3 {
			t.Errorf("stop: %+v", stopped)
		}
	})
}

func TestDockerTwoAtOnce(t *testing.T) {
	onEngines(t, func(t *testing.T, w *terminal) {
		one, two := w.begin("start", "runs", "-f", "ci.yaml"), w.begin("start", "runs", "-f", "ci.yaml")
		codes := fmt.Sprint(one.end() + two.end())
		if containers, _ := w.ours(); codes != "1" || len(containers) != 1 {
			t.Errorf("exit codes sum to %s, containers %v\n%s\n%s", codes, containers, one.stderr, two.stderr)
		}
		if all := one.stderr.String() + two.stderr.String(); !strings.Contains(all, "has an instance already") {
			t.Errorf("nobody was refused: %s", all)
		}
		var list []backends.Status
		w.json(0, &list, "ps")
		for _, s := range list {
			w.run(0, "stop", "--fast", s.Instance)
		}
	})
}

func TestDockerFailures(t *testing.T) {
	onEngines(t, func(t *testing.T, w *terminal) {
		began := time.Now()
		_, stderr := w.run(1, "start", "absent")
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("an absent image was noticed after %s", took)
		}
		if !strings.HasPrefix(stderr, "failed (image): ") || !strings.Contains(stderr, "image is set at ci.yaml:16:19: latent-engine.test/absent:none") {
			t.Errorf("start printed %s", stderr)
		}
		var r startResult
		w.json(1, &r, "start", "absent")
		if r.Failure == nil || r.Failure.Class != backends.ClassImage || r.Failure.Retryable {
			t.Errorf("start: %+v", r.Failure)
		}
		w.nothingLeft()
	})
}

// silent is a registry that takes a call and never answers.
func silent(t testing.TB) string {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
		}
	}()
	return l.Addr().String()
}

func TestDockerCancel(t *testing.T) {
	onEngines(t, func(t *testing.T, w *terminal) {
		w.define("  hangs: {image: \"" + silent(t) + "/x:1\"}\n")
		p := w.begin("start", "hangs", "-f", "ci.yaml", "-o", "json")
		time.Sleep(time.Second)
		p.signal(syscall.SIGINT)
		began := time.Now()
		if code := p.end(); code != 1 {
			t.Errorf("exit code %d", code)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("cancelling took %s", took)
		}
		var r startResult
		if err := json.Unmarshal([]byte(p.stdout.String()), &r); err != nil || r.Failure == nil || r.Failure.Class != backends.ClassCancelled {
			t.Errorf("start: %v %+v\n%s", err, r.Failure, p.stderr)
		}
	})
}

// TestDockerKill kills starts at many moments; gc then finds all that they left.
func TestDockerKill(t *testing.T) {
	onEngines(t, func(t *testing.T, w *terminal) {
		w.write("Dockerfile", "")
		w.define("  built:\n    masterFQDN: ci.corp\n    dockerfile: |\n      FROM " + workerImage + "\n      LABEL a=b\n")
		killed := 0
		for i := range 12 {
			worker := []string{"runs", "built"}[i%2]
			p := w.begin("start", worker, "-f", "ci.yaml", "--replace")
			select {
			case <-p.done:
			case <-time.After(time.Duration(i*i) * 8 * time.Millisecond):
				p.signal(syscall.SIGKILL)
				<-p.done
				killed++
			}
			if i%3 == 2 {
				// The engine may still be at what a killed start asked of it: only what --dry-run saw can be compared.
				var dry, gc gcResult
				w.json(0, &dry, "gc", "--dry-run")
				containers, _ := w.ours()
				for _, r := range dry.Removed {
					if strings.HasPrefix(r.Name, "runs-") && !slices.Contains(containers, r.ID) {
						t.Errorf("gc --dry-run removed %+v", r)
					}
				}
				w.json(0, &gc, "gc")
				if !dry.DryRun || gc.DryRun {
					t.Errorf("dry_run is %v with it, %v without", dry.DryRun, gc.DryRun)
				}
			}
		}
		if killed < 3 {
			t.Errorf("only %d of 12 starts were killed: the test shows too little", killed)
		}
		time.Sleep(2 * time.Second) // the engine ends what the last killed start asked of it
		w.run(0, "gc")
		var list []backends.Status
		w.json(0, &list, "ps")
		for _, s := range list {
			if s.State != backends.StateRunning {
				t.Errorf("after gc: %+v", s)
			}
			w.run(0, "stop", "--fast", s.Instance)
		}
		w.run(0, "gc")
	})
}
