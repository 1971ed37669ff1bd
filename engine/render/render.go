package render

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
	"github.com/latent-engine/latent-engine/renderers"
)

// Template is a worker compiled once. Immutable, safe for concurrent use.
type Template struct {
	Worker  *config.Worker
	targets map[string]*Target
	backend node
	vars    *varSet
	// plans holds the worker's fields by kind of backend.
	plans    map[string]*fields
	varSites []*site
	cel      renderers.Renderer
	limits   renderers.Limits
	reads    roots
	inputs   []string
	shared   *shared
}

// Reads are the paths that the worker's expressions may read of what a build brings, sorted: "props.branch", "build.files",
// "src"; a name alone where any of it may be read. Whatever the build, nothing else decides what comes out of a render.
func (t *Template) Reads() []string { return slices.Clone(t.inputs) }

// Reads are the template's.
func (s *Spec) Reads() []string { return s.template.Reads() }

// Kinds are the kinds of backend that the worker can come to, sorted.
func (t *Template) Kinds() []string { return sortedKeys(t.plans) }

// fields are a worker's compiled fields for one kind.
type fields struct {
	kind  Kind
	tree  *tree
	keys  []string
	nodes []node
	sites []*site
	vars  []*variable // those needed, in the order in which they need one another
}

// varSet are a worker's variables.
type varSet struct {
	order  []*variable
	byName map[string]*variable
}

type variable struct {
	name  string
	node  node
	reads []string
}

// closure are the named variables and all that they need, in order.
func (s *varSet) closure(names []string) []*variable {
	need := map[string]bool{}
	var add func(name string)
	add = func(name string) {
		v := s.byName[name]
		if v == nil || need[name] {
			return
		}
		need[name] = true
		for _, r := range v.reads {
			add(r)
		}
	}
	for _, n := range names {
		add(n)
	}
	var out []*variable
	for _, v := range s.order {
		if need[v.name] {
			out = append(out, v)
		}
	}
	return out
}

// shared is what all templates of a set share.
type shared struct {
	slots chan struct{}
}

func newShared(o Options) *shared {
	n := o.Slots
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	return &shared{slots: make(chan struct{}, n)}
}

// clockNet is the safety net for a render: ten times what the whole budget takes on a slow machine. Costs decide, not the
// clock: who runs into it has found a hole in the budgets.
const clockNet = 30 * time.Second

// Spec is a plan with its digest and where its values come from.
type Spec struct {
	spec.Plan
	Digest string
	// Worker is tenant/name, WorkerName the WORKERNAME.
	Worker, Tenant, WorkerName string
	// Cost is what the render cost, in CEL units.
	Cost int64
	// Fields are the checked fields that the plan was made of.
	Fields   field.Object
	template *Template
	fields   *fields
	props    field.Object
	vars     field.Object
	build    *config.Build
	costs    map[*site]siteCost
}

// Problem is what is wrong with a build's properties.
type Problem struct {
	Prop    *config.Prop
	Message string
	Hint    string
}

// Error is why a worker could not be rendered: positioned diagnostics, all that one run finds.
type Error struct {
	Worker string
	Diags  diag.List
}

func (e *Error) Error() string {
	return fmt.Sprintf("cannot render worker %q: %s", e.Worker, (&diag.ListError{List: e.Diags}).Error())
}

// InfraError says that a render ended for a reason that is not the definition's: the clock's safety net.
type InfraError struct{ Worker string }

func (e *InfraError) Error() string {
	return fmt.Sprintf("cannot render worker %q: not done within %s; this is not the definition's fault: the machine is overloaded, or a budget has a hole", e.Worker, clockNet)
}

// RenderOptions go with one render.
type RenderOptions struct {
	// Provenance keeps what each expression gave and cost, for explain.
	Provenance bool
	// Seal, where not nil, completes a plan with what is outside of it: the digest of a build context's content.
	Seal func(context.Context, Kind, *spec.Plan) error
}

