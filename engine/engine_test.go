package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/policy"
	"github.com/latent-engine/latent-engine/engine/render"
	"github.com/latent-engine/latent-engine/renderers/cel"
)

const twoYards = `version: 1
engine: {id: ci-1, advertise: ci.corp:9989}
backends:
  a: {yard: {}}
  b: {yard: {host: "unix:///other"}}
workers:
  linux: {backend: a, image: x, env: {A: a}}
  moved: {backend: b, image: x}
  evil: {backend: a, image: x, env: {WORKERNAME: root}}
  sneaky: {backend: a, image: x, labels: {latent-engine.io/instance: other}}
  secretive: {backend: a, image: x, password: "${{ secret('pw') }}"}
  plain: {backend: a, image: x, password: hunter2}
`

type world struct {
	t     *testing.T
	state string
	a, b  *yard
	newID func() string
	now   time.Time
	text  string
	hosts map[string]*yard // nil = a and b
}

func newWorld(t *testing.T) *world {
	return &world{t: t, state: t.TempDir(), a: newYard(), b: newYard(), newID: ids(), now: testTime, text: twoYards}
}

// engine opens an engine as a process of its own would.
func (w *world) engine() *Engine {
	w.t.Helper()
	kind := yardKind{yards: w.hosts}
	if kind.yards == nil {
		kind.yards = map[string]*yard{"unix:///yard": w.a, "unix:///other": w.b}
	}
	def, diags := config.Load([]config.Source{{Name: "ci.yaml", Data: []byte(w.text)}}, config.Options{Kinds: map[string]config.Kind{"yard": {Connection: kind.Connection(), Worker: kind.Worker()}}})
	if diags.HasErrors() {
		w.t.Fatal(diags)
	}
	set, diags := render.Compile(def, render.Options{Kinds: map[string]render.Kind{"yard": kind}, CEL: cel.New(cel.Options{})})
	if diags.HasErrors() {
		w.t.Fatal(diags)
	}
	e, err := Open(set, Options{Kinds: []backends.Kind{kind}, CEL: cel.New(cel.Options{}), State: w.state, Now: func() time.Time { return w.now }, NewID: w.newID})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { e.Close() })
	return e
}

