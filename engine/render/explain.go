package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/renderers"
)

// Origin says where one value of a plan comes from.
type Origin struct {
	// Path is in the definition's words, relative to the worker; Native is where it goes in the native object.
	Path   string
	Native string
	// Value is the checked value; nil where the field is absent.
	Value field.Value
	// Type is the field's type, in words.
	Type string
	// Steps, from the one that counts down to what it stands on.
	Steps []Step
}

// Step is one value as written somewhere.
type Step struct {
	// Layer is "workers.linux" or "defaults.docker".
	Layer string
	// Raw is the first line of the value as written; At where it stands.
	Raw string
	At  diag.Span
	// Replaced: another layer's value stands on top of it.
	Replaced    bool
	Expressions []Evaluated
}

// Evaluated is one expression of a value.
type Evaluated struct {
	Source string
	At     diag.Span
	Reads  []Read
	Result field.Value
	Cost   int64
	Limit  int64
}

// Read is a name that an expression read.
type Read struct {
	Path  string
	Value field.Value
	// From says who gave it: a property's source, "default", "vars", "build document".
	From string
	// Declared and Decl are of a declared property.
	Declared diag.Span
	Decl     string
}

// Explain gives the origins of the field at path: in the definition's words (any spelling) or a native path; "" = every
// value that is written somewhere. The Spec must have been rendered with Provenance.
func (s *Spec) Explain(path string) ([]Origin, error) {
	if s.costs == nil {
		return nil, fmt.Errorf("cannot explain a plan that was rendered without provenance")
	}
	table := s.fields.kind.Worker()
	var out []Origin
	leaves(s.fields.tree, field.ObjectOf(table), "", "", s.Fields, func(o Origin, t *tree) {
		if path == "" || o.Path == path || strings.HasPrefix(o.Path, path+".") || strings.HasPrefix(o.Path, path+"[") || o.Native == path {
			o.Steps = s.steps(t, false)
			out = append(out, o)
		}
	})
	if len(out) > 0 {
		return out, nil
	}
	// Another spelling, or a value inside of one that an expression gave.
	canonical, native, typ, err := spell(table, path)
	if err != nil {
		return nil, err
	}
	if canonical != path {
		if found, err := s.Explain(canonical); err == nil {
			return found, nil
		}
	}
	o := Origin{Path: canonical, Native: native, Value: valueAt(s.Fields, canonical), Type: typ.String()}
	if t := s.fields.find(canonical); t != nil && t != s.fields.tree && o.Value != nil {
		o.Steps = s.steps(t, false)
	}
	return []Origin{o}, nil
}

// leaves calls f for every value that is written out, in the file's order.
func leaves(t *tree, typ *field.Type, path, native string, value field.Value, f func(Origin, *tree)) {
	if t == nil {
		return
	}
	if !t.isMap() || t.under != nil || len(t.keys) == 0 {
		if value != nil || t.node != nil && t.node.Kind == config.NullNode {
			f(Origin{Path: path, Native: native, Value: value, Type: typ.String()}, t)
		}
		return
	}
	typ = mapAlternative(typ)
	o, _ := value.(field.Object)
	for _, k := range t.keys {
		elem, at := (*field.Type)(nil), field.JoinPath(native, k)
		if typ != nil && typ.Kind == field.MapKind {
			elem = typ.Elem
		}
		if typ != nil && typ.Kind == field.ObjectKind {
			if row, ok := typ.Fields.Lookup(k); ok {
				elem, at = row.Type, row.Native
			}
		}
		leaves(t.values[k], elem, field.JoinPath(path, k), at, o[k], f)
	}
}

// spell is a path of any spelling in canonical names, with its native path and its type.
func spell(table *field.Table, path string) (canonical, native string, t *field.Type, err error) {
	keys, err := field.SplitPath(path)
	if err != nil {
		return "", "", nil, err
	}
	t = field.ObjectOf(table)
	for _, k := range keys {
		switch k := k.(type) {
		case int:
			canonical, native = field.IndexPath(canonical, k), field.IndexPath(native, k)
			if t = mapAlternative(t); t != nil {
				t = t.Elem
			}
		case string:
			in := mapAlternative(t)
			name, at, elem := k, field.JoinPath(native, k), (*field.Type)(nil)
			if in != nil && in.Kind == field.MapKind {
				elem = in.Elem
			}
			if in != nil && in.Kind == field.ObjectKind {
				f, ok := in.Fields.Lookup(k)
				if !ok && !in.Open {
					if row, ok := byNative(field.ObjectOf(table), "", path); ok {
						return row.path, path, row.typ, nil
					}
					where := "a worker has"
					if canonical != "" {
						where = canonical + " has"
					}
					return "", "", nil, fmt.Errorf("%s no field %q; %s", where, k, orElse(suggest(k, in.Fields.Names()), "see the definition reference"))
				}
				if ok {
					name, at, elem = f.Name, f.Native, f.Type
				}
			}
			canonical, native, t = field.JoinPath(canonical, name), at, elem
		}
	}
	return canonical, native, t, nil
}

