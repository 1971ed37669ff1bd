package backendtest

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/policy"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// Suite is the suite for one backend.
type Suite struct {
	Kind backends.Kind
	// New makes what one test needs; it may register clean-up with t.
	New func(t *testing.T) *Env
}

// Behaviour is what a worker of a test does.
type Behaviour string

// The behaviours. Each worker writes a line that begins with "starting worker" first.
const (
	Runs   Behaviour = "runs"   // until it is stopped
	Exits  Behaviour = "exits"  // with Worker.Code, after Worker.After
	OOMs   Behaviour = "ooms"   // takes memory until the kernel ends it, with a limit that is low enough
	Pulls  Behaviour = "pulls"  // runs, from an image that is to be pulled
	Builds Behaviour = "builds" // runs, from an image that is to be built, of several stages, with a build argument that is a secret
)

// Worker says which worker is wanted.
type Worker struct {
	Does  Behaviour
	Code  int
	After time.Duration
}

// Env is one test's way to a real backend.
type Env struct {
	Target   string
	Settings field.Object
	// Connect opens a connection whose requests all go through wrap.
	Connect func(context.Context, backends.ConnectOptions, func(http.RoundTripper) http.RoundTripper) (backends.Backend, error)
	// Worker gives the fields of a worker as a definition has them; nil where the backend has no such worker. A secret that a
	// definition would name may be in it.
	Worker func(*testing.T, Worker) field.Object
	// Root is the folder that build contexts are below.
	Root string
	// Left names every native object that an engine id has on the backend, and everything else that was not there when the Env
	// was made: what a start made without any label is found too.
	Left func(t *testing.T, engine string) []string
	// Phases are the moments in which a start is cancelled.
	Phases func(*testing.T) []Phase
	// Judged holds the calls of one start against what was judged.
	Judged func(t *testing.T, calls []Call, b spec.Bound, s *Secrets)
	// Restart stops the backend and starts it again; nil where that cannot be done.
	Restart func(*testing.T)
}

// Phase is a moment in a start.
type Phase struct {
	Name   string
	Worker field.Object
	// At is asked before a request is sent (after = false) and when its reply has come (true); Progress is asked with each report.
	// The first that says true is the moment. Reached, where it is not nil, returns at the moment.
	At       func(r *http.Request, after bool) bool
	Progress func(backends.Progress) bool
	Reached  func(*testing.T)
}

// run is one test's backend with the suite's own state.
type run struct {
	*Env
	kind     backends.Kind
	t        *testing.T
	engine   string
	recorder *Recorder
	secrets  *Secrets
	backend  backends.Backend
}

// Run runs the suite.
func (s Suite) Run(t *testing.T) {
	for _, c := range []struct {
		name string
		test func(*run)
	}{
		{"ZeroAdmittedIsRefused", (*run).zero},
		{"OtherEnginesPlanIsRefused", (*run).otherPlan},
		{"StartAndStop", (*run).startStop},
		{"StartIsIdempotent", (*run).idempotent},
		{"StopOfAbsentSucceeds", (*run).stopAbsent},
		{"LogsStream", (*run).logs},
		{"WatchTellsExit", (*run).watchExit},
		{"WatchSurvivesGap", (*run).watchGap},
		{"WatchSurvivesRestart", (*run).watchRestart},
		{"CrashIsAFailure", (*run).crash},
		{"EndWithZeroIsNone", (*run).endsWell},
		{"OOMIsAFailure", (*run).oom},
		{"Pull", (*run).pulls},
		{"Build", (*run).builds},
		{"CancelLeavesNothing", (*run).cancel},
		{"TenAtOnce", (*run).ten},
		{"TwoEngines", (*run).twoEngines},
		{"SentIsJudged", (*run).judged},
	} {
		t.Run(c.name, func(t *testing.T) {
			env := s.New(t)
			r := &run{Env: env, kind: s.Kind, t: t, engine: "e-" + strings.ToLower(newID()), recorder: &Recorder{}, secrets: NewSecrets()}
			r.backend = r.connect(r.engine, r.recorder)
			t.Cleanup(func() { r.clean(r.engine, r.backend) })
			c.test(r)
		})
	}
}

