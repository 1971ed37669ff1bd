package config

import (
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/field"
)

// renderable makes a value as written ready to be rendered: expressions cut out of its strings, calls and literals told from
// maps. types are what the value may be, for all kinds of backends that know the field (nil = not known). It gives nil where
// the value cannot stand, said already.
func (l *loader) renderable(path string, n *Node, types []*field.Type) *Node {
	switch n.Kind {
	case StringNode:
		if strings.Contains(n.Str, "${{") {
			return l.cut(path, n)
		}
	case ListNode:
		elems := elemTypes(types)
		kept := n.Items[:0]
		for i, item := range n.Items {
			if item = l.renderable(field.IndexPath(path, i), item, elems); item == nil {
				n.broken = true
				continue
			}
			n.broken = n.broken || item.broken
			kept = append(kept, item)
		}
		n.Items = kept
	case MapNode:
		if call := callKey(n); call != nil {
			return l.call(path, n, call)
		}
		l.entries(path, n, types)
	}
	return n
}

func (l *loader) entries(path string, n *Node, types []*field.Type) {
	if len(l.twins) > 0 && freeKeys(types) {
		for _, e := range n.Entries {
			delete(l.twins, e.Value)
		}
	}
	kept := n.Entries[:0]
	for _, e := range n.Entries {
		p := field.JoinPath(path, e.Key)
		if strings.Contains(e.Key, "${{") {
			l.errorf(e.KeySpan, path, `give the whole map as one expression: ${{ {'a' + 'b': 1} }}`, "a key cannot hold an expression")
			n.broken = true
			continue
		}
		if e.Value = l.renderable(p, e.Value, entryTypes(types, e.Key)); e.Value == nil {
			n.broken = true
			continue
		}
		n.broken = n.broken || e.Value.broken
		kept = append(kept, e)
	}
	n.Entries = kept
}

// callKey is the entry that makes the map a call: its only key, or wasm beside with.
func callKey(n *Node) *Entry {
	switch len(n.Entries) {
	case 1:
		switch n.Entries[0].Key {
		case "cel", "wasm", "interpolate", "literal":
			return &n.Entries[0]
		}
	case 2:
		for i := range n.Entries {
			if n.Entries[i].Key == "wasm" && n.Entries[1-i].Key == "with" {
				return &n.Entries[i]
			}
		}
	}
	return nil
}

func (l *loader) call(path string, n *Node, e *Entry) *Node {
	switch e.Key {
	case "literal":
		out := *n
		out.Kind, out.Entries, out.Items = LiteralNode, nil, []*Node{e.Value}
		l.literal(e.Value)
		return &out
	case "cel":
		l.errorf(e.KeySpan, path, `write the expression as ${{ ... }}, or {literal: {cel: ...}} for a map with the key "cel"`, "this version does not have the call form \"cel\"")
	default:
		l.errorf(e.KeySpan, path, "write {literal: {"+e.Key+": ...}} for a map with the key \""+e.Key+"\"", "this version does not have %s calls", e.Key)
	}
	return nil
}

// literal: what stands in {literal: ...} is taken as it is; keys that differ in case are the user's own affair there.
func (l *loader) literal(n *Node) {
	if len(l.twins) == 0 {
		return
	}
	for _, e := range n.Entries {
		delete(l.twins, e.Value)
		l.literal(e.Value)
	}
	for _, i := range n.Items {
		l.literal(i)
	}
}

// cut turns a string with "${{" in it into its segments.
func (l *loader) cut(path string, n *Node) *Node {
	pieces, problems := lex(n.Str)
	if len(problems) > 0 {
		for _, p := range problems {
			l.list.Add(diag.Diagnostic{Span: n.Text.Span(p.from, p.to), Path: path, Message: p.message, Hint: p.hint})
		}
		return nil
	}
	if len(pieces) == 0 || len(pieces) == 1 && !pieces[0].expr {
		n.Text = undoubled(n.Text, n.Str)
		n.Str = ""
		if len(pieces) == 1 {
			n.Str = pieces[0].text
		}
		return n
	}
	n.Kind = TextNode
	n.Segments = make([]Segment, len(pieces))
	for i, p := range pieces {
		if p.expr {
			n.Segments[i] = Segment{Expr: true, Source: p.text, At: part(n.Text, p.from, p.from+utf8.RuneCountInString(p.text))}
		} else {
			n.Segments[i] = Segment{Text: p.text}
		}
	}
	return n
}

// undoubled is the Text of s without the first character of each "$${{".
func undoubled(t diag.Text, s string) diag.Text {
	out := diag.Text{File: t.File}
	from, dropped := 0, 0
	add := func(to int) {
		for _, r := range part(t, from, to).Runs {
			out.Runs = append(out.Runs, diag.Run{Offset: r.Offset + from - dropped, Line: r.Line, Column: r.Column})
		}
	}
	points, i := 0, 0
	for {
		next := strings.Index(s[i:], "$${{")
		if next < 0 {
			break
		}
		points += utf8.RuneCountInString(s[i : i+next])
		i += next
		add(points)
		from, dropped = points+1, dropped+1
		points += 4
		i += 4
	}
	add(max(utf8.RuneCountInString(s), from+1))
	return out
}

// part is the Text of the code points [from, to): with no more runs than those need, because a text may have as many
// expressions as lines.
func part(t diag.Text, from, to int) diag.Text {
	first := max(sort.Search(len(t.Runs), func(i int) bool { return t.Runs[i].Offset > from })-1, 0)
	last := first + sort.Search(len(t.Runs)-first, func(i int) bool { return t.Runs[first+i].Offset >= to })
	out := diag.Text{File: t.File, Runs: slices.Clone(t.Runs[first:max(last, min(first+1, len(t.Runs)))])}
	for i := range out.Runs {
		r := &out.Runs[i]
		if r.Offset -= from; r.Offset < 0 {
			r.Column -= r.Offset
			r.Offset = 0
		}
	}
	return out
}

// freeKeys reports whether a map of one of the types has keys of the user's own (an environment, labels).
func freeKeys(types []*field.Type) bool {
	return slices.ContainsFunc(types, func(t *field.Type) bool {
		return t != nil && (t.Kind == field.MapKind || t.Kind == field.OneOfKind && freeKeys(t.Of))
	})
}

// elemTypes and entryTypes go down into the types along a list's items and a map's key.
func elemTypes(types []*field.Type) []*field.Type {
	var out []*field.Type
	for _, t := range types {
		switch {
		case t == nil:
		case t.Kind == field.ListKind && t.Elem != nil:
			out = append(out, t.Elem)
		case t.Kind == field.OneOfKind:
			out = append(out, elemTypes(t.Of)...)
		}
	}
	return out
}

func entryTypes(types []*field.Type, key string) []*field.Type {
	var out []*field.Type
	for _, t := range types {
		switch {
		case t == nil:
		case t.Kind == field.MapKind && t.Elem != nil:
			out = append(out, t.Elem)
		case t.Kind == field.ObjectKind && t.Fields != nil:
			if f, ok := t.Fields.Lookup(key); ok {
				out = append(out, f.Type)
			}
		case t.Kind == field.OneOfKind:
			out = append(out, entryTypes(t.Of, key)...)
		}
	}
	return out
}

// kindName is the word that messages use for a node's kind.
func (n *Node) kindName() string {
	switch n.Kind {
	case NullNode:
		return "null"
	case BoolNode:
		return "a boolean"
	case IntNode:
		return "an integer"
	case FloatNode:
		return "a number"
	case StringNode, TextNode:
		return "a string"
	case ListNode:
		return "a list"
	case CallNode:
		return "a call"
	}
	return "a map"
}
