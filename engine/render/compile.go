package render

import (
	"fmt"
	"slices"
	"strings"

	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
	"github.com/latent-engine/latent-engine/renderers"
)

// Kind is what render asks of a kind of backend.
type Kind interface {
	Name() string
	Connection() *field.Table
	Worker() *field.Table
	Convert(spec.ConvertInput) (spec.Plan, []field.Problem)
}

// Options say what to compile with.
type Options struct {
	Kinds map[string]Kind
	CEL   renderers.Renderer
	// Limits of each render; the zero Limits are the defaults.
	Limits renderers.Limits
	// Slots bounds the renders that run at once; 0 = the number of processors.
	Slots int
}

// Set is a definition compiled: immutable, safe for concurrent use.
type Set struct {
	Definition *config.Definition
	// Templates in the definition's order.
	Templates []*Template
	// Targets are the configured backends by name.
	Targets map[string]*Target
	byID    map[string]*Template
}

// EndpointNative marks the connection setting that is the backend's address.
const EndpointNative = "connection.host"

// Target is a configured backend with its settings checked.
type Target struct {
	Name     string
	Kind     Kind
	Settings field.Object
	// Endpoint is the connection's address as written; it is part of a digest.
	Endpoint string
}

// Template is the template of a worker by its ID (tenant/name, or the bare name where that is unique).
func (s *Set) Template(id string) (*Template, error) {
	if t := s.byID[id]; t != nil {
		return t, nil
	}
	var names []string
	var found []*Template
	for _, t := range s.Templates {
		names = append(names, t.Worker.ID())
		if t.Worker.Name == id {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		if hint := suggest(id, names); hint != "" {
			return nil, fmt.Errorf("no worker %q; %s", id, hint)
		}
		return nil, fmt.Errorf("no worker %q", id)
	}
	return nil, fmt.Errorf("worker %q is not unique; give it as tenant/name", id)
}

// Compile makes templates of all workers and checks everything that can be known without a build. All problems at once.
func Compile(def *config.Definition, o Options) (*Set, diag.List) {
	if o.Limits == (renderers.Limits{}) {
		o.Limits = renderers.DefaultLimits()
	}
	c := &compiler{options: o, def: def, fixed: newFixedScope(), layers: map[layerKey]*tree{}, seen: map[seenKey]bool{}, broken: map[layerKey]bool{}}
	set := &Set{Definition: def, Targets: map[string]*Target{}, byID: map[string]*Template{}}
	for _, b := range def.Backends {
		if t := c.target(b); t != nil {
			set.Targets[b.Name] = t
		}
	}
	c.targets = set.Targets
	c.defaults = map[string]*tree{}
	for _, kind := range sortedKeys(def.Defaults) {
		if k := o.Kinds[kind]; k != nil {
			before := c.mistakes
			c.defaults[kind] = c.canonical(def.Defaults[kind], field.ObjectOf(k.Worker()), "defaults."+kind, nil)
			c.broken[layerKey{def.Defaults[kind], kind}] = c.mistakes > before
		}
	}
	shared := newShared(o)
	for _, w := range def.Workers {
		t := c.worker(w)
		t.shared = shared
		set.Templates = append(set.Templates, t)
		set.byID[w.ID()] = t
	}
	c.self = nil
	// Defaults that no worker uses are checked all the same: a mistake must show before the first worker needs them.
	c.unusedDefaults(set)
	c.diags.Sort()
	return set, c.diags
}

// compiler is one Compile under way.
type compiler struct {
	options  Options
	def      *config.Definition
	fixed    fixedScope
	targets  map[string]*Target
	defaults map[string]*tree
	// layers holds each layer's canonical tree: a base that many workers extend is read, and complained of, once.
	layers map[layerKey]*tree
	seen   map[seenKey]bool
	diags  diag.List
	// mistakes counts reports, repeated ones too; broken are the layers that had some.
	mistakes int
	broken   map[layerKey]bool
	// Of the worker being compiled:
	self  *config.Worker // nil where it is a connection or defaults
	scope *renderers.Scope
	sites []*site
}

type layerKey struct {
	node *config.Node
	kind string
}

type seenKey struct {
	span    diag.Span
	message string
}

// report adds a diagnostic once: a layer that several workers share has its mistakes once.
func (c *compiler) report(d diag.Diagnostic) {
	c.mistakes++
	key := seenKey{d.Span, d.Message}
	if !c.seen[key] {
		c.seen[key] = true
		c.diags.Add(d)
	}
}

func (c *compiler) target(b *config.Backend) *Target {
	kind := c.options.Kinds[b.Kind]
	if kind == nil {
		return nil // config has said so
	}
	path := "backends." + b.Name + "." + b.Kind
	table := field.ObjectOf(kind.Connection())
	c.scope = &renderers.Scope{Secrets: true, Names: map[string]*field.Type{}}
	keys, nodes := c.topFields(c.canonical(b.Settings, table, path, nil), table)
	t := &Target{Name: b.Name, Kind: kind, Settings: make(field.Object, len(keys))}
	// Settings read no build: what is left to evaluate are secrets alone.
	e := newEvaluation(c.options.CEL.Bind(nil), c.options.Limits)
	for i, k := range keys {
		if v := nodes[i].eval(e); v != nil {
			t.Settings[k] = v
		}
	}
	for _, d := range e.diags {
		c.report(d)
	}
	for _, f := range kind.Connection().Fields {
		if f.Native != EndpointNative {
			continue
		}
		t.Endpoint = f.Default
		if s, ok := t.Settings[f.Name].(field.String); ok {
			t.Endpoint = string(s)
		}
	}
	return t
}

func (c *compiler) worker(w *config.Worker) *Template {
	t := &Template{Worker: w, targets: c.targets, plans: map[string]*fields{}, cel: c.options.CEL, limits: c.options.Limits}
	path := "workers." + w.Key
	c.self, c.sites = w, nil
	props := propsType(w)
	c.vars(w, t, props)
	candidates := c.backend(w, t, path+".backend")
	kinds := map[string]Kind{}
	for _, name := range candidates {
		if target := c.targets[name]; target != nil {
			kinds[target.Kind.Name()] = target.Kind
		}
	}
	for _, name := range sortedKeys(kinds) {
		t.plans[name] = c.fields(w, t, kinds[name], kinds)
	}
	t.reads.add(c.sites)
	t.inputs = inputs(c.sites)
	return t
}

// inputs are the paths that the sites read of a build, each of them once.
func inputs(sites []*site) []string {
	out := []string{}
	for _, s := range sites {
		if s.program == nil {
			continue
		}
		for _, path := range s.program.Reads() {
			if path != "vars" && !strings.HasPrefix(path, "vars.") && !strings.HasPrefix(path, "vars[") {
				out = append(out, path)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// backend compiles the choice of a backend and gives the names it can come to.
func (c *compiler) backend(w *config.Worker, t *Template, path string) []string {
	names := sortedKeys(c.targets)
	if w.Backend == nil {
		if len(names) != 1 {
			return nil // config has said so
		}
		t.backend = fixed{field.String(names[0])}
		return names
	}
	n := c.compile(&tree{path: path, node: w.Backend}, field.Of(field.StringKind))
	t.backend = n
	switch n := n.(type) {
	case fixed:
		name, ok := n.value.(field.String)
		if !ok {
			return nil
		}
		if !slices.Contains(names, string(name)) {
			return nil // config has said so
		}
		return []string{string(name)}
	case expression:
		results := n.site.program.Results()
		if results == nil {
			return names
		}
		var out []string
		for _, v := range results {
			name, ok := v.(field.String)
			if !ok {
				continue // its type was refused
			}
			if !slices.Contains(names, string(name)) {
				c.report(diag.Diagnostic{Span: n.site.whole(), Path: path, Message: fmt.Sprintf("no backend %q; there are: %s", string(name), strings.Join(names, ", "))})
				continue
			}
			out = append(out, string(name))
		}
		return out
	}
	return names
}

// vars compiles the variables in the order in which they need one another.
func (c *compiler) vars(w *config.Worker, t *Template, props *field.Type) {
	path := "workers." + w.Key + ".vars"
	vars := &varSet{byName: map[string]*variable{}}
	// A first pass over an open scope tells which variables each one reads; its problems are found again by the second.
	kept, keptSeen := c.diags, c.seen
	c.seen = map[seenKey]bool{}
	c.scope = c.fixed.scope(props, &field.Type{Kind: field.ObjectKind, Fields: field.NewTable("vars"), Open: true})
	reads := map[string][]string{}
	for _, v := range w.Vars {
		c.sites = nil
		c.compile(c.canonical(v.Node, nil, field.JoinPath(path, v.Name), nil), varType)
		reads[v.Name] = varNames(c.sites, w)
	}
	c.diags, c.seen = kept, keptSeen
	c.sites = nil
	var known []field.Field
	circle := map[string]bool{}
	state := map[string]int{} // 1 = under way, 2 = done
	var visit func(v *config.Var, trail []string)
	visit = func(v *config.Var, trail []string) {
		switch state[v.Name] {
		case 1:
			if circle[v.Name] {
				return
			}
			at := slices.Index(trail, v.Name)
			c.report(diag.Diagnostic{Span: v.Span, Path: field.JoinPath(path, v.Name), Message: "variables need one another: " + strings.Join(append(trail[at:], v.Name), " → ")})
			// Of no known type, so that the circle is all that is said of it.
			circle[v.Name] = true
			known = append(known, field.Field{Name: v.Name, Type: field.Of(field.Any)})
			return
		case 2:
			return
		}
		state[v.Name] = 1
		for _, name := range reads[v.Name] {
			for _, other := range w.Vars {
				if other.Name == name {
					visit(other, append(trail, v.Name))
				}
			}
		}
		state[v.Name] = 2
		c.scope = c.fixed.scope(props, varsType(known))
		first := len(c.sites)
		n := c.compile(c.canonical(v.Node, nil, field.JoinPath(path, v.Name), nil), varType)
		if !circle[v.Name] {
			known = append(known, field.Field{Name: v.Name, Type: staticType(n)})
		}
		compiled := &variable{name: v.Name, node: n, reads: varNames(c.sites[first:], w)}
		vars.order = append(vars.order, compiled)
		vars.byName[v.Name] = compiled
	}
	for _, v := range w.Vars {
		visit(v, nil)
	}
	c.scope = c.fixed.scope(props, varsType(known))
	t.vars = vars
	t.varSites = c.sites
}

// varType is what a variable may be: anything, secrets too.
var varType = &field.Type{Secret: true}

func varsType(known []field.Field) *field.Type {
	return field.ObjectOf(field.NewTable("vars", slices.Clone(known)...))
}

// varNames are the variables that the sites read.
func varNames(sites []*site, w *config.Worker) []string {
	var out []string
	for _, s := range sites {
		if s.program == nil {
			continue
		}
		for _, r := range s.program.Reads() {
			rest, ok := strings.CutPrefix(r, "vars")
			if !ok {
				continue
			}
			if rest == "" {
				for _, v := range w.Vars {
					out = append(out, v.Name)
				}
				continue
			}
			if keys, err := field.SplitPath(r); err == nil && len(keys) > 1 && keys[0] == "vars" {
				if name, ok := keys[1].(string); ok {
					out = append(out, name)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// fields compiles a worker's fields for one kind of backend.
func (c *compiler) fields(w *config.Worker, t *Template, kind Kind, all map[string]Kind) *fields {
	table := field.ObjectOf(kind.Worker())
	// A field of another candidate's is left out for this kind; one of a kind that the worker never comes to is a mistake.
	others := func(name string) bool {
		for _, k := range all {
			if _, ok := k.Worker().Lookup(name); ok && k.Name() != kind.Name() {
				return true
			}
		}
		return false
	}
	before := c.mistakes
	top := c.defaults[kind.Name()]
	broken := c.broken[layerKey{c.def.Defaults[kind.Name()], kind.Name()}]
	for _, layer := range w.Layers {
		key := layerKey{layer.Node, kind.Name()}
		read := c.layers[key]
		if read == nil {
			read = c.canonical(layer.Node, table, layer.From, others)
			c.layers[key] = read
			c.broken[key] = c.mistakes > before
		}
		broken = broken || c.broken[key]
		top = merge(top, read)
	}
	out := &fields{kind: kind, tree: top}
	first := len(c.sites)
	if top != nil {
		out.keys, out.nodes = c.topFields(top, table)
	}
	out.sites = slices.Clone(c.sites[first:])
	out.vars = t.vars.closure(append(varNames(out.sites, w), varNames(c.sites[:first], w)...))
	c.required(w, out, table)
	if !broken && c.mistakes == before {
		c.trial(w, out)
	}
	return out
}

func (c *compiler) topFields(top *tree, table *field.Type) (keys []string, nodes []node) {
	for _, name := range top.keys {
		f, ok := table.Fields.Lookup(name)
		if !ok {
			continue
		}
		n := c.compile(top.values[name], f.Type)
		if _, static := n.(fixed); f.Literal && !static {
			c.report(diag.Diagnostic{Span: top.values[name].node.Span, Path: top.values[name].path, Message: "this field must be known when the file is loaded: an expression cannot stand here"})
		}
		keys, nodes = append(keys, name), append(nodes, n)
	}
	return keys, nodes
}

func (c *compiler) required(w *config.Worker, out *fields, table *field.Type) {
	for _, f := range table.Fields.Fields {
		if !w.Incomplete && f.Required && !slices.Contains(out.keys, f.Name) {
			c.report(diag.Diagnostic{Span: w.NameSpan, Path: "workers." + w.Key, Message: fmt.Sprintf("%q is missing", f.Name)})
		}
	}
}

// trial converts a worker whose fields are all known: what only the conversion can tell then shows at load too. With
// fields known only at render, their problems wait for the build, the others' are told now.
func (c *compiler) trial(w *config.Worker, out *fields) {
	o := make(field.Object, len(out.keys))
	whole := true
	for i, k := range out.keys {
		if f, ok := out.nodes[i].(fixed); ok {
			if f.value != nil {
				o[k] = f.value
			}
			continue
		}
		whole = false
	}
	if !whole || w.Incomplete {
		return
	}
	_, problems := out.kind.Convert(spec.ConvertInput{Tenant: w.Tenant, Worker: w.Name, Fields: o})
	for _, p := range problems {
		c.report(out.locate(w, p))
	}
}

// unusedDefaults compiles defaults under which no worker stands.
func (c *compiler) unusedDefaults(set *Set) {
	for _, kind := range sortedKeys(c.defaults) {
		used := slices.ContainsFunc(set.Templates, func(t *Template) bool { return t.plans[kind] != nil })
		if used {
			continue
		}
		c.scope = c.fixed.scope(&field.Type{Kind: field.ObjectKind, Fields: field.NewTable("props"), Open: true}, varsType(nil))
		c.topFields(c.defaults[kind], field.ObjectOf(c.options.Kinds[kind].Worker()))
	}
}

// compile makes a node of t for the wanted type.
func (c *compiler) compile(t *tree, want *field.Type) node {
	if t.under != nil {
		over := *t
		over.under = nil
		return merged{under: c.compile(t.under, want), over: c.compile(&over, want)}
	}
	if t.isMap() {
		return c.compileMap(t, want)
	}
	n := t.node
	switch n.Kind {
	case config.NullNode:
		return fixed{}
	case config.TextNode:
		if n.Sole() {
			return c.compileExpression(t, want)
		}
		return c.compileText(t, want)
	case config.ListNode:
		return c.compileList(t, want)
	case config.CallNode:
		return fixed{} // config has said that calls are not there yet
	case config.LiteralNode:
		return c.literal(t, n.Items[0].Plain(), want)
	}
	return c.literal(t, n.Plain(), want)
}

// literal checks a value that is known now.
func (c *compiler) literal(t *tree, v field.Value, want *field.Type) node {
	if want == nil {
		return fixed{v}
	}
	out, problems := want.Coerce(v)
	for _, p := range problems {
		span, path := t.place(p)
		c.report(diag.Diagnostic{Span: span, Path: path, Message: p.Message, Hint: p.Hint})
	}
	if problems != nil {
		return fixed{}
	}
	return fixed{out}
}

// newSite compiles one expression; nil where it has problems.
func (c *compiler) newSite(t *tree, s config.Segment) *site {
	st := &site{path: t.path, source: s.Source, at: s.At, node: t.node}
	program, problems := c.options.CEL.Compile(s.Source, c.scope)
	for _, p := range problems {
		c.report(diag.Diagnostic{Span: st.span(p.From, p.To), Path: t.path, Message: p.Message, Hint: p.Hint + c.declared(p.Meant)})
	}
	if program == nil {
		return nil
	}
	st.program = program
	c.sites = append(c.sites, st)
	return st
}

// declared says, after a hint, where the property or variable is declared that it proposes.
func (c *compiler) declared(meant string) string {
	keys, err := field.SplitPath(meant)
	if err != nil || len(keys) != 2 || c.self == nil {
		return ""
	}
	var at diag.Span
	switch keys[0] {
	case "props":
		for _, p := range c.self.Props {
			if p.Name == keys[1] {
				at = p.Span
			}
		}
	case "vars":
		for _, v := range c.self.Vars {
			if v.Name == keys[1] {
				at = v.Span
			}
		}
	}
	if at.IsZero() {
		return ""
	}
	return fmt.Sprintf(" Declared at %s:%d.", at.File, at.Line)
}

func (c *compiler) compileExpression(t *tree, want *field.Type) node {
	st := c.newSite(t, t.node.Segments[0])
	if st == nil {
		return fixed{}
	}
	if want != nil {
		for _, p := range want.Accepts(st.program.Type()) {
			c.report(diag.Diagnostic{Span: st.whole(), Path: t.path + joinRelative(p.Path), Message: p.Message, Hint: p.Hint})
		}
		for _, v := range st.program.Results() {
			_, problems := want.Coerce(v)
			for _, p := range problems {
				c.report(diag.Diagnostic{Span: st.whole(), Path: t.path + joinRelative(p.Path), Message: p.Message, Hint: p.Hint})
			}
		}
	}
	return expression{site: st, want: want}
}

func (c *compiler) compileText(t *tree, want *field.Type) node {
	out := &text{want: want, tree: t}
	secret, whole := false, true
	for _, s := range t.node.Segments {
		if !s.Expr {
			out.parts = append(out.parts, part{literal: s.Text})
			continue
		}
		st := c.newSite(t, s)
		if st == nil {
			whole = false
			continue
		}
		out.parts = append(out.parts, part{site: st})
		switch from := st.program.Type(); {
		case from.Kind == field.SecretKind:
			secret = true
		case from.Optional:
			c.report(diag.Diagnostic{Span: st.whole(), Path: t.path, Message: "an optional value cannot be put into a text", Hint: `.orValue("") gives a text where there is no value`})
		case slices.Contains([]field.Kind{field.ListKind, field.MapKind, field.ObjectKind, field.NullKind}, from.Kind):
			c.report(diag.Diagnostic{Span: st.whole(), Path: t.path, Message: from.String() + " cannot be put into a text", Hint: "join(…) or str(…) makes a text of it"})
		}
	}
	if !whole {
		return fixed{}
	}
	from := field.Of(field.StringKind)
	if secret {
		from = field.Of(field.SecretKind)
	}
	for _, p := range want.Accepts(from) {
		c.report(diag.Diagnostic{Span: t.node.Span, Path: t.path, Message: p.Message, Hint: p.Hint})
	}
	return out
}

// shape is the alternative of want that a written-out map or list is compiled for; whole says that the value must be
// checked as one, because the alternatives can be told apart only then.
func shape(want *field.Type, kinds ...field.Kind) (t *field.Type, whole bool) {
	if want == nil || want.Kind != field.OneOfKind {
		return want, false
	}
	var fits []*field.Type
	for _, alt := range want.Of {
		if alt.Kind == field.Any || slices.Contains(kinds, alt.Kind) {
			fits = append(fits, alt)
		}
	}
	if len(fits) == 1 && want.Check == nil {
		return fits[0], false
	}
	return want, true
}

func (c *compiler) compileList(t *tree, want *field.Type) node {
	to, whole := shape(want, field.ListKind)
	elem := (*field.Type)(nil)
	switch {
	case whole:
		elem = varType
	case to == nil || to.Kind == field.Any:
		elem = to
	case to.Kind == field.ListKind:
		elem, whole = to.Elem, to.Check != nil || to.Min != nil || to.Max != nil
	case to.ListForm:
		elem, whole = &field.Type{Kind: field.StringKind, Secret: to.Elem != nil && to.Elem.Secret}, true
	default:
		c.report(diag.Diagnostic{Span: t.node.Span, Path: t.path, Message: "a list cannot fill " + to.String()})
		return fixed{}
	}
	out := &list{want: want, tree: t, whole: whole}
	static := make(field.List, 0, len(t.node.Items))
	before := len(c.diags)
	for i, item := range t.node.Items {
		at := field.IndexPath(t.path, i)
		if item.Kind == config.NullNode && elem != nil && elem.Kind != field.Any && !elem.Nullable {
			c.report(diag.Diagnostic{Span: item.Span, Path: at, Message: "null cannot be an element here"})
			continue
		}
		n := c.compile(c.canonical(item, elem, at, nil), elem)
		out.items = append(out.items, n)
		if f, ok := n.(fixed); ok {
			static = append(static, f.value)
		}
	}
	if len(static) != len(out.items) {
		return out
	}
	if whole && len(c.diags) == before {
		return c.literal(t, static, want)
	}
	return fixed{static}
}

func (c *compiler) compileMap(t *tree, want *field.Type) node {
	to, whole := shape(want, field.MapKind, field.ObjectKind)
	if !whole && to != nil && !slices.Contains([]field.Kind{field.Any, field.MapKind, field.ObjectKind}, to.Kind) {
		c.report(diag.Diagnostic{Span: t.node.Span, Path: t.path, Message: "a map cannot fill " + to.String()})
		return fixed{}
	}
	out := &object{fixed: field.Object{}, want: want, tree: t}
	before := len(c.diags)
	for _, k := range t.keys {
		elem := (*field.Type)(nil)
		switch {
		case whole:
			elem = varType
		case to == nil || to.Kind == field.Any:
			elem = to
		case to.Kind == field.MapKind:
			elem = to.Elem
		default:
			if f, ok := to.Fields.Lookup(k); ok {
				elem = f.Type
			}
		}
		n := c.compile(t.values[k], elem)
		if f, ok := n.(fixed); ok {
			if f.value != nil || elem != nil && elem.Nullable {
				out.fixed[k] = f.value
			}
			continue
		}
		out.keys, out.nodes = append(out.keys, k), append(out.nodes, n)
	}
	out.whole = whole || to != nil && (to.Check != nil || to.Min != nil || to.Max != nil || to.Kind == field.ObjectKind && hasRequired(to.Fields))
	if len(out.keys) > 0 {
		return out
	}
	if out.whole && len(c.diags) == before {
		return c.literal(t, out.fixed, want)
	}
	return fixed{out.fixed}
}

func hasRequired(t *field.Table) bool {
	return slices.ContainsFunc(t.Fields, func(f field.Field) bool { return f.Required })
}

// staticType is what is known of a compiled value's type, for the variables.
func staticType(n node) *field.Type {
	switch n := n.(type) {
	case fixed:
		return valueType(n.value)
	case expression:
		return n.site.program.Type()
	case *text:
		for _, p := range n.parts {
			if p.site != nil && p.site.program.Type().Kind == field.SecretKind {
				return field.Of(field.SecretKind)
			}
		}
		return field.Of(field.StringKind)
	case *list:
		return listType(n.items, staticType)
	case *object:
		var rows []field.Field
		for _, k := range sortedKeys(n.fixed) {
			rows = append(rows, field.Field{Name: k, Type: valueType(n.fixed[k])})
		}
		for i, k := range n.keys {
			typ := staticType(n.nodes[i])
			rows = append(rows, field.Field{Name: k, Type: typ, Optional: typ.Optional || typ.Nullable})
		}
		return field.ObjectOf(field.NewTable("map", rows...))
	}
	return field.Of(field.Any)
}

func valueType(v field.Value) *field.Type {
	switch v := v.(type) {
	case nil:
		return field.Of(field.NullKind)
	case field.Bool:
		return field.Of(field.BoolKind)
	case field.Int:
		return field.Of(field.IntKind)
	case field.Float:
		return field.Of(field.FloatKind)
	case field.String:
		return field.Of(field.StringKind)
	case field.Text:
		return field.Of(field.SecretKind)
	case field.List:
		return listType(v, valueType)
	case field.Object:
		var rows []field.Field
		for _, k := range sortedKeys(v) {
			rows = append(rows, field.Field{Name: k, Type: valueType(v[k])})
		}
		return field.ObjectOf(field.NewTable("map", rows...))
	}
	return field.Of(field.Any)
}

// listType is a list of the elements' common type, of anything where they differ or are more than plain values.
func listType[T any](items []T, typeOf func(T) *field.Type) *field.Type {
	if len(items) == 0 {
		return field.ListOf(field.Of(field.Any))
	}
	elem := typeOf(items[0])
	for _, it := range items[1:] {
		if t := typeOf(it); t.Kind != elem.Kind || elem.Kind == field.ObjectKind || elem.Kind == field.ListKind {
			return field.ListOf(field.Of(field.Any))
		}
	}
	return field.ListOf(elem)
}
