//go:build integration

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/internal/testenv"
)

// many is how many starts go at once.
const many = 10

// TestMany has many starts at once, each a process of its own, and two engines side by side on one Docker Engine.
func TestMany(t *testing.T) {
	for _, e := range testenv.Engines(t) {
		t.Run(e.Name, func(t *testing.T) {
			t.Parallel()
			e.LoadWorkerImage(t, workerImage)
			had := everything(t, e)
			for _, test := range []struct {
				name string
				test func(*testing.T, *terminal)
			}{
				{"Names", manyNames},
				{"OneName", manyOfOneName},
				{"OneID", manyOfOneID},
				{"Replace", manyReplacing},
				{"Stop", stopWhileStarting},
				{"TwoEngines", twoEngines},
			} {
				t.Run(test.name, func(t *testing.T) {
					w := newTerminal(t, e, "many-"+strings.ToLower(test.name))
					w.define(builtWorker)
					test.test(t, w)
					w.stopAll()
					w.clean()
				})
			}
			if diff := cmp.Diff(had, everything(t, e)); diff != "" {
				t.Errorf("what the engine holds (-before +after):\n%s", diff)
			}
		})
	}
}

// builtWorker is a worker whose image is built for it and removed with it.
const builtWorker = `  built:
    masterFQDN: ci.corp
    dockerfile: |
      FROM ` + workerImage + `
      ENV BUILT=yes
`

// atOnce begins n starts and waits for all of them.
func (w *terminal) atOnce(n int, args func(i int) []string) []outcome {
	w.Helper()
	processes := make([]*process, n)
	for i := range processes {
		processes[i] = w.begin(append(append([]string{"start"}, args(i)...), "-f", "ci.yaml", "-o", "json")...)
	}
	out := make([]outcome, n)
	for i, p := range processes {
		out[i] = p.outcome()
	}
	return out
}

// outcome is how a start ended.
type outcome struct {
	startResult
	code           int
	stdout, stderr string
}

// outcome waits for a start with -o json, and holds what it prints against its schema.
func (p *process) outcome() outcome {
	p.Helper()
	o := outcome{code: p.end(), stdout: p.stdout.String(), stderr: p.stderr.String()}
	if err := checkSchema("start", []byte(o.stdout)); err != nil {
		p.Fatalf("%v: %v\nstdout: %s\nstderr: %s", p.cmd.Args, err, o.stdout, o.stderr)
	}
	if err := json.Unmarshal([]byte(o.stdout), &o.startResult); err != nil {
		p.Fatal(err)
	}
	if o.Started != (o.code == 0) || o.Started != (o.Instance != nil) || o.Started == (o.Failure != nil) {
		p.Fatalf("%v: exit code %d\nstdout: %s\nstderr: %s", p.cmd.Args, o.code, o.stdout, o.stderr)
	}
	return o
}

// list is what ps shows.
func (w *terminal) list() []backends.Status {
	w.Helper()
	var list []backends.Status
	w.json(0, &list, "ps")
	return list
}

// running wants ps to show n instances that run, and the engine to hold their containers and no others.
func (w *terminal) running(n int) []backends.Status {
	w.Helper()
	list := w.list()
	containers, _ := w.ours()
	if len(list) != n || len(containers) != n {
		w.Fatalf("ps shows %d instances, the engine has %d containers; want %d: %+v", len(list), len(containers), n, list)
	}
	for _, s := range list {
		if s.State != backends.StateRunning {
			w.Errorf("ps: %+v", s)
		}
	}
	return list
}

func (w *terminal) stopAll() {
	w.Helper()
	args := []string{"stop", "--fast"}
	for _, s := range w.list() {
		args = append(args, s.Instance)
	}
	if len(args) > 2 {
		w.run(0, args...)
	}
}

