package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-units"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// failureLines is how many last lines of the log a failure shows.
const failureLines = 20

// Inspect looks twice: which container it is (by label, for only that is one to one with an instance), and how it is.
func (b *backend) Inspect(ctx context.Context, instance string) (backends.Status, error) {
	c, err := b.find(ctx, instance)
	if err != nil {
		return backends.Status{}, b.failure(ctx, err)
	}
	if c == nil {
		return b.gone(instance), nil
	}
	s, err := b.inspect(ctx, c.ID, instance)
	if err == nil && s.State == backends.StateRunning && len(s.Warnings) == 0 {
		if killed := b.memoryKills(ctx, s.Started, b.engineNow(), "container", c.ID); !killed[c.ID].IsZero() {
			s.Warnings = []string{warnMemory}
		}
	}
	return s, err
}

const warnMemory = "the kernel killed a process of this container for memory: hostconfig.mem_limit may be too low"

// memoryKills tells of which containers the kernel killed a process for memory, and when last. Engines before 23 tell it of a
// container that runs by an event alone. Their buffer of events is finite, and what is learnt here is a help: no error.
func (b *backend) memoryKills(ctx context.Context, from, to time.Time, filter, value string) map[string]time.Time {
	q := url.Values{
		"since": {apiTime(from)}, "until": {apiTime(to)},
		"filters": {filterJSON(map[string][]string{"type": {"container"}, "event": {"oom"}, filter: {value}})},
	}
	resp, err := b.send(ctx, call{what: "look at docker's events", method: http.MethodGet, path: "/events", query: q, wait: 5 * time.Second})
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	last := map[string]time.Time{}
	for m := newMessages(resp.Body); ; {
		var e event
		if m.next(&e) != nil {
			return last
		}
		if at := time.Unix(0, e.TimeNano); e.Actor.ID != "" && at.After(last[e.Actor.ID]) {
			last[e.Actor.ID] = at
		}
	}
}

func (b *backend) inspect(ctx context.Context, id, instance string) (backends.Status, error) {
	r, err := b.inspectContainer(ctx, id)
	if isNotFound(err) {
		return b.gone(instance), nil
	}
	if err != nil {
		return backends.Status{}, b.failure(ctx, err)
	}
	s := b.status(r)
	if f := s.Failure; f != nil && f.Class == backends.ClassOOM && !s.Started.IsZero() {
		// Killed for memory and ended by SIGKILL need not be one: a child then, the worker by somebody's hand later.
		if at, told := b.memoryKills(ctx, s.Started, s.Finished.Add(time.Second), "container", id)[id]; told && s.Finished.Sub(at) > killedApart {
			s.Failure, s.Warnings = b.exitFailure(s, r, false), []string{warnMemory}
		}
	}
	if s.State == backends.StateExited && s.Failure != nil {
		// The log is a help, not a condition.
		s.Failure.Log, _ = b.lastLines(ctx, id, r.Config != nil && r.Config.Tty)
		if *s.ExitCode == 126 || *s.ExitCode == 127 {
			neverRan(s.Failure)
		}
	}
	return s, nil
}

// apiTime is a time as a query of the API has it.
func apiTime(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }

// killedApart is more than what lies between a worker's death and the engine's knowledge of it.
const killedApart = 3 * time.Second

// neverRan turns the failure of a worker whose program docker's init could not start into what it is: without an init the
// engine itself refuses such a start.
func neverRan(f *backends.Failure) {
	for _, l := range f.Log {
		if strings.HasPrefix(l, "[FATAL tini") && strings.Contains(l, "exec ") && strings.Contains(l, " failed: ") {
			f.Class, f.Retryable, f.Field = backends.ClassConfig, false, "command"
			f.Hint = "the image has no such program, or it is not executable"
			return
		}
	}
}

func (b *backend) gone(instance string) backends.Status {
	return backends.Status{Instance: instance, Backend: Kind{}.Name(), Target: b.target, State: backends.StateGone}
}

// find gives the instance's container, nil where there is none.
func (b *backend) find(ctx context.Context, instance string) (*container.Summary, error) {
	all, err := b.containers(ctx, spec.LabelInstance+"="+instance)
	if err != nil {
		return nil, err
	}
	for i, c := range all {
		if isInstance(nameOf(c), c.Labels) {
			return &all[i], nil
		}
	}
	return nil, nil
}

// isInstance tells an instance's own container from one that a build makes for a step, and from somebody's own of an image
// that was built here: both have the image's labels. Only the instance's has the name that ObjectName gives.
func isInstance(name string, labels map[string]string) bool {
	id := labels[spec.LabelInstance]
	return id != "" && strings.HasSuffix(name, "-"+strings.ToLower(id))
}

