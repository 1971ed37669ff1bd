package docker

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// watched is what the watches of a connection know of its stops: an instance that we stopped is not lost.
type watched struct {
	mu      sync.Mutex
	watches int             // guarded by mu
	stopped map[string]bool // while there are watches; guarded by mu
}

func (w *watched) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watches++; w.stopped == nil {
		w.stopped = map[string]bool{}
	}
}

func (w *watched) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.watches--; w.watches == 0 {
		w.stopped = nil
	}
}

func (w *watched) stopping(instance string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped != nil {
		w.stopped[instance] = true
	}
}

func (w *watched) wasStopped(instance string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopped[instance]
}

// event is one message of the engine's stream, as far as it is needed.
type event struct {
	Action string
	Actor  struct {
		ID         string
		Attributes map[string]string
	}
	TimeNano int64 `json:"timeNano"`
	oom      bool  // this, or one before that was not looked at yet, told that a process was killed for memory
}

// watch is one Watch under way. Its maps belong to the goroutine that calls sink.
type watch struct {
	*backend
	sink  func(backends.Status)
	known map[string]backends.Status // by instance
}

// Watch keeps a set of containers that something happened to, and looks at each of them: an engine drops events for a reader
// that is slow, so reading never waits for anything, and several events of one container are one look.
func (b *backend) Watch(ctx context.Context, known []string, sink func(backends.Status)) error {
	b.watched.begin()
	defer b.watched.end()
	w := &watch{backend: b, sink: sink, known: make(map[string]backends.Status, len(known))}
	for _, instance := range known {
		w.known[instance] = backends.Status{Instance: instance, Backend: Kind{}.Name(), Target: b.target, Object: instance}
	}
	wait := 100 * time.Millisecond
	for {
		began := time.Now()
		err := w.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if f := b.failure(ctx, err); f != nil && !f.Retryable {
			return f
		}
		if time.Since(began) > 5*time.Second {
			wait = 100 * time.Millisecond
		}
		if !pause(ctx, wait) {
			return nil
		}
		wait = min(2*wait, 2*time.Second)
	}
}

// dirty is what is still to be looked at.
type dirty struct {
	mu    sync.Mutex
	ids   map[string]event // by container; guarded by mu
	order []string         // guarded by mu
	more  chan struct{}
}

func (d *dirty) add(e event) {
	d.mu.Lock()
	old, ok := d.ids[e.Actor.ID]
	if !ok {
		d.order = append(d.order, e.Actor.ID)
	}
	e.oom = old.oom || e.Action == "oom"
	// The exit code is in one event alone.
	if ok && e.Actor.Attributes["exitCode"] == "" && old.Actor.Attributes["exitCode"] != "" {
		e.Actor.Attributes = old.Actor.Attributes
	}
	d.ids[e.Actor.ID] = e
	d.mu.Unlock()
	select {
	case d.more <- struct{}{}:
	default:
	}
}

func (d *dirty) take() (event, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.order) == 0 {
		return event{}, false
	}
	id := d.order[0]
	d.order = d.order[1:]
	e := d.ids[id]
	delete(d.ids, id)
	return e, true
}