// clean wants nothing to be left: in Docker, in the journal, in the state folder.
func (w *terminal) clean() {
	w.Helper()
	w.nothingLeft()
	if stdout, _ := w.run(0, "gc"); stdout != "nothing to remove\n" {
		w.Errorf("gc still finds something: %s", stdout)
	}
	locks, err := os.ReadDir(filepath.Join(w.dir, "state", "starts"))
	if err != nil || len(locks) > 0 {
		w.Errorf("locks of starts are left: %v %v", locks, err)
	}
}

// manyNames: as many workers as starts, some with an image of their own.
func manyNames(t *testing.T, w *terminal) {
	for i, o := range w.atOnce(many, func(i int) []string {
		return []string{[]string{"runs", "runs", "built"}[i%3], "--as", fmt.Sprintf("w%d", i)}
	}) {
		if !o.Started || o.Instance.WorkerName != fmt.Sprintf("w%d", i) {
			t.Errorf("start %d: %s\n%s", i, o.stdout, o.stderr)
		}
	}
	names := map[string]bool{}
	for _, s := range w.running(many) {
		names[s.WorkerName] = true
	}
	if _, images := w.ours(); len(names) != many || len(images) < many/3 {
		t.Errorf("workers %v, images %v", names, images)
	}
	if stdout, _ := w.run(0, "gc"); stdout != "nothing to remove\n" {
		t.Errorf("gc: %s", stdout)
	}
}

// manyOfOneName: a worker lives once. One start wins, the others say what was before them: the winner, or another that was
// about to be refused.
func manyOfOneName(t *testing.T, w *terminal) {
	won := ""
	all := w.atOnce(many, func(int) []string { return []string{"runs"} })
	for _, o := range all {
		if o.Started {
			won += o.Instance.Instance
		}
	}
	if list := w.running(1); list[0].Instance != won {
		t.Fatalf("%q say that they started; ps: %+v", won, list)
	}
	for _, o := range all {
		if o.Started {
			continue
		}
		by, running := o.refused()
		if by == "" || running && by != won {
			t.Errorf("exit code %d: %+v\n%s", o.code, o.Failure, o.stderr)
		}
	}
}

// refused is the instance because of which a start was refused, "" where it was not, and whether that one ran already.
func (o outcome) refused() (by string, running bool) {
	f := o.Failure
	said := regexp.MustCompile(`^worker "runs" has an instance already: ([0-9A-Z]{26}) is (running|being started)$`).FindStringSubmatch(f.Message)
	if said == nil || o.code != exitFailed || f.Class != backends.ClassCapacity || !f.Retryable || f.Hint == "" {
		return "", false
	}
	return said[1], said[2] == "running"
}

// manyOfOneID: the same id is the same start, whoever comes first.
func manyOfOneID(t *testing.T, w *terminal) {
	const id = "01J8Z3W6R4T5Y7N8B2V1C0X9M3"
	for round, worker := range []string{"runs", "built"} {
		id := id[:25] + fmt.Sprint(round)
		made, native := 0, map[string]bool{}
		for i, o := range w.atOnce(many, func(i int) []string {
			return []string{worker, "--id", id, "--password-out", fmt.Sprintf("%s%d.pass", worker, i)}
		}) {
			if !o.Started || o.Instance.Instance != id || o.Instance.State != backends.StateRunning {
				t.Errorf("start %d: %s\n%s", i, o.stdout, o.stderr)
				continue
			}
			native[o.Instance.NativeID] = true
			if o.PasswordOut != "" {
				made++
			}
		}
		if len(native) != 1 || made != 1 {
			t.Errorf("%d starts of one id gave containers %v and %d passwords", many, native, made)
		}
		w.running(round + 1)
	}
}