func (w *world) start(e *Engine, r StartRequest) *StartResult {
	w.t.Helper()
	r.Build = &config.Build{}
	res, err := e.Start(context.Background(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

func fails[E error](t *testing.T, err error) E {
	t.Helper()
	var e E
	if !errors.As(err, &e) {
		t.Fatalf("error %T %v, want %T", err, err, e)
	}
	return e
}

func (w *world) gc(e *Engine) GCReport {
	w.t.Helper()
	r, err := e.GC(context.Background(), GCOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func TestStartStop(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	r := w.start(e, StartRequest{Worker: "linux"})
	if r.Status.State != backends.StateRunning || len(r.Password) < 20 || w.a.filled[0] != r.Password {
		t.Errorf("result %+v", r)
	}
	list, err := w.engine().List(context.Background())
	if err != nil || len(list) != 1 || list[0].Worker != "linux" {
		t.Fatalf("list %+v, %v", list, err)
	}
	if g := w.gc(e); len(g.Removed)+len(g.Cleared) != 0 {
		t.Errorf("gc touched a live instance: %+v", g)
	}
	if _, err := e.Stop(context.Background(), r.Status.Instance, backends.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if w.a.count() != 0 {
		t.Error("left behind")
	}
	var nf *NotFoundError
	if _, err := e.Stop(context.Background(), r.Status.Instance, backends.StopOptions{}); !errors.As(err, &nf) {
		t.Errorf("an id that was stopped and forgotten: %v", err)
	}
}

func TestOneIdentityLivesOnce(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	first := w.start(e, StartRequest{Worker: "linux"})
	live := fails[*LiveError](t, errOf(e.Start(context.Background(), StartRequest{Worker: "linux", Build: &config.Build{}})))
	if live.Instance != first.Status.Instance {
		t.Errorf("%+v", live)
	}
	// The same WORKERNAME from another worker, on another backend, is the same identity.
	fails[*LiveError](t, errOf(e.Start(context.Background(), StartRequest{Worker: "moved", As: "linux", Build: &config.Build{}})))
	second := w.start(e, StartRequest{Worker: "moved", As: "linux", Replace: true})
	if w.a.count() != 0 || w.b.count() != 1 {
		t.Errorf("after --replace: %d and %d objects", w.a.count(), w.b.count())
	}
	// What is left of a dead one goes first.
	w.b.setState(second.Status.Instance, backends.StateExited)
	w.start(e, StartRequest{Worker: "linux"})
	if w.a.count() != 1 || w.b.count() != 0 {
		t.Errorf("after a dead one: %d and %d objects", w.a.count(), w.b.count())
	}
	// Another WORKERNAME is another identity.
	w.start(e, StartRequest{Worker: "linux", As: "linux-2"})
}

func errOf(_ *StartResult, err error) error { return err }

func TestSameIDIsSameStart(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	const id = "01JD00000000000000000000ZZ"
	first := w.start(e, StartRequest{Worker: "linux", ID: id})
	again := w.start(w.engine(), StartRequest{Worker: "linux", ID: strings.ToLower(id)})
	if again.Status.Instance != first.Status.Instance || w.a.count() != 1 || again.Password != "" {
		t.Errorf("again %+v", again)
	}
	if g := w.gc(e); len(g.Removed)+len(g.Cleared) != 0 {
		t.Errorf("gc after the second start: %+v", g)
	}
	w.a.setState(id, backends.StateGone)
	if third := w.start(e, StartRequest{Worker: "linux", ID: id}); third.Password == "" || w.a.count() != 1 {
		t.Errorf("start of one that is gone: %+v", third)
	}
	if _, err := e.Start(context.Background(), StartRequest{Worker: "plain", ID: id, Build: &config.Build{}}); err == nil {
		t.Error("one id served two workers")
	}
	if f := fails[*backends.Failure](t, errOf(e.Start(context.Background(), StartRequest{Worker: "linux", ID: "../../x", Build: &config.Build{}}))); f.Class != backends.ClassConfig {
		t.Errorf("%+v", f)
	}
}

// held begins a start that the yard holds, in a process of its own.
func (w *world) held(r StartRequest) (release func(), ended chan error) {
	w.t.Helper()
	hold, started := make(chan struct{}), make(chan struct{})
	w.a.mux.Lock()
	w.a.hold, w.a.started = hold, started
	w.a.mux.Unlock()
	ended = make(chan error, 1)
	e := w.engine()
	go func() {
		r.Build = &config.Build{}
		_, err := e.Start(context.Background(), r)
		ended <- err
	}()
	<-started
	w.a.mux.Lock()
	w.a.started = nil
	w.a.mux.Unlock()
	return func() { close(hold) }, ended
}

func TestSameIDAtOnce(t *testing.T) {
	w := newWorld(t)
	const id = "01JD00000000000000000000ZZ"
	release, first := w.held(StartRequest{Worker: "linux", ID: id})
	ctx, cancel := context.WithCancel(context.Background())
	_, err := w.engine().Start(ctx, StartRequest{Worker: "linux", ID: id, Build: &config.Build{}, Progress: func(p backends.Progress) {
		if p.Phase == "waiting" {
			cancel()
		}
	}})
	if f := fails[*backends.Failure](t, err); f.Class != backends.ClassCancelled || !errors.Is(err, context.Canceled) {
		t.Errorf("a start that was cancelled while it waited: %+v", f)
	}
	second := w.start(w.engine(), StartRequest{Worker: "linux", ID: id, Progress: func(p backends.Progress) {
		if p.Phase == "waiting" {
			release()
		}
	}})
	if err := <-first; err != nil || second.Status.Instance != id || second.Password != "" || w.a.count() != 1 {
		t.Errorf("%v, %+v, %d objects", err, second, w.a.count())
	}
}

// TestStopWhileStarting: a start that another process makes is given up, also where the backend does not listen and the start
// comes about.
func TestStopWhileStarting(t *testing.T) {
	const id = "01JD00000000000000000000ZZ"
	for _, deaf := range []bool{false, true} {
		w := newWorld(t)
		w.a.deaf = deaf
		release, started := w.held(StartRequest{Worker: "linux", ID: id})
		if deaf {
			ctx, cancel := context.WithTimeout(t.Context(), 3*startPoll)
			if _, err := w.engine().Stop(ctx, id, backends.StopOptions{}); fails[*backends.Failure](t, err).Class != backends.ClassTimeout {
				t.Errorf("stop of a start that does not end: %v", err)
			}
			cancel()
			release()
		} else {
			s, err := w.engine().Stop(t.Context(), id[20:], backends.StopOptions{})
			if err != nil || s.Instance != id || s.State != backends.StateGone {
				t.Errorf("stop gave %+v, %v", s, err)
			}
		}
		if f := fails[*backends.Failure](t, <-started); f.Class != backends.ClassCancelled || !strings.Contains(f.Message, "stopped while it was being started") {
			t.Errorf("start: %+v", f)
		}
		if entries, _ := w.engine().store.Entries("ci-1"); w.a.count() != 0 || len(entries) != 0 {
			t.Errorf("left: %d objects, journal %+v", w.a.count(), entries)
		}
		if files, err := os.ReadDir(filepath.Join(w.state, "starts")); err != nil || len(files) != 0 {
			t.Errorf("left in starts: %v, %v", files, err)
		}
		// What was asked of the first is not asked of the next with its id.
		w.a.hold, w.a.deaf = nil, false
		w.start(w.engine(), StartRequest{Worker: "linux", ID: id})
	}
}

func TestReplaceWhileStarting(t *testing.T) {
	w := newWorld(t)
	_, first := w.held(StartRequest{Worker: "linux"})
	w.a.mux.Lock()
	w.a.hold = nil
	w.a.mux.Unlock()
	r := w.start(w.engine(), StartRequest{Worker: "linux", Replace: true})
	if f := fails[*backends.Failure](t, <-first); f.Class != backends.ClassCancelled {
		t.Errorf("the first: %+v", f)
	}
	if entries, _ := w.engine().store.Entries("ci-1"); len(entries) != 1 || entries[0].Instance != r.Status.Instance || w.a.count() != 1 {
		t.Errorf("journal %+v, %d objects", entries, w.a.count())
	}
}

// TestSameIDOnAnotherTarget: one instance id is one instance, whatever a build makes of its backend.
func TestSameIDOnAnotherTarget(t *testing.T) {
	w := newWorld(t)
	const id = "01JD00000000000000000000ZZ"
	w.start(w.engine(), StartRequest{Worker: "linux", ID: id})
	w.text = strings.Replace(w.text, "linux: {backend: a", "linux: {backend: b", 1)
	_, err := w.engine().Start(t.Context(), StartRequest{Worker: "linux", ID: id, Build: &config.Build{}})
	if err == nil || !strings.Contains(err.Error(), `that instance is on "a"`) || w.a.count() != 1 || w.b.count() != 0 {
		t.Errorf("%v; %d and %d objects", err, w.a.count(), w.b.count())
	}
}

// TestTwoDefinitionsOneState: "a" of one definition is not "a" of another, and neither takes the other's instances for lost.
func TestTwoDefinitionsOneState(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	elsewhere := *w
	elsewhere.text = strings.NewReplacer("a: {yard: {}}", `a: {yard: {host: "unix:///other"}}`).Replace(w.text)
	mine := w.start(w.engine(), StartRequest{Worker: "linux"})
	theirs := w.start(elsewhere.engine(), StartRequest{Worker: "plain"})
	for _, e := range []*Engine{elsewhere.engine(), w.engine(), elsewhere.engine(), w.engine()} {
		if g := w.gc(e); len(g.Removed)+len(g.Cleared) != 0 {
			t.Errorf("gc: %+v", g)
		}
	}
	if w.a.count() != 1 || w.b.count() != 1 {
		t.Fatalf("%d and %d objects", w.a.count(), w.b.count())
	}
	other := elsewhere.engine()
	list, err := other.List(ctx)
	if err != nil || len(list) != 2 || list[0].State != backends.StateRunning || list[1].State != backends.StateUnknown || list[1].Failure == nil {
		t.Errorf("List: %+v, %v", list, err)
	}
	_, startErr := other.Start(ctx, StartRequest{Worker: "linux", Build: &config.Build{}})
	_, replaceErr := other.Start(ctx, StartRequest{Worker: "linux", Build: &config.Build{}, Replace: true})
	_, againErr := other.Start(ctx, StartRequest{Worker: "linux", Build: &config.Build{}, ID: mine.Status.Instance})
	_, stopErr := other.Stop(ctx, mine.Status.Instance, backends.StopOptions{})
	for _, err := range []error{startErr, replaceErr, againErr, stopErr} {
		if f := fails[*backends.Failure](t, err); f.Class != backends.ClassConfig || !strings.Contains(f.Message, `is on another yard than the backend "a" is now`) {
			t.Errorf("%+v", f)
		}
	}
	// The same backend at another address, or under another name.
	for _, text := range []string{
		strings.Replace(w.text, "a: {yard: {}}", `a: {yard: {host: "tcp://yard"}}`, 1),
		strings.NewReplacer("a: {yard: {}}", `a1: {yard: {host: "tcp://yard"}}`, "backend: a", "backend: a1").Replace(w.text),
	} {
		moved := *w
		moved.text, moved.hosts = text, map[string]*yard{"tcp://yard": w.a, "unix:///other": w.b}
		if g := w.gc(moved.engine()); len(g.Removed)+len(g.Cleared) != 0 {
			t.Errorf("gc: %+v", g)
		}
	}
	w.a.setState(mine.Status.Instance, backends.StateGone)
	moved := *w
	moved.text = strings.NewReplacer("a: {yard: {}}", `a1: {yard: {}}`, "backend: a", "backend: a1").Replace(w.text)
	if g := w.gc(moved.engine()); len(g.Cleared) != 1 || g.Cleared[0] != mine.Status.Instance {
		t.Errorf("gc: %+v", g)
	}
	if s, _, err := other.Find(ctx, theirs.Status.Instance); err != nil || s.State != backends.StateRunning {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestCutOffElsewhere: what is left of a start that died is for who can ask the backend that it was on.
func TestCutOffElsewhere(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	for i, backend := range []string{w.a.id, w.b.id, ""} {
		in, _, err := e.store.Begin(Entry{Instance: "01JD000000000000000000CUT" + string(rune('0'+i)), Engine: "ci-1", Worker: "cut", WorkerName: "cut", Target: "a"})
		if err != nil {
			t.Fatal(err)
		}
		if err := in.HeldBy(backend); err != nil {
			t.Fatal(err)
		}
		in.Release()
	}
	onlyA := *w
	onlyA.text = strings.NewReplacer(`  b: {yard: {host: "unix:///other"}}`+"\n", "", "backend: b", "backend: a").Replace(w.text)
	if g := w.gc(onlyA.engine()); strings.Join(g.Cleared, " ") != "01JD000000000000000000CUT0 01JD000000000000000000CUT2" {
		t.Errorf("gc: %+v", g)
	}
	if g := w.gc(w.engine()); strings.Join(g.Cleared, " ") != "01JD000000000000000000CUT1" {
		t.Errorf("gc: %+v", g)
	}
}

// TestBackendSetUpAnew: an entry follows an instance whose backend has another id now, and is struck by hand where that is gone.
func TestBackendSetUpAnew(t *testing.T) {
	w := newWorld(t)
	r := w.start(w.engine(), StartRequest{Worker: "linux"})
	set := func(id string) {
		w.a.mux.Lock()
		defer w.a.mux.Unlock()
		w.a.id = id
	}
	runs := func() {
		t.Helper()
		if s, _, err := w.engine().Find(t.Context(), r.Status.Instance); err != nil || s.State != backends.StateRunning {
			t.Errorf("%+v, %v", s, err)
		}
	}
	set("second")
	runs()
	if g := w.gc(w.engine()); len(g.Removed)+len(g.Cleared) != 0 {
		t.Errorf("gc: %+v", g)
	}
	runs()
	w.a.setState(r.Status.Instance, backends.StateGone)
	if g := w.gc(w.engine()); len(g.Cleared) != 1 {
		t.Errorf("gc: %+v", g)
	}

	r = w.start(w.engine(), StartRequest{Worker: "linux"})
	set("third")
	w.a.setState(r.Status.Instance, backends.StateGone)
	if g := w.gc(w.engine()); len(g.Cleared) != 0 {
		t.Errorf("gc: %+v", g)
	}
	again := func() error {
		_, err := w.engine().Start(t.Context(), StartRequest{Worker: "linux", Build: &config.Build{}})
		return err
	}
	if f := fails[*backends.Failure](t, again()); !strings.Contains(f.Hint, "stop --forget "+r.Status.Instance) {
		t.Errorf("%+v", f)
	}
	if s, err := w.engine().Forget(r.Status.Instance); err != nil || s.Instance != r.Status.Instance {
		t.Errorf("%+v, %v", s, err)
	}
	if err := again(); err != nil {
		t.Error(err)
	}
}

// TestBackendThatDoesNotTell: without an id the target's name has to do; with one that came late, an entry gets it from gc.
func TestBackendThatDoesNotTell(t *testing.T) {
	w := newWorld(t)
	w.a.id = ""
	r, lost := w.start(w.engine(), StartRequest{Worker: "linux"}), w.start(w.engine(), StartRequest{Worker: "plain"})
	w.a.setState(lost.Status.Instance, backends.StateGone)
	if g := w.gc(w.engine()); len(g.Removed) != 0 || len(g.Cleared) != 1 || g.Cleared[0] != lost.Status.Instance {
		t.Errorf("gc: %+v", g)
	}
	lost = w.start(w.engine(), StartRequest{Worker: "plain"})
	w.a.setState(lost.Status.Instance, backends.StateGone)
	w.a.mux.Lock()
	w.a.id = "told"
	w.a.mux.Unlock()
	if g := w.gc(w.engine()); len(g.Removed)+len(g.Cleared) != 0 {
		t.Errorf("gc: %+v", g)
	}
	w.a.setState(r.Status.Instance, backends.StateGone)
	if g := w.gc(w.engine()); len(g.Cleared) != 1 || g.Cleared[0] != r.Status.Instance {
		t.Errorf("gc: %+v", g)
	}
}

// TestBackendThatIsMute: a start does not wait long for an id, and one that fails not at all.
func TestBackendThatIsMute(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.a.mute, w.a.fail = true, errors.New("no")
	began := time.Now()
	if _, err := w.engine().Start(t.Context(), StartRequest{Worker: "linux", Build: &config.Build{}}); err == nil || time.Since(began) > learnLimit {
		t.Errorf("%v after %s", err, time.Since(began))
	}
	w.a.fail = nil
	began = time.Now()
	w.start(w.engine(), StartRequest{Worker: "linux"})
	if took := time.Since(began); took < learnLimit || took > 5*learnLimit {
		t.Errorf("after %s", took)
	}
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := w.engine().GC(short, GCOptions{}); err == nil || w.a.count() != 1 {
		t.Errorf("gc: %v, %d objects", err, w.a.count())
	}
}

// TestOrphans: a state folder that has never started anything as an engine does not end what runs as it.
func TestOrphans(t *testing.T) {
	w := newWorld(t)
	w.start(w.engine(), StartRequest{Worker: "linux"})
	dead := w.start(w.engine(), StartRequest{Worker: "plain"})
	w.a.setState(dead.Status.Instance, backends.StateExited)
	w.state = t.TempDir()
	if g := w.gc(w.engine()); len(g.Kept) != 1 || len(g.Removed) != 1 || g.Removed[0].Object.Instance != dead.Status.Instance || w.a.count() != 1 {
		t.Errorf("gc: %+v", g)
	}
	g, err := w.engine().GC(t.Context(), GCOptions{Orphans: true})
	if err != nil || len(g.Removed) != 1 || w.a.count() != 0 {
		t.Errorf("gc with orphans: %+v, %v", g, err)
	}
}

// TestFindWhereNobodyAnswers: what could not be asked for is not "no instance".
func TestFindWhereNobodyAnswers(t *testing.T) {
	w := newWorld(t)
	w.hosts = map[string]*yard{}
	_, _, err := w.engine().Find(t.Context(), "01JD00000000000000000000ZZ")
	if f := fails[*backends.Failure](t, err); f.Class != backends.ClassInfra {
		t.Errorf("%+v", f)
	}
}

func TestDenied(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	for worker, rule := range map[string]string{"evil": "identity.env", "sneaky": "identity.labels"} {
		d := fails[*policy.DeniedError](t, errOf(e.Start(context.Background(), StartRequest{Worker: worker, Build: &config.Build{}})))
		if d.Violations[0].Rule != rule {
			t.Errorf("%s: %+v", worker, d)
		}
	}
	if entries, _ := e.store.Entries("ci-1"); len(entries) != 0 || w.a.count() != 0 {
		t.Error("a denied start left something")
	}
}

// TestAccepted: a start is accepted once it is in the journal and has room, before the backend is asked for anything.
func TestAccepted(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	first := w.start(e, StartRequest{Worker: "linux"})
	var got []backends.Status
	accepted := func(s backends.Status) {
		got = append(got, s)
		entries, err := e.store.Entries("ci-1")
		if err != nil || len(entries) != 1 || entries[0].Instance != s.Instance || entries[0].State != EntryIntent {
			t.Errorf("journal %+v, %v", entries, err)
		}
		if w.a.count() != 0 {
			t.Error("no room was made, or something was made already")
		}
	}
	second := w.start(e, StartRequest{Worker: "linux", Replace: true, Accepted: accepted})
	want := second.Status
	want.State, want.Labels = backends.StateStarting, nil
	if len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("accepted %+v, want %+v", got, want)
	}
	// What is refused is not accepted, nor what runs already; what fails at the backend was.
	got = nil
	for name, r := range map[string]StartRequest{"denied": {Worker: "evil"}, "live": {Worker: "linux"}, "no worker": {Worker: "windows"}} {
		r.Build, r.Accepted = &config.Build{}, accepted
		if _, err := e.Start(context.Background(), r); err == nil || len(got) != 0 {
			t.Errorf("%s: %v, accepted %+v", name, err, got)
		}
	}
	w.start(e, StartRequest{Worker: "linux", ID: second.Status.Instance, Accepted: accepted})
	if len(got) != 0 || first.Status.Instance == second.Status.Instance {
		t.Errorf("accepted %+v", got)
	}
	if _, err := e.Stop(context.Background(), second.Status.Instance, backends.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	w.a.fail = &backends.Failure{Class: backends.ClassImage, Message: "manifest unknown"}
	if _, err := e.Start(context.Background(), StartRequest{Worker: "linux", Build: &config.Build{}, Accepted: accepted}); err == nil || len(got) != 1 {
		t.Errorf("%v, accepted %+v", err, got)
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	w.a.fail = &backends.Failure{Class: backends.ClassImage, Message: "manifest unknown"}
	if f := fails[*backends.Failure](t, errOf(e.Start(context.Background(), StartRequest{Worker: "linux", Build: &config.Build{}}))); f.Class != backends.ClassImage {
		t.Errorf("%+v", f)
	}
	if entries, _ := e.store.Entries("ci-1"); len(entries) != 0 {
		t.Errorf("journal %+v", entries)
	}
	// A backend that could not clean up: the journal knows of it, gc takes it.
	w.a.left = true
	f := fails[*backends.Failure](t, errOf(e.Start(context.Background(), StartRequest{Worker: "linux", Build: &config.Build{}})))
	if !strings.Contains(f.Hint, "gc") {
		t.Errorf("hint %q", f.Hint)
	}
	if g := w.gc(e); len(g.Removed) != 1 || w.a.count() != 0 {
		t.Errorf("gc %+v", g)
	}
}

func TestCancelledStart(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	w.a.hold, w.a.started = make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		_, err := e.Start(ctx, StartRequest{Worker: "linux", Build: &config.Build{}})
		done <- err
	}()
	<-w.a.started
	w.a.mux.Lock()
	w.a.started = nil
	w.a.mux.Unlock()
	// Meanwhile nobody else starts it, and gc lets it be.
	if live := fails[*LiveError](t, errOf(w.engine().Start(context.Background(), StartRequest{Worker: "linux", Build: &config.Build{}}))); !live.Starting {
		t.Errorf("%+v", live)
	}
	if g := w.gc(w.engine()); len(g.Removed)+len(g.Cleared) != 0 {
		t.Errorf("gc touched a start under way: %+v", g)
	}
	cancel()
	if f := fails[*backends.Failure](t, <-done); f.Class != backends.ClassCancelled {
		t.Errorf("%+v", f)
	}
	if entries, _ := e.store.Entries("ci-1"); len(entries) != 0 {
		t.Errorf("journal %+v", entries)
	}
}

func TestGC(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	kept := w.start(e, StartRequest{Worker: "linux"})
	expired := w.start(e, StartRequest{Worker: "plain", Expires: time.Minute})
	lost := w.start(e, StartRequest{Worker: "secretive", Password: "given"})
	w.a.setState(lost.Status.Instance, backends.StateGone)
	// A start that was cut off after the container was made: an intent without a process.
	in, _, err := e.store.Begin(Entry{Instance: "01JD000000000000000000CUT0", Engine: "ci-1", Worker: "cut", WorkerName: "cut", Target: "a"})
	if err != nil {
		t.Fatal(err)
	}
	in.Release()
	status := *w.a.objects[kept.Status.Object].Status
	w.a.objects["cut"] = backends.Object{Kind: "crate", ID: "cut", Instance: "01JD000000000000000000CUT0", Status: &status}
	w.a.objects["unknown"] = backends.Object{Kind: "crate", ID: "unknown", Instance: "01JD0000000000000000UNKN00", Status: &status}
	w.a.objects["layer"] = backends.Object{Kind: "image", ID: "layer"}
	w.a.objects["named"] = backends.Object{Kind: "image", ID: "named", Kept: true}
	other := status
	other.Labels = map[string]string{}
	w.a.objects["other"] = backends.Object{Kind: "crate", ID: "other", Instance: "01JD0000000000000000OTHER0", Status: &other}

	w.now = w.now.Add(time.Hour)
	dry, err := e.GC(context.Background(), GCOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	got := w.gc(e)
	if len(dry.Removed) != len(got.Removed) || len(dry.Cleared) != len(got.Cleared) {
		t.Errorf("dry run %+v\nbut did %+v", dry, got)
	}
	removed := map[string]bool{}
	for _, r := range got.Removed {
		removed[r.Object.ID] = true
	}
	for id, want := range map[string]bool{kept.Status.Object: false, expired.Status.Object: true, "cut": true, "unknown": true, "layer": true, "named": false, "other": false} {
		if removed[id] != want {
			t.Errorf("%s removed: %v", id, removed[id])
		}
	}
	if len(got.Cleared) != 1 || got.Cleared[0] != lost.Status.Instance {
		t.Errorf("cleared %v", got.Cleared)
	}
	if w.a.count() != 3 {
		t.Errorf("%d objects left", w.a.count())
	}
	if again := w.gc(e); len(again.Removed)+len(again.Cleared) != 0 {
		t.Errorf("a second gc found %+v", again)
	}
}

// What is started after a backend was asked is neither cleared from the journal nor called lost.
func TestStartedMeanwhile(t *testing.T) {
	w := newWorld(t)
	e, other := w.engine(), w.engine()
	w.a.listed = func() { w.start(other, StartRequest{Worker: "linux"}) }
	if g := w.gc(e); len(g.Removed)+len(g.Cleared) != 0 {
		t.Errorf("gc: %+v", g)
	}
	w.a.listed = func() { w.start(other, StartRequest{Worker: "plain"}) }
	list, err := e.List(context.Background())
	if err != nil || len(list) != 2 {
		t.Fatalf("list %+v, %v", list, err)
	}
	for _, s := range list {
		if s.State != backends.StateRunning || s.Failure != nil {
			t.Errorf("%+v", s)
		}
	}
	// The same of an instance id that was lost, and is started again.
	lost := list[0]
	w.a.setState(lost.Instance, backends.StateGone)
	w.now = w.now.Add(time.Second)
	w.a.listed = func() { w.start(other, StartRequest{Worker: lost.Worker, ID: lost.Instance}) }
	if g := w.gc(e); len(g.Removed)+len(g.Cleared) != 0 {
		t.Errorf("gc: %+v", g)
	}
	if entries, _ := e.store.Entries("ci-1"); len(entries) != 2 || w.a.count() != 2 {
		t.Errorf("journal %+v, %d objects", entries, w.a.count())
	}
}

// A backend that does not answer: what it holds is neither forgotten nor called gone.
func TestBackendAway(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	r := w.start(e, StartRequest{Worker: "moved"})
	w2 := *w
	w2.b = nil
	away := w2.engine()
	list, err := away.List(context.Background())
	if err == nil || len(list) != 1 || list[0].State != backends.StateUnknown {
		t.Errorf("list %+v, %v", list, err)
	}
	if _, err := away.GC(context.Background(), GCOptions{}); err == nil {
		t.Error("gc said nothing of a backend that does not answer")
	}
	if s, _, err := w.engine().Find(context.Background(), r.Status.Instance); err != nil || s.State != backends.StateRunning {
		t.Errorf("after gc without the backend: %+v, %v", s, err)
	}
}

// TestEngineIDThatIsNoLabel: an id that a label cannot hold as it is still finds what it started.
func TestEngineIDThatIsNoLabel(t *testing.T) {
	w := newWorld(t)
	w.text = strings.Replace(w.text, "id: ci-1", "id: ci-1-", 1)
	r := w.start(w.engine(), StartRequest{Worker: "linux"})
	list, err := w.engine().List(t.Context())
	if err != nil || len(list) != 1 || list[0].Instance != r.Status.Instance || list[0].State != backends.StateRunning {
		t.Errorf("List gave %+v, %v", list, err)
	}
}

// TestWaitForVanished: an instance that goes between the first look and the watch's listing is not waited for for ever.
func TestWaitForVanished(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	r := w.start(e, StartRequest{Worker: "linux", Build: &config.Build{}})
	w.a.vanish = true
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s, err := e.Wait(ctx, r.Status.Instance)
	if err != nil || s.State != backends.StateGone || s.Failure == nil || s.Failure.Class != backends.ClassLost {
		t.Fatalf("Wait gave %+v, failure %+v, %v", s, s.Failure, err)
	}
	if s.Worker != r.Status.Worker || s.Object != r.Status.Object {
		t.Errorf("Wait forgot whom it waited for: %+v", s)
	}
}

func TestTenAtOnce(t *testing.T) {
	w := newWorld(t)
	e := w.engine()
	var wg sync.WaitGroup
	var mux sync.Mutex
	won := 0
	for range 10 {
		wg.Go(func() {
			// Half of them of one identity: one alone may win.
			_, err := e.Start(context.Background(), StartRequest{Worker: "linux", Build: &config.Build{}})
			mux.Lock()
			defer mux.Unlock()
			if err == nil {
				won++
			} else if live := (*LiveError)(nil); !errors.As(err, &live) {
				t.Error(err)
			}
		})
		wg.Go(func() { w.start(e, StartRequest{Worker: "linux", As: "w" + w.newID()[20:]}) })
	}
	wg.Wait()
	if won != 1 || w.a.count() != 11 {
		t.Errorf("%d won, %d objects", won, w.a.count())
	}
}

func TestPasswords(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pw"), []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.text = strings.Replace(w.text, "advertise: ci.corp:9989", "advertise: ci.corp:9989, secrets: {dir: "+dir+", env: LE_TEST_}", 1)
	e := w.engine()
	for _, c := range []struct{ worker, given, want string }{{"plain", "", "hunter2"}, {"plain", "mine", "mine"}, {"secretive", "", "from-file"}} {
		r := w.start(e, StartRequest{Worker: c.worker, Password: c.given, Replace: true})
		if got := w.a.filled[len(w.a.filled)-1]; got != c.want || r.Password != "" {
			t.Errorf("%s: filled %q, handed out %q", c.worker, got, r.Password)
		}
	}
	if err := os.Remove(filepath.Join(dir, "pw")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LE_TEST_PW", "from-env")
	w.start(e, StartRequest{Worker: "secretive", Replace: true})
	if got := w.a.filled[len(w.a.filled)-1]; got != "from-env" {
		t.Errorf("filled %q", got)
	}
	t.Setenv("LE_TEST_PW", "two\nlines")
	f := fails[*backends.Failure](t, errOf(e.Start(context.Background(), StartRequest{Worker: "secretive", Replace: true, Build: &config.Build{}})))
	if f.Class != backends.ClassConfig || strings.Contains(f.Message, "lines") && strings.Contains(f.Message, "two") {
		t.Errorf("%+v", f)
	}
}

func TestSecretLookup(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a": "op", "web/a": "tenant", "big": strings.Repeat("x", maxSecret+1), "empty": "\n", "bin": "\xff\xfe"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	s := &secrets{dir: dir}
	for _, c := range []struct{ tenant, name, want string }{{"", "a", "op"}, {"web", "a", "tenant"}} {
		if got, err := s.lookup(c.tenant, c.name); err != nil || got != c.want {
			t.Errorf("%s/%s: %q, %v", c.tenant, c.name, got, err)
		}
	}
	for _, c := range []struct{ tenant, name string }{{"other", "a"}, {"", "nothing"}, {"", "../a"}, {"web", "../a"}, {"", "web/a"}, {"", "link"}, {"", "big"}, {"", "empty"}, {"", "bin"}, {"", "web"}, {"", ""}} {
		if got, err := s.lookup(c.tenant, c.name); err == nil {
			t.Errorf("%s/%s gave %q", c.tenant, c.name, got)
		}
	}
}

// TestSecretVariables: each tenant's each secret has an environment variable of its own, also where case does not count, and one
// that a shell can set.
func TestSecretVariables(t *testing.T) {
	s := &secrets{env: "CI_"}
	for _, c := range []struct{ tenant, name, want string }{
		{"", "db_password", "CI_DB_PASSWORD"}, {"", "db-password", "CI_DB__2DPASSWORD"}, {"web", "db", "CI_WEB__2FDB"},
	} {
		if got := s.variable(c.tenant, c.name); got != c.want {
			t.Errorf("%s/%s has %s, want %s", c.tenant, c.name, got, c.want)
		}
		t.Setenv(c.want, c.want)
		if got, err := s.lookup(c.tenant, c.name); err != nil || got != c.want {
			t.Errorf("%s/%s: %q, %v", c.tenant, c.name, got, err)
		}
	}
	if _, err := s.lookup("web", "db.x"); err == nil || !strings.Contains(err.Error(), "CI_WEB__2FDB__2EX") {
		t.Errorf("a variable that is not there: %v", err)
	}
	shell := regexp.MustCompile(`^[A-Z0-9_]+$`)
	seen := map[string][2]string{}
	var names func(prefix string, more int)
	names = func(prefix string, more int) {
		for i := range len(prefix) + 1 {
			tenant, name := prefix[:i], prefix[i:]
			if !config.ValidName(name) || tenant != "" && !config.ValidName(tenant) {
				continue
			}
			v := s.variable(tenant, name)
			if other, ok := seen[strings.ToUpper(v)]; ok || !shell.MatchString(v) {
				t.Fatalf("%q and %q have one variable, %s", other, [2]string{tenant, name}, v)
			}
			seen[strings.ToUpper(v)] = [2]string{tenant, name}
		}
		for i := 0; more > 0 && i < len("ad25F_-."); i++ {
			names(prefix+"ad25F_-."[i:i+1], more-1)
		}
	}
	names("", 5)
	if len(seen) < 50_000 {
		t.Errorf("only %d names were tried", len(seen))
	}
}

func TestMaster(t *testing.T) {
	for _, c := range []struct{ advertise, host, fqdn, want, bad string }{
		{advertise: "ci.corp:9000", want: "ci.corp 9000"},
		{advertise: "ci.corp", fqdn: "m.corp:1", want: "m.corp 1"},
		{fqdn: "[2001:db8::1]:7", want: "2001:db8::1 7"},
		{want: "192.0.2.1 9989"},
		{advertise: "127.0.0.1:9989", host: "tcp://build.corp:2376", bad: "loopback"},
		{advertise: "localhost", host: "ssh://ci@build.corp", bad: "loopback"},
	} {
		w := newWorld(t)
		kindHost := orElse(c.host, "unix:///yard")
		w.hosts = map[string]*yard{kindHost: w.a}
		w.text = "version: 1\nengine: {id: ci-1"
		if c.advertise != "" {
			w.text += ", advertise: '" + c.advertise + "'"
		}
		w.text += "}\nbackends: {a: {yard: {"
		if c.host != "" {
			w.text += "host: '" + c.host + "'"
		}
		w.text += "}}}\nworkers: {w: {image: x"
		if c.fqdn != "" {
			w.text += ", masterFQDN: '" + c.fqdn + "'"
		}
		w.text += "}}\n"
		e := w.engine()
		_, err := e.Start(context.Background(), StartRequest{Worker: "w", Build: &config.Build{}})
		if c.bad != "" {
			if f := fails[*backends.Failure](t, err); f.Class != backends.ClassConfig || !strings.Contains(f.Message, c.bad) {
				t.Errorf("%+v: %+v", c, f)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if w.a.master != c.want {
			t.Errorf("%+v: master %s", c, w.a.master)
		}
	}
}

func TestIdentity(t *testing.T) {
	s := &render.Spec{Worker: "web/linux", Tenant: "web", WorkerName: "linux", Digest: "v1:" + strings.Repeat("ab", 32)}
	id := NewIdentity(yardKind{}, s, IdentityInput{Engine: "ci-1", Instance: idA, Created: testTime})
	want := map[string]string{
		"latent-engine.io/engine": "ci-1", "latent-engine.io/instance": idA, "latent-engine.io/tenant": "web", "latent-engine.io/worker": "linux",
		"latent-engine.io/digest": strings.Repeat("ab", 16), "latent-engine.io/worker-name": "web/linux", "latent-engine.io/spec-digest": s.Digest,
		"latent-engine.io/created": "2026-11-23T09:00:00Z",
	}
	for k, v := range want {
		if id.Labels[k] != v {
			t.Errorf("label %s = %q, want %q", k, id.Labels[k], v)
		}
	}
	if len(id.Labels) != len(want) || id.Env[4].Name != "WORKERPASS" {
		t.Errorf("%+v", id)
	}
	if _, plain := id.Env[4].Value.(field.Text); !plain {
		t.Error("the password is no hole")
	}
}