func newID() string { return ulid.MustNew(ulid.Timestamp(time.Now()), rand.Reader).String() }

func (r *run) connect(engine string, recorder *Recorder) backends.Backend {
	r.t.Helper()
	b, err := r.Connect(r.t.Context(), backends.ConnectOptions{Target: r.Target, Engine: engine, Settings: r.Settings, Fill: r.secrets.Fill}, recorder.Wrap)
	if err != nil {
		r.t.Fatalf("cannot connect: %v", err)
	}
	return b
}

// clean removes what a failed test left, so that the next begins well.
func (r *run) clean(engine string, b backends.Backend) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	objects, err := b.List(ctx)
	if err != nil {
		r.t.Errorf("cannot list what is left: %v", err)
	}
	for _, o := range objects {
		if err := b.Remove(ctx, o); err != nil {
			r.t.Errorf("cannot remove %s %s: %v", o.Kind, o.Name, err)
		}
	}
	if err := b.Close(); err != nil {
		r.t.Errorf("cannot close: %v", err)
	}
}

// context is a test's, with an end in any case.
func (r *run) context() context.Context {
	ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Minute)
	r.t.Cleanup(cancel)
	return ctx
}

func (r *run) worker(w Worker) field.Object {
	r.t.Helper()
	f := r.Worker(r.t, w)
	if f == nil {
		r.t.Skipf("this backend has no worker that %s", w.Does)
	}
	return f
}

// Plan takes a worker's fields the whole way to a Bound.
func Plan(ctx context.Context, kind backends.Kind, in backends.ConvertInput, root string, engine, instance string) (spec.Bound, error) {
	checked, problems := field.ObjectOf(kind.Worker()).Coerce(in.Fields)
	if len(problems) > 0 {
		return spec.Bound{}, fmt.Errorf("%s: %s", problems[0].Path, problems[0].Message)
	}
	in.Fields, _ = checked.(field.Object)
	p, problems := kind.Convert(in)
	if len(problems) > 0 {
		return spec.Bound{}, fmt.Errorf("%s: %s", problems[0].Path, problems[0].Message)
	}
	if s, ok := kind.(backends.BuildSealer); ok {
		if err := s.SealBuild(ctx, &p, root); err != nil {
			return spec.Bound{}, err
		}
	}
	digest := spec.Digest(p)
	created := time.Now().UTC().Truncate(time.Millisecond)
	worker := in.Worker
	if in.Tenant != "" {
		worker = in.Tenant + "/" + in.Worker
	}
	id := spec.Identity{
		Engine: engine, Instance: instance, Tenant: in.Tenant, Worker: worker, WorkerName: in.Worker,
		ObjectName: kind.ObjectName(in.Worker, instance), Created: created, Expires: created.Add(time.Hour).Truncate(time.Second),
		Env: []spec.EnvVar{
			{Name: spec.EnvMaster, Value: field.String("master.test")},
			{Name: spec.EnvPort, Value: field.String("9989")},
			{Name: spec.EnvProtocol, Value: field.String("pb")},
			{Name: spec.EnvWorker, Value: field.String(in.Worker)},
			{Name: spec.EnvPassword, Value: field.Text{{Secret: field.SecretRef{Provider: spec.InstanceProvider, Name: "password"}}}},
		},
	}
	id.Labels = map[string]string{
		spec.LabelEngine: engine, spec.LabelInstance: instance, spec.LabelWorker: in.Worker, spec.LabelDigest: strings.TrimPrefix(digest, "v1:")[:32],
		spec.NoteWorker: worker, spec.NoteDigest: digest, spec.NoteCreated: created.Format(time.RFC3339Nano), spec.NoteExpires: id.Expires.Format(time.RFC3339),
	}
	if in.Tenant != "" {
		id.Labels[spec.LabelTenant] = in.Tenant
	}
	return kind.Bind(p, id)
}