// manyReplacing: each takes the place of one that runs. Where one is being started, one of the two gives way. One lives in the end.
func manyReplacing(t *testing.T, w *terminal) {
	first, _ := w.run(0, "start", "runs")
	started := map[string]bool{}
	for i, o := range w.atOnce(many, func(int) []string { return []string{"runs", "--replace"} }) {
		if o.Started {
			started[o.Instance.Instance] = true
			continue
		}
		if by, running := o.refused(); (by == "" || running) && o.Failure.Class != backends.ClassCancelled {
			t.Errorf("start %d: %+v\n%s", i, o.Failure, o.stderr)
		}
	}
	if list := w.running(1); !started[list[0].Instance] || started[strings.TrimSpace(first)] {
		t.Errorf("started: %v; ps: %+v", started, list)
	}
}

// held is a proxy that holds one call, and a definition, held.yaml, of which the calls go through it.
func (w *terminal) held(method, path string, at when) *proxy {
	w.Helper()
	p := newProxy(w, w.docker, moment{method: method, path: regexp.MustCompile("^" + path + "$"), when: at})
	text, err := os.ReadFile(filepath.Join(w.dir, "ci.yaml"))
	if err != nil {
		w.Fatal(err)
	}
	w.write("held.yaml", strings.ReplaceAll(string(text), w.docker.Host(), p.host))
	return p
}

// stopWhileStarting: who stops an instance whose start is under way, in another process, gets what was asked for.
func stopWhileStarting(t *testing.T, w *terminal) {
	p := w.held(http.MethodPost, "/containers/create", before)
	start := w.begin("start", "runs", "-f", "held.yaml", "-o", "json")
	p.reached(start)
	list := w.list()
	if len(list) != 1 || list[0].State != backends.StateStarting {
		t.Fatalf("ps: %+v", list)
	}
	if stdout, _ := w.run(0, "gc"); stdout != "nothing to remove\n" {
		t.Errorf("gc: %s", stdout)
	}
	stop := w.begin("stop", list[0].Instance, "-f", "ci.yaml")
	select {
	case <-stop.done:
		t.Errorf("stop ended before the start did: %s%s", stop.stdout, stop.stderr)
	case <-time.After(500 * time.Millisecond):
	}
	p.release()
	// The start came about and its instance was removed, or it was given up.
	o, code := start.outcome(), stop.end()
	if !o.Started && o.Failure.Class != backends.ClassCancelled || code != 0 || !strings.HasPrefix(stop.stdout.String(), "removed runs-") {
		t.Errorf("start: %s\nstop: exit code %d: %s%s", o.stdout, code, stop.stdout, stop.stderr)
	}
	w.clean()
}

// twoEngines share a Docker Engine, workers' names and all, and nothing else. One has its id from the definition, the other
// from its state folder.
func twoEngines(t *testing.T, w *terminal) {
	other := &terminal{TB: t, docker: w.docker, dir: t.TempDir()}
	other.define(builtWorker)
	other.list()
	id, err := os.ReadFile(filepath.Join(other.dir, "state", "engine-id"))
	if err != nil {
		t.Fatal(err)
	}
	other.id = strings.TrimSpace(string(id))

	start := func(w *terminal, worker string, args ...string) outcome {
		return w.begin(append([]string{"start", worker, "-f", "ci.yaml", "-o", "json"}, args...)...).outcome()
	}
	for _, worker := range []string{"runs", "built"} {
		for _, w := range []*terminal{w, other} {
			if o := start(w, worker); !o.Started {
				t.Fatalf("start: %s\n%s", o.stdout, o.stderr)
			}
		}
	}
	theirs, mine := other.running(2), w.running(2)
	untouched := func(after string) {
		t.Helper()
		if diff := cmp.Diff(theirs, other.running(2)); diff != "" {
			t.Fatalf("the other engine's instances after %s (-before +after):\n%s", after, diff)
		}
	}

	// Everything that one engine can do to its own.
	if o := start(w, "runs", "--replace"); !o.Started {
		t.Errorf("start --replace: %s\n%s", o.stdout, o.stderr)
	}
	untouched("start --replace")
	for _, args := range [][]string{{"gc"}, {"stop", theirs[0].Instance}, {"stop", "--fast", mine[1].Instance}, {"gc"}} {
		w.run(0, args...)
		untouched(strings.Join(args, " "))
	}
	for _, command := range []string{"inspect", "wait", "logs"} {
		w.run(1, command, theirs[0].Instance)
	}
	w.run(1, "stop", theirs[0].Object)
	untouched("stop of its object's name")

	// The other's instance id gives the other's name for the container.
	if o := start(w, "runs", "--replace", "--id", theirs[0].Instance); o.Started || o.Failure.Class != backends.ClassInfra {
		t.Errorf("start --id: %s\n%s", o.stdout, o.stderr)
	}
	untouched("start of its instance's id")

	// What a killed start leaves, with an image half-built, is its own engine's to remove.
	w.stopAll()
	p := other.held(http.MethodPost, "/containers/create", after)
	dies := other.begin("start", "built", "--as", "dies", "-f", "held.yaml")
	p.reached(dies)
	dies.signal(os.Kill)
	<-dies.done
	p.dropped(t)
	if stdout, _ := w.run(0, "gc"); stdout != "nothing to remove\n" {
		t.Errorf("gc: %s", stdout)
	}
	if containers, _ := other.ours(); len(containers) != 3 {
		t.Errorf("containers of the other engine: %v", containers)
	}
	if stdout, _ := other.run(0, "gc"); !strings.Contains(stdout, "removed container dies-") {
		t.Errorf("gc: %s", stdout)
	}
	untouched("its own gc")
	w.clean()
	other.stopAll()
	other.clean()
}

