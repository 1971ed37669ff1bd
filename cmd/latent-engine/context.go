package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/latent-engine/latent-engine/engine"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// bindContext says what the engine itself would have put into an object.
type bindContext struct {
	env    []spec.EnvVar // without WORKERPASS, which stays a hole
	labels map[string]string
}

// contextFile is a --context FILE. Members that only other backends or `policy` read are taken and left alone.
type contextFile struct {
	Tenant         string            `json:"tenant"`
	ReservedEnv    json.RawMessage   `json:"reserved_env"`
	RequiredLabels map[string]string `json:"required_labels"`
	Namespace      string            `json:"namespace"`
	NamePrefix     string            `json:"name_prefix"`
	IDPrefix       string            `json:"id_prefix"`
}

func (a *app) readContext(path string) (*bindContext, error) {
	name, data, err := a.input(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read context %q: %w", path, err)
	}
	c, err := parseContext(data)
	if err != nil {
		return nil, fmt.Errorf("cannot read context %q: %w", name, err)
	}
	return c, nil
}

func parseContext(data []byte) (*bindContext, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var f contextFile
	if err := dec.Decode(&f); err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if dec.More() {
		return nil, errors.New("there is more after the JSON object")
	}
	c := &bindContext{labels: f.RequiredLabels}
	for k := range f.RequiredLabels {
		if !strings.HasPrefix(k, spec.LabelPrefix) {
			return nil, fmt.Errorf("required_labels: %q is not under %s", k, spec.LabelPrefix)
		}
	}
	add := func(name, value string) {
		if name != spec.EnvPassword {
			c.env = append(c.env, spec.EnvVar{Name: name, Value: field.String(value)})
		}
	}
	if len(f.ReservedEnv) == 0 {
		return c, nil
	}
	var list []string
	if json.Unmarshal(f.ReservedEnv, &list) == nil {
		for _, pair := range list {
			name, value, ok := strings.Cut(pair, "=")
			if !ok || name == "" {
				return nil, fmt.Errorf("reserved_env: %q is not NAME=value", pair)
			}
			add(name, value)
		}
		return c, nil
	}
	var values map[string]any
	if json.Unmarshal(f.ReservedEnv, &values) != nil {
		return nil, errors.New("reserved_env is neither a map nor a list of NAME=value")
	}
	for name, v := range values {
		switch v := v.(type) {
		case string:
			add(name, v)
		case map[string]any: // a reference to a secret stays the engine's hole
		default:
			return nil, fmt.Errorf("reserved_env: the value of %q is neither a string nor a reference to a secret", name)
		}
	}
	return c, nil
}

// input puts what an identity is made of into in.
func (c *bindContext) input(in *engine.IdentityInput) {
	set := func(into *string, key string) {
		if v := c.labels[key]; v != "" {
			*into = v
		}
	}
	set(&in.Engine, spec.LabelEngine)
	set(&in.Instance, spec.LabelInstance)
	if t, err := time.Parse(time.RFC3339Nano, c.labels[spec.NoteCreated]); err == nil {
		in.Created = t
	}
	for _, e := range c.env {
		v, _ := e.Value.(field.String)
		switch e.Name {
		case spec.EnvMaster:
			in.Master.Host = string(v)
		case spec.EnvPort:
			if n, err := strconv.Atoi(string(v)); err == nil {
				in.Master.Port = n
			}
		case spec.EnvProtocol:
			in.Master.Protocol = string(v)
		}
	}
}

// overlay puts the context's very values over what was made of them.
func (c *bindContext) overlay(id *spec.Identity) {
	for _, e := range c.env {
		if i := slices.IndexFunc(id.Env, func(have spec.EnvVar) bool { return have.Name == e.Name }); i >= 0 {
			id.Env[i].Value = e.Value
		} else {
			id.Env = append(id.Env, e)
		}
	}
	slices.SortFunc(id.Env, func(a, b spec.EnvVar) int { return strings.Compare(a.Name, b.Name) })
	maps.Copy(id.Labels, c.labels)
}
