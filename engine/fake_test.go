package engine

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/policy"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// yard is a backend in memory: objects stay when an engine goes. Its faults are those that a real one does not produce
// on demand.
type yard struct {
	mux     sync.Mutex
	objects map[string]backends.Object // by id
	// fail, where not nil, is what Start ends with, after it made its object when left is set.
	fail error
	left bool
	// hold, where not nil, keeps Start waiting until it is closed or the context ends.
	hold    chan struct{}
	started chan struct{}
	stopErr error
	// deaf: Start does not listen to its context.
	deaf bool
	// vanish makes an instance go as soon as it was looked at.
	vanish bool
	// listed, where not nil, is called once, when List has looked and before it answers.
	listed func()
	filled []string
	id     string // "" = it does not tell
	mute   bool   // asked for its id it says nothing
	master string // the last one's BUILDMASTER and BUILDMASTER_PORT
}

func newYard() *yard { return &yard{objects: map[string]backends.Object{}, id: rand.Text()} }

var yardTable = field.NewTable("yard",
	field.Field{Name: "image", Type: field.Of(field.StringKind)},
	field.Field{Name: "env", Type: field.MapOf(&field.Type{Kind: field.StringKind, Secret: true})},
	field.Field{Name: "labels", Type: field.MapOf(field.Of(field.StringKind))},
	field.Field{Name: "password", Type: &field.Type{Kind: field.StringKind, Secret: true}},
	field.Field{Name: "masterFQDN", Type: field.Of(field.StringKind)},
)

// yardKind is a kind whose connections all lead to one yard, by host.
type yardKind struct{ yards map[string]*yard }

func (yardKind) Name() string { return "yard" }
func (yardKind) Connection() *field.Table {
	return field.NewTable("connection", field.Field{Name: "host", Type: field.Of(field.StringKind), Native: "connection.host", Default: "unix:///yard"}, field.Field{Name: "advertise", Type: field.Of(field.StringKind)})
}
func (yardKind) Worker() *field.Table { return yardTable }

func (yardKind) Convert(in spec.ConvertInput) (spec.Plan, []field.Problem) {
	p := spec.Plan{Create: field.Object{"image": in.Fields["image"], "env": in.Fields["env"], "labels": in.Fields["labels"]}, Password: in.Fields["password"]}
	if s, ok := in.Fields["masterFQDN"].(field.String); ok {
		host, port, err := spec.ParseMaster(string(s))
		if err != nil {
			return p, []field.Problem{{Path: "masterFQDN", Message: err.Error()}}
		}
		p.Master = spec.Master{Host: host, Port: port}
	}
	return p, nil
}

func (yardKind) Bind(p spec.Plan, id spec.Identity) (spec.Bound, error) {
	b := spec.Bound{Plan: p.Clone(), Identity: id}
	b.Create["name"] = field.String(id.ObjectName)
	env, _ := b.Create["env"].(field.Object)
	list := field.List{}
	for k, v := range env {
		list = append(list, field.Object{"name": field.String(k), "value": v})
	}
	for _, e := range id.Env {
		list = append(list, field.Object{"name": field.String(e.Name), "value": e.Value})
	}
	b.Create["env"] = list
	labels, _ := b.Create["labels"].(field.Object)
	if labels == nil {
		labels = field.Object{}
	}
	for k, v := range id.Labels {
		if _, set := labels[k]; !set {
			labels[k] = field.String(v)
		}
	}
	b.Create["labels"] = labels
	return b, nil
}

func (yardKind) View(b spec.Bound) (spec.View, error) {
	v := spec.View{Name: string(b.Create["name"].(field.String)), Labels: map[string]string{}}
	for _, e := range b.Create["env"].(field.List) {
		o := e.(field.Object)
		v.Env = append(v.Env, spec.EnvVar{Name: string(o["name"].(field.String)), Value: o["value"]})
	}
	for k, l := range b.Create["labels"].(field.Object) {
		v.Labels[k] = string(l.(field.String))
	}
	return v, nil
}

func (yardKind) ObjectName(worker, id string) string { return worker + "-" + strings.ToLower(id) }

func (k yardKind) Connect(_ context.Context, o backends.ConnectOptions) (backends.Backend, error) {
	host := "unix:///yard"
	if s, ok := o.Settings["host"].(field.String); ok {
		host = string(s)
	}
	y := k.yards[host]
	if y == nil {
		return nil, &backends.Failure{Class: backends.ClassInfra, Retryable: true, Message: "cannot connect to " + host}
	}
	return &yardBackend{yard: y, o: o}, nil
}

type yardBackend struct {
	*yard
	o backends.ConnectOptions
}