// admit makes an Admitted of a worker's fields.
func (r *run) admit(engine, instance string, fields field.Object) (policy.Admitted, spec.Bound) {
	r.t.Helper()
	b, err := Plan(r.t.Context(), r.kind, backends.ConvertInput{Tenant: "web", Worker: "linux", Target: r.Target, Connection: r.Settings, Fields: fields}, r.Root, engine, instance)
	if err != nil {
		r.t.Fatalf("cannot plan: %v", err)
	}
	a, _, err := policy.Judge(r.t.Context(), r.kind, b)
	if err != nil {
		r.t.Fatalf("cannot admit: %v", err)
	}
	return a, b
}

func (r *run) options() backends.StartOptions {
	return backends.StartOptions{Fill: r.secrets.Fill, Root: r.Root, PullGrace: 20 * time.Second}
}

// start starts a worker and gives its status.
func (r *run) start(w Worker) (backends.Status, spec.Bound) {
	r.t.Helper()
	a, b := r.admit(r.engine, newID(), r.worker(w))
	s, err := r.backend.Start(r.context(), a, r.options())
	if err != nil {
		r.t.Fatalf("cannot start: %v\n%s", err, logOf(err))
	}
	return s, b
}

func logOf(err error) string {
	var f *backends.Failure
	if errors.As(err, &f) {
		return strings.Join(f.Log, "\n")
	}
	return ""
}

func (r *run) inspect(instance string) backends.Status {
	r.t.Helper()
	s, err := r.backend.Inspect(r.context(), instance)
	if err != nil {
		r.t.Fatalf("cannot inspect: %v", err)
	}
	return s
}

func (r *run) stop(instance string, o backends.StopOptions) {
	r.t.Helper()
	if err := r.backend.Stop(r.context(), instance, o); err != nil {
		r.t.Fatalf("cannot stop: %v", err)
	}
}

// nothingLeft waits for nothing: what a call has promised to remove is gone when it returns.
func (r *run) nothingLeft(engine string) {
	r.t.Helper()
	if left := r.Left(r.t, engine); len(left) > 0 {
		r.t.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	if b := r.backend; engine == r.engine {
		objects, err := b.List(r.context())
		if err != nil {
			r.t.Errorf("cannot list: %v", err)
		}
		for _, o := range objects {
			r.t.Errorf("left behind: %s %s %s", o.Kind, o.Name, o.ID)
		}
	}
}

func (r *run) zero() {
	s, err := r.backend.Start(r.context(), policy.Admitted{}, r.options())
	if !errors.Is(err, policy.ErrNotAdmitted) {
		r.t.Errorf("Start of the zero Admitted gave %+v and %v, want ErrNotAdmitted", s, err)
	}
	if calls := r.recorder.Changing(); len(calls) > 0 {
		r.t.Errorf("Start of the zero Admitted made calls: %v", calls)
	}
	r.nothingLeft(r.engine)
}

func (r *run) otherPlan() {
	a, _ := r.admit("e-other", newID(), r.worker(Worker{Does: Runs}))
	if _, err := r.backend.Start(r.context(), a, r.options()); err == nil {
		r.t.Error("a plan that is bound to another engine id was started")
	}
	r.nothingLeft(r.engine)
	r.nothingLeft("e-other")
}

func (r *run) startStop() {
	s, b := r.start(Worker{Does: Runs})
	for _, c := range []struct{ what, got, want string }{
		{"instance", s.Instance, b.Instance},
		{"worker", s.Worker, b.Worker},
		{"worker's name", s.WorkerName, b.WorkerName},
		{"backend", s.Backend, r.kind.Name()},
		{"target", s.Target, r.Target},
		{"object", s.Object, b.ObjectName},
		{"digest", s.Digest, b.Digest},
	} {
		if c.got != c.want {
			r.t.Errorf("Start: %s is %q, want %q", c.what, c.got, c.want)
		}
	}
	if s.NativeID == "" || s.State != backends.StateRunning && s.State != backends.StateStarting {
		r.t.Errorf("Start gave %+v", s)
	}
	i := r.waitState(b.Instance, backends.StateRunning)
	if i.Worker != s.Worker || i.WorkerName != s.WorkerName || i.Digest != s.Digest || i.NativeID != s.NativeID || i.Object != s.Object || i.Failure != nil || !i.Expires.Equal(b.Expires) || i.Started.IsZero() {
		r.t.Errorf("Inspect gave %+v after %+v", i, s)
	}
	objects, err := r.backend.List(r.context())
	if err != nil {
		r.t.Fatal(err)
	}
	n := slices.IndexFunc(objects, func(o backends.Object) bool { return o.Status != nil })
	if n < 0 || objects[n].Instance != b.Instance || objects[n].Name != b.ObjectName || objects[n].Kept || objects[n].Status.State != backends.StateRunning {
		r.t.Errorf("List gave %+v", objects)
	}
	r.stop(b.Instance, backends.StopOptions{})
	if g := r.inspect(b.Instance); g.State != backends.StateGone || g.Instance != b.Instance {
		r.t.Errorf("after Stop, Inspect gave %+v", g)
	}
	r.nothingLeft(r.engine)
	r.stop(b.Instance, backends.StopOptions{})

	_, b = r.start(Worker{Does: Runs})
	began := time.Now()
	r.stop(b.Instance, backends.StopOptions{Fast: true})
	if took := time.Since(began); took > 9*time.Second {
		r.t.Errorf("a fast Stop took %s", took)
	}
	r.nothingLeft(r.engine)
}

func (r *run) waitState(instance string, want backends.State) backends.Status {
	r.t.Helper()
	var s backends.Status
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if s = r.inspect(instance); s.State == want {
			return s
		}
	}
	r.t.Fatalf("%s does not become %s: %+v", instance, want, s)
	return s
}