type nativeRow struct {
	path string
	typ  *field.Type
}

// byNative finds the field that goes to a native path.
func byNative(t *field.Type, path, native string) (nativeRow, bool) {
	t = mapAlternative(t)
	if t == nil || t.Kind != field.ObjectKind {
		return nativeRow{}, false
	}
	for _, f := range t.Fields.Fields {
		at := field.JoinPath(path, f.Name)
		if f.Native == native && f.Native != "" {
			return nativeRow{at, f.Type}, true
		}
		if row, ok := byNative(f.Type, at, native); ok {
			return row, true
		}
	}
	return nativeRow{}, false
}

func valueAt(v field.Value, path string) field.Value {
	keys, err := field.SplitPath(path)
	if err != nil {
		return nil
	}
	for _, k := range keys {
		switch k := k.(type) {
		case string:
			o, _ := v.(field.Object)
			v = o[k]
		case int:
			l, _ := v.(field.List)
			if k >= len(l) {
				return nil
			}
			v = l[k]
		}
	}
	return v
}

// steps are a value and what it stands on.
func (s *Spec) steps(t *tree, replaced bool) []Step {
	step := Step{Layer: layerOf(t.path), Replaced: replaced}
	if t.node != nil {
		step.Raw, step.At = t.node.Raw, t.node.Span
		step.Expressions = s.evaluated(t.node)
	}
	out := []Step{step}
	if t.under != nil {
		out = append(out, s.steps(t.under, replaced || s.covers(step))...)
	}
	for _, below := range t.shadows {
		one := *below
		one.shadows = nil
		out = append(out, s.steps(&one, true)...)
	}
	return out
}

// covers reports whether an expression on top leaves nothing of what lies under it: it gave a value that is no map.
func (s *Spec) covers(top Step) bool {
	if len(top.Expressions) == 0 {
		return false
	}
	switch top.Expressions[0].Result.(type) {
	case nil, field.Object:
		return false
	}
	return true
}

// layerOf is the root of a value's path: workers.linux, defaults.docker.
func layerOf(path string) string {
	keys, err := field.SplitPath(path)
	if err != nil || len(keys) < 2 {
		return path
	}
	first, _ := keys[0].(string)
	second, _ := keys[1].(string)
	return field.JoinPath(first, second)
}

// evaluated are the expressions in a node, with what they gave in this render.
func (s *Spec) evaluated(n *config.Node) []Evaluated {
	var out []Evaluated
	sites := slices.SortedFunc(maps.Keys(s.costs), func(a, b *site) int { return a.at.At(0).Column - b.at.At(0).Column })
	var walk func(*config.Node)
	walk = func(n *config.Node) {
		for _, st := range sites {
			if st.node == n {
				c := s.costs[st]
				out = append(out, Evaluated{Source: st.source, At: st.whole(), Reads: s.reads(st.program), Result: c.value, Cost: c.units, Limit: s.template.limits.FieldCost})
			}
		}
		for _, item := range n.Items {
			walk(item)
		}
		for _, e := range n.Entries {
			walk(e.Value)
		}
	}
	walk(n)
	return out
}

func (s *Spec) reads(p renderers.Program) []Read {
	var out []Read
	bound := roots{true, true, true}.bindings(s.props, s.vars, s.build, s.template.Worker)
	for _, path := range p.Reads() {
		r := Read{Path: path, From: "build document"}
		keys, _ := field.SplitPath(path)
		root, _ := keys[0].(string)
		switch root {
		case "props":
			r.Value = valueAt(field.Object{"props": s.props}, path)
			if len(keys) > 1 {
				name, _ := keys[1].(string)
				s.readProp(&r, name)
			}
		case "vars":
			r.From = "vars"
			r.Value = valueAt(field.Object{"vars": s.vars}, path)
		default:
			r.Value = valueAt(field.Object{"build": bound["build"], "src": bound["src"], "worker": bound["worker"]}, path)
			if root == "worker" {
				r.From = "definition"
			}
		}
		out = append(out, r)
	}
	return out
}

func (s *Spec) readProp(r *Read, name string) {
	given, ok := s.build.Properties[name]
	switch {
	case ok:
		r.From = orElse(given.Source, "build document")
	default:
		r.From = "default"
	}
	for _, p := range s.template.Worker.Props {
		if p.Name == name {
			r.Declared, r.Decl = p.Span, p.Decl
			if !ok && p.Default == nil {
				r.From = "missing"
			}
		}
	}
}