// restartLimit is how long what waits for an engine may take once the engine is back, or once it is gone, on a machine that is
// busy with other tests.
const restartLimit = 30 * time.Second

// restart is a way in which a Docker Engine goes away and comes back.
type restart struct {
	name string
	down func(*testenv.Engine, testing.TB)
	// inOrder: it ends what it is at, or tries to.
	inOrder bool
	// atOnce: it is back before anybody notices.
	atOnce bool
}

// TestRestart takes the Docker Engine away, in order and as a crash does, and gives it back on the same data.
func TestRestart(t *testing.T) {
	for _, e := range testenv.OwnEngines(t) {
		t.Run(e.Name, func(t *testing.T) {
			t.Parallel()
			e.LoadWorkerImage(t, workerImage)
			network := newNetwork(t, e)
			had := lasting(t, e)
			stopped, killed := restart{name: "Stopped", down: (*testenv.Engine).Stop, inOrder: true}, restart{name: "Killed", down: (*testenv.Engine).Kill}
			back := restart{name: "KilledAndBack", down: (*testenv.Engine).Kill, atOnce: true}
			for _, r := range []restart{stopped, killed} {
				t.Run("Running"+r.name, func(t *testing.T) { restartWhileRunning(t, newTerminal(t, e, "running-"+strings.ToLower(r.name)), r) })
				t.Run("Many"+r.name, func(t *testing.T) { restartWhileMany(t, newTerminal(t, e, "many-"+strings.ToLower(r.name)), r) })
			}
			for _, r := range []restart{killed, back} {
				t.Run("Starting"+r.name, func(t *testing.T) { restartWhileStarting(t, e, network, r) })
			}
			if diff := cmp.Diff(had, lasting(t, e)); diff != "" {
				t.Errorf("what the engine holds (-before +after):\n%s", diff)
			}
		})
	}
}

// lasting is everything that an engine holds, but for the default network, which every start of an engine makes anew.
func lasting(t testing.TB, e *testenv.Engine) []string {
	t.Helper()
	return slices.DeleteFunc(everything(t, e), func(what string) bool { return strings.HasPrefix(what, "network bridge ") })
}