func (r *run) idempotent() {
	a, b := r.admit(r.engine, newID(), r.worker(Worker{Does: Runs}))
	var ids [5]string
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			s, err := r.backend.Start(r.context(), a, r.options())
			if err != nil {
				r.t.Errorf("start %d: %v", i, err)
			}
			ids[i] = s.NativeID
		})
	}
	wg.Wait()
	// Another process has a connection of its own.
	other := r.connect(r.engine, &Recorder{})
	defer other.Close()
	s, err := other.Start(r.context(), a, r.options())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, id := range ids {
		if id != s.NativeID || id == "" {
			r.t.Errorf("one instance id gave two instances: %v and %s", ids, s.NativeID)
		}
	}
	objects, err := r.backend.List(r.context())
	if err != nil || len(objects) == 0 {
		r.t.Errorf("List gave %v, %v", objects, err)
	}
	instances := 0
	for _, o := range objects {
		if o.Status != nil {
			instances++
		}
	}
	if instances != 1 {
		r.t.Errorf("there are %d instances: %+v", instances, objects)
	}
	r.stop(b.Instance, backends.StopOptions{Fast: true})
	r.nothingLeft(r.engine)
}

func (r *run) stopAbsent() {
	for _, o := range []backends.StopOptions{{}, {Fast: true}, {Grace: time.Second}} {
		r.stop(newID(), o)
	}
	if s := r.inspect("01ABSENT"); s.State != backends.StateGone {
		r.t.Errorf("Inspect of what never was gave %+v", s)
	}
	_, err := r.backend.Logs(r.context(), "01ABSENT", backends.LogOptions{})
	if f := backends.AsFailure(err); f == nil || f.Class != backends.ClassLost {
		r.t.Errorf("Logs of what never was gave %v, want class lost", err)
	}
}

