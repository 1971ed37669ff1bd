package config

import (
	"slices"
	"strconv"
	"strings"

	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/field"
)

// draft is one entry of workers: as written, before extends and count.
type draft struct {
	key     string
	path    string
	span    diag.Span // the key
	name    string    // "" = none given
	backend *Node
	base    string // extends; "" = none
	baseAt  diag.Span
	count   int64 // 0 = none given
	countAt diag.Span
	props   []*Prop
	open    *bool
	vars    []*Var
	layer   *Node

	// made by resolve
	chain      []*draft // farthest base first, itself last; nil = not known yet or broken
	state      int8     // 0 new, 1 being resolved, 2 done, 3 broken
	incomplete bool
}

// The keys of a worker that are no field of a backend.
var workerKeys = []string{"backend", "extends", "count", "name", "props", "props_open", "vars"}

// buildbotKeys are options that Buildbot's worker class has and a definition has not.
var buildbotKeys = []string{
	"build_wait_timeout", "missing_timeout", "check_instance_interval", "max_builds", "locks", "keepalive_interval",
	"notify_on_missing", "properties", "defaultProperties", "machine_name",
}

// worker reads one entry of workers:.
func (l *loader) worker(path string, e *Entry) {
	if !l.name(e.KeySpan, path, "a worker", e.Key) {
		return
	}
	if first, ok := l.byKey[e.Key]; ok {
		l.errorf(e.KeySpan, path, "", "there is a worker of this name at %s", first.span.Pos)
		return
	}
	d := &draft{key: e.Key, path: path, span: e.KeySpan}
	if l.byKey == nil {
		l.byKey = map[string]*draft{}
	}
	l.byKey[e.Key] = d
	l.drafts = append(l.drafts, d)
	d.layer = &Node{Kind: MapNode, Span: e.Value.Span, Raw: e.Value.Raw, Text: e.Value.Text}
	switch e.Value.Kind {
	case MapNode:
	case NullNode:
		return
	default:
		d.incomplete = true
		l.errorf(e.Value.Span, path, "", "a worker is a map, not %s", e.Value.kindName())
		return
	}
	d.incomplete = e.Value.broken
	before := len(l.list)
	for i := range e.Value.Entries {
		l.workerEntry(d, &e.Value.Entries[i])
	}
	d.incomplete = d.incomplete || len(l.list) > before || len(l.list) == diag.MaxDiagnostics
}

func (l *loader) workerEntry(d *draft, e *Entry) {
	path := field.JoinPath(d.path, e.Key)
	n := e.Value
	switch e.Key {
	case "backend":
		if n.Kind != StringNode {
			l.text(n, path)
			return
		}
		d.backend = l.renderable(path, n, nil)
	case "extends":
		if s, ok := l.text(n, path); ok {
			d.base, d.baseAt = s, n.Span
		}
	case "count":
		if n.Kind != IntNode || n.Int < 1 || n.Int > MaxCount {
			l.errorf(n.Span, path, "", "expected an integer from 1 to %d here", MaxCount)
			return
		}
		d.count, d.countAt = n.Int, n.Span
	case "name":
		if s, ok := l.text(n, path); ok && l.name(n.Span, path, "a worker", s) {
			d.name = s
		}
	case "props":
		l.props(d, path, n)
	case "props_open":
		if n.Kind != BoolNode {
			l.errorf(n.Span, path, "", "expected true or false here, not %s", n.kindName())
			return
		}
		d.open = &n.Bool
	case "vars":
		l.vars(d, path, n)
	default:
		l.workerField(d, path, e)
	}
}

func (l *loader) vars(d *draft, path string, n *Node) {
	switch n.Kind {
	case NullNode:
		return
	case MapNode:
	default:
		l.errorf(n.Span, path, "", "expected a map here, not %s", n.kindName())
		return
	}
	for i := range n.Entries {
		e := &n.Entries[i]
		p := field.JoinPath(path, e.Key)
		if !l.name(e.KeySpan, p, "a variable", e.Key) {
			continue
		}
		if v := l.renderable(p, e.Value, nil); v != nil {
			d.vars = append(d.vars, &Var{Name: e.Key, Span: e.KeySpan, Node: v})
		}
	}
}