// restartWhileMany restarts the engine under many starts at once, wherever each of them is.
func restartWhileMany(t *testing.T, w *terminal, r restart) {
	w.define(builtWorker)
	names := map[*process]string{}
	for i := range many {
		name := fmt.Sprintf("w%d", i)
		names[w.begin("start", []string{"runs", "built"}[i%2], "--as", name, "-f", "ci.yaml", "-o", "json")] = name
	}
	for deadline := time.Now().Add(restartLimit); ; time.Sleep(5 * time.Millisecond) {
		if containers, _ := w.ours(); len(containers) >= many/3 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the starts make no containers")
		}
	}
	r.down(w.docker, t)
	w.docker.Start(t)

	started := map[string]bool{}
	for p, name := range names {
		o := p.outcome()
		if o.Started {
			started[o.Instance.Instance] = true
		} else if o.Failure.Class != backends.ClassInfra || !o.Failure.Retryable {
			t.Errorf("%s: %+v", name, o.Failure)
		}
	}
	t.Logf("%d of %d starts came about", len(started), many)
	w.run(0, "gc")
	list := w.list()
	for _, s := range list {
		if !started[s.Instance] || s.State != backends.StateRunning && s.State != backends.StateExited || s.State == backends.StateRunning && s.Failure != nil {
			t.Errorf("ps: %+v %+v", s, s.Failure)
		}
	}
	if containers, _ := w.ours(); len(list) != len(started) || len(containers) != len(started) {
		t.Errorf("%d started, ps shows %d, there are containers %v", len(started), len(list), containers)
	}
	w.stopAll()
	w.clean()
}

// restartWhileRunning: an engine without live restore ends its containers: on SIGTERM before it goes, after a crash when it is
// back. Who waits for one goes on waiting in between, and hears of the end.
func restartWhileRunning(t *testing.T, w *terminal, r restart) {
	w.define("  stubborn: {image: " + workerImage + ", autopull: false, env: {WORKER_STUBBORN: 1}, stop_timeout: 1}\n")
	// begin returns when the command makes its first call of that kind.
	begin := func(method, path string, args ...string) (*process, *proxy) {
		p := w.held(method, path, before)
		begun := w.begin(append(args, "-f", "held.yaml", "-o", "json")...)
		p.reached(begun)
		return begun, p
	}
	watching := func(args ...string) *process {
		begun, p := begin(http.MethodGet, "/events", args...)
		p.release()
		return begun
	}
	ids := map[string]string{}
	for _, worker := range []string{"runs", "stubborn"} {
		stdout, _ := w.run(0, "start", worker)
		ids[worker] = strings.TrimSpace(stdout)
	}
	follow, well, badly := watching("start", "other", "--follow"), watching("wait", ids["runs"]), watching("wait", ids["stubborn"])
	follow.until(follow.stdout, "running until told to stop")
	w.running(3)
	removing, removal := begin(http.MethodDelete, "/containers/.+", "start", "exits", "-p", "code=0", "--follow")

	r.down(w.docker, t)
	removal.release()
	var list []backends.Status
	w.json(1, &list, "ps")
	for _, s := range list {
		if s.State != backends.StateUnknown {
			t.Errorf("ps while docker is down: %+v", s)
		}
	}
	if len(list) != 4 {
		t.Errorf("ps while docker is down: %+v", list)
	}
	for _, args := range [][]string{{"ps"}, {"inspect", ids["runs"]}, {"logs", ids["runs"]}, {"wait", ids["runs"]}, {"stop", ids["runs"]}, {"gc"}, {"start", "runs", "--as", "fifth"}, {"start", "runs", "--replace"}} {
		if _, stderr := w.run(1, args...); !strings.Contains(stderr, "failed (infra): cannot connect to docker at ") {
			t.Errorf("%v while docker is down: %s", args, stderr)
		}
	}
	removing.until(removing.stderr, "cannot remove exits-")
	w.docker.Start(t)
	began := time.Now()

	for p, want := range map[*process]struct{ code, exit int }{well: {0, 0}, badly: {1, 137}, follow: {0, 0}, removing: {0, 0}} {
		if code := p.end(); code != want.code {
			t.Errorf("%v: exit code %d\n%s%s", p.cmd.Args, code, p.stdout, p.stderr)
		}
		var s backends.Status
		if p == follow || p == removing {
			var seen []string
			for _, e := range w.events(p.stdout.String()) {
				seen = append(seen, e.Event)
				if e.Event == "exited" {
					s = *e.Instance
				}
			}
			if got := strings.Join(seen, " "); !strings.HasSuffix(got, "log exited removed") {
				t.Errorf("events: %s\n%s", got, p.stderr)
			}
		} else if err := json.Unmarshal([]byte(p.stdout.String()), &s); err != nil {
			t.Fatal(err)
		}
		if s.State != backends.StateExited || s.ExitCode == nil || *s.ExitCode != want.exit || (s.Failure == nil) != (want.exit == 0) {
			t.Errorf("%v: %+v", p.cmd.Args, s)
		}
	}
	if took := time.Since(began); took > restartLimit {
		t.Errorf("the ends were told %s after docker was back", took)
	}
	list = w.list()
	for _, s := range list {
		if s.State != backends.StateExited {
			t.Errorf("ps when docker is back: %+v", s)
		}
	}
	if len(list) != 2 {
		t.Errorf("ps when docker is back: %+v", list)
	}
	if stdout, _ := w.run(0, "gc"); stdout != "nothing to remove\n" {
		t.Errorf("gc: %s", stdout)
	}
	w.run(0, "start", "runs") // in the dead one's place
	w.stopAll()
	w.clean()
}

