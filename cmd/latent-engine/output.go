package main

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/policy"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// The types below are what -o json prints: a contract, described by `latent-engine schema COMMAND`.

// initResult is the result of init.
type initResult struct {
	File    string `json:"file" jsonschema_description:"The definition that was written."`
	Backend string `json:"backend" jsonschema_description:"Kind of backend."`
	Address string `json:"address" jsonschema_description:"Where the backend is expected."`
	Source  string `json:"source,omitempty" jsonschema_description:"What says so; absent where nothing does, and the address is the default."`
	Worker  string `json:"worker" jsonschema_description:"The worker in it."`
}

// validateResult is the result of validate; the problems themselves are JSON lines on standard error.
type validateResult struct {
	OK          bool        `json:"ok" jsonschema_description:"No definition has an error."`
	Definitions []validated `json:"definitions"`
}

type validated struct {
	Name     string `json:"name" jsonschema_description:"The file or folder as it was given."`
	OK       bool   `json:"ok"`
	Files    int    `json:"files"`
	Workers  int    `json:"workers"`
	Backends int    `json:"backends"`
	Problems int    `json:"problems"`
	Warnings int    `json:"warnings"`
}

// renderResult is the result of render --full. Secrets are *** everywhere.
type renderResult struct {
	Backend    string            `json:"backend" jsonschema_description:"Kind of backend."`
	Target     string            `json:"target" jsonschema_description:"Name of the backend in the definition."`
	Worker     string            `json:"worker" jsonschema_description:"tenant/name, or the bare name of the operator's own worker."`
	Tenant     string            `json:"tenant"`
	Digest     string            `json:"digest" jsonschema_description:"Digest of the plan, identity and secrets' values not in it."`
	Spec       json.RawMessage   `json:"spec" jsonschema_description:"The native create object, bound to the identity: what policy judges."`
	Pull       json.RawMessage   `json:"pull" jsonschema_description:"What is pulled, null where the image is built."`
	Build      json.RawMessage   `json:"build" jsonschema_description:"What is built, null where nothing is."`
	Objects    []json.RawMessage `json:"objects" jsonschema_description:"Auxiliary objects that are created before."`
	After      json.RawMessage   `json:"after" jsonschema_description:"What is done to the started instance, and how it is stopped."`
	View       viewResult        `json:"view"`
	Reads      []string          `json:"reads" jsonschema_description:"What the worker's expressions may read of any build, but for vars: props.branch, build.files; a name alone where any of it may be read."`
	Provenance []origin          `json:"provenance"`
	Decisions  []policy.Decision `json:"decisions"`
	Violations []violation       `json:"violations,omitempty" jsonschema_description:"Only where policy denied."`
}

// viewResult is the normalised view: the same words for every backend.
type viewResult struct {
	Name           string            `json:"name"`
	Images         []string          `json:"images"`
	Builds         bool              `json:"builds"`
	Privileged     bool              `json:"privileged"`
	Env            []envVar          `json:"env"`
	Labels         map[string]string `json:"labels"`
	HostMounts     []string          `json:"host_mounts"`
	HostNamespaces []string          `json:"host_namespaces"`
	Capabilities   []string          `json:"capabilities"`
	Devices        []string          `json:"devices"`
	Ports          []string          `json:"ports"`
	Resources      resources         `json:"resources"`
}

type envVar struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type resources struct {
	Memory   int64 `json:"memory" jsonschema_description:"Bytes; 0 = no limit."`
	NanoCPUs int64 `json:"nano_cpus" jsonschema_description:"Billionths of a CPU; 0 = no limit."`
	Pids     int64 `json:"pids" jsonschema_description:"Processes; 0 = no limit."`
}