func (r *run) logs() {
	_, b := r.start(Worker{Does: Exits, After: 3 * time.Second, Code: 0})
	body, err := r.backend.Logs(r.context(), b.Instance, backends.LogOptions{Follow: true})
	if err != nil {
		r.t.Fatal(err)
	}
	defer body.Close()
	reader := bufio.NewReader(body)
	first, err := reader.ReadString('\n')
	if err != nil || !strings.HasPrefix(first, "starting worker") {
		r.t.Fatalf("the first line is %q, %v", first, err)
	}
	if s := r.inspect(b.Instance); s.State != backends.StateRunning {
		r.t.Errorf("the first line came when the worker was %s already", s.State)
	}
	rest, err := io.ReadAll(reader)
	if err != nil {
		r.t.Errorf("the log ended with %v after %q", err, rest)
	}
	r.waitState(b.Instance, backends.StateExited)
	again, err := r.backend.Logs(r.context(), b.Instance, backends.LogOptions{Tail: 1, Timestamps: true})
	if err != nil {
		r.t.Fatal(err)
	}
	defer again.Close()
	text, err := io.ReadAll(again)
	stamp, _, _ := strings.Cut(string(text), " ")
	if _, bad := time.Parse(time.RFC3339Nano, stamp); err != nil || bad != nil || strings.Count(string(text), "\n") != 1 {
		r.t.Errorf("the last line with its time is %q, %v", text, err)
	}
	r.stop(b.Instance, backends.StopOptions{})
	r.nothingLeft(r.engine)

	// A reader that goes away does not have to wait.
	_, b = r.start(Worker{Does: Runs})
	ctx, cancel := context.WithCancel(r.context())
	body, err = r.backend.Logs(ctx, b.Instance, backends.LogOptions{Follow: true})
	if err != nil {
		r.t.Fatal(err)
	}
	time.AfterFunc(300*time.Millisecond, cancel)
	began := time.Now()
	_, _ = io.Copy(io.Discard, body)
	if took := time.Since(began); took > 5*time.Second {
		r.t.Errorf("a cancelled reader waited %s", took)
	}
	body.Close()
}

// watching is a Watch under way.
type watching struct {
	r      *run
	mu     sync.Mutex
	seen   []backends.Status // guarded by mu
	cancel context.CancelFunc
	done   chan error
}

func (r *run) watch(b backends.Backend, known ...string) *watching {
	ctx, cancel := context.WithCancel(r.context())
	w := &watching{r: r, cancel: cancel, done: make(chan error, 1)}
	go func() {
		w.done <- b.Watch(ctx, known, func(s backends.Status) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.seen = append(w.seen, s)
		})
	}()
	r.t.Cleanup(func() {
		cancel()
		select {
		case err := <-w.done:
			if err != nil {
				r.t.Errorf("Watch ended with %v", err)
			}
		case <-time.After(10 * time.Second):
			r.t.Error("Watch does not end with its context")
		}
	})
	return w
}

func (w *watching) all() []backends.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.seen)
}

// await waits until the watch told a state of an instance.
func (w *watching) await(instance string, want backends.State) backends.Status {
	w.r.t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for _, s := range w.all() {
			if s.Instance == instance && s.State == want {
				return s
			}
		}
	}
	w.r.t.Fatalf("Watch does not tell that %s is %s; it told %+v", instance, want, w.all())
	return backends.Status{}
}

