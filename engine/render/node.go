package render

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/renderers"
)

// node is a compiled value. eval gives it in its field's canonical form, or nil where it is absent or where a problem was
// noted in the evaluation.
type node interface {
	eval(*evaluation) field.Value
}

// evaluation is one render under way. Not safe for concurrent use.
type evaluation struct {
	ctx      context.Context
	bindings renderers.Bindings
	budget   *renderers.Budget
	diags    diag.List
	// stop is set by what makes it useless to go on: a spent budget, the context's end.
	stop error
	// broken are the variables whose evaluation failed, skipped how many expressions read one of them: what follows from a
	// problem that was told is not told again.
	broken  map[string]bool
	skipped int
	// costs by site, filled only where someone wants to know.
	costs map[*site]siteCost
	// buf is where texts are put together.
	buf []byte
}

type siteCost struct {
	units int64
	value field.Value // what the expression gave, before it was put into its field
}

// site is an expression where it stands.
type site struct {
	path    string // in the definition's words
	source  string // the expression's text
	at      diag.Text
	node    *config.Node
	program renderers.Program
}

func (s *site) span(from, to int) diag.Span { return s.at.Span(from, to) }

// whole is where the expression's first line stands.
func (s *site) whole() diag.Span { return s.at.Span(0, len([]rune(s.source))) }

// readsBroken reports whether the expression reads a variable that has no value because its evaluation failed.
func (s *site) readsBroken(broken map[string]bool) bool {
	for _, r := range s.program.Reads() {
		keys, err := field.SplitPath(r)
		if err != nil || len(keys) == 0 || keys[0] != "vars" {
			continue
		}
		if len(keys) == 1 {
			return true
		}
		if name, ok := keys[1].(string); ok && broken[name] {
			return true
		}
	}
	return false
}

// run evaluates the site's program.
func (s *site) run(e *evaluation) (field.Value, bool) {
	if e.stop != nil {
		return nil, false
	}
	if e.broken != nil && s.readsBroken(e.broken) {
		e.skipped++
		return nil, false
	}
	e.budget.Begin()
	v, err := s.program.Eval(e.ctx, e.bindings, e.budget)
	if e.costs != nil {
		e.costs[s] = siteCost{units: e.budget.FieldSpent(), value: v}
	}
	if err == nil {
		return v, true
	}
	var bad *renderers.EvalError
	if !errors.As(err, &bad) {
		e.stop = err
		return nil, false
	}
	d := diag.Diagnostic{Span: s.whole(), Path: s.path, Message: bad.Message, Hint: bad.Hint}
	if bad.To > bad.From {
		d.Span = s.span(bad.From, bad.To)
	}
	if bad.Spent {
		d.Message = fmt.Sprintf("%s; this expression spent %s units, the whole render %s", bad.Message, renderers.Thousands(e.budget.FieldSpent()), renderers.Thousands(e.budget.Spent()))
		e.stop = errSpent
	}
	e.diags.Add(d)
	return nil, false
}

var errSpent = errors.New("budget spent")

// fixed is a value known at load.
type fixed struct{ value field.Value }

func (n fixed) eval(*evaluation) field.Value { return n.value }

// expression is a whole ${{ }}: its type is kept.
type expression struct {
	site *site
	want *field.Type
}

func (n expression) eval(e *evaluation) field.Value {
	v, ok := n.site.run(e)
	if !ok {
		return nil
	}
	return e.coerce(n.want, v, func(p field.Problem) (diag.Span, string) { return n.site.whole(), n.site.path + joinRelative(p.Path) })
}

// coerce holds a value against its field; place says where a problem stands, and under which path.
func (e *evaluation) coerce(t *field.Type, v field.Value, place func(field.Problem) (diag.Span, string)) field.Value {
	if t == nil || v == nil {
		return v
	}
	out, problems := t.Coerce(v)
	if problems == nil {
		return out
	}
	for _, p := range problems {
		span, path := place(p)
		e.diags.Add(diag.Diagnostic{Span: span, Path: path, Message: p.Message, Hint: p.Hint})
	}
	return nil
}

