// Package backends is the contract of what starts instances: Docker Engine, Kubernetes, Marathon. Each has a folder below
// with its field table, its pure conversion from fields to a plan, and the code that speaks to it.
package backends

import (
	"context"
	"io"
	"time"

	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/policy"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// Kind is a kind of backend without any connection: tables and pure functions. Safe for concurrent use.
type Kind interface {
	// Name is the key in a definition: "docker".
	Name() string
	// Connection is the table of backends.NAME.KIND, Worker the table of a worker's fields.
	Connection() *field.Table
	Worker() *field.Table
	// Convert makes a plan from checked fields (canonical names, coerced values, secrets as holes). Pure. Paths of problems are
	// in the definition's words, relative to the worker.
	Convert(ConvertInput) (spec.Plan, []field.Problem)
	// Bind puts the identity into the plan's native objects: name, reserved environment, labels. Pure.
	Bind(spec.Plan, spec.Identity) (spec.Bound, error)
	// View is policy.Native.
	View(spec.Bound) (spec.View, error)
	// ObjectName makes the native object's name from WORKERNAME and instance id, one to one, valid for the backend.
	ObjectName(workerName, instance string) string
	// Connect opens a connection; it may ask the backend for its version.
	Connect(context.Context, ConnectOptions) (Backend, error)
}

// BuildSealer is implemented by kinds whose plans can hold an image build from local files.
type BuildSealer interface {
	// SealBuild reads the build's context (a path below root) and puts its content's digest into the plan.
	SealBuild(ctx context.Context, p *spec.Plan, root string) error
}

// ConvertInput is what Convert reads.
type ConvertInput = spec.ConvertInput

// ConnectOptions say what to connect to.
type ConnectOptions struct {
	Target   string
	Engine   string       // engine id: List and Watch give this engine's objects alone
	Settings field.Object // checked connection settings, secrets as holes
	Fill     Fill
}

// Fill gives a secret's value, on the way out only. The value never goes into a log, an error, a label or a file.
type Fill func(field.SecretRef) (string, error)

// Backend is an open connection. All methods are safe for concurrent use; each stops when its context ends.
//
// An instance's life: Start (once) → Inspect, Logs, Watch → Stop. List finds what was left behind; Remove takes it away.
type Backend interface {
	// Start causes everything that the admitted plan holds: pull or build, stale objects of this very instance id removed, create,
	// start. It returns when the instance was started. Idempotent by instance id: the same id again gives the same instance.
	// When it fails or its context ends, at whatever moment, nothing of this instance is left behind; errors are *Failure.
	Start(context.Context, policy.Admitted, StartOptions) (Status, error)
	// Inspect is the present status of an instance, StateGone where there is none.
	Inspect(ctx context.Context, instance string) (Status, error)
	// Stop ends and removes the instance and everything that only it used (a temporary image, a Secret). Idempotent: what is
	// absent was stopped. Errors are *Failure and mean that something may be left.
	Stop(ctx context.Context, instance string, o StopOptions) error
	// List finds every object that carries this engine's label, of whatever kind.
	List(context.Context) ([]Object, error)
	// Remove takes away an object that List gave, forcibly. Absent is success.
	Remove(context.Context, Object) error
	// Watch lists, then streams, and lists again after every gap, calling sink (from one goroutine) with each change of status
	// of this engine's instances. Of those in known, which the caller takes to be there, it tells StateGone where its first listing
	// does not find them. It returns when ctx ends, or with the error that it cannot recover from.
	Watch(ctx context.Context, known []string, sink func(Status)) error
	// Logs streams the instance's output, both streams as one. NotFound is a *Failure of class lost.
	Logs(ctx context.Context, instance string, o LogOptions) (io.ReadCloser, error)
	// Info is what the backend says of itself: for `version` and errors.
	Info(context.Context) (Info, error)
	// ID tells this backend from every other, at whatever address it is reached: the same for as long as what it holds lives,
	// another where it was set up anew. "" where it does not tell. The first one asked for costs a call.
	ID(context.Context) (string, error)
	// AdvertiseFor is the local address that routes to the backend: the default for the workers' master; "" = not known,
	// loopback where the backend is on this machine alone.
	AdvertiseFor(context.Context) (string, error)
	Close() error
}

// Info names a backend's version.
type Info struct {
	Name       string `json:"name"`
	Version    string `json:"version"`
	APIVersion string `json:"api_version,omitempty"`
	OS         string `json:"os,omitempty"`
	Arch       string `json:"arch,omitempty"`
}

// StartOptions go with a start.
type StartOptions struct {
	Fill Fill
	// Progress, where not nil, is told of long work; it must not block.
	Progress func(Progress)
	// Root is the folder that build contexts are below: the definition file's.
	Root string
	// PullGrace is how long a registry's hiccup is retried before it is a failure; 0 = 60 s.
	PullGrace time.Duration
}

// Progress is one report of long work. Bytes are 0 where not known.
type Progress struct {
	Phase   string `json:"phase"` // "pulling", "building", "created", "starting", "waiting" …
	Subject string `json:"subject"`
	Message string `json:"message,omitempty"`
	Done    int64  `json:"done,omitempty"`
	Total   int64  `json:"total,omitempty"`
}

// StopOptions go with a stop.
type StopOptions struct {
	// Fast kills at once instead of asking first (Buildbot's fast=True).
	Fast bool
	// Grace is how long an instance may take to end by itself; 0 = the plan's stop_timeout, else 10 s.
	Grace time.Duration
}

// LogOptions go with Logs.
type LogOptions struct {
	Follow bool
	Tail   int // last lines; 0 = all
	// Timestamps puts the time (RFC 3339) before each line.
	Timestamps bool
}

// State is the closed list of an instance's states.
type State string

// The states, in the order of a life.
const (
	StateStarting State = "starting"
	StateRunning  State = "running"
	StateExited   State = "exited" // ended by itself, still there
	StateGone     State = "gone"
	// StateUnknown is no backend's word: what the engine knows of an instance whose backend does not answer.
	StateUnknown State = "unknown"
)

// Status is one look at an instance. Its JSON form is part of the command line's contract.
type Status struct {
	Instance   string            `json:"instance"`
	Worker     string            `json:"worker"`      // tenant/name
	WorkerName string            `json:"worker_name"` // WORKERNAME
	Backend    string            `json:"backend"`     // kind
	Target     string            `json:"target"`
	Object     string            `json:"object"`    // native name
	NativeID   string            `json:"native_id"` // native id
	Image      string            `json:"image,omitempty"`
	Digest     string            `json:"digest"`
	State      State             `json:"state"`
	Created    time.Time         `json:"created,omitzero"`
	Started    time.Time         `json:"started,omitzero"`
	Finished   time.Time         `json:"finished,omitzero"`
	Expires    time.Time         `json:"expires,omitzero"`
	ExitCode   *int              `json:"exit_code,omitempty"`
	Address    string            `json:"address,omitempty"`
	Labels     map[string]string `json:"-"`
	// Failure says why an instance is not well; nil for one that runs or ended with 0.
	Failure *Failure `json:"failure,omitempty"`
	// Warnings are what went wrong without the instance being unwell: a process beside the worker that was killed for memory.
	Warnings []string `json:"warnings,omitempty"`
}

// Object is one native object that carries this engine's label.
type Object struct {
	Kind     string `json:"kind"` // "container", "image", "pod", "secret", "app"
	ID       string `json:"id"`
	Name     string `json:"name"`
	Instance string `json:"instance,omitempty"` // "" = belongs to no single instance
	// Kept objects are meant to stay after their instance (a named built image).
	Kept bool `json:"kept,omitempty"`
	// Status of an object that is an instance itself; nil for what goes with one.
	Status *Status `json:"status,omitempty"`
}