func (r *run) watchExit() {
	_, before := r.start(Worker{Does: Runs})
	vanished := newID()
	w := r.watch(r.backend, before.Instance, vanished)
	w.await(before.Instance, backends.StateRunning)
	if s := w.await(vanished, backends.StateGone); s.Failure == nil || s.Failure.Class != backends.ClassLost {
		r.t.Errorf("Watch told %+v of a known instance that is not there, failure %+v", s, s.Failure)
	}
	_, b := r.start(Worker{Does: Exits, After: time.Second, Code: 7})
	w.await(b.Instance, backends.StateRunning)
	s := w.await(b.Instance, backends.StateExited)
	if s.ExitCode == nil || *s.ExitCode != 7 || s.Failure == nil || s.Failure.Class != backends.ClassCrashed {
		r.t.Errorf("Watch told %+v, failure %+v", s, s.Failure)
	}
	if late := time.Since(s.Finished); late > 5*time.Second {
		r.t.Errorf("Watch told the exit %s after it", late)
	}
	r.stop(b.Instance, backends.StopOptions{})
	w.await(b.Instance, backends.StateGone)
	r.stop(before.Instance, backends.StopOptions{Fast: true})
	if g := w.await(before.Instance, backends.StateGone); g.Failure != nil && g.Failure.Class == backends.ClassLost {
		r.t.Errorf("Watch calls an instance lost that was stopped: %+v", g.Failure)
	}
	var last backends.Status
	for _, s := range w.all() {
		if s.Instance == last.Instance && s.State == last.State && s.NativeID == last.NativeID && s.Started.Equal(last.Started) {
			r.t.Errorf("Watch told the same twice: %+v", s)
		}
		last = s
	}
}

func (r *run) watchGap() {
	recorder := &Recorder{}
	b := r.connect(r.engine, recorder)
	defer b.Close()
	w := r.watch(b)
	_, ends := r.start(Worker{Does: Exits, After: 2 * time.Second, Code: 9})
	_, goes := r.start(Worker{Does: Runs})
	w.await(ends.Instance, backends.StateRunning)
	w.await(goes.Instance, backends.StateRunning)
	recorder.Cut(true)
	r.waitState(ends.Instance, backends.StateExited)
	r.stop(goes.Instance, backends.StopOptions{Fast: true})
	_, comes := r.start(Worker{Does: Runs})
	recorder.Cut(false)
	s := w.await(ends.Instance, backends.StateExited)
	if s.ExitCode == nil || *s.ExitCode != 9 {
		r.t.Errorf("after the gap Watch told %+v", s)
	}
	w.await(goes.Instance, backends.StateGone)
	w.await(comes.Instance, backends.StateRunning)
}

func (r *run) watchRestart() {
	if r.Restart == nil {
		r.t.Skip("this backend cannot be restarted here")
	}
	w := r.watch(r.backend)
	_, b := r.start(Worker{Does: Runs})
	w.await(b.Instance, backends.StateRunning)
	id := r.id(r.backend)
	r.Restart(r.t)
	w.await(b.Instance, backends.StateExited)
	if again := r.id(r.connect(r.engine, &Recorder{})); again != id {
		r.t.Errorf("the backend's id was %q, and is %q after a restart", id, again)
	}
	_, again := r.start(Worker{Does: Runs})
	w.await(again.Instance, backends.StateRunning)
	r.stop(b.Instance, backends.StopOptions{})
	r.stop(again.Instance, backends.StopOptions{Fast: true})
	r.nothingLeft(r.engine)
}

func (r *run) id(b backends.Backend) string {
	r.t.Helper()
	id, err := b.ID(r.context())
	if err != nil {
		r.t.Fatal(err)
	}
	return id
}

func (r *run) crash() {
	_, b := r.start(Worker{Does: Exits, Code: 3})
	s := r.waitState(b.Instance, backends.StateExited)
	f := s.Failure
	if f == nil || f.Class != backends.ClassCrashed || s.ExitCode == nil || *s.ExitCode != 3 || f.Container != b.ObjectName {
		r.t.Fatalf("Inspect gave %+v, failure %+v", s, f)
	}
	if !slices.ContainsFunc(f.Log, func(l string) bool { return strings.HasPrefix(l, "starting worker") }) {
		r.t.Errorf("the failure has the log %q", f.Log)
	}
	if !strings.Contains(f.Message, "exit code 3") || !strings.Contains(f.Message, b.ObjectName) {
		r.t.Errorf("the failure says %q", f.Message)
	}
	r.secrets.Unseen(r.t, fmt.Sprintf("%+v %+v", s, *f))
	r.stop(b.Instance, backends.StopOptions{})
	r.nothingLeft(r.engine)
}

