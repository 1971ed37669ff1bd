package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/policy"
	"github.com/latent-engine/latent-engine/engine/render"
	"github.com/latent-engine/latent-engine/engine/spec"
	"github.com/latent-engine/latent-engine/renderers"
)

// Options say what an Engine works with.
type Options struct {
	// Kinds of backends that exist.
	Kinds []backends.Kind
	CEL   renderers.Renderer
	// State is the state folder; made (0700) where it is not there.
	State string
	// Root is the folder that build contexts are below.
	Root string
	// Now and NewID are the clock and the source of instance ids; nil = the real ones.
	Now   func() time.Time
	NewID func() string
}

// Engine starts, watches and removes instances of a definition's workers.
type Engine struct {
	set     *render.Set
	options Options
	store   *Store
	secrets *secrets
	id      string

	mux   sync.Mutex
	conns map[string]*connection // guarded by mux
}

// connection is one backend's, opened once.
type connection struct {
	once    sync.Once
	backend backends.Backend
	err     error
}

// Open opens the state folder; it speaks to no backend yet.
func Open(set *render.Set, o Options) (*Engine, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.NewID == nil {
		o.NewID = func() string { return ulid.Make().String() }
	}
	store, err := OpenStore(o.State)
	if err != nil {
		return nil, err
	}
	id := set.Definition.Engine.ID
	if id == "" {
		if id, err = store.EngineID(); err != nil {
			return nil, errors.Join(err, store.Close())
		}
	}
	// Backends find this engine's objects by their label, so the id is the label's value from here on.
	id = LabelValue(id)
	return &Engine{set: set, options: o, store: store, id: id, secrets: newSecrets(set.Definition.Engine), conns: map[string]*connection{}}, nil
}

// ID is the engine id as every object's label carries it (see [LabelValue]).
func (e *Engine) ID() string { return e.id }

// Close closes the connections and the state folder.
func (e *Engine) Close() error {
	e.mux.Lock()
	defer e.mux.Unlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(e.conns)) {
		if b := e.conns[name].backend; b != nil {
			errs = append(errs, b.Close())
		}
	}
	return errors.Join(append(errs, e.store.Close())...)
}

// Backend is the open connection to a target.
func (e *Engine) Backend(ctx context.Context, target string) (backends.Backend, error) {
	t := e.set.Targets[target]
	if t == nil {
		return nil, &backends.Failure{Class: backends.ClassConfig, Message: fmt.Sprintf("no backend %q in the definition", target), Hint: "give the file that declares it with -f"}
	}
	e.mux.Lock()
	c := e.conns[target]
	if c == nil {
		c = &connection{}
		e.conns[target] = c
	}
	e.mux.Unlock()
	c.once.Do(func() {
		kind := t.Kind.(backends.Kind)
		c.backend, c.err = kind.Connect(ctx, backends.ConnectOptions{Target: target, Engine: e.id, Settings: t.Settings, Fill: e.fill(ctx, "", nil)})
	})
	if c.err != nil {
		// A failed attempt is not kept: the backend may be there the next time.
		e.mux.Lock()
		if e.conns[target] == c {
			delete(e.conns, target)
		}
		e.mux.Unlock()
		return nil, c.err
	}
	return c.backend, nil
}

// StartRequest asks for an instance.
type StartRequest struct {
	// Worker is tenant/name, or the bare name where it is unique.
	Worker string
	Build  *config.Build
	// ID is the instance id (a ULID); "" = a new one. The same id again is the same start.
	ID string
	// As is the WORKERNAME; "" = the definition's.
	As string
	// Password is the caller's WORKERPASS; "" = the definition's, else a new one, given back in the result.
	Password string
	// Replace takes the place of a live instance of the same identity.
	Replace bool
	// Expires is how long the instance may live; 0 = until it is stopped.
	Expires  time.Duration
	Progress func(backends.Progress)
	// Accepted, where not nil, is told once that the start goes on: it was rendered, admitted and written to the journal, and
	// room was made for it. It must not block. A start that is refused, or whose id was started before, does not come here.
	Accepted func(backends.Status)
}

// StartResult is a started instance.
type StartResult struct {
	Status backends.Status
	Spec   *render.Spec
	// Password is set where the engine made it: handed out once, kept nowhere.
	Password string
	// FollowStartupLogs is the worker's followStartupLogs: the caller is asked to follow the log until the worker attaches.
	FollowStartupLogs bool
}

// Render renders a worker, with the content of build contexts in the plan.
func (e *Engine) Render(ctx context.Context, worker string, b *config.Build, provenance bool) (*render.Spec, error) {
	t, err := e.set.Template(worker)
	if err != nil {
		return nil, err
	}
	return t.Render(ctx, b, render.RenderOptions{Provenance: provenance, Seal: Sealer(e.options.Root)})
}

