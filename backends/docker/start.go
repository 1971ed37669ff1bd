package docker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/policy"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// cleanWait is how long a start that failed may take to remove what it made.
const cleanWait = 60 * time.Second

// start is one start under way.
type start struct {
	*backend
	bound spec.Bound
	opts  backends.StartOptions
	fill  *filler
	// made says that something of this instance may be on the engine.
	made bool
}

// Start makes, from an image that is there, four calls: list (is this instance there already?), inspect the image, create,
// start; and one for each further network.
func (b *backend) Start(ctx context.Context, a policy.Admitted, o backends.StartOptions) (backends.Status, error) {
	bound, err := a.Bound()
	if err != nil {
		return backends.Status{}, &backends.Failure{Class: backends.ClassPolicy, Message: err.Error(), Err: err}
	}
	if name := (Kind{}).Name(); bound.Backend != name {
		return backends.Status{}, configFailure("", "cannot start %s: its plan is for %s, not for %s", bound.Instance, bound.Backend, name)
	}
	// What does not carry this engine's labels would never be found again.
	labels := bound.Identity.Labels
	if labels[spec.LabelEngine] != b.engine || bound.Instance == "" || labels[spec.LabelInstance] != bound.Instance || bound.ObjectName == "" {
		return backends.Status{}, configFailure("", "cannot start %s: its plan is bound to another engine id than %q", bound.ObjectName, b.engine)
	}
	s := &start{backend: b, bound: bound, opts: o, fill: newFiller(o.Fill)}
	unlock, ok := b.starts.lock(ctx, bound.Instance)
	if !ok {
		return backends.Status{}, ended(ctx, &callError{what: "start " + bound.ObjectName})
	}
	defer unlock()
	status, err := s.run(ctx)
	if err == nil {
		return status, nil
	}
	f := *b.failure(ctx, err)
	// An engine that ends takes no new connection, and goes on to answer on those that it has.
	b.base.CloseIdleConnections()
	var left error
	away := false
	if s.made {
		away, left = s.clean(ctx)
	} else if f.Retryable && f.Class == backends.ClassImage {
		away = errors.Is(b.ping(ctx), errAway)
	}
	if away && ctx.Err() == nil && f.Class != backends.ClassInfra {
		// What an engine says of a step or a pull that it cuts off itself, because it ends, is no verdict on the definition.
		f.Class, f.Retryable, f.Field, f.Hint = backends.ClassInfra, true, "", ""
		f.Message += "; docker went away"
	}
	if left != nil {
		f.Message += "; something of it may be left: " + left.Error()
	}
	return backends.Status{}, s.fill.redactFailure(&f)
}

func (s *start) run(ctx context.Context) (backends.Status, error) {
	there, err := s.existing(ctx)
	if err != nil {
		return backends.Status{}, err
	}
	if there != nil {
		return s.inspect(ctx, there.ID, s.bound.Instance)
	}
	if err := s.image(ctx); err != nil {
		return backends.Status{}, err
	}
	id, adopted, err := s.create(ctx)
	if err != nil {
		return backends.Status{}, err
	}
	if !adopted {
		for _, n := range planList(s.bound.After, "networks") {
			if err := s.connect(ctx, id, n); err != nil {
				return backends.Status{}, err
			}
		}
	}
	s.progress("starting", s.bound.ObjectName, "", 0, 0)
	err = s.do(ctx, call{what: "start container " + s.bound.ObjectName, method: http.MethodPost, path: "/containers/" + url.PathEscape(id) + "/start"})
	if err != nil {
		return backends.Status{}, s.startFailure(ctx, err)
	}
	if err := ctx.Err(); err != nil {
		return backends.Status{}, &callError{what: "start container " + s.bound.ObjectName, err: err}
	}
	return s.started(id), nil
}

func (s *start) startFailure(ctx context.Context, err error) error {
	f := *s.failure(ctx, err)
	f.Container, f.Image = s.bound.ObjectName, planString(s.bound.Create, "Image")
	return &f
}

// existing gives this instance's container if it was started, and removes one that never was: what a start leaves that was
// killed half-way.
func (s *start) existing(ctx context.Context) (*container.Summary, error) {
	all, err := s.containers(ctx, spec.LabelInstance+"="+s.bound.Instance)
	if err != nil {
		return nil, err
	}
	for i, c := range all {
		if !isInstance(nameOf(c), c.Labels) {
			continue
		}
		switch c.State {
		case container.StateCreated, container.StateDead, container.StateRemoving:
			if err := s.removeContainer(ctx, c.ID); err != nil {
				return nil, err
			}
		default:
			return &all[i], nil
		}
	}
	return nil, nil
}