// workerField takes a key that must be a field of some kind of backend. Which kind may be known only at render.
func (l *loader) workerField(d *draft, path string, e *Entry) {
	if slices.Contains(buildbotKeys, e.Key) {
		l.errorf(e.KeySpan, path, "", "%q belongs on the Buildbot worker class, not in a definition", e.Key)
		return
	}
	var types []*field.Type
	known := len(l.opts.Kinds) == 0
	for _, k := range l.opts.Kinds {
		if k.Worker == nil {
			known = true
		} else if f, ok := k.Worker.Lookup(e.Key); ok {
			known = true
			types = append(types, f.Type)
		}
	}
	if !known {
		candidates := slices.Clone(workerKeys)
		for _, k := range l.opts.Kinds {
			candidates = append(candidates, k.Worker.Names()...)
		}
		l.unknown(e.KeySpan, path, "field", e.Key, candidates)
		delete(l.twins, e.Value) // said once
		return
	}
	v := l.renderable(path, e.Value, types)
	if v == nil {
		return
	}
	d.layer.broken = d.layer.broken || v.broken
	d.layer.Entries = append(d.layer.Entries, Entry{Key: e.Key, KeySpan: e.KeySpan, Value: v})
}

// resolve makes workers of drafts: extends followed, count expanded.
func (l *loader) resolve() {
	total := 0
	names := map[string]diag.Span{}   // by Name
	workers := map[string]diag.Span{} // by WorkerName
	for _, d := range l.drafts {
		l.chain(d)
		if d.state == 3 {
			continue
		}
		n := int(max(d.count, 1))
		if total += n; total > MaxWorkers {
			span, path := d.span, d.path
			if d.count > 0 {
				span, path = d.countAt, d.path+".count"
			}
			l.errorf(span, path, "", "that makes more than %d workers", MaxWorkers)
			return
		}
		l.expand(d, names, workers)
	}
}

// chain follows extends from d on.
func (l *loader) chain(d *draft) {
	if d.state != 0 {
		return
	}
	// A loop, not a recursion: a chain may be as long as the file. chains is the way from d to its farthest base.
	var way []*draft
	at := d
	for {
		at.state = 1
		way = append(way, at)
		if at.base == "" {
			break
		}
		base, ok := l.byKey[at.base]
		if !ok {
			if l.partial {
				l.breakAll(way)
				return
			}
			known := make([]string, 0, len(l.drafts))
			for _, o := range l.drafts {
				if o != at {
					known = append(known, o.key)
				}
			}
			l.unknown(at.baseAt, at.path+".extends", "worker", clip(at.base), known)
			l.breakAll(way)
			return
		}
		if base.state == 1 {
			loop := way[slices.Index(way, base):]
			keys := make([]string, 0, len(loop)+1)
			for _, o := range loop[:min(len(loop), 8)] {
				keys = append(keys, o.key)
			}
			if len(loop) > 8 {
				keys = append(keys, "...")
			}
			l.errorf(at.baseAt, at.path+".extends", "", "workers extend one another in a circle: %s", strings.Join(append(keys, base.key), " -> "))
			l.breakAll(way)
			return
		}
		if base.state == 3 {
			l.breakAll(way)
			return
		}
		if base.state == 2 {
			at = base
			way = append(way, at)
			break
		}
		at = base
	}
	// The last one of way is done or has no base; the others follow from it.
	for i, o := range slices.Backward(way) {

		if o.state == 2 {
			continue
		}
		if i+1 < len(way) {
			base := way[i+1]
			if len(base.chain) >= maxChain {
				l.errorf(o.baseAt, o.path+".extends", "", "more than %d workers extend one another in a row", maxChain)
				l.breakAll(way[:i+1])
				return
			}
			o.chain = append(slices.Clip(slices.Clone(base.chain)), o)
			o.incomplete = o.incomplete || base.incomplete
		} else {
			o.chain = []*draft{o}
		}
		o.state = 2
	}
}

