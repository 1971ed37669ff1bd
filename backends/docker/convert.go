package docker

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// hostNative is hostconfig's names → the API's keys in HostConfig.
var hostNative = //nolint:gochecknoglobals // a constant table
nativeNames(hostConfigTable, "HostConfig.")

func nativeNames(t *field.Table, prefix string) map[string]string {
	m := make(map[string]string, len(t.Fields))
	for _, f := range t.Fields {
		if f.Retired == "" {
			m[f.Name] = strings.TrimPrefix(f.Native, prefix)
		}
	}
	return m
}

// Values that plans share.
var (
	emptyObject field.Value = field.Object{}
	yes         field.Value = field.Bool(true) //nolint:gochecknoglobals // a constant
)

// conversion is one Convert at work.
type conversion struct {
	in       backends.ConvertInput
	plan     spec.Plan
	create   field.Object
	host     field.Object
	problems []field.Problem
}

// Convert makes the plan of a docker worker. It shares with its input what it does not change.
func (Kind) Convert(in backends.ConvertInput) (spec.Plan, []field.Problem) {
	hostconfig, _ := in.Fields["hostconfig"].(field.Object)
	c := conversion{in: in, create: make(field.Object, 8), host: make(field.Object, len(hostconfig)+2)}
	c.plan = spec.Plan{Backend: "docker", Target: in.Target, Endpoint: text(in.Connection, "docker_host"), Password: in.Fields["password"]}
	if c.plan.Endpoint == "" {
		c.plan.Endpoint = DefaultHost
	}
	c.master()
	c.image()
	c.container()
	c.hostconfig(hostconfig)
	c.ports(hostconfig)
	c.networks(hostconfig)
	c.create["HostConfig"] = c.host
	c.plan.Create = c.create
	return c.plan, c.problems
}