func (y *yardBackend) Start(ctx context.Context, a policy.Admitted, o backends.StartOptions) (backends.Status, error) {
	b, err := a.Bound()
	if err != nil {
		return backends.Status{}, &backends.Failure{Class: backends.ClassPolicy, Message: err.Error()}
	}
	status := backends.Status{
		Instance: b.Instance, Worker: b.Worker, WorkerName: b.WorkerName, Backend: "yard", Target: y.o.Target, Object: b.ObjectName,
		Digest: b.Digest, State: backends.StateRunning, Created: b.Created, Labels: b.Labels,
	}
	y.mux.Lock()
	hold, fail, left, started := y.hold, y.fail, y.left, y.started
	if y.deaf {
		ctx = context.WithoutCancel(ctx)
	}
	y.mux.Unlock()
	if started != nil {
		close(started)
	}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return backends.Status{}, &backends.Failure{Class: backends.ClassCancelled, Retryable: true, Message: "cancelled", Err: ctx.Err()}
		}
	}
	if fail != nil && !left {
		return backends.Status{}, fail
	}
	for _, e := range b.Identity.Env {
		if t, ok := e.Value.(field.Text); ok {
			text, err := spec.FillText(t, o.Fill)
			if err != nil {
				return backends.Status{}, &backends.Failure{Class: backends.ClassConfig, Message: err.Error()}
			}
			y.mux.Lock()
			y.filled = append(y.filled, text)
			y.mux.Unlock()
		}
	}
	y.mux.Lock()
	defer y.mux.Unlock()
	y.master = fmt.Sprint(b.Identity.Env[0].Value, " ", b.Identity.Env[1].Value)
	y.objects[b.ObjectName] = backends.Object{Kind: "crate", ID: b.ObjectName, Name: b.ObjectName, Instance: b.Instance, Status: &status}
	return status, fail
}

func (y *yardBackend) find(instance string) (string, backends.Object) {
	for id, o := range y.objects {
		if o.Instance == instance {
			return id, o
		}
	}
	return "", backends.Object{}
}

func (y *yardBackend) Inspect(_ context.Context, instance string) (backends.Status, error) {
	y.mux.Lock()
	defer y.mux.Unlock()
	if id, o := y.find(instance); o.Status != nil {
		if y.vanish {
			delete(y.objects, id)
		}
		return *o.Status, nil
	}
	return backends.Status{Instance: instance, State: backends.StateGone}, nil
}

func (y *yardBackend) Stop(_ context.Context, instance string, _ backends.StopOptions) error {
	y.mux.Lock()
	defer y.mux.Unlock()
	if y.stopErr != nil {
		return y.stopErr
	}
	id, _ := y.find(instance)
	delete(y.objects, id)
	return nil
}

func (y *yardBackend) List(context.Context) ([]backends.Object, error) {
	y.mux.Lock()
	var out []backends.Object
	for _, o := range y.objects {
		if o.Status == nil || o.Status.Labels[spec.LabelEngine] == y.o.Engine {
			out = append(out, o)
		}
	}
	listed := y.listed
	y.listed = nil
	y.mux.Unlock()
	if listed != nil {
		listed()
	}
	return out, nil
}

func (y *yardBackend) Remove(_ context.Context, o backends.Object) error {
	y.mux.Lock()
	defer y.mux.Unlock()
	delete(y.objects, o.ID)
	return nil
}

func (y *yardBackend) Watch(ctx context.Context, known []string, sink func(backends.Status)) error {
	objects, _ := y.List(ctx)
	for _, instance := range known {
		if !slices.ContainsFunc(objects, func(o backends.Object) bool { return o.Instance == instance }) {
			sink(backends.Status{Instance: instance, State: backends.StateGone, Failure: &backends.Failure{Class: backends.ClassLost, Message: "gone"}})
		}
	}
	for _, o := range objects {
		if o.Status != nil {
			sink(*o.Status)
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

func (y *yardBackend) Logs(context.Context, string, backends.LogOptions) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("log\n")), nil
}

func (y *yardBackend) Info(context.Context) (backends.Info, error) {
	return backends.Info{Name: "yard"}, nil
}

func (y *yardBackend) ID(ctx context.Context) (string, error) {
	y.mux.Lock()
	id, mute := y.id, y.mute
	y.mux.Unlock()
	if mute {
		<-ctx.Done()
		return "", ctx.Err()
	}
	return id, nil
}
func (y *yardBackend) AdvertiseFor(context.Context) (string, error) { return "192.0.2.1", nil }
func (y *yardBackend) Close() error                                 { return nil }

// setState changes an instance as the world would: it ended, or somebody removed it.
func (y *yard) setState(instance string, s backends.State) {
	y.mux.Lock()
	defer y.mux.Unlock()
	for id, o := range y.objects {
		if o.Instance != instance {
			continue
		}
		if s == backends.StateGone {
			delete(y.objects, id)
			return
		}
		status := *o.Status
		status.State = s
		o.Status = &status
		y.objects[id] = o
	}
}

func (y *yard) count() int {
	y.mux.Lock()
	defer y.mux.Unlock()
	return len(y.objects)
}

var _ backends.Kind = yardKind{}

// ids gives instance ids in order.
func ids() func() string {
	var mux sync.Mutex
	n := 0
	return func() string {
		mux.Lock()
		defer mux.Unlock()
		n++
		return fmt.Sprintf("01JD%022d", n)
	}
}

var testTime = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