// image sees to it that the image is on the engine.
func (s *start) image(ctx context.Context) error {
	if s.bound.Build != nil {
		return s.buildImage(ctx)
	}
	if s.bound.Pull == nil {
		return nil
	}
	ref, platform, when := planString(s.bound.Pull, "image"), planString(s.bound.Pull, "platform"), planString(s.bound.Pull, "policy")
	if when != "always" {
		there, err := s.imageThere(ctx, ref, platform)
		if err != nil {
			return err
		}
		if there {
			return nil
		}
		if when == "never" {
			return &backends.Failure{
				Class: backends.ClassImage, Image: ref, Field: "image", Reason: "No such image",
				Message: fmt.Sprintf("%s: the image is not on the docker host, and autopull is off", ref),
				Hint:    "load the image there, or set autopull: true",
			}
		}
	}
	grace := s.opts.PullGrace
	if grace == 0 {
		grace = s.grace
	}
	return s.pull(ctx, pullKey{ref: ref, platform: platform, policy: when}, grace, func(p backends.Progress) {
		if s.opts.Progress != nil {
			s.opts.Progress(p)
		}
	})
}

// imageThere asks for the image with one call, which takes a name, a digest and an id alike.
func (b *backend) imageThere(ctx context.Context, ref, platform string) (bool, error) {
	if err := checkReference(ref); err != nil {
		return false, err
	}
	var i image.InspectResponse
	err := b.get(ctx, call{what: "inspect image " + ref, path: "/images/" + ref + "/json"}, &i)
	if isNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return platformFits(platform, i.Os, i.Architecture, i.Variant), nil
}

// platformFits reports whether what is there is what was asked for; what was not asked for is right.
func platformFits(want, os, arch, variant string) bool {
	if want == "" {
		return true
	}
	parts := strings.Split(strings.ToLower(want), "/")
	switch len(parts) {
	case 1:
		return parts[0] == os || parts[0] == arch
	case 2:
		return parts[0] == os && parts[1] == arch
	}
	return parts[0] == os && parts[1] == arch && (variant == "" || parts[2] == variant)
}

// create posts the sealed object as it stands, its name and platform where the API wants them.
//
// The request outlives the caller's context: an engine goes on with it in any case, and only its answer tells what to remove.
func (s *start) create(ctx context.Context) (id string, adopted bool, err error) {
	if err := ctx.Err(); err != nil {
		return "", false, &callError{what: "create container " + s.bound.ObjectName, err: err}
	}
	object := make(field.Object, len(s.bound.Create))
	maps.Copy(object, s.bound.Create)
	q := url.Values{"name": {planString(object, "name")}}
	if p := planString(object, "platform"); p != "" {
		q.Set("platform", p)
	}
	delete(object, "name")
	delete(object, "platform")
	body, err := spec.Encode(object, s.fill.fill)
	if err != nil {
		return "", false, configFailure("", "cannot create container %s: %v", s.bound.ObjectName, err)
	}
	s.made = true
	type answer struct {
		made container.CreateResponse
		err  error
	}
	answered := make(chan answer, 1)
	calling, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer cancel()
		var a answer
		r, h := jsonBody(body)
		a.err = s.get(calling, call{what: "create container " + s.bound.ObjectName, method: http.MethodPost, path: "/containers/create", query: q, body: r, header: h}, &a.made)
		answered <- a
	}()
	var a answer
	select {
	case a = <-answered:
	case <-ctx.Done():
		select {
		case a = <-answered:
		case <-time.After(cleanWait / 2):
			cancel()
			a = <-answered
		}
	}
	switch {
	case statusOf(a.err) == http.StatusConflict:
		return s.adopt(ctx, a.err)
	case a.err != nil:
		f := *s.failure(ctx, a.err)
		f.Container, f.Image = s.bound.ObjectName, planString(object, "Image")
		return "", false, &f
	case a.made.ID == "":
		return "", false, &callError{what: "create container " + s.bound.ObjectName, err: errNoEngine}
	case ctx.Err() != nil:
		return "", false, &callError{what: "create container " + s.bound.ObjectName, err: ctx.Err()}
	}
	s.progress("created", s.bound.ObjectName, s.fill.redact(strings.Join(a.made.Warnings, "; ")), 0, 0)
	return a.made.ID, false, nil
}