// Sealer completes plans with the digests of build contexts below root.
func Sealer(root string) func(context.Context, render.Kind, *spec.Plan) error {
	return func(ctx context.Context, k render.Kind, p *spec.Plan) error {
		if s, ok := k.(backends.BuildSealer); ok {
			return s.SealBuild(ctx, p, root)
		}
		return nil
	}
}

// Start renders, binds, admits and starts. Errors: *render.Error, *policy.DeniedError, *backends.Failure, *LiveError.
// Whatever the error, nothing of this start is left behind, or the journal knows of it and GC removes it.
func (e *Engine) Start(ctx context.Context, r StartRequest) (*StartResult, error) {
	if r.ID == "" {
		r.ID = e.options.NewID()
	} else if id, err := ulid.ParseStrict(r.ID); err != nil {
		return nil, &backends.Failure{Class: backends.ClassConfig, Message: fmt.Sprintf("%q is no instance id: a ULID (26 characters) is wanted", r.ID)}
	} else {
		r.ID = id.String()
	}
	s, err := e.Render(ctx, r.Worker, r.Build, false)
	if err != nil {
		return nil, err
	}
	if r.As != "" {
		if !config.ValidName(r.As) {
			return nil, &backends.Failure{Class: backends.ClassConfig, Message: fmt.Sprintf("%q cannot be a worker's name", r.As)}
		}
		s.WorkerName = r.As
	}
	target := e.set.Targets[s.Target]
	kind := target.Kind.(backends.Kind)
	// What can be refused without a word to the backend is refused first.
	master, err := e.master(ctx, s.Plan, target)
	if err != nil {
		return nil, err
	}
	identity := NewIdentity(kind, s, IdentityInput{Engine: e.id, Instance: r.ID, Created: e.options.Now(), Lifetime: r.Expires, Master: master})
	bound, err := kind.Bind(s.Plan, identity)
	if err != nil {
		return nil, &backends.Failure{Class: backends.ClassConfig, Message: err.Error()}
	}
	bound.Digest = s.Digest
	admitted, _, err := policy.Judge(ctx, kind, bound)
	if err != nil {
		return nil, err
	}
	return e.start(ctx, r, s, identity, admitted)
}

func (e *Engine) start(ctx context.Context, r StartRequest, s *render.Spec, identity spec.Identity, admitted policy.Admitted) (*StartResult, error) {
	result := &StartResult{Spec: s}
	if follow, ok := s.After["follow_startup_logs"].(field.Bool); ok {
		result.FollowStartupLogs = bool(follow)
	}
	entry := Entry{
		Instance: identity.Instance, Engine: e.id, Tenant: identity.Tenant, Worker: identity.Worker, WorkerName: identity.WorkerName,
		Kind: s.Backend, Target: s.Target, Object: identity.ObjectName, Digest: s.Digest, Created: identity.Created, Expires: identity.Expires,
	}
	intent, earlier, err := e.begin(ctx, entry, r)
	if err != nil {
		return nil, err
	}
	defer intent.Release()
	ctx, unwatch := intent.Watched(ctx)
	defer unwatch()
	if intent.Old != nil {
		if _, err := e.holder(ctx, *intent.Old); err != nil {
			return nil, err
		}
	}
	if intent.Again {
		status, err := e.again(ctx, *intent.Old)
		if err != nil {
			return nil, err
		}
		if status.State != backends.StateGone {
			result.Status = status
			return result, nil
		}
		if err := intent.Renew(); err != nil {
			return nil, err
		}
	}
	if err := e.clear(ctx, identity, earlier, r.Replace); err != nil {
		return nil, errors.Join(stopped(ctx, entry, err), intent.End())
	}
	if r.Accepted != nil {
		r.Accepted(entry.status(backends.StateStarting))
	}
	b, err := e.Backend(ctx, s.Target)
	if err != nil {
		return nil, errors.Join(err, intent.End())
	}
	known := e.learn(ctx, intent, b)
	password := r.Password
	if password == "" && s.Password == nil {
		password = newPassword()
		result.Password = password
	}
	fill := e.fill(ctx, s.Tenant, &instanceSecrets{given: password, plan: s.Password})
	status, err := b.Start(ctx, admitted, backends.StartOptions{Fill: fill, Progress: r.Progress, Root: e.options.Root, PullGrace: e.pullGrace(s.Target)})
	known(err == nil)
	if err == nil {
		if err = intent.Started(); err != nil {
			stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			err = errors.Join(err, b.Stop(stopping, identity.Instance, backends.StopOptions{Fast: true}))
		}
	}
	if err != nil {
		failure := backends.AsFailure(stopped(ctx, entry, err))
		// The backend has cleaned up; where it could not, the intent stays and GC goes on with it.
		if e.gone(ctx, b, identity.Instance) {
			return nil, errors.Join(failure, intent.End())
		}
		failure.Hint = orElse(failure.Hint, "something may be left behind: latent-engine gc removes it")
		return nil, failure
	}
	result.Status = status
	return result, nil
}