func (r *run) endsWell() {
	_, b := r.start(Worker{Does: Exits, Code: 0})
	s := r.waitState(b.Instance, backends.StateExited)
	if s.Failure != nil || s.ExitCode == nil || *s.ExitCode != 0 || s.Finished.IsZero() {
		r.t.Errorf("Inspect gave %+v, failure %+v", s, s.Failure)
	}
}

func (r *run) oom() {
	_, b := r.start(Worker{Does: OOMs})
	s := r.waitState(b.Instance, backends.StateExited)
	if f := s.Failure; f == nil || f.Class != backends.ClassOOM || f.Retryable || f.Hint == "" || f.Field == "" || !strings.Contains(f.Message, "memory limit of") {
		r.t.Errorf("Inspect gave %+v, failure %+v", s, s.Failure)
	}
}

func (r *run) pulls() {
	_, b := r.start(Worker{Does: Pulls})
	r.waitState(b.Instance, backends.StateRunning)
	r.stop(b.Instance, backends.StopOptions{Fast: true})
}

func (r *run) builds() {
	var mu sync.Mutex
	var told []backends.Progress
	a, b := r.admit(r.engine, newID(), r.worker(Worker{Does: Builds}))
	o := r.options()
	o.Progress = func(p backends.Progress) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, p)
	}
	if _, err := r.backend.Start(r.context(), a, o); err != nil {
		r.t.Fatalf("%v\n%s", err, logOf(err))
	}
	if !slices.ContainsFunc(told, func(p backends.Progress) bool { return p.Phase == "building" && p.Message != "" }) {
		r.t.Errorf("no progress of the build was told: %+v", told)
	}
	r.secrets.Unseen(r.t, fmt.Sprintf("%+v", told))
	r.waitState(b.Instance, backends.StateRunning)
	r.stop(b.Instance, backends.StopOptions{Fast: true})
	r.nothingLeft(r.engine)
}

func (r *run) cancel() {
	for _, p := range r.Phases(r.t) {
		r.t.Run(p.Name, func(t *testing.T) {
			sub := *r
			sub.t = t
			sub.recorder = &Recorder{}
			sub.backend = sub.connect(r.engine, sub.recorder)
			defer sub.backend.Close()
			a, _ := sub.admit(r.engine, newID(), p.Worker)
			ctx, cancel := context.WithCancel(sub.context())
			defer cancel()
			reached := make(chan struct{})
			var once sync.Once
			now := func() {
				once.Do(func() {
					close(reached)
					cancel()
				})
			}
			sub.recorder.Hook(func(req *http.Request, after bool) {
				if p.At != nil && p.At(req, after) {
					now()
				}
			})
			o := sub.options()
			o.Progress = func(report backends.Progress) {
				if p.Progress != nil && p.Progress(report) {
					now()
				}
			}
			done := make(chan error, 1)
			go func() {
				_, err := sub.backend.Start(ctx, a, o)
				done <- err
			}()
			if p.Reached != nil {
				p.Reached(t)
				now()
			}
			select {
			case <-reached:
			case err := <-done:
				if ctx.Err() == nil {
					t.Fatalf("the start ended before the moment came: %v\n%s", err, logOf(err))
				}
				done <- err
			case <-time.After(60 * time.Second):
				t.Fatal("the moment does not come")
			}
			began := time.Now()
			select {
			case err := <-done:
				if f := backends.AsFailure(err); f == nil || f.Class != backends.ClassCancelled || !errors.Is(err, context.Canceled) {
					t.Errorf("Start gave %v, want class cancelled", err)
				}
			case <-time.After(60 * time.Second):
				t.Fatal("Start does not end when it is cancelled")
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("the cancelled start took %s to end", took)
			}
			sub.nothingLeft(r.engine)
			// What the backend does on its own a little later counts too.
			time.Sleep(700 * time.Millisecond)
			sub.nothingLeft(r.engine)
		})
	}
}

