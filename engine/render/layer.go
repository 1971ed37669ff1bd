package render

import (
	"fmt"
	"maps"
	"strings"

	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/field"
)

// tree is one value of a worker with its keys in canonical spelling, ready to be merged with other layers.
type tree struct {
	path string // in the definition's words, with the layer's own root: workers.linux.hostconfig.mem_limit
	node *config.Node
	key  diag.Span // of the key under which it stands; zero where there is none
	// keys is set for a map that is written out; its order is the file's.
	keys   []string
	values map[string]*tree
	// shadows are the values that this one replaced, nearest first.
	shadows []*tree
	// under is set where what is on top is known only at render.
	under *tree
}

func (t *tree) isMap() bool { return t.values != nil }

// open reports whether the value's shape is known only at render.
func (t *tree) open() bool {
	return t.under != nil || t.node != nil && (t.node.Kind == config.TextNode && t.node.Sole() || t.node.Kind == config.CallNode)
}

// canonical reads a node's written-out maps, renaming keys by the type's tables. skip says which unknown top-level names
// belong to another kind of backend.
func (c *compiler) canonical(n *config.Node, t *field.Type, path string, skip func(string) bool) *tree {
	out := &tree{path: path, node: n}
	if n.Kind != config.MapNode {
		return out
	}
	t = mapAlternative(t)
	out.values = make(map[string]*tree, len(n.Entries))
	spelled := map[string]string{}
	for _, e := range n.Entries {
		name, elem, at := e.Key, (*field.Type)(nil), field.JoinPath(path, e.Key)
		switch {
		case t != nil && t.Kind == field.ObjectKind:
			f, ok := t.Fields.Lookup(e.Key)
			if !ok && t.Open {
				break
			}
			if !ok {
				if skip == nil || !skip(e.Key) {
					c.report(diag.Diagnostic{Span: e.KeySpan, Path: at, Message: fmt.Sprintf("unknown field %q", e.Key), Hint: suggest(e.Key, t.Fields.Names())})
				}
				continue
			}
			if f.Retired != "" {
				c.report(diag.Diagnostic{Span: e.KeySpan, Path: at, Message: f.Retired})
				continue
			}
			if other, twice := spelled[f.Name]; twice {
				c.report(diag.Diagnostic{Span: e.KeySpan, Path: at, Message: fmt.Sprintf("%q and %q are two spellings of one field", other, e.Key)})
				continue
			}
			spelled[f.Name] = e.Key
			name, elem = f.Name, f.Type
		case t != nil && t.Kind == field.MapKind:
			elem = t.Elem
		}
		out.keys = append(out.keys, name)
		out.values[name] = c.canonical(e.Value, elem, at, nil)
		out.values[name].key = e.KeySpan
	}
	return out
}

// place is where a problem of t's value stands, and the path of that place: at the key or the value that it names, or else
// at the nearest value above it that is written out.
func (t *tree) place(p field.Problem) (diag.Span, string) {
	path := t.path + joinRelative(p.Path)
	keys, err := field.SplitPath(p.Path)
	if err != nil {
		return t.node.Span, path
	}
	for i, k := range keys {
		name, ok := k.(string)
		next := t.values[name]
		if !ok || next == nil {
			return placeIn(t.node, keys[i:], p.Key), path
		}
		t, path = next, next.path
		for _, rest := range keys[i+1:] {
			switch rest := rest.(type) {
			case string:
				path = field.JoinPath(path, rest)
			case int:
				path = field.IndexPath(path, rest)
			}
		}
	}
	if p.Key && !t.key.IsZero() {
		return t.key, path
	}
	return t.node.Span, path
}

// placeIn is the place in a node at the end of keys, or the nearest one above it.
func placeIn(n *config.Node, keys []any, key bool) diag.Span {
	for i, k := range keys {
		var next *config.Node
		last := i == len(keys)-1
		switch k := k.(type) {
		case string:
			for _, e := range n.Entries {
				if e.Key != k {
					continue
				}
				if last && key {
					return e.KeySpan
				}
				next = e.Value
			}
			for _, item := range n.Items { // a list that stands for a map: KEY=value
				if strings.HasPrefix(item.Str, k+"=") {
					next = item
				}
			}
		case int:
			if k < len(n.Items) {
				next = n.Items[k]
			}
		}
		if next == nil {
			break
		}
		n = next
	}
	return n.Span
}

// mapAlternative is the type that a written-out map is read by: t itself, or a one-of's alternative for maps.
func mapAlternative(t *field.Type) *field.Type {
	if t == nil || t.Kind != field.OneOfKind {
		return t
	}
	for _, alt := range t.Of {
		if alt.Kind == field.ObjectKind || alt.Kind == field.MapKind {
			return alt
		}
	}
	return t
}

// merge puts over on top of under; neither is changed.
func merge(under, over *tree) *tree {
	switch {
	case under == nil:
		return over
	case over == nil:
		return under
	case under.isMap() && over.isMap():
		out := &tree{path: over.path, node: over.node, key: over.key, keys: append([]string{}, under.keys...), values: make(map[string]*tree, len(under.values)+len(over.values)), shadows: over.shadows}
		maps.Copy(out.values, under.values)
		for _, k := range over.keys {
			if _, both := out.values[k]; !both {
				out.keys = append(out.keys, k)
			}
			out.values[k] = merge(out.values[k], over.values[k])
		}
		return out
	case over.open(), under.open() && over.isMap():
		// What an expression gives may be a map, to be merged, or nothing, so that the layer below shows.
		out := *over
		out.under = under
		return &out
	}
	out := *over
	out.shadows = append(append([]*tree{}, over.shadows...), under)
	out.shadows = append(out.shadows, under.shadows...)
	return &out
}

func suggest(got string, names []string) string {
	if s := diag.Suggest(got, names); s != "" {
		return fmt.Sprintf("did you mean %q?", s)
	}
	if len(names) > 0 && len(names) <= 12 {
		return "there are: " + strings.Join(names, ", ")
	}
	return ""
}