// learn asks which backend it is while that starts the instance, and notes it. end waits for the answer where the
// start came about; not for long, for gc finds out later too.
func (e *Engine) learn(ctx context.Context, intent *Intent, b backends.Backend) (end func(started bool)) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if id, err := b.ID(ctx); err == nil && id != "" {
			// A journal that cannot be written to fails the start by itself.
			_ = intent.HeldBy(id)
		}
	}()
	return func(started bool) {
		if started {
			select {
			case <-done:
			case <-time.After(learnLimit):
			}
		}
		cancel()
		<-done
	}
}

// learnLimit is how long a start that has come about waits to hear which backend it was on.
const learnLimit = 2 * time.Second

// stopped is err, or what it means where somebody has asked for the end of the start.
func stopped(ctx context.Context, entry Entry, err error) error {
	if !errors.Is(context.Cause(ctx), errStopped) && !errors.Is(err, errStopped) {
		return err
	}
	return &backends.Failure{Class: backends.ClassCancelled, Retryable: true, Message: entry.Object + ": " + errStopped.Error(), Err: err}
}

// startPoll is how often a start that another process makes is looked at: its lock is a file's, and tells nobody.
const startPoll = 50 * time.Millisecond

// begin writes the intent. Where another process makes the very same start, it waits for that to come to an end; where one
// starts another instance of the identity that is to be replaced, it asks for the end of that and waits.
func (e *Engine) begin(ctx context.Context, entry Entry, r StartRequest) (*Intent, []Earlier, error) {
	for told := false; ; told = true {
		intent, earlier, err := e.store.Begin(entry)
		var live *LiveError
		if !errors.As(err, &live) || live.Instance != entry.Instance && !r.Replace {
			return intent, earlier, err
		}
		if live.Instance != entry.Instance {
			if err := e.store.AskStop(live.Instance); err != nil {
				return nil, nil, err
			}
		}
		if !told && r.Progress != nil {
			r.Progress(backends.Progress{Phase: "waiting", Subject: entry.Object, Message: live.Error()})
		}
		if err := pause(ctx, "start "+entry.Object); err != nil {
			return nil, nil, err
		}
	}
}

// settled has a start of the instance that id names given up, and gives its entry as it was before. An id that names nothing
// is the zero entry.
func (e *Engine) settled(ctx context.Context, id string) (Entry, error) {
	first, err := e.store.Find(e.id, id)
	if err != nil {
		return Entry{}, nil //nolint:nilerr // what the journal does not know may be on a backend: the caller looks there
	}
	for now := first; err == nil && now.Live; now, err = e.store.Find(e.id, first.Instance) {
		if err := e.store.AskStop(first.Instance); err != nil {
			return first, err
		}
		if err := pause(ctx, "stop "+first.Object); err != nil {
			return first, err
		}
	}
	return first, nil
}

// pause waits for a moment, or says that what was being done was given up.
func pause(ctx context.Context, doing string) error {
	select {
	case <-time.After(startPoll):
		return nil
	case <-ctx.Done():
	}
	f := &backends.Failure{Class: backends.ClassCancelled, Retryable: true, Message: "cannot " + doing + ": cancelled while another process starts it", Err: context.Canceled}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		f.Class, f.Message, f.Err = backends.ClassTimeout, "cannot "+doing+": the time for it is over while another process starts it", context.DeadlineExceeded
	}
	return f
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// status is what the journal alone knows of an instance.
func (en Entry) status(state backends.State) backends.Status {
	return backends.Status{
		Instance: en.Instance, Worker: en.Worker, WorkerName: en.WorkerName, Backend: en.Kind, Target: en.Target, Object: en.Object,
		Digest: en.Digest, State: state, Created: en.Created, Expires: en.Expires,
	}
}

// gone asks, with a context of its own because the caller's may have ended, whether nothing of an instance is left.
func (e *Engine) gone(ctx context.Context, b backends.Backend, instance string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	objects, err := b.List(ctx)
	return err == nil && !slices.ContainsFunc(objects, func(o backends.Object) bool { return o.Instance == instance })
}

