package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/policy"
	"github.com/latent-engine/latent-engine/engine/render"
	"github.com/latent-engine/latent-engine/engine/spec"
)

type renderFlags struct {
	build   buildFlags
	full    bool
	context string
}

func (a *app) renderCommand() *cobra.Command {
	var f renderFlags
	cmd := &cobra.Command{
		Use:   "render WORKER",
		Short: "Print what a start would send to the backend",
		Long: `render evaluates a worker for one build and prints the native create object (for Docker the body of
POST /containers/create, with the container's name as "name"), as JSON. It speaks to no backend and keeps no state.

The object is bound to a sample identity: engine "sample", instance 00000000000000000000000000, created 1970-01-01, master
` + engine.SampleMaster + ` where neither the worker nor the definition names one; --context gives another. Secrets are ` + spec.Mask + `.
What policy denies is not printed: exit code 3. With --full it is, and exits 3 all the same.`,
		Example: `  latent-engine render linux -f ci.yaml -p branch=main -p cores=8
  latent-engine render linux --build build.json --full | jq .digest
  latent-engine render linux -o yaml`,
		Args:              exactly("WORKER"),
		ValidArgsFunction: a.completeWorkers,
		Annotations:       map[string]string{outputsAnnotation: "yaml"},
		RunE:              func(cmd *cobra.Command, args []string) error { return a.render(cmd.Context(), args[0], f) },
	}
	a.definitionFlag(cmd)
	f.build.add(a, cmd)
	cmd.Flags().BoolVar(&f.full, "full", false, "print the whole plan: digest, pull, build, view, what the worker reads, provenance, policy's decisions")
	cmd.Flags().StringVar(&f.context, "context", "", "JSON `FILE` with the identity to bind: reserved_env, required_labels")
	return cmd
}

func (a *app) render(ctx context.Context, worker string, f renderFlags) error {
	r, err := a.rendered(ctx, worker, f.build, f.context)
	if err != nil {
		return err
	}
	if r.denied != nil && !f.full {
		a.printDenial(r.denied, r.spec, r.spec.Worker)
		return &reported{exitDenied}
	}
	out := redactedObject(r.bound.Create)
	if f.full {
		if out, err = r.full(); err != nil {
			return err
		}
	}
	if err := a.printJSON(out); err != nil {
		return err
	}
	if r.denied != nil {
		a.printDenial(r.denied, r.spec, r.spec.Worker)
		return &reported{exitDenied}
	}
	return nil
}

// printJSON prints compact JSON indented, or as YAML under -o yaml.
func (a *app) printJSON(compact []byte) error {
	var b bytes.Buffer
	if a.output == "yaml" {
		if err := writeYAML(&b, compact); err != nil {
			return err
		}
	} else {
		if err := json.Indent(&b, compact, "", "  "); err != nil {
			return err
		}
		b.WriteByte('\n')
	}
	_, err := a.stdout.Write(b.Bytes())
	return err
}

// rendering is a worker rendered offline, bound and judged.
type rendering struct {
	definition *definition
	kind       backends.Kind
	spec       *render.Spec
	bound      spec.Bound
	view       spec.View
	decisions  []policy.Decision
	denied     *policy.DeniedError // nil where policy admits
}

// rendered loads, renders, binds and judges, without a word to any backend. The error is none of policy's.
func (a *app) rendered(ctx context.Context, worker string, build buildFlags, contextFile string) (*rendering, error) {
	d, err := a.load()
	if err != nil {
		return nil, err
	}
	t, err := template(d, worker)
	if err != nil {
		return nil, err
	}
	b, err := a.build(build, t.Worker)
	if err != nil {
		return nil, err
	}
	s, err := t.Render(ctx, b, render.RenderOptions{Provenance: true, Seal: engine.Sealer(d.root)})
	if err != nil {
		return nil, err
	}
	target := d.set.Targets[s.Target]
	kind, ok := target.Kind.(backends.Kind)
	if !ok {
		return nil, fmt.Errorf("internal error: the kind %q was wired without a backend", target.Kind.Name())
	}
	master := engine.OfflineMaster(s.Plan, d.set.Definition.Engine.Advertise, target)
	input := engine.SampleIdentity(master)
	var given *bindContext
	if contextFile != "" {
		if given, err = a.readContext(contextFile); err != nil {
			return nil, err
		}
		given.input(&input)
	}
	identity := engine.NewIdentity(kind, s, input)
	if given != nil {
		given.overlay(&identity)
	}
	bound, err := kind.Bind(s.Plan, identity)
	if err != nil {
		return nil, err
	}
	bound.Digest = s.Digest
	r := &rendering{definition: d, kind: kind, spec: s, bound: bound}
	_, r.decisions, err = policy.Judge(ctx, kind, bound)
	if err != nil && !errors.As(err, &r.denied) {
		return nil, err
	}
	// A plan that cannot be decoded was denied for just that; its view stays empty.
	r.view, _ = kind.View(bound.Clone())
	return r, nil
}

// full is the rendering as --full prints it, compact.
func (r *rendering) full() ([]byte, error) {
	p := r.bound.Plan
	out := renderResult{
		Backend: p.Backend, Target: p.Target, Worker: r.spec.Worker, Tenant: r.spec.Tenant, Digest: r.spec.Digest,
		Spec: redactedObject(p.Create), Pull: redactedObject(p.Pull), Build: redactedObject(p.Build), After: redactedObject(p.After),
		Objects: []json.RawMessage{}, View: newView(r.view), Reads: r.spec.Reads(), Decisions: r.decisions,
	}
	if out.Decisions == nil {
		out.Decisions = []policy.Decision{}
	}
	for _, o := range p.Objects {
		out.Objects = append(out.Objects, redactedObject(o))
	}
	origins, err := r.spec.Explain("")
	if err != nil {
		return nil, err
	}
	out.Provenance = r.origins(origins)
	if r.denied != nil {
		out.Violations = located(r.denied, r.spec)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err = enc.Encode(out)
	return b.Bytes(), err
}

func redacted(v field.Value) json.RawMessage { return spec.AppendRedacted(nil, v) }

func redactedObject(o field.Object) json.RawMessage {
	if o == nil {
		return json.RawMessage("null")
	}
	return redacted(withoutPassword(o))
}
