package docker

import (
	"fmt"
	"path"
	"slices"
	"strconv"
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
		args, _ := b.Build["buildargs"].(field.Object)
		for _, i := range dockerfileImages(build.Dockerfile, args) {
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

// dockerfileImages are the images that a Dockerfile names: FROM, COPY --from and RUN --mount=from=, with the arguments
// before the first FROM put in. What cannot be told (an argument that is a secret) stays as written, and so fits no list.
func dockerfileImages(text string, args field.Object) []string {
	var images []string
	var stages []string
	known := map[string]string{}
	begun := false
	add := func(image string) {
		if image == "" || image == "scratch" || slices.ContainsFunc(stages, func(s string) bool { return strings.EqualFold(s, image) }) {
			return
		}
		if n, err := strconv.Atoi(image); err == nil && n < len(stages) {
			return
		}
		images = append(images, image)
	}
	for _, words := range dockerfileLines(text) {
		for len(words) > 1 && strings.EqualFold(words[0], "ONBUILD") {
			words = words[1:]
		}
		switch strings.ToUpper(words[0]) {
		case "ARG":
			for _, w := range words[1:] {
				if begun {
					break
				}
				name, value, _ := strings.Cut(w, "=")
				switch given := args[name].(type) {
				case field.String:
					known[name] = string(given)
				case nil:
					known[name] = expand(value, known)
				}
			}
		case "FROM":
			begun = true
			words = words[1:]
			for len(words) > 0 && strings.HasPrefix(words[0], "--") {
				words = words[1:]
			}
			if len(words) == 0 {
				continue
			}
			add(expand(words[0], known))
			name := ""
			if len(words) == 3 && strings.EqualFold(words[1], "AS") {
				name = words[2]
			}
			stages = append(stages, name)
		case "COPY", "ADD", "RUN":
			for _, w := range words[1:] {
				if !strings.HasPrefix(w, "--") {
					break
				}
				if image, ok := strings.CutPrefix(w, "--from="); ok {
					add(image)
				}
				if options, ok := strings.CutPrefix(w, "--mount="); ok {
					for o := range strings.SplitSeq(options, ",") {
						if image, ok := strings.CutPrefix(o, "from="); ok {
							add(image)
						}
					}
				}
			}
		}
	}
	return images
}

// dockerfileLines are the instructions' words, continued lines joined, comments left out.
func dockerfileLines(text string) [][]string {
	escape := "\\"
	directives := true
	var out [][]string
	var joined strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if directives {
			if name, value, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "#")), "="); ok && strings.HasPrefix(line, "#") {
				if strings.EqualFold(strings.TrimSpace(name), "escape") && strings.TrimSpace(value) == "`" {
					escape = "`"
				}
				continue
			}
			directives = false
		}
		if line == "" || line[0] == '#' {
			continue
		}
		rest, more := strings.CutSuffix(line, escape)
		joined.WriteString(rest)
		if more {
			continue
		}
		if words := strings.Fields(joined.String()); len(words) > 0 {
			out = append(out, words)
		}
		joined.Reset()
	}
	if words := strings.Fields(joined.String()); len(words) > 0 {
		out = append(out, words)
	}
	return out
}

// expand puts arguments into $NAME, ${NAME}, ${NAME:-word} and ${NAME:+word}, and drops quotes. A name that is not known
// stays as written.
func expand(s string, known map[string]string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\'':
		case c != '$' || i+1 == len(s):
			b.WriteByte(c)
		case s[i+1] == '{':
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				b.WriteString(s[i:])
				return b.String()
			}
			inner := s[i+2 : i+end]
			name, word, modified := strings.Cut(inner, ":")
			value, ok := known[name]
			switch {
			case modified && strings.HasPrefix(word, "-"):
				if value == "" {
					value = word[1:]
				}
				b.WriteString(value)
			case modified && strings.HasPrefix(word, "+"):
				if value != "" {
					b.WriteString(word[1:])
				}
			case ok && !modified:
				b.WriteString(value)
			default:
				b.WriteString(s[i : i+end+1])
			}
			i += end
		default:
			end := i + 1
			for end < len(s) && (alnum(s[end]) || s[end] == '_') {
				end++
			}
			if value, ok := known[s[i+1:end]]; ok {
				b.WriteString(value)
			} else {
				b.WriteString(s[i:end])
			}
			i = end - 1
		}
	}
	return b.String()
}
