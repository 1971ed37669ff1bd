package engine

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/render"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// DefaultPort is the master's port where neither masterFQDN nor advertise names one (Buildbot's PB port).
const DefaultPort = 9989

// IdentityInput is what the engine chooses for an instance.
type IdentityInput struct {
	Engine, Instance string
	Created          time.Time
	Lifetime         time.Duration // 0 = no end
	Master           spec.Master
}

// SampleIdentity is what an offline render binds: the same for everybody, so that its output can be compared.
func SampleIdentity(m spec.Master) IdentityInput {
	return IdentityInput{Engine: "sample", Instance: "00000000000000000000000000", Created: time.Unix(0, 0).UTC(), Master: m}
}

// SampleMaster stands for the engine's own address in an offline render where nothing says it.
const SampleMaster = "master.example"

// NewIdentity makes the identity of one instance of s: names, labels, reserved environment. Pure.
func NewIdentity(kind backends.Kind, s *render.Spec, in IdentityInput) spec.Identity {
	id := spec.Identity{
		Engine: in.Engine, Instance: in.Instance, Tenant: s.Tenant, Worker: s.Worker, WorkerName: s.WorkerName,
		ObjectName: kind.ObjectName(s.WorkerName, in.Instance), Created: in.Created.UTC().Truncate(time.Millisecond),
	}
	port := in.Master.Port
	if port == 0 {
		port = DefaultPort
	}
	protocol := in.Master.Protocol
	if protocol == "" {
		protocol = "pb"
	}
	id.Env = []spec.EnvVar{
		{Name: spec.EnvMaster, Value: field.String(in.Master.Host)},
		{Name: spec.EnvPort, Value: field.String(strconv.Itoa(port))},
		{Name: spec.EnvProtocol, Value: field.String(protocol)},
		{Name: spec.EnvWorker, Value: field.String(s.WorkerName)},
		{Name: spec.EnvPassword, Value: field.Text{{Secret: field.SecretRef{Provider: spec.InstanceProvider, Name: "password"}}}},
	}
	id.Labels = map[string]string{
		spec.LabelEngine: LabelValue(in.Engine), spec.LabelInstance: in.Instance,
		spec.LabelWorker: LabelValue(s.WorkerName), spec.LabelDigest: strings.TrimPrefix(s.Digest, "v1:")[:32],
		spec.NoteWorker: s.Worker, spec.NoteDigest: s.Digest, spec.NoteCreated: id.Created.Format(time.RFC3339Nano),
	}
	if s.Tenant != "" {
		id.Labels[spec.LabelTenant] = LabelValue(s.Tenant)
	}
	if in.Lifetime > 0 {
		id.Expires = id.Created.Add(in.Lifetime)
		id.Labels[spec.NoteExpires] = id.Expires.Format(time.RFC3339)
	}
	return id
}

// LabelValue is s as a label's value that is valid on every backend: as it is where it can be, else shortened and marked
// with a hash, one to one.
func LabelValue(s string) string {
	valid := len(s) > 0 && len(s) <= 63 && strings.IndexFunc(s, func(r rune) bool { return !labelRune(r) }) < 0 && alnum(s[0]) && alnum(s[len(s)-1])
	if valid {
		return s
	}
	clean := strings.Map(func(r rune) rune {
		if labelRune(r) {
			return r
		}
		return '-'
	}, s)
	if len(clean) > 40 {
		clean = clean[:40]
	}
	sum := sha256.Sum256([]byte(s))
	return strings.Trim("x"+strings.TrimLeft(clean, "._-"), "._-") + "." + hex.EncodeToString(sum[:8])
}

func labelRune(r rune) bool {
	return r == '.' || r == '_' || r == '-' || r < 128 && alnum(byte(r))
}

func alnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// master is where the worker of a plan dials: its masterFQDN, else the address the operator advertises for the backend or
// for the engine, else the address of this machine that routes to the backend.
func (e *Engine) master(ctx context.Context, p spec.Plan, target *render.Target) (spec.Master, error) {
	m := p.Master
	if m.Host != "" {
		return m, nil
	}
	written := e.set.Definition.Engine.Advertise
	if s, ok := target.Settings["advertise"].(field.String); ok {
		written = string(s)
	}
	if written != "" {
		host, port, err := spec.ParseMaster(written)
		if err != nil {
			return m, &backends.Failure{Class: backends.ClassConfig, Message: "cannot read advertise: " + err.Error()}
		}
		if m.Host = host; m.Port == 0 {
			m.Port = port
		}
		if loopback(host) && remote(target) {
			return m, &backends.Failure{Class: backends.ClassConfig, Message: fmt.Sprintf("workers on %s cannot reach %s: it is this machine's own loopback address", target.Name, host), Hint: "set engine.advertise to an address that the workers can dial"}
		}
		return m, nil
	}
	b, err := e.Backend(ctx, target.Name)
	if err != nil {
		return m, err
	}
	host, err := b.AdvertiseFor(ctx)
	if err != nil {
		return m, err
	}
	if host == "" || loopback(host) && remote(target) {
		return m, &backends.Failure{Class: backends.ClassConfig, Message: fmt.Sprintf("cannot tell which address of this machine workers on %s reach", target.Name), Hint: "set engine.advertise, or masterFQDN in the worker"}
	}
	m.Host = host
	return m, nil
}

// OfflineMaster is the master of an offline render: no backend is asked.
func OfflineMaster(p spec.Plan, advertise string, target *render.Target) spec.Master {
	m := p.Master
	if m.Host != "" {
		return m
	}
	if s, ok := target.Settings["advertise"].(field.String); ok {
		advertise = string(s)
	}
	host, port, err := spec.ParseMaster(advertise)
	if err != nil {
		host, port = SampleMaster, 0
	}
	if m.Host = host; m.Port == 0 {
		m.Port = port
	}
	return m
}

func loopback(host string) bool {
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}

// remote reports whether a target's endpoint is on another machine, as far as its address tells.
func remote(t *render.Target) bool {
	scheme, rest, ok := strings.Cut(t.Endpoint, "://")
	if !ok || slices.Contains([]string{"unix", "npipe", "fd"}, scheme) {
		return false
	}
	rest = rest[strings.LastIndex(rest, "@")+1:]
	rest, _, _ = strings.Cut(rest, "/")
	host, _, err := net.SplitHostPort(rest)
	if err != nil {
		host = rest
	}
	return !loopback(host)
}

// newPassword is 26 characters from the system's random source: 130 bits.
func newPassword() string { return rand.Text() }