// Render gives the plan of one build. The error is an *Error, an *InfraError, or ctx's.
func (t *Template) Render(ctx context.Context, b *config.Build, o RenderOptions) (*Spec, error) {
	select {
	case t.shared.slots <- struct{}{}:
		defer func() { <-t.shared.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s, err := t.render(ctx, b, o)
	if err != nil && errors.Is(err, errClock) {
		return nil, &InfraError{Worker: t.Worker.ID()}
	}
	return s, err
}

// clocked is a context that ends, for who asks it, when the safety net is reached. It has no timer: expressions ask it as
// they spend.
type clocked struct {
	context.Context
	end time.Time
}

var errClock = errors.New("the clock's safety net is reached")

func (c clocked) Err() error {
	if err := c.Context.Err(); err != nil {
		return err
	}
	if time.Now().After(c.end) {
		return errClock
	}
	return nil
}

func newEvaluation(bindings renderers.Bindings, l renderers.Limits) *evaluation {
	return &evaluation{ctx: context.Background(), bindings: bindings, budget: renderers.NewBudget(l)}
}

func (t *Template) render(ctx context.Context, b *config.Build, o RenderOptions) (*Spec, error) {
	w := t.Worker
	props, problems := propValues(w, b)
	if problems != nil {
		var l diag.List
		for _, p := range problems {
			l.Add(diag.Diagnostic{Span: p.Prop.Span, Path: field.JoinPath("workers."+w.Key+".props", p.Prop.Name), Message: p.Message, Hint: p.Hint})
		}
		l.Sort()
		return nil, &Error{Worker: w.ID(), Diags: l}
	}
	if t.backend == nil || len(t.plans) == 0 {
		panic("internal error: a worker without a backend was compiled")
	}
	vars := make(field.Object, len(t.vars.order))
	e := newEvaluation(t.cel.Bind(t.reads.bindings(props, vars, b, w)), t.limits)
	e.ctx = clocked{ctx, time.Now().Add(clockNet)}
	if o.Provenance {
		e.costs = map[*site]siteCost{}
	}
	var done map[*variable]bool
	need := func(list []*variable) {
		for _, v := range list {
			if done[v] {
				continue
			}
			if done == nil {
				done = map[*variable]bool{}
			}
			done[v] = true
			before := len(e.diags) + e.skipped
			if value := v.node.eval(e); value != nil {
				vars[v.name] = value
			}
			if len(e.diags)+e.skipped > before {
				if e.broken == nil {
					e.broken = map[string]bool{}
				}
				e.broken[v.name] = true
			}
		}
	}
	if _, known := t.backend.(fixed); !known {
		need(t.vars.order)
	}
	name, _ := t.backend.eval(e).(field.String)
	if err := t.failed(e); err != nil {
		return nil, err
	}
	target := t.targets[string(name)]
	if target == nil || t.plans[target.Kind.Name()] == nil {
		d := diag.Diagnostic{Path: "workers." + w.Key + ".backend", Message: fmt.Sprintf("no backend %q; there are: %s", string(name), strings.Join(sortedKeys(t.targets), ", "))}
		if w.Backend != nil {
			d.Span = w.Backend.Span
		}
		return nil, &Error{Worker: w.ID(), Diags: diag.List{withError(d)}}
	}
	f := t.plans[target.Kind.Name()]
	need(f.vars)
	values := make(field.Object, len(f.keys))
	for i, k := range f.keys {
		if v := f.nodes[i].eval(e); v != nil {
			values[k] = v
		}
	}
	if err := t.failed(e); err != nil {
		return nil, err
	}
	plan, bad := target.Kind.Convert(spec.ConvertInput{Tenant: w.Tenant, Worker: w.Name, Target: target.Name, Connection: target.Settings, Fields: values})
	if len(bad) > 0 {
		var l diag.List
		for _, p := range bad {
			l.Add(f.locate(w, p))
		}
		l.Sort()
		return nil, &Error{Worker: w.ID(), Diags: l}
	}
	plan.Backend, plan.Target, plan.Endpoint = target.Kind.Name(), target.Name, target.Endpoint
	if o.Seal != nil && plan.Build != nil {
		if err := o.Seal(ctx, target.Kind, &plan); err != nil {
			return nil, &Error{Worker: w.ID(), Diags: diag.List{withError(f.locate(w, field.Problem{Path: "custom_context", Message: err.Error()}))}}
		}
	}
	digest, size := spec.DigestSize(plan)
	if int64(size) > t.limits.PlanBytes {
		return nil, &Error{Worker: w.ID(), Diags: diag.List{withError(diag.Diagnostic{Span: w.NameSpan, Path: "workers." + w.Key, Message: fmt.Sprintf("the plan has %s bytes; at most %s are allowed", renderers.Thousands(int64(size)), renderers.Thousands(t.limits.PlanBytes))})}}
	}
	return &Spec{
		Plan: plan, Digest: digest, Worker: w.ID(), Tenant: w.Tenant, WorkerName: w.WorkerName, Cost: e.budget.Spent(),
		Fields: values, template: t, fields: f, props: props, vars: vars, build: b, costs: e.costs,
	}, nil
}

func withError(d diag.Diagnostic) diag.Diagnostic {
	d.Severity = diag.Error
	return d
}

func (t *Template) failed(e *evaluation) error {
	if e.diags.HasErrors() {
		e.diags.Sort()
		return &Error{Worker: t.Worker.ID(), Diags: e.diags}
	}
	if e.stop != nil {
		return e.stop
	}
	return nil
}

// locate puts a problem of the conversion where the value stands that caused it.
func (f *fields) locate(w *config.Worker, p field.Problem) diag.Diagnostic {
	d := diag.Diagnostic{Span: w.NameSpan, Path: "workers." + w.Key + joinRelative(p.Path), Message: p.Message, Hint: p.Hint, Severity: diag.Error}
	t := f.find(p.Path)
	if t != nil && t != f.tree && t.node != nil {
		d.Span, d.Path = t.node.Span, t.path
	}
	return d
}

// find is the deepest tree on the way to path, which is relative to the worker, in canonical names.
func (f *fields) find(path string) *tree {
	keys, err := field.SplitPath(path)
	if err != nil {
		return f.tree
	}
	t := f.tree
	for _, k := range keys {
		name, ok := k.(string)
		if t == nil || !ok || t.values[name] == nil {
			break
		}
		t = t.values[name]
	}
	return t
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.SortedFunc(maps.Keys(m), cmp.Compare)
}