func (c *conversion) problem(path, hint, format string, args ...any) {
	c.problems = append(c.problems, field.Problem{Path: path, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// after sets what is done to a started instance.
func (c *conversion) after(key string, v field.Value) {
	if c.plan.After == nil {
		c.plan.After = make(field.Object, 3)
	}
	c.plan.After[key] = v
}

func text(o field.Object, key string) string {
	s, _ := o[key].(field.String)
	return string(s)
}

func truth(o field.Object, key string, otherwise bool) bool {
	if b, ok := o[key].(field.Bool); ok {
		return bool(b)
	}
	return otherwise
}

func (c *conversion) master() {
	protocol := text(c.in.Fields, "master_protocol")
	if protocol == "" {
		protocol = "pb"
	}
	c.plan.Master.Protocol = protocol
	at := text(c.in.Fields, "masterFQDN")
	if at == "" {
		return
	}
	host, port, err := spec.ParseMaster(at)
	if err != nil {
		c.problem("masterFQDN", "", "%s", err)
		return
	}
	c.plan.Master.Host, c.plan.Master.Port = host, port
}

// image decides between pull and build.
func (c *conversion) image() {
	f := c.in.Fields
	image, dockerfile := text(f, "image"), text(f, "dockerfile")
	context, textual := c.context(dockerfile)
	always := truth(f, "alwaysPull", false)
	if context == "" && !textual {
		if image == "" {
			if len(c.problems) == 0 {
				c.problem("", "say which image to start, or give the text of a dockerfile", "one of image, dockerfile and custom_context is required")
			}
			return
		}
		policy := field.String("missing")
		switch {
		case !truth(f, "autopull", true), strings.HasPrefix(image, "sha256:") && len(image) > 18:
			policy = "never" // an id is nothing that a registry knows
		case always:
			policy = "always"
		}
		c.create["Image"] = f["image"]
		c.plan.Pull = field.Object{"image": f["image"], "policy": policy}
		if p := f["platform"]; p != nil {
			c.plan.Pull["platform"] = p
		}
		return
	}
	build := make(field.Object, 8)
	if textual {
		build["dockerfile"] = f["dockerfile"]
	}
	if context != "" {
		build["context"] = field.String(context)
		build["encoding"] = field.String("gzip")
		if e := f["encoding"]; e != nil {
			build["encoding"] = e
		}
	}
	for _, k := range [...]string{"buildargs", "target", "platform"} {
		if v := f[k]; v != nil {
			build[k] = v
		}
	}
	if always {
		build["pull"] = yes
	}
	if image == "" {
		build["temporary"], build["when"] = yes, field.String("always")
	} else {
		tag, err := builtImage(c.in.Tenant, image)
		if err != nil {
			c.problem("image", "leave the digest out, or leave the dockerfile out", "%s", err)
			return
		}
		build["tag"], build["when"] = field.String(tag), field.String("absent")
		c.create["Image"] = field.String(tag)
	}
	c.plan.Build = build
}

// context is the path of the build's context, and whether dockerfile is a Dockerfile's text.
func (c *conversion) context(dockerfile string) (at string, textual bool) {
	where := "custom_context"
	switch v := c.in.Fields["custom_context"].(type) {
	case field.String:
		at, textual = string(v), dockerfile != ""
	case field.Bool:
		if !v {
			return "", dockerfile != ""
		}
		if dockerfile == "" {
			c.problem(where, "or give the path of a folder or tarball here", "with custom_context: true, dockerfile is the path of a context tarball; it is missing")
			return "", false
		}
		at, where = dockerfile, "dockerfile"
	default:
		return "", dockerfile != ""
	}
	at = path.Clean(at)
	if strings.HasPrefix(at, "/") || at == ".." || strings.HasPrefix(at, "../") {
		c.problem(where, "", "the context %q is not below the definition's folder", at)
	}
	return at, textual
}

// builtImage is the name of an image that is built and kept. A tenant's has the tenant's name before it, where nothing is
// ever pulled from, and where no other tenant can write.
func builtImage(tenant, image string) (string, error) {
	r, err := parseImage(image)
	if err != nil {
		return "", err
	}
	if r.ID != "" || r.Digest != "" {
		return "", fmt.Errorf("an image that is built gets its name from here; %q is an id or has a digest", image)
	}
	if tenant == "" {
		return r.String(), nil
	}
	name := strings.TrimSuffix(r.Familiar, ":"+r.Tag)
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = pathComponent(p)
	}
	name = localDomain + "/" + pathComponent(tenant) + "/" + strings.Join(parts, "/")
	if len(name) > 200 {
		name = localDomain + "/" + pathComponent(tenant) + "/" + shortened(name, 40)
	}
	return name + ":" + r.Tag, nil
}

// plainFields are worker fields that go into the create body as they are.
var plainFields = [...][2]string{
	{"hostname", "Hostname"},
	{"domainname", "Domainname"},
	{"user", "User"},
	{"working_dir", "WorkingDir"},
	{"labels", "Labels"},
	{"stop_signal", "StopSignal"},
	{"healthcheck", "Healthcheck"},
	{"network_disabled", "NetworkDisabled"},
	{"platform", "platform"},
}

func (c *conversion) container() {
	f := c.in.Fields
	for _, p := range plainFields {
		if v := f[p[0]]; v != nil {
			c.create[p[1]] = v
		}
	}
	if l, _ := f["command"].(field.List); len(l) > 0 {
		c.create["Cmd"] = l
	}
	if l, _ := f["entrypoint"].(field.List); len(l) > 0 {
		c.create["Entrypoint"] = l
	}
	if env, _ := f["env"].(field.Object); len(env) > 0 {
		c.create["Env"] = envList(env)
	}
	if t := f["stop_timeout"]; t != nil {
		c.create["StopTimeout"] = t
		c.after("stop_timeout", t)
	}
	if truth(f, "followStartupLogs", false) {
		c.after("follow_startup_logs", yes)
	}
}

// envList is an environment as the API has it: "NAME=value", sorted by name.
func envList(env field.Object) field.List {
	var buf [16]string
	names := slices.AppendSeq(buf[:0], maps.Keys(env))
	slices.Sort(names)
	l := make(field.List, 0, len(names))
	for _, n := range names {
		switch v := env[n].(type) {
		case field.String:
			l = append(l, field.String(n+"="+string(v)))
		case field.Text:
			l = append(l, prefixed(n+"=", v))
		}
	}
	return l
}

// prefixed is t with characters before it.
func prefixed(prefix string, t field.Text) field.Text {
	out := make(field.Text, 0, len(t)+1)
	if len(t) > 0 && t[0].Secret.IsZero() {
		out = append(out, field.Segment{Text: prefix + t[0].Text})
		return append(out, t[1:]...)
	}
	return append(append(out, field.Segment{Text: prefix}), t...)
}

func (c *conversion) hostconfig(hostconfig field.Object) {
	for name, v := range hostconfig {
		if native, ok := hostNative[name]; ok && v != nil {
			c.host[native] = v
		}
	}
	if c.host["Init"] == nil {
		c.host["Init"] = yes
	}
	volumes, _ := c.in.Fields["volumes"].(field.List)
	binds, _ := hostconfig["binds"].(field.List)
	if len(volumes) > 0 {
		c.host["Binds"] = append(volumes[:len(volumes):len(volumes)], binds...)
	}
	c.destinations(volumes, binds, hostconfig)
}

// destinations reports a destination that is mounted twice, whatever option mounts it.
func (c *conversion) destinations(volumes, binds field.List, hostconfig field.Object) {
	mounts, _ := hostconfig["mounts"].(field.List)
	tmpfs, _ := hostconfig["tmpfs"].(field.Object)
	total := len(volumes) + len(binds) + len(mounts) + len(tmpfs)
	if total < 2 {
		return
	}
	seen := make(map[string]string, total)
	take := func(target, where string) {
		if first, twice := seen[target]; twice {
			c.problem(where, "", "%q is mounted twice: also by %s", target, first)
			return
		}
		seen[target] = where
	}
	for i, v := range volumes {
		s, _ := v.(field.String)
		take(bindTarget(string(s)), field.IndexPath("volumes", i))
	}
	for i, v := range binds {
		s, _ := v.(field.String)
		take(bindTarget(string(s)), field.IndexPath("hostconfig.binds", i))
	}
	for i, v := range mounts {
		m, _ := v.(field.Object)
		take(text(m, "Target"), field.IndexPath("hostconfig.mounts", i))
	}
	for _, k := range slices.Sorted(maps.Keys(tmpfs)) {
		take(k, field.JoinPath("hostconfig.tmpfs", k))
	}
}

// ports exposes what is published too: an engine publishes only what is exposed.
func (c *conversion) ports(hostconfig field.Object) {
	ports, _ := c.in.Fields["ports"].(field.List)
	published, _ := hostconfig["port_bindings"].(field.Object)
	if len(ports)+len(published) == 0 {
		return
	}
	exposed := make(field.Object, len(ports)+len(published))
	for _, p := range ports {
		if s, ok := p.(field.String); ok {
			exposed[string(s)] = emptyObject
		}
	}
	for p := range published {
		exposed[p] = emptyObject
	}
	c.create["ExposedPorts"] = exposed
}

// networks puts the first network into the create body, which every engine takes, and the rest into after.
func (c *conversion) networks(hostconfig field.Object) {
	var names []string
	var settings field.Object
	switch v := c.in.Fields["networks"].(type) {
	case field.List:
		for _, e := range v {
			if s, ok := e.(field.String); ok {
				names = append(names, string(s))
			}
		}
	case field.Object:
		settings, names = v, slices.Sorted(maps.Keys(v))
	}
	if len(names) == 0 {
		return
	}
	mode := text(hostconfig, "network_mode")
	switch {
	case mode == "host" || mode == "none" || strings.HasPrefix(mode, "container:"):
		c.problem("networks", "leave one of the two out", "a container with network_mode %q joins no networks", mode)
		return
	case mode == "" || mode == "default":
		c.host["NetworkMode"] = field.String(names[0])
	case slices.Contains(names, mode):
		names = append([]string{mode}, slices.DeleteFunc(names, func(n string) bool { return n == mode })...)
	default:
		names = append([]string{mode}, names...)
	}
	c.create["NetworkingConfig"] = field.Object{"EndpointsConfig": field.Object{names[0]: endpoint(settings[names[0]])}}
	if len(names) == 1 {
		return
	}
	rest := make(field.List, 0, len(names)-1)
	for _, n := range names[1:] {
		rest = append(rest, field.Object{"network": field.String(n), "config": endpoint(settings[n])})
	}
	c.after("networks", rest)
}

// endpoint is docker-py's flat form as the API's EndpointSettings.
func endpoint(v field.Value) field.Value {
	from, _ := v.(field.Object)
	if len(from) == 0 {
		return emptyObject
	}
	out, ipam := make(field.Object, len(from)), field.Object{}
	for _, f := range endpointTable.Fields {
		if from[f.Name] == nil {
			continue
		}
		key := f.Native[strings.LastIndexByte(f.Native, '.')+1:]
		if strings.Contains(f.Native, ".IPAMConfig.") {
			ipam[key] = from[f.Name]
		} else {
			out[key] = from[f.Name]
		}
	}
	if len(ipam) > 0 {
		out["IPAMConfig"] = ipam
	}
	return out
}