// containers lists this engine's containers, in every state, that carry the further labels too.
func (b *backend) containers(ctx context.Context, labels ...string) ([]container.Summary, error) {
	var out []container.Summary
	q := url.Values{"all": {"1"}, "filters": {filterJSON(map[string][]string{"label": append([]string{spec.LabelEngine + "=" + b.engine}, labels...)})}}
	err := b.get(ctx, call{what: "list containers", path: "/containers/json", query: q}, &out)
	return out, err
}

func filterJSON(f map[string][]string) string {
	text, err := json.Marshal(f)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return string(text)
}

func (b *backend) inspectContainer(ctx context.Context, id string) (container.InspectResponse, error) {
	var r container.InspectResponse
	if err := b.get(ctx, call{what: "inspect container " + id, path: "/containers/" + url.PathEscape(id) + "/json"}, &r); err != nil {
		return r, err
	}
	if r.ContainerJSONBase == nil || r.State == nil {
		return r, &callError{what: "inspect container " + id, err: errNoEngine}
	}
	return r, nil
}

// status reads an inspected container; pure.
func (b *backend) status(r container.InspectResponse) backends.Status {
	s := backends.Status{Backend: Kind{}.Name(), Target: b.target, Object: strings.TrimPrefix(r.Name, "/"), NativeID: r.ID}
	s.Created, s.Started, s.Finished = dockerTime(r.Created), dockerTime(r.State.StartedAt), dockerTime(r.State.FinishedAt)
	if r.Config != nil {
		s.Image = r.Config.Image
		labelled(&s, r.Config.Labels)
		for _, e := range r.Config.Env {
			if name, ok := strings.CutPrefix(e, spec.EnvWorker+"="); ok {
				s.WorkerName = name
			}
		}
	}
	if r.NetworkSettings != nil {
		s.Address = addressOf(r.NetworkSettings.IPAddress, r.NetworkSettings.Networks) //nolint:staticcheck // what older engines fill
	}
	s.State = stateOf(r.State.Status)
	switch s.State {
	case backends.StateExited:
		code := r.State.ExitCode
		s.ExitCode = &code
		s.Failure = b.exitFailure(s, r, true)
	case backends.StateRunning, backends.StateStarting:
		s.Finished = time.Time{}
	case backends.StateGone, backends.StateUnknown:
	}
	if r.State.OOMKilled && (s.Failure == nil || s.Failure.Class != backends.ClassOOM) {
		s.Warnings = []string{warnMemory}
	}
	return s
}

// stateOf maps docker's states; one that is not known counts as running, so that nobody takes the container for ended.
func stateOf(state string) backends.State {
	switch state {
	case container.StateCreated:
		return backends.StateStarting
	case container.StateExited, container.StateDead:
		return backends.StateExited
	case container.StateRemoving:
		return backends.StateGone
	}
	return backends.StateRunning
}

// exitFailure is why a container that is not running any more is not well; nil where it ended with 0.
//
// Docker's OOMKilled says that the kernel killed some process of the container, at any time. The worker itself was the one
// only if it ended by SIGKILL: 137, also through an init; then the same plan would end so again. itself = false says that it was not.
func (b *backend) exitFailure(s backends.Status, r container.InspectResponse, itself bool) *backends.Failure {
	code := r.State.ExitCode
	if code == 0 && r.State.Error == "" {
		return nil
	}
	after := ""
	if !s.Started.IsZero() && s.Finished.After(s.Started) {
		after = " after " + shortDuration(s.Finished.Sub(s.Started))
	}
	f := &backends.Failure{Class: backends.ClassCrashed, Retryable: true, Container: s.Object, Image: s.Image, Reason: r.State.Error}
	limit := int64(0)
	if r.HostConfig != nil {
		limit = r.HostConfig.Memory
	}
	switch {
	case r.State.OOMKilled && code == 137 && itself:
		f.Class, f.Retryable, f.Field, f.Hint = backends.ClassOOM, false, "hostconfig.mem_limit", "raise hostconfig.mem_limit"
		at := "for want of memory"
		if limit > 0 {
			at = "at its memory limit of " + units.BytesSize(float64(limit))
		}
		f.Message = fmt.Sprintf("%s: the kernel killed the worker %s%s", s.Object, at, after)
	case r.State.Error != "":
		f.Message = fmt.Sprintf("%s: the worker ended with exit code %d%s: %s", s.Object, code, after, r.State.Error)
	case code > 128 && code <= 128+64:
		f.Message = fmt.Sprintf("%s: the worker was ended by signal %d (%s)%s", s.Object, code-128, signalName(code-128), after)
	default:
		f.Message = fmt.Sprintf("%s: the worker ended with exit code %d%s", s.Object, code, after)
	}
	if r.State.OOMKilled && f.Class != backends.ClassOOM {
		f.Hint = "the kernel killed a process of this container for memory before: hostconfig.mem_limit may be too low"
	}
	return f
}