// adopt takes a container that has our name for this instance's where it is: another process started the same instance id at
// the same time.
func (s *start) adopt(ctx context.Context, conflict error) (string, bool, error) {
	r, err := s.inspectContainer(ctx, s.bound.ObjectName)
	if err == nil && r.Config != nil && r.Config.Labels[spec.LabelEngine] == s.engine && r.Config.Labels[spec.LabelInstance] == s.bound.Instance && isInstance(strings.TrimPrefix(r.Name, "/"), r.Config.Labels) {
		s.made = false
		return r.ID, true, nil
	}
	// Nothing of ours was made, whoever has the name.
	s.made = s.bound.Build != nil
	f := *s.failure(ctx, conflict)
	f.Container = s.bound.ObjectName
	if err == nil {
		f.Hint = fmt.Sprintf("the name belongs to a container that is not this instance's: docker rm %s", clip(r.ID, 12))
	}
	return "", false, &f
}

// connect joins one further network.
func (s *start) connect(ctx context.Context, id string, v field.Value) error {
	n, ok := v.(field.Object)
	if !ok {
		return configFailure("networks", "cannot connect %s to a network: the plan holds %s", s.bound.ObjectName, field.KindName(v))
	}
	name := planString(n, "network")
	body, err := spec.Encode(field.Object{"Container": field.String(id), "EndpointConfig": n["config"]}, s.fill.fill)
	if err != nil {
		return configFailure("networks", "cannot connect %s to network %s: %v", s.bound.ObjectName, name, err)
	}
	r, h := jsonBody(body)
	what := fmt.Sprintf("connect container %s to network %s", s.bound.ObjectName, name)
	err = s.do(ctx, call{what: what, method: http.MethodPost, path: "/networks/" + url.PathEscape(name) + "/connect", body: r, header: h})
	if err != nil {
		f := *s.failure(ctx, err)
		f.Container = s.bound.ObjectName
		if isNotFound(err) {
			f.Class, f.Retryable, f.Field = backends.ClassConfig, false, "networks"
		}
		return &f
	}
	return nil
}

// started is the status of an instance that the engine has just started; Inspect and Watch tell how it goes on.
func (s *start) started(id string) backends.Status {
	st := backends.Status{
		Backend: Kind{}.Name(), Target: s.target, Object: s.bound.ObjectName, NativeID: id, Image: planString(s.bound.Create, "Image"),
		State: backends.StateRunning, Created: s.bound.Created, Started: time.Now().UTC(),
	}
	labelled(&st, s.bound.Identity.Labels)
	st.Instance, st.Worker, st.WorkerName, st.Digest, st.Expires = s.bound.Instance, s.bound.Worker, s.bound.WorkerName, s.bound.Digest, s.bound.Expires
	return st
}

func (s *start) progress(phase, subject, message string, done, total int64) {
	if s.opts.Progress != nil {
		s.opts.Progress(backends.Progress{Phase: phase, Subject: subject, Message: message, Done: done, Total: total})
	}
}

// clean removes what a start made that did not come about, whatever became of the caller's context; away says that the engine
// was not there at first.
func (s *start) clean(ctx context.Context) (away bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanWait)
	defer cancel()
	err = s.stop(ctx, s.bound.Instance, backends.StopOptions{Fast: true})
	away = errors.Is(err, errAway)
	var f *backends.Failure
	if errors.As(err, &f) && f.Class == backends.ClassInfra {
		// An engine that restarts in this moment: once more, when it is back.
		if pause(ctx, 2*time.Second) {
			err = s.stop(ctx, s.bound.Instance, backends.StopOptions{Fast: true})
		}
	}
	return away, err
}

// planString is a text of the plan's; "" where it is absent.
func planString(o field.Object, key string) string {
	s, _ := o[key].(field.String)
	return string(s)
}

func planBool(o field.Object, key string) bool {
	v, _ := o[key].(field.Bool)
	return bool(v)
}

func planObject(o field.Object, key string) field.Object {
	v, _ := o[key].(field.Object)
	return v
}

func planList(o field.Object, key string) field.List {
	v, _ := o[key].(field.List)
	return v
}