// joinRelative is a relative path as it follows another one.
func joinRelative(rel string) string {
	if rel == "" || strings.HasPrefix(rel, "[") {
		return rel
	}
	return "." + rel
}

// text is a string with expressions in it.
type text struct {
	parts []part
	want  *field.Type
	tree  *tree
}

type part struct {
	literal string
	site    *site // nil for literal characters
}

func (n *text) eval(e *evaluation) field.Value {
	b := e.buf[:0]
	defer func() { e.buf = b }()
	var segments field.Text // set as soon as there is a secret
	for _, p := range n.parts {
		if p.site == nil {
			b = append(b, p.literal...)
			continue
		}
		v, ok := p.site.run(e)
		if !ok {
			return nil
		}
		switch v := v.(type) {
		case field.String:
			b = append(b, v...)
		case field.Int:
			b = strconv.AppendInt(b, int64(v), 10)
		case field.Float:
			b = strconv.AppendFloat(b, float64(v), 'g', -1, 64)
		case field.Bool:
			b = strconv.AppendBool(b, bool(v))
		case field.Text:
			if len(b) > 0 {
				segments = append(segments, field.Segment{Text: string(b)})
				b = b[:0]
			}
			segments = append(segments, v...)
		case nil:
			e.diags.Add(diag.Diagnostic{Span: p.site.whole(), Path: n.tree.path, Message: "the expression gave no value to put into the text", Hint: `.orValue("") or str(…) gives a text for it`})
			return nil
		default:
			e.diags.Add(diag.Diagnostic{Span: p.site.whole(), Path: n.tree.path, Message: field.KindName(v) + " cannot be put into a text", Hint: "join(…) or str(…) makes a text of it"})
			return nil
		}
		if int64(len(b)) > e.budget.Limits.ResultBytes {
			e.diags.Add(diag.Diagnostic{Span: p.site.whole(), Path: n.tree.path, Message: fmt.Sprintf("the text has more than %s bytes", renderers.Thousands(e.budget.Limits.ResultBytes))})
			return nil
		}
	}
	if segments == nil {
		return e.coerce(n.want, field.String(b), n.tree.place)
	}
	var v field.Value = segments
	if len(b) > 0 {
		v = append(segments, field.Segment{Text: string(b)})
	}
	return e.coerce(n.want, v, n.tree.place)
}

// list is a written-out list with something in it that is known only at render.
type list struct {
	items []node
	want  *field.Type
	tree  *tree
	// whole: the elements are checked together (a list form of a map, a check of the list's own), not one by one.
	whole bool
}

func (n *list) eval(e *evaluation) field.Value {
	out := make(field.List, 0, len(n.items))
	for _, item := range n.items {
		// optional.none() leaves an element out, as it leaves a key out.
		if v := item.eval(e); v != nil {
			out = append(out, v)
		}
	}
	if !n.whole {
		return out
	}
	if len(out) < len(n.items) {
		// The elements have moved up: only the list itself is where it was.
		return e.coerce(n.want, out, func(field.Problem) (diag.Span, string) { return n.tree.node.Span, n.tree.path })
	}
	return e.coerce(n.want, out, n.tree.place)
}

// object is a written-out map with something in it that is known only at render.
type object struct {
	// fixed are the keys known at load; shared, never changed.
	fixed field.Object
	keys  []string
	nodes []node
	want  *field.Type
	tree  *tree
	whole bool
}

func (n *object) eval(e *evaluation) field.Value {
	out := make(field.Object, len(n.fixed)+len(n.keys))
	maps.Copy(out, n.fixed)
	for i, k := range n.keys {
		if v := n.nodes[i].eval(e); v != nil {
			out[k] = v
		}
	}
	if n.whole {
		return e.coerce(n.want, out, n.tree.place)
	}
	return out
}

// merged puts a map known only at render on top of, or under, another one.
type merged struct{ under, over node }

func (n merged) eval(e *evaluation) field.Value {
	under := n.under.eval(e)
	over := n.over.eval(e)
	if e.stop != nil {
		return nil
	}
	return field.Merge(under, over)
}