func (l *loader) breakAll(way []*draft) {
	for _, d := range way {
		if d.state != 2 {
			d.state = 3
		}
	}
}

// expand adds d's workers to the definition.
func (l *loader) expand(d *draft, names, workers map[string]diag.Span) {
	w := Worker{Key: d.key, Name: d.key, NameSpan: d.span, Incomplete: d.incomplete}
	w.Layers = make([]Layer, 0, len(d.chain))
	for _, o := range d.chain {
		w.Layers = append(w.Layers, Layer{From: o.path, Node: o.layer})
		if o.backend != nil {
			w.Backend = o.backend
		}
		if o.open != nil {
			w.PropsOpen = *o.open
		}
		w.Incomplete = w.Incomplete || o.layer.broken
	}
	w.Props, w.Vars = inherit(d.chain)
	l.checkBackend(d, w.Backend)
	for i := 1; i <= int(max(d.count, 1)); i++ {
		one := w
		suffix := ""
		if d.count > 0 {
			suffix, one.Index = "-"+strconv.Itoa(i), i
		}
		one.Name += suffix
		one.WorkerName = one.Name
		if d.name != "" {
			one.WorkerName = d.name + suffix
		}
		if first, ok := names[one.Name]; ok {
			l.errorf(d.span, d.path, "", "the name %q is taken by the worker at %s", one.Name, first.Pos)
			return
		}
		if first, ok := workers[one.WorkerName]; ok {
			l.errorf(d.span, d.path, "", "the worker's name %q is taken by the worker at %s", one.WorkerName, first.Pos)
			return
		}
		if len(one.Name) > 63 || len(one.WorkerName) > 63 {
			l.errorf(d.span, d.path, "", "the name %q is longer than 63 characters", one.Name)
			return
		}
		names[one.Name], workers[one.WorkerName] = d.span, d.span
		l.def.Workers = append(l.def.Workers, &one)
	}
}

// inherit puts the props and vars of a chain together, farthest base first.
func inherit(chain []*draft) ([]*Prop, []*Var) {
	last := chain[len(chain)-1]
	if len(chain) == 1 {
		slices.SortFunc(last.props, func(a, b *Prop) int { return strings.Compare(a.Name, b.Name) })
		return last.props, last.vars
	}
	var vars []*Var
	at := map[string]int{}
	byName := map[string]*Prop{}
	for _, o := range chain {
		for _, p := range o.props {
			byName[p.Name] = p
		}
		for _, v := range o.vars {
			if i, ok := at[v.Name]; ok {
				vars[i] = v
				continue
			}
			at[v.Name] = len(vars)
			vars = append(vars, v)
		}
	}
	props := make([]*Prop, 0, len(byName))
	for _, p := range byName {
		props = append(props, p)
	}
	slices.SortFunc(props, func(a, b *Prop) int { return strings.Compare(a.Name, b.Name) })
	return props, vars
}

// checkBackend looks a backend named by text up; what an expression gives is engine/render's to check.
func (l *loader) checkBackend(d *draft, n *Node) {
	names := make([]string, len(l.def.Backends))
	for i, b := range l.def.Backends {
		names[i] = b.Name
	}
	if l.partial {
		return
	}
	if len(names) == 0 {
		if !l.noBackends {
			l.noBackends = true
			l.errorf(d.span, d.path+".backend", "such as backends: {local: {docker: {docker_host: unix:///var/run/docker.sock}}}", "the definition has no backends")
		}
		return
	}
	there := "there are: " + strings.Join(names[:min(len(names), 12)], ", ")
	if len(names) > 12 {
		there += ", ..."
	}
	switch {
	case n == nil && len(names) != 1 && !d.incomplete:
		l.errorf(d.span, d.path+".backend", "", "missing; %s", there)
	case n != nil && n.Kind == StringNode && l.backends[n.Str] == nil:
		l.errorf(n.Span, d.path+".backend", "", "no backend %q; %s", clip(n.Str), there)
	}
}