// again is the instance of an entry as it is now.
func (e *Engine) again(ctx context.Context, entry Entry) (backends.Status, error) {
	b, err := e.holder(ctx, entry)
	if err != nil {
		return backends.Status{}, err
	}
	return b.Inspect(ctx, entry.Instance)
}

// holder is the backend that holds an entry's instance, or would, if it were there.
func (e *Engine) holder(ctx context.Context, entry Entry) (backends.Backend, error) {
	b, err := e.Backend(ctx, entry.Target)
	if err != nil {
		return nil, err
	}
	id, err := b.ID(ctx)
	if err != nil {
		return nil, err
	}
	if entry.heldBy(entry.Target, id) {
		return b, nil
	}
	// Its id may have changed, or it did not tell it before.
	if status, err := b.Inspect(ctx, entry.Instance); err != nil || status.State != backends.StateGone {
		return b, err
	}
	return nil, entry.elsewhere()
}

// elsewhere says that an entry's instance is on none of the definition's backends.
func (en Entry) elsewhere() *backends.Failure {
	return &backends.Failure{
		Class:   backends.ClassConfig,
		Message: fmt.Sprintf("%s is on another %s than the backend %q is now", en.Object, en.Kind, en.Target),
		Hint:    "give the definition that it was started with (-f); where that " + en.Kind + " is gone for good, latent-engine stop --forget " + en.Instance,
	}
}

// LiveError says that an instance of the same identity lives.
type LiveError struct {
	Worker, Instance string
	Starting         bool
}

func (e *LiveError) Error() string {
	what := "is running"
	if e.Starting {
		what = "is being started"
	}
	return fmt.Sprintf("worker %q has an instance already: %s %s", e.Worker, e.Instance, what)
}

