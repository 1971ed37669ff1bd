package docker

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"

	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// View reads every object of a bound plan strictly and says in the words of all backends what it would do.
//
// Images are in their full form: docker.io/library/alpine:latest. A namespace that is shared with another container counts
// as the host's: it is not the container's own either.
func (Kind) View(b spec.Bound) (spec.View, error) {
	var c createBody
	if err := decodeStrict(b.Create, &c, func(path string) bool { return strings.HasPrefix(path, "Env[") }); err != nil {
		return spec.View{}, fmt.Errorf("cannot read the create object: %w", err)
	}
	var pull pullPlan
	if err := decodeStrict(objectOrNil(b.Pull), &pull, nil); err != nil {
		return spec.View{}, fmt.Errorf("cannot read the pull: %w", err)
	}
	var build buildPlan
	if err := decodeStrict(objectOrNil(b.Build), &build, func(path string) bool { return strings.HasPrefix(path, "buildargs") }); err != nil {
		return spec.View{}, fmt.Errorf("cannot read the build: %w", err)
	}
	var after afterPlan
	if err := decodeStrict(objectOrNil(b.After), &after, nil); err != nil {
		return spec.View{}, fmt.Errorf("cannot read what follows the start: %w", err)
	}
	switch {
	case len(b.Objects) > 0:
		return spec.View{}, fmt.Errorf("cannot read the plan: docker has no auxiliary objects, it holds %d", len(b.Objects))
	case b.Pull != nil && pull.Image != c.Image:
		return spec.View{}, fmt.Errorf("cannot read the plan: it pulls %q and starts %q", pull.Image, c.Image)
	case b.Build != nil && build.Tag != c.Image:
		return spec.View{}, fmt.Errorf("cannot read the plan: it builds %q and starts %q", build.Tag, c.Image)
	}
	v := view{View: spec.View{Name: c.Name, Builds: b.Build != nil, Labels: c.Labels}}
	v.addImage(c.Image)
	if b.Build != nil {
		text := builtText(b.Build)
		if text == "" {
			return spec.View{}, errors.New("cannot read the build: its context was not read, and it holds no Dockerfile")
		}
		for _, i := range dockerfileImages(text, planObject(b.Build, "buildargs")) {
			v.addImage(i)
		}
	}
	env, err := viewEnv(b.Create["Env"])
	if err != nil {
		return spec.View{}, err
	}
	v.Env = env
	if c.HostConfig != nil {
		if err := v.host(c.HostConfig); err != nil {
			return spec.View{}, err
		}
	}
	if c.NetworkingConfig != nil {
		for name := range c.NetworkingConfig.EndpointsConfig {
			v.network(name)
		}
	}
	for _, n := range after.Networks {
		v.network(n.Network)
	}
	return v.View, nil
}

// objectOrNil keeps an absent part absent: a nil Object in a Value would be an empty one.
func objectOrNil(o field.Object) field.Value {
	if o == nil {
		return nil
	}
	return o
}

// viewEnv is the environment in order, as it was written: also names that come twice, and entries without "=".
func viewEnv(v field.Value) ([]spec.EnvVar, error) {
	l, _ := v.(field.List)
	env := make([]spec.EnvVar, 0, len(l))
	for i, e := range l {
		switch e := e.(type) {
		case field.String:
			name, value, ok := strings.Cut(string(e), "=")
			if !ok {
				env = append(env, spec.EnvVar{Name: name})
				continue
			}
			env = append(env, spec.EnvVar{Name: name, Value: field.String(value)})
		case field.Text:
			if len(e) == 0 || !e[0].Secret.IsZero() {
				return nil, fmt.Errorf("cannot read the create object: Env[%d]: a secret cannot stand in the name of a variable", i)
			}
			name, value, ok := strings.Cut(e[0].Text, "=")
			if !ok {
				return nil, fmt.Errorf("cannot read the create object: Env[%d]: a secret cannot stand in the name of a variable", i)
			}
			rest := slices.Clone(e)
			if rest[0].Text = value; value == "" {
				rest = rest[1:]
			}
			env = append(env, spec.EnvVar{Name: name, Value: rest})
		}
	}
	return env, nil
}