func newView(v spec.View) viewResult {
	out := viewResult{
		Name: v.Name, Images: orEmpty(v.Images), Builds: v.Builds, Privileged: v.Privileged, Env: []envVar{}, Labels: v.Labels,
		HostMounts: orEmpty(v.HostMounts), HostNamespaces: orEmpty(v.HostNamespaces), Capabilities: orEmpty(v.Capabilities),
		Devices: orEmpty(v.Devices), Ports: orEmpty(v.Ports),
		Resources: resources{Memory: v.Resources.Memory, NanoCPUs: v.Resources.NanoCPUs, Pids: v.Resources.Pids},
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	for _, e := range v.Env {
		value := masked(e.Value)
		if isPassword(e.Name) {
			value = spec.Mask
		}
		out.Env = append(out.Env, envVar{e.Name, value})
	}
	return out
}

// isPassword reports whether a variable is WORKERPASS, in any spelling that policy takes for it: a definition that sets it is
// denied, and what it holds may be plain text.
func isPassword(name string) bool {
	return strings.EqualFold(strings.TrimSpace(name), spec.EnvPassword)
}

// withoutPassword is a copy of a native object for printing: the value of WORKERPASS is *** however the backend writes a
// variable, as NAME=value, as a key of a map, or as an object with name and value.
func withoutPassword(v field.Value) field.Value {
	switch v := v.(type) {
	case field.String:
		if name, _, ok := strings.Cut(string(v), "="); ok && isPassword(name) {
			return field.String(name + "=" + spec.Mask)
		}
	case field.Text:
		if len(v) > 0 && v[0].Secret.IsZero() {
			if name, _, ok := strings.Cut(v[0].Text, "="); ok && isPassword(name) {
				return field.String(name + "=" + spec.Mask)
			}
		}
	case field.List:
		out := make(field.List, len(v))
		for i, e := range v {
			out[i] = withoutPassword(e)
		}
		return out
	case field.Object:
		out := make(field.Object, len(v))
		name, _ := v["name"].(field.String)
		for k, e := range v {
			if out[k] = withoutPassword(e); e != nil && (isPassword(k) || k == "value" && isPassword(string(name))) {
				out[k] = field.String(spec.Mask)
			}
		}
		return out
	}
	return v
}

// masked is a variable's text with secrets as ***.
func masked(v field.Value) string {
	if t, ok := v.(field.Text); ok {
		s, _ := spec.FillText(t, func(field.SecretRef) (string, error) { return spec.Mask, nil })
		return s
	}
	return policy.Redacted(v)
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// origin says where one value comes from. explain prints an array of them.
type origin struct {
	Path   string          `json:"path" jsonschema_description:"In the definition's words, relative to the worker."`
	Native string          `json:"native" jsonschema_description:"Where it goes in the native object or the plan."`
	Value  json.RawMessage `json:"value" jsonschema_description:"As it is sent; null where the field is absent."`
	Type   string          `json:"type"`
	From   []step          `json:"from" jsonschema_description:"From the value that counts down to those under it."`
	Policy []string        `json:"policy,omitempty" jsonschema_description:"What policy says of this field."`
}

type step struct {
	Layer       string      `json:"layer" jsonschema_description:"workers.NAME or defaults.KIND."`
	Text        string      `json:"text" jsonschema_description:"The value as written, first line."`
	File        string      `json:"file"`
	Line        int         `json:"line"`
	Column      int         `json:"column"`
	Replaced    bool        `json:"replaced" jsonschema_description:"Another layer's value stands on top of it."`
	Expressions []evaluated `json:"expressions"`
}

type evaluated struct {
	Expression string          `json:"expression"`
	File       string          `json:"file"`
	Line       int             `json:"line"`
	Column     int             `json:"column"`
	Reads      []read          `json:"reads"`
	Result     json.RawMessage `json:"result"`
	Cost       int64           `json:"cost" jsonschema_description:"CEL units."`
	Limit      int64           `json:"limit"`
}

type read struct {
	Name     string          `json:"name"`
	Value    json.RawMessage `json:"value"`
	Source   string          `json:"source" jsonschema_description:"Who gave it: cli, a property's source, default, vars, build document."`
	Declared string          `json:"declared,omitempty" jsonschema_description:"Type, default and bounds of a declared property; the text of a variable."`
	File     string          `json:"file,omitempty"`
	Line     int             `json:"line,omitempty"`
	Column   int             `json:"column,omitempty"`
}

// violation is a reason for a denial, and where in the definition the value comes from.
type violation struct {
	policy.Violation
	Path   string `json:"path,omitempty" jsonschema_description:"In the definition's words."`
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// startResult is the result of start without --follow, one object.
type startResult struct {
	Started           bool              `json:"started" jsonschema_description:"The instance is there: started now or, with --id, before."`
	Instance          *backends.Status  `json:"instance,omitempty"`
	PasswordOut       string            `json:"password_out,omitempty" jsonschema_description:"File that the made password was written to."`
	FollowStartupLogs bool              `json:"follow_startup_logs,omitempty" jsonschema_description:"The worker asks for its log to be followed until it is connected."`
	Failure           *backends.Failure `json:"failure,omitempty"`
	Violations        []violation       `json:"violations,omitempty" jsonschema_description:"Only where policy denied (exit code 3)."`
}

// startEvent is one line of start --follow.
type startEvent struct {
	Event       string            `json:"event" jsonschema:"enum=accepted,enum=started,enum=log,enum=exited,enum=removed,enum=left,enum=failed"`
	Time        time.Time         `json:"time,omitzero"`
	Instance    *backends.Status  `json:"instance,omitempty"`
	Line        *string           `json:"line,omitempty" jsonschema_description:"Of a log event."`
	PasswordOut string            `json:"password_out,omitempty"`
	Failure     *backends.Failure `json:"failure,omitempty"`
	Violations  []violation       `json:"violations,omitempty"`
}

// progressLine is one line of start's progress, on standard error.
type progressLine struct {
	Event string `json:"event" jsonschema:"enum=progress"`
	backends.Progress
}

// logLine is one line of logs.
type logLine struct {
	Time time.Time `json:"time,omitzero"`
	Line string    `json:"line"`
}

// stopResult is one element of stop's array.
type stopResult struct {
	ID        string            `json:"id" jsonschema_description:"As it was given."`
	Instance  string            `json:"instance,omitempty"`
	Worker    string            `json:"worker,omitempty"`
	Removed   bool              `json:"removed"`
	Forgotten bool              `json:"forgotten,omitempty" jsonschema_description:"With --forget: it was struck from the journal, and nothing was asked of its backend."`
	Failure   *backends.Failure `json:"failure,omitempty"`
}

// gcResult is the result of gc.
type gcResult struct {
	DryRun  bool      `json:"dry_run"`
	Removed []removal `json:"removed" jsonschema_description:"With dry_run, what would be removed."`
	Kept    []removal `json:"kept" jsonschema_description:"Running instances that the state folder knows nothing of; --orphans removes them."`
	Cleared []string  `json:"cleared" jsonschema_description:"Instances of which only the journal knew."`
}

type removal struct {
	Target   string `json:"target"`
	Kind     string `json:"kind"`
	ID       string `json:"id"`
	Name     string `json:"name"`
	Instance string `json:"instance,omitempty"`
	Why      string `json:"why"`
}

// versionResult is the result of version.
type versionResult struct {
	Version  string           `json:"version" jsonschema_description:"The tag of the commit, or the tag before it with the number of commits since and the commit; (devel) where neither git nor a module version says."`
	Commit   string           `json:"commit"`
	Date     string           `json:"date" jsonschema_description:"The commit's, RFC 3339 in UTC; empty where it is not known."`
	Modified bool             `json:"modified" jsonschema_description:"Built from a tree with changes beside the commit."`
	Go       string           `json:"go"`
	Platform string           `json:"platform"`
	Kinds    []string         `json:"kinds" jsonschema_description:"Kinds of backend that this program knows."`
	Backends []backendVersion `json:"backends,omitempty" jsonschema_description:"With --backends: what each says of itself."`
}

type backendVersion struct {
	Backend string `json:"backend" jsonschema_description:"Name in the definition."`
	backends.Info
	Error string `json:"error,omitempty"`
}
