package docker

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// LabelKept marks a built image that has a name of its own and stays after the instance that built it.
const LabelKept = spec.LabelPrefix + "kept"

// Bind puts the identity into the plan: the container's name, its labels and reserved environment, the name of an image
// that only this instance uses, the labels of what is built. It shares with p what it does not change.
//
// What a definition set itself stays as it is, also a name or label that is the engine's: policy sees it then, and denies.
func (Kind) Bind(p spec.Plan, id spec.Identity) (spec.Bound, error) {
	if id.Instance == "" || id.ObjectName == "" || id.Engine == "" {
		return spec.Bound{}, errors.New("cannot bind a plan: the identity has no engine, instance or object name")
	}
	b := spec.Bound{Plan: p, Identity: id, Digest: spec.Digest(p)}
	create := make(field.Object, len(p.Create)+4)
	maps.Copy(create, p.Create)
	create["name"] = field.String(id.ObjectName)

	own, _ := p.Create["Labels"].(field.Object)
	labels := make(field.Object, len(own)+len(id.Labels))
	for k, v := range id.Labels {
		labels[k] = field.String(v)
	}
	maps.Copy(labels, own)
	create["Labels"] = labels

	env, _ := p.Create["Env"].(field.List)
	env = slices.Grow(slices.Clone(env), len(id.Env))
	for _, e := range id.Env {
		switch v := e.Value.(type) {
		case field.String:
			env = append(env, field.String(e.Name+"="+string(v)))
		case field.Text:
			env = append(env, prefixed(e.Name+"=", v))
		default:
			return spec.Bound{}, errors.New("cannot bind a plan: " + e.Name + " is neither a text nor a secret")
		}
	}
	create["Env"] = env

	if p.Build != nil {
		build := maps.Clone(p.Build)
		if truth(build, "temporary", false) {
			tag := field.String(temporaryImage(id))
			build["tag"], create["Image"] = tag, tag
			build["labels"] = temporaryLabels(id.Labels)
		} else {
			build["labels"] = keptLabels(id.Labels)
		}
		b.Build = build
	}
	b.Create = create
	return b, nil
}

// temporaryLabels say which instance an image goes with. The builder makes an image of its own for each label: no more of them
// than it takes.
func temporaryLabels(all map[string]string) field.Object {
	o := field.Object{}
	for _, k := range []string{spec.LabelEngine, spec.LabelInstance, spec.LabelTenant, spec.LabelWorker} {
		if v, ok := all[k]; ok {
			o[k] = field.String(v)
		}
	}
	return o
}

// keptLabels say whose a kept image is, and nothing of the instance that happened to build it.
func keptLabels(all map[string]string) field.Object {
	o := field.Object{LabelKept: field.String("true")}
	for _, k := range []string{spec.LabelEngine, spec.LabelTenant, spec.LabelWorker, spec.NoteWorker} {
		if v, ok := all[k]; ok {
			o[k] = field.String(v)
		}
	}
	return o
}

// temporaryImage is the name of an image that is built for one instance and goes with it.
func temporaryImage(id spec.Identity) string {
	worker := strings.TrimPrefix(id.Worker, id.Tenant+"/")
	if worker == "" {
		worker = id.WorkerName
	}
	name := localDomain + "/"
	if id.Tenant != "" {
		name += pathComponent(id.Tenant) + "/"
	}
	return name + pathComponent(worker) + ":" + strings.ToLower(id.Instance)
}

// ObjectName makes a container's name of a worker's name and an instance id, one to one: linux-01j8z3….
func (Kind) ObjectName(workerName, instance string) string {
	if !objectName(workerName) || len(workerName) > 40 || isShortened(workerName) {
		workerName = shortened(workerName, 40)
	}
	return workerName + "-" + strings.ToLower(instance)
}

// pathComponent makes one component of an image's path of any name, one to one.
func pathComponent(s string) string {
	if plainPath(s) && !strings.Contains(s, "/") && len(s) <= 63 {
		return s
	}
	return shortened(s, 63)
}

const hashDigits = 16

// shortened is s made of lower-case letters, digits and single dashes, at most most bytes long, with a hash of s at its end.
func shortened(s string, most int) string {
	sum := sha256.Sum256([]byte(s))
	b := make([]byte, 0, most)
	for i := 0; i < len(s) && len(b) < most-hashDigits-2; i++ {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			b = append(b, c)
		case len(b) > 0 && b[len(b)-1] != '-':
			b = append(b, '-')
		}
	}
	name := strings.TrimRight(string(b), "-")
	if name == "" {
		name = "x"
	}
	return name + "--" + hex.EncodeToString(sum[:hashDigits/2])
}

// isShortened reports whether s looks like what shortened makes: then it is shortened too, so that the two never meet.
func isShortened(s string) bool {
	i := len(s) - hashDigits - 2
	return i > 0 && s[i:i+2] == "--" && hexadecimal(s[i+2:])
}