// view is a normalised view in the making.
type view struct{ spec.View }

func (v *view) addImage(s string) {
	if s == "" {
		return
	}
	if s = canonicalImage(s); !slices.Contains(v.Images, s) {
		v.Images = append(v.Images, s)
	}
}

func (v *view) namespace(name string) {
	if !slices.Contains(v.HostNamespaces, name) {
		v.HostNamespaces = append(v.HostNamespaces, name)
	}
}

func (v *view) network(name string) {
	if name == "host" || strings.HasPrefix(name, "container:") {
		v.namespace("network")
	}
}

func (v *view) mount(source string) {
	if strings.HasPrefix(source, "/") {
		source = path.Clean(source)
	}
	if !slices.Contains(v.HostMounts, source) {
		v.HostMounts = append(v.HostMounts, source)
	}
}

func (v *view) host(h *container.HostConfig) error {
	v.Privileged = h.Privileged
	for i, s := range h.Binds {
		b, err := parseBind(s)
		if err != nil {
			return fmt.Errorf("cannot read the create object: HostConfig.Binds[%d]: %w", i, err)
		}
		if b.hostPath() {
			v.mount(b.Source)
		}
	}
	for _, m := range h.Mounts {
		switch m.Type {
		case mount.TypeBind, mount.TypeNamedPipe:
			v.mount(m.Source)
		case mount.TypeImage:
			v.addImage(m.Source)
		}
		// A volume of the local driver can be a path of the host in disguise: o=bind,device=/.
		if m.VolumeOptions != nil && m.VolumeOptions.DriverConfig != nil {
			if device := m.VolumeOptions.DriverConfig.Options["device"]; device != "" {
				v.mount(device)
			}
		}
	}
	v.network(string(h.NetworkMode))
	for _, ns := range [...]struct{ name, mode string }{
		{"pid", string(h.PidMode)},
		{"ipc", string(h.IpcMode)},
		{"uts", string(h.UTSMode)},
		{"user", string(h.UsernsMode)},
		{"cgroup", string(h.CgroupnsMode)},
		{"cgroup", string(h.Cgroup)},
	} {
		if ns.mode == "host" || strings.HasPrefix(ns.mode, "container:") {
			v.namespace(ns.name)
		}
	}
	for _, c := range h.CapAdd {
		c = strings.ToUpper(c)
		if c != "ALL" && !strings.HasPrefix(c, "CAP_") {
			c = "CAP_" + c
		}
		if !slices.Contains(v.Capabilities, c) {
			v.Capabilities = append(v.Capabilities, c)
		}
	}
	for _, d := range h.Devices {
		v.Devices = append(v.Devices, d.PathOnHost)
	}
	for _, r := range h.DeviceCgroupRules {
		v.Devices = append(v.Devices, "rule:"+r)
	}
	for _, r := range h.DeviceRequests {
		v.Devices = append(v.Devices, "request:"+r.Driver)
	}
	if h.PublishAllPorts {
		v.Ports = append(v.Ports, "*")
	}
	for port, bindings := range h.PortBindings {
		for _, b := range bindings {
			v.Ports = append(v.Ports, b.HostIP+":"+b.HostPort+":"+string(port))
		}
		if len(bindings) == 0 {
			v.Ports = append(v.Ports, "::"+string(port))
		}
	}
	slices.Sort(v.Ports)
	v.Resources = viewResources(&h.Resources)
	return nil
}

func viewResources(r *container.Resources) spec.Resources {
	out := spec.Resources{Memory: max(r.Memory, 0), NanoCPUs: max(r.NanoCPUs, 0)}
	if out.NanoCPUs == 0 && r.CPUQuota > 0 {
		period := r.CPUPeriod
		if period <= 0 {
			period = 100_000
		}
		out.NanoCPUs = int64(float64(r.CPUQuota) / float64(period) * 1e9)
	}
	if r.PidsLimit != nil {
		out.Pids = max(*r.PidsLimit, 0)
	}
	return out
}