func signalName(n int) string {
	switch n {
	case 1:
		return "SIGHUP"
	case 2:
		return "SIGINT"
	case 3:
		return "SIGQUIT"
	case 6:
		return "SIGABRT"
	case 9:
		return "SIGKILL"
	case 11:
		return "SIGSEGV"
	case 15:
		return "SIGTERM"
	}
	return "a signal"
}

func shortDuration(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// labelled puts into s what the labels tell.
func labelled(s *backends.Status, labels map[string]string) {
	s.Labels = labels
	s.Instance = labels[spec.LabelInstance]
	if s.Worker = labels[spec.NoteWorker]; s.Worker == "" {
		s.Worker = labels[spec.LabelWorker]
	}
	s.WorkerName = labels[spec.LabelWorker]
	s.Digest = labels[spec.NoteDigest]
	if t, err := time.Parse(time.RFC3339, labels[spec.NoteExpires]); err == nil {
		s.Expires = t
	}
	if t, err := time.Parse(time.RFC3339, labels[spec.NoteCreated]); err == nil && s.Created.IsZero() {
		s.Created = t
	}
}

// dockerTime reads the engine's times; its zero ("0001-01-01T00:00:00Z") and what cannot be read are the zero time.
func dockerTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t.UTC()
}

func addressOf(first string, networks map[string]*network.EndpointSettings) string {
	if first != "" {
		return first
	}
	best, name := "", ""
	for n, e := range networks {
		if e == nil || (e.IPAddress == "" && e.GlobalIPv6Address == "") {
			continue
		}
		if best == "" || n < name {
			name, best = n, e.IPAddress
			if best == "" {
				best = e.GlobalIPv6Address
			}
		}
	}
	return best
}

// Info is the engine's version.
func (b *backend) Info(ctx context.Context) (backends.Info, error) {
	var v struct{ Version, Os, Arch string }
	if err := b.get(ctx, call{what: "ask docker for its version", path: "/version"}, &v); err != nil {
		return backends.Info{}, b.failure(ctx, err)
	}
	return backends.Info{Name: "Docker Engine", Version: v.Version, APIVersion: b.version, OS: v.Os, Arch: v.Arch}, nil
}

// idLimit is longer than any engine's id, which goes into the journal.
const idLimit = 200

// ID is the engine's own: kept with its data, or, before Engine 23, in its configuration folder. An answer costs the engine
// some milliseconds, because it looks at its programs' versions; so it is asked once, and again where the engine went away.
func (b *backend) ID(ctx context.Context) (string, error) {
	if id := b.id.Load(); id != nil {
		return *id, nil
	}
	var v struct{ ID string }
	err := b.get(ctx, call{what: "ask docker for its id", path: "/info", wait: 30 * time.Second}, &v)
	switch statusOf(err) {
	case http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		// A proxy before the socket that lets through what it knows to be needed.
		err = nil
	}
	if err == nil && len(v.ID) > idLimit {
		err = &callError{what: "ask docker for its id", err: errNoEngine}
	}
	if err != nil {
		return "", b.failure(ctx, err)
	}
	b.id.Store(&v.ID)
	return v.ID, nil
}

// AdvertiseFor is the operator's word, else the address of this machine that a container reaches: towards a remote engine the
// one that routes to it, for an engine on this machine the bridge's own.
func (b *backend) AdvertiseFor(ctx context.Context) (string, error) {
	if b.advertise != "" {
		return b.advertise, nil
	}
	u, err := url.Parse(b.host)
	if err != nil {
		return "", nil //nolint:nilerr // no address is known then
	}
	if name := u.Hostname(); name != "" && u.Scheme != "unix" && u.Scheme != "npipe" {
		conn, err := (&net.Dialer{}).DialContext(ctx, "udp", net.JoinHostPort(name, "9"))
		if err != nil {
			return "", nil //nolint:nilerr // a name that only ssh knows, say
		}
		defer conn.Close()
		if a, ok := conn.LocalAddr().(*net.UDPAddr); ok && !a.IP.IsLoopback() {
			return a.IP.String(), nil
		}
		// The engine is on this machine behind a loopback port: its containers come over the bridge.
	}
	var n network.Inspect
	err = b.get(ctx, call{what: "inspect network bridge", path: "/networks/bridge"}, &n)
	if isNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", b.failure(ctx, err)
	}
	for _, c := range n.IPAM.Config {
		if ip := net.ParseIP(c.Gateway); ip != nil && ip.To4() != nil {
			return c.Gateway, nil
		}
	}
	return "", nil
}