func (r *run) ten() {
	fields := r.worker(Worker{Does: Runs})
	var mu sync.Mutex
	var started []string
	var wg sync.WaitGroup
	for range 10 {
		a, b := r.admit(r.engine, newID(), fields)
		wg.Go(func() {
			if _, err := r.backend.Start(r.context(), a, r.options()); err != nil {
				r.t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			started = append(started, b.Instance)
		})
	}
	wg.Wait()
	objects, err := r.backend.List(r.context())
	if err != nil {
		r.t.Fatal(err)
	}
	found := map[string]bool{}
	for _, o := range objects {
		if o.Status != nil {
			found[o.Instance] = true
		}
	}
	if len(found) != 10 || len(started) != 10 {
		r.t.Errorf("%d were started, %d are there", len(started), len(found))
	}
	for _, i := range started {
		wg.Go(func() {
			if err := r.backend.Stop(r.context(), i, backends.StopOptions{Fast: true}); err != nil {
				r.t.Error(err)
			}
		})
	}
	wg.Wait()
	r.nothingLeft(r.engine)
}

func (r *run) twoEngines() {
	second := "e-" + strings.ToLower(newID())
	other := r.connect(second, &Recorder{})
	r.t.Cleanup(func() { r.clean(second, other) })
	w := r.watch(r.backend)
	_, mine := r.start(Worker{Does: Runs})
	a, theirs := r.admit(second, newID(), r.worker(Worker{Does: Runs}))
	if _, err := other.Start(r.context(), a, r.options()); err != nil {
		r.t.Fatal(err)
	}
	w.await(mine.Instance, backends.StateRunning)
	for _, c := range []struct {
		b    backends.Backend
		want string
	}{{r.backend, mine.Instance}, {other, theirs.Instance}} {
		objects, err := c.b.List(r.context())
		if err != nil {
			r.t.Fatal(err)
		}
		for _, o := range objects {
			if o.Instance != c.want {
				r.t.Errorf("List gave another engine's %s %s", o.Kind, o.Name)
			}
		}
		if len(objects) == 0 {
			r.t.Error("List gave nothing")
		}
	}
	// They are on one backend.
	if id := r.id(r.backend); id == "" || id != r.id(other) {
		r.t.Errorf("two connections to one backend have the ids %q and %q", id, r.id(other))
	}
	// Neither sees nor stops the other's.
	r.stop(theirs.Instance, backends.StopOptions{Fast: true})
	if s, err := other.Inspect(r.context(), theirs.Instance); err != nil || s.State != backends.StateRunning {
		r.t.Errorf("the other engine's instance is %+v, %v", s, err)
	}
	if s := r.inspect(theirs.Instance); s.State != backends.StateGone {
		r.t.Errorf("Inspect gave another engine's instance: %+v", s)
	}
	r.stop(mine.Instance, backends.StopOptions{Fast: true})
	w.await(mine.Instance, backends.StateGone)
	for _, s := range w.all() {
		if s.Instance != mine.Instance {
			r.t.Errorf("Watch told of another engine's instance: %+v", s)
		}
	}
	if err := other.Stop(r.context(), theirs.Instance, backends.StopOptions{Fast: true}); err != nil {
		r.t.Error(err)
	}
	r.nothingLeft(r.engine)
	r.nothingLeft(second)
}

func (r *run) judged() {
	for _, w := range []Worker{{Does: Runs}, {Does: Pulls}, {Does: Builds}} {
		r.t.Run(string(w.Does), func(t *testing.T) {
			sub := *r
			sub.t = t
			sub.recorder = &Recorder{}
			sub.backend = sub.connect(r.engine, sub.recorder)
			defer sub.backend.Close()
			s, b := sub.start(w)
			calls := sub.recorder.Changing()
			if len(calls) == 0 {
				t.Fatal("the start made no call that changes anything")
			}
			r.Judged(t, calls, b, r.secrets)
			sub.secrets.Unseen(t, fmt.Sprintf("%+v", s))
			sub.stop(b.Instance, backends.StopOptions{Fast: true})
		})
	}
}