// clear makes room for identity: what is left of its dead instances is removed, on whatever backend; a live one is refused,
// or stopped where replace is set.
func (e *Engine) clear(ctx context.Context, identity spec.Identity, earlier []Earlier, replace bool) error {
	for _, old := range earlier {
		b, err := e.holder(ctx, old)
		if err != nil {
			return fmt.Errorf("cannot see what became of %s on %s: %w", old.Instance, old.Target, err)
		}
		if old.State == EntryStarted && !replace {
			status, err := b.Inspect(ctx, old.Instance)
			if err != nil {
				return err
			}
			if status.State == backends.StateRunning || status.State == backends.StateStarting {
				return &LiveError{Worker: identity.Worker, Instance: old.Instance}
			}
		}
		if err := b.Stop(ctx, old.Instance, backends.StopOptions{}); err != nil {
			return err
		}
		if err := e.store.End(old.Instance); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) pullGrace(target string) time.Duration {
	if d, ok := e.set.Targets[target].Settings["image_pull_grace"].(field.Int); ok {
		return time.Duration(d) * time.Second
	}
	return 0
}

// NotFoundError says that an id names no instance, or more than one.
type NotFoundError struct {
	ID      string
	Several []string
}

func (e *NotFoundError) Error() string {
	if len(e.Several) > 0 {
		return fmt.Sprintf("%q names several instances: %v", e.ID, e.Several)
	}
	return fmt.Sprintf("no instance %q", e.ID)
}

// Find is the instance that id names: an instance id, an object's name, or the unique beginning or end of one.
func (e *Engine) Find(ctx context.Context, id string) (backends.Status, backends.Backend, error) {
	entry, err := e.store.Find(e.id, id)
	if err == nil {
		b, err := e.holder(ctx, entry)
		if err != nil {
			return entry.status(backends.StateUnknown), nil, err
		}
		status, err := b.Inspect(ctx, entry.Instance)
		if err == nil && status.State == backends.StateGone {
			status.Worker, status.WorkerName, status.Target, status.Backend = entry.Worker, entry.WorkerName, entry.Target, entry.Kind
			status.Object, status.Digest, status.Created = entry.Object, entry.Digest, entry.Created
		}
		return status, b, err
	}
	// The journal may be another machine's: what the backends hold counts too.
	listing, unasked := e.List(ctx)
	var found []backends.Status
	for _, s := range listing {
		if matches(id, s.Instance, s.Object) {
			found = append(found, s)
		}
	}
	switch {
	case len(found) == 0 && unasked != nil:
		// It may be where nobody could ask.
		return backends.Status{}, nil, unasked
	case len(found) != 1:
		return backends.Status{}, nil, err
	}
	b, err := e.Backend(ctx, found[0].Target)
	return found[0], b, err
}

// List is every instance of this engine, from all backends and the journal. What could not be asked is in the error, beside
// the rest.
func (e *Engine) List(ctx context.Context) ([]backends.Status, error) {
	seen := map[string]int{} // by instance, its place in out
	var out []backends.Status
	var errs []error
	asked := map[string]backends.Backend{}
	for _, name := range slices.Sorted(maps.Keys(e.set.Targets)) {
		b, err := e.Backend(ctx, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		objects, err := b.List(ctx)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		asked[name] = b
		for _, o := range objects {
			if _, twice := seen[o.Instance]; o.Status != nil && !twice {
				seen[o.Instance] = len(out)
				out = append(out, *o.Status)
			}
		}
	}
	entries, err := e.store.Entries(e.id)
	if err != nil {
		errs = append(errs, err)
	}
	for _, en := range entries {
		if i, ok := seen[en.Instance]; ok {
			if en.State == EntryIntent && !en.Live && out[i].Failure == nil {
				out[i].Failure = &backends.Failure{Class: backends.ClassLost, Retryable: true, Message: "its start was cut off", Hint: "latent-engine gc removes it"}
			}
			continue
		}
		s := en.status("")
		switch {
		case en.State == EntryIntent && en.Live:
			s.State = backends.StateStarting
		case asked[en.Target] == nil:
			s.State = backends.StateUnknown
		case en.State == EntryIntent:
			continue // a start that died before anything was made: gc clears the journal
		default:
			// It may have been started since the backend was asked.
			if late, err := e.again(ctx, en); err != nil {
				s.State = backends.StateUnknown
				if f := backends.AsFailure(err); f.Class == backends.ClassConfig {
					s.Failure = f
				} else {
					errs = append(errs, err)
				}
				break
			} else if late.State != backends.StateGone {
				s = late
				break
			}
			s.State = backends.StateGone
			s.Failure = &backends.Failure{Class: backends.ClassLost, Retryable: true, Message: "the instance is not there any more; it was not stopped by latent-engine"}
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b backends.Status) int { return a.Created.Compare(b.Created) })
	return out, errors.Join(errs...)
}

// Stop ends and removes an instance. What is absent was stopped. One that another process is starting is stopped when that
// has come to its end.
func (e *Engine) Stop(ctx context.Context, id string, o backends.StopOptions) (backends.Status, error) {
	was, err := e.settled(ctx, id)
	if err != nil {
		return was.status(""), err
	}
	status, b, err := e.Find(ctx, orElse(was.Instance, id))
	if none := (*NotFoundError)(nil); was.Live && errors.As(err, &none) {
		// Its start did not come about.
		status = was.status("")
		status.State = backends.StateGone
		return status, nil
	}
	if err != nil {
		return status, err
	}
	if err := b.Stop(ctx, status.Instance, o); err != nil {
		return status, err
	}
	status.State = backends.StateGone
	return status, e.store.End(status.Instance)
}

// Forget strikes an instance from the journal without a word to its backend, which is gone for good. Whoever is wrong about
// that has gc remove the instance when it shows up again.
func (e *Engine) Forget(id string) (backends.Status, error) {
	entry, err := e.store.Find(e.id, id)
	if err != nil {
		return backends.Status{}, err
	}
	status := entry.status(backends.StateUnknown)
	if entry.Live {
		return status, &LiveError{Worker: entry.Worker, Instance: entry.Instance, Starting: true}
	}
	return status, e.store.End(entry.Instance)
}

// Left reports whether something of an instance may be there: the journal knows of its begin and of no end.
func (e *Engine) Left(id string) bool {
	_, err := e.store.Find(e.id, id)
	var none *NotFoundError
	return !errors.As(err, &none)
}

// Logs streams an instance's output.
func (e *Engine) Logs(ctx context.Context, id string, o backends.LogOptions) (io.ReadCloser, error) {
	status, b, err := e.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	return b.Logs(ctx, status.Instance, o)
}

// Wait returns when the instance has ended or is gone.
func (e *Engine) Wait(ctx context.Context, id string) (backends.Status, error) {
	status, b, err := e.Find(ctx, id)
	if err != nil || status.State == backends.StateExited || status.State == backends.StateGone {
		return status, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := false
	err = b.Watch(ctx, []string{status.Instance}, func(s backends.Status) {
		if s.Instance != status.Instance || ended || s.State != backends.StateExited && s.State != backends.StateGone {
			return
		}
		if s.Worker == "" { // it went before the watch saw it
			status.State, status.Failure = s.State, s.Failure
		} else {
			status = s
		}
		ended = true
		cancel()
	})
	if ended {
		return status, nil
	}
	if err == nil {
		err = ctx.Err()
	}
	return status, err
}