// restartWhileStarting: every start ends soon, as one that came about or with a failure of the infrastructure that another try
// can mend. What it could not remove, gc does.
func restartWhileStarting(t *testing.T, e *testenv.Engine, network string, r restart) {
	var all []*crashed
	volumes := e.Volumes(t, "")
	for _, c := range on("PullStalled", "BuildRunning", "BuildBefore", "ImageBefore", "CreateBefore", "CreateAfter", "CreateOfBuiltAfter", "ConnectAfter", "StartBefore", "StartAfter") {
		s := crashAt(t, e, c, network)
		all = append(all, s)
	}
	r.down(e, t)
	if r.atOnce {
		e.Start(t)
	}
	began := time.Now()
	for _, s := range all {
		s.proxy.release()
	}
	outcomes := make([]outcome, len(all))
	for i, s := range all {
		o := s.outcome()
		outcomes[i] = o
		t.Logf("%s: started %v, %v", s.crash.name, o.Started, o.Failure)
		if f := o.Failure; f != nil && (f.Class != backends.ClassInfra || !f.Retryable) {
			t.Errorf("%s: %+v", s.crash.name, f)
		}
	}
	if took := time.Since(began); took > restartLimit {
		t.Errorf("the starts ended %s after docker was gone", took)
	}
	e.Start(t)
	for i, s := range all {
		s.sees(outcomes[i])
		s.run(0, "gc")
		s.stopAll()
		s.clean()
	}
	for _, v := range e.Volumes(t, "") {
		if !slices.Contains(volumes, v) {
			// The volume of a build's step, which the engine was removing when it ended: without a container and without a
			// label nobody can tell whose it was.
			t.Logf("the engine left an anonymous volume: %s", v)
			ask(t, e, http.MethodDelete, "/volumes/"+v, nil, nil)
			if !r.inOrder {
				t.Errorf("a crash left a volume: %s", v)
			}
		}
	}
}

// sees wants ps to show what became of a start, which was ended by the engine or is cut off.
func (s *crashed) sees(o outcome) {
	s.Helper()
	for _, now := range s.list() {
		switch {
		case !o.Started && now.Failure != nil && now.Failure.Class == backends.ClassLost:
		case o.Started && now.Instance == o.Instance.Instance && now.State != backends.StateStarting && now.Failure == nil:
		default:
			s.Errorf("%s: ps: %+v %+v; start: %s", s.crash.name, now, now.Failure, o.stdout)
		}
	}
}
