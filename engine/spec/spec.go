// Package spec holds what a render gives: the plan of a start as plain data, its digest, the identity that is bound to
// it, and the normalised view that one rule reads for every backend.
//
// No clock, no random, no I/O: same inputs, same Plan.
package spec

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/latent-engine/latent-engine/engine/field"
)

// Plan is everything that a start will cause, without identity: same inputs, same Plan.
type Plan struct {
	// Backend is the kind ("docker"), Target the name of the configured backend ("local").
	Backend string
	Target  string
	// Endpoint tells two targets apart that share a name over time: the connection's address as written (docker_host).
	Endpoint string
	// Master is where the worker dials: it becomes BUILDMASTER, BUILDMASTER_PORT, BUILDMASTER_PROTOCOL at bind.
	// Host "" = the engine's advertised address.
	Master Master
	// Password is the definition's password, nil where it has none.
	Password field.Value
	// Pull, Build and Objects are the backend's own: what happens before the create object. nil = not at all.
	// Build.context, where there is one, is a path; engine/render puts "sha256" of its content beside it.
	Pull    field.Object
	Build   field.Object
	Objects []field.Object
	// Create is the native create object (POST /containers/create, v1 Pod, Marathon app), with secrets as holes.
	Create field.Object
	// After is what is done to a started instance, and how it is stopped: further networks, followStartupLogs, stop_timeout.
	After field.Object
}

// ConvertInput is what a backend's pure conversion reads.
type ConvertInput struct {
	Tenant, Worker string
	Target         string
	// Connection are the backend's checked settings.
	Connection field.Object
	// Fields are the worker's checked fields: canonical names, coerced values, secrets as holes.
	Fields field.Object
}

// Master is the address and protocol of the build master that a worker dials.
type Master struct {
	Host     string // no brackets around IPv6
	Port     int    // 0 = 9989
	Protocol string // "pb", "msgpack_experimental_v7"; "" = pb
}

// Reserved environment variables: the engine's alone, under every profile.
const (
	EnvMaster   = "BUILDMASTER"
	EnvPort     = "BUILDMASTER_PORT"
	EnvProtocol = "BUILDMASTER_PROTOCOL"
	EnvWorker   = "WORKERNAME"
	EnvPassword = "WORKERPASS"
)

// LabelPrefix is ours alone: a definition cannot set a label under it.
const LabelPrefix = "latent-engine.io/"

// Labels that every object of an instance carries; values are valid on all backends ([A-Za-z0-9._-]{1,63}).
const (
	LabelEngine   = LabelPrefix + "engine"
	LabelInstance = LabelPrefix + "instance"
	LabelTenant   = LabelPrefix + "tenant"
	LabelWorker   = LabelPrefix + "worker"
	LabelDigest   = LabelPrefix + "digest" // first 32 hex digits
)

// Annotations: further labels on Docker and Marathon, annotations on Kubernetes.
const (
	NoteWorker  = LabelPrefix + "worker-name" // tenant/name in full
	NoteDigest  = LabelPrefix + "spec-digest" // v1:…
	NoteCreated = LabelPrefix + "created"     // RFC 3339
	NoteExpires = LabelPrefix + "expires"     // RFC 3339; absent = never
)

// Identity is what makes one instance of a plan: chosen by the engine, never by a definition.
type Identity struct {
	Engine     string // engine id
	Instance   string // ULID
	Tenant     string // "" = the operator's own
	Worker     string // the definition's worker name, with tenant/ where there is one
	WorkerName string // WORKERNAME
	// ObjectName is the native object's name, made one to one from worker and instance, valid for the backend.
	ObjectName string
	Created    time.Time
	Expires    time.Time // zero = never
	// Env is the reserved environment, sorted by name; WORKERPASS is a hole with the provider "instance".
	Env []EnvVar
	// Labels are all labels under LabelPrefix.
	Labels map[string]string
}

// EnvVar is one environment variable.
type EnvVar struct {
	Name  string
	Value field.Value // String or Text
}

// Bound is a plan with its identity: the very values that will be sent, with secrets as holes.
// Create (and Build, Objects) of the Plan inside hold the reserved environment, names and labels already.
type Bound struct {
	Plan
	Identity
	Digest string
}

// View is the normalised view: the same words for every backend.
type View struct {
	Name           string
	Images         []string // references as the plan has them
	Builds         bool
	Privileged     bool
	Env            []EnvVar // every variable of every container, in order
	Labels         map[string]string
	HostMounts     []string
	HostNamespaces []string // "network", "pid", "ipc", "uts", "user", "cgroup"
	Capabilities   []string
	Devices        []string
	Ports          []string
	Resources      Resources
}

// Resources are an instance's limits; 0 = no limit.
type Resources struct {
	Memory   int64 // bytes
	NanoCPUs int64
	Pids     int64
}

// InstanceProvider is the provider of what belongs to one instance alone: its password.
const InstanceProvider = "instance"

// Clone is a deep copy.
func (b Bound) Clone() Bound {
	c := b
	c.Plan = b.Plan.Clone()
	c.Identity.Env = make([]EnvVar, len(b.Identity.Env))
	for i, e := range b.Identity.Env {
		c.Identity.Env[i] = EnvVar{Name: e.Name, Value: CloneValue(e.Value)}
	}
	c.Identity.Labels = maps.Clone(b.Identity.Labels)
	return c
}

// Clone is a deep copy.
func (p Plan) Clone() Plan {
	c := p
	c.Password = CloneValue(p.Password)
	c.Pull, c.Build, c.Create, c.After = cloneObject(p.Pull), cloneObject(p.Build), cloneObject(p.Create), cloneObject(p.After)
	c.Objects = make([]field.Object, len(p.Objects))
	for i, o := range p.Objects {
		c.Objects[i] = cloneObject(o)
	}
	return c
}

func cloneObject(o field.Object) field.Object {
	if o == nil {
		return nil
	}
	return CloneValue(o).(field.Object)
}

// CloneValue is a deep copy of v.
func CloneValue(v field.Value) field.Value {
	switch v := v.(type) {
	case field.List:
		c := make(field.List, len(v))
		for i, e := range v {
			c[i] = CloneValue(e)
		}
		return c
	case field.Object:
		c := make(field.Object, len(v))
		for k, e := range v {
			c[k] = CloneValue(e)
		}
		return c
	case field.Text:
		return slices.Clone(v)
	}
	return v
}

// ParseMaster reads a masterFQDN: host, host:port, [IPv6] or [IPv6]:port, or a bare IPv6 address.
func ParseMaster(s string) (host string, port int, err error) {
	host = s
	if h, p, e := net.SplitHostPort(s); e == nil {
		host = h
		port, err = strconv.Atoi(p)
		if err != nil || port < 1 || port > 65535 {
			return "", 0, fmt.Errorf("%q has no port between 1 and 65535 after the colon", s)
		}
	} else if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		host = s[1 : len(s)-1]
	}
	if strings.Contains(host, ":") && net.ParseIP(strings.SplitN(host, "%", 2)[0]) == nil {
		return "", 0, fmt.Errorf("%q is neither a host, host:port nor an IPv6 address (with a port, in brackets: [::1]:9989)", s)
	}
	if host == "" || strings.ContainsAny(host, " \t\r\n/@\x00") {
		return "", 0, fmt.Errorf("%q is not a host name or address", s)
	}
	return host, port, nil
}