// follow opens the stream, then lists, then looks at what the stream tells: what happens between the two is told twice, and
// nothing is missed. It returns when the stream ends.
func (w *watch) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The engine's own clock: the second in which it answers is before the stream begins.
	resp, err := w.send(ctx, call{what: "ask docker for its time", method: http.MethodGet, path: "/_ping", bare: true})
	if err != nil {
		return err
	}
	drain(resp.Body)
	_ = resp.Body.Close()
	q := url.Values{"filters": {filterJSON(map[string][]string{
		"type": {"container"}, "label": {spec.LabelEngine + "=" + w.engine},
		"event": {"create", "start", "die", "destroy", "pause", "unpause", "restart", "oom"},
	})}}
	if now, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		q.Set("since", strconv.FormatInt(now.Unix()-1, 10))
	}
	stream, err := w.send(ctx, call{what: "follow docker's events", method: http.MethodGet, path: "/events", query: q, stream: true, wait: callWait}) //nolint:bodyclose // closed below: the linter does not see through send
	if err != nil {
		return err
	}
	defer stream.Body.Close()

	queue := &dirty{ids: map[string]event{}, more: make(chan struct{}, 1)}
	ended := make(chan error, 1)
	go func() {
		m := newMessages(stream.Body)
		for {
			var e event
			if err := m.next(&e); err != nil {
				ended <- &callError{what: "follow docker's events", err: err}
				return
			}
			if isInstance(e.Actor.Attributes["name"], e.Actor.Attributes) && e.Actor.ID != "" {
				queue.add(e)
			}
		}
	}()
	if err := w.list(ctx); err != nil {
		return err
	}
	for {
		for e, ok := queue.take(); ok; e, ok = queue.take() {
			if err := w.look(ctx, e); err != nil {
				return err
			}
		}
		select {
		case <-queue.more:
		case err := <-ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// list tells of every instance as it is, and of those that are not there any more.
func (w *watch) list(ctx context.Context) error {
	all, err := w.containers(ctx)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, c := range all {
		if !isInstance(nameOf(c), c.Labels) {
			continue
		}
		s, err := w.inspect(ctx, c.ID, c.Labels[spec.LabelInstance])
		if err != nil {
			return err
		}
		if s.State == backends.StateGone {
			continue
		}
		there[s.Instance] = true
		w.tell(s)
	}
	for instance := range w.known {
		if !there[instance] {
			w.tellGone(instance, event{})
		}
	}
	return nil
}

func (w *watch) look(ctx context.Context, e event) error {
	instance := e.Actor.Attributes[spec.LabelInstance]
	s, err := w.inspect(ctx, e.Actor.ID, instance)
	if err != nil {
		return err
	}
	if s.State == backends.StateGone {
		if k, ok := w.known[instance]; ok && k.NativeID != e.Actor.ID {
			// An older container of this instance, which a new one has replaced.
			return nil
		}
		w.tellGone(instance, e)
		return nil
	}
	if e.oom && s.State == backends.StateRunning {
		s.Warnings = []string{warnMemory}
	}
	w.tell(s)
	return nil
}

// tell calls sink if something is new. A warning stays: not every engine tells it again.
func (w *watch) tell(s backends.Status) {
	old, ok := w.known[s.Instance]
	if ok && old.NativeID == s.NativeID && len(s.Warnings) == 0 && (s.Failure == nil || s.Failure.Class != backends.ClassOOM) {
		s.Warnings = old.Warnings
	}
	same := ok && old.State == s.State && old.NativeID == s.NativeID && old.Started.Equal(s.Started) && old.Finished.Equal(s.Finished) &&
		slices.Equal(old.Warnings, s.Warnings)
	w.known[s.Instance] = s
	if !same {
		w.sink(s)
	}
}

// tellGone tells that an instance is not there any more, with why it ended where that is known.
func (w *watch) tellGone(instance string, e event) {
	s, ok := w.known[instance]
	if !ok {
		if e.Action == "create" || e.Action == "" {
			return
		}
		s = w.gone(instance)
		s.NativeID, s.Object, s.Image = e.Actor.ID, e.Actor.Attributes["name"], e.Actor.Attributes["image"]
		labelled(&s, e.Actor.Attributes)
	}
	delete(w.known, instance)
	was := s.State
	s.State = backends.StateGone
	code, err := strconv.Atoi(e.Actor.Attributes["exitCode"])
	switch {
	case w.watched.wasStopped(instance):
		s.Failure = nil
	case was == backends.StateExited:
		// Why it ended is in s already.
	case err == nil:
		s.ExitCode = &code
		if code != 0 {
			s.Failure = &backends.Failure{
				Class: backends.ClassCrashed, Retryable: true, Container: s.Object, Image: s.Image,
				Message: fmt.Sprintf("%s: the worker ended with exit code %d, and its container was removed at once", s.Object, code),
			}
		}
	case ok:
		s.Failure = &backends.Failure{
			Class: backends.ClassLost, Retryable: true, Container: s.Object, Image: s.Image,
			Message: fmt.Sprintf("%s: the container was removed, and not by latent-engine", s.Object),
		}
	}
	w.sink(s)
}
