package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/field"
)

// Limits on declared properties.
const (
	maxPropDepth = 3   // lists and maps within one another
	maxPattern   = 256 // characters of a pattern
)

var propKeys = []string{"type", "default", "minimum", "maximum", "min_length", "max_length", "pattern", "enum", "doc"}

// props reads a worker's props:.
func (l *loader) props(d *draft, path string, n *Node) {
	switch n.Kind {
	case NullNode:
		return
	case MapNode:
	default:
		l.errorf(n.Span, path, "", "expected a map of names and types here, not %s", n.kindName())
		return
	}
	for i := range n.Entries {
		e := &n.Entries[i]
		delete(l.twins, e.Value) // properties are told apart by case
		p := field.JoinPath(path, e.Key)
		if !ValidProperty(e.Key) {
			l.errorf(e.KeySpan, p, `letters, digits, ".", "_", ":", "/" and "-", a letter or "_" first, at most 255`, "%q cannot be the name of a property", clip(e.Key))
			continue
		}
		d.props = append(d.props, l.prop(p, e))
	}
}

// prop reads one declaration. A property whose declaration is wrong is declared all the same, of any type, so that its uses
// are not reported too.
func (l *loader) prop(path string, e *Entry) *Prop {
	p := &Prop{Name: e.Key, Span: e.KeySpan, Type: &field.Type{Nullable: true}, Decl: "any?"}
	switch e.Value.Kind {
	case StringNode:
		l.propType(p, path, e.Value)
	case MapNode:
		l.propMap(p, path, e.Value)
	default:
		l.errorf(e.Value.Span, path, `such as "string", "int?", or {type: int, default: 2}`, "expected a type here, not %s", e.Value.kindName())
	}
	return p
}

func (l *loader) propType(p *Prop, path string, n *Node) bool {
	t, from, to, message := parseType(n.Str)
	if t == nil {
		hint := ""
		if w := n.Str[from:to]; !slices.Contains(typeNames, w) {
			hint = meant(w, typeNames)
		}
		if hint == "" {
			hint = "types: string, bool, int, float, any, list(T), map(string, T); a \"?\" behind it: may be missing"
		}
		runes := func(i int) int { return len([]rune(n.Str[:i])) }
		l.list.Add(diag.Diagnostic{Span: n.Text.Span(runes(from), runes(to)), Path: path, Message: message, Hint: hint})
		return false
	}
	p.Type, p.Decl = t, n.Str
	return true
}

var typeNames = []string{"string", "bool", "int", "float", "any", "list", "map"}

// parseType reads a type as it is written in props:. Where it cannot, it tells the bytes [from, to) that are wrong.
func parseType(s string) (t *field.Type, from, to int, message string) {
	p := &typeParser{s: s}
	t = p.parse(0)
	if t != nil && p.i < len(s) {
		p.fail(p.i, len(s), "unexpected text after the type")
	}
	if p.message != "" {
		return nil, p.from, p.to, p.message
	}
	return t, 0, 0, ""
}

type typeParser struct {
	s        string
	i        int
	from, to int
	message  string
}

func (p *typeParser) fail(from, to int, message string) *field.Type {
	if p.message == "" {
		p.from, p.to, p.message = from, to, message
	}
	return nil
}

func (p *typeParser) blank() {
	for p.i < len(p.s) && p.s[p.i] == ' ' {
		p.i++
	}
}

func (p *typeParser) word() string {
	p.blank()
	start := p.i
	for p.i < len(p.s) && (p.s[p.i]|0x20 >= 'a' && p.s[p.i]|0x20 <= 'z' || p.s[p.i] == '_' || p.s[p.i] >= '0' && p.s[p.i] <= '9') {
		p.i++
	}
	return p.s[start:p.i]
}

func (p *typeParser) expect(c byte) bool {
	if p.blank(); p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	p.fail(p.i, min(p.i+1, len(p.s)), fmt.Sprintf("expected %q in the type", string(c)))
	return false
}

func (p *typeParser) parse(depth int) *field.Type {
	p.blank()
	start := p.i
	w := p.word()
	t := &field.Type{}
	switch w {
	case "string":
		t.Kind = field.StringKind
	case "bool":
		t.Kind = field.BoolKind
	case "int":
		t.Kind = field.IntKind
	case "float":
		t.Kind = field.FloatKind
	case "any":
		t.Kind = field.Any
	case "list", "map":
		if depth == maxPropDepth {
			return p.fail(start, p.i, fmt.Sprintf("lists and maps nested more than %d deep", maxPropDepth))
		}
		if !p.expect('(') {
			return nil
		}
		if w == "map" {
			p.blank()
			at := p.i
			if key := p.word(); key != "string" {
				return p.fail(at, max(p.i, min(at+1, len(p.s))), "the keys of a map are strings: map(string, T)")
			}
			if !p.expect(',') {
				return nil
			}
		}
		t.Kind = field.ListKind
		if w == "map" {
			t.Kind = field.MapKind
		}
		if t.Elem = p.parse(depth + 1); t.Elem == nil || !p.expect(')') {
			return nil
		}
	case "":
		return p.fail(p.i, min(p.i+1, len(p.s)), "expected a type here")
	default:
		return p.fail(start, p.i, fmt.Sprintf("unknown type %q", clip(w)))
	}
	if p.blank(); p.i < len(p.s) && p.s[p.i] == '?' {
		t.Nullable = true
		p.i++
	}
	p.blank()
	return t
}

func (l *loader) propMap(p *Prop, path string, n *Node) {
	ok := true
	typ, enum := n.Get("type"), n.Get("enum")
	switch {
	case typ != nil && typ.Kind == StringNode:
		ok = l.propType(p, field.JoinPath(path, "type"), typ)
	case typ != nil:
		l.text(typ, field.JoinPath(path, "type"))
		ok = false
	case enum != nil:
		p.Type, p.Decl = &field.Type{Kind: field.StringKind}, "string"
	default:
		l.errorf(n.Span, path, `such as {type: int, default: 2}`, "the property has no type")
		ok = false
	}
	t := *p.Type
	for i := range n.Entries {
		e := &n.Entries[i]
		at := field.JoinPath(path, e.Key)
		switch e.Key {
		case "type", "default":
		case "doc":
			if s, isText := l.text(e.Value, at); isText {
				p.Doc = s
			}
		case "minimum", "maximum", "min_length", "max_length", "pattern", "enum":
			if ok {
				ok = l.bound(&t, e, at) && ok
			}
		default:
			l.unknown(e.KeySpan, at, "key", e.Key, propKeys)
			ok = false
		}
	}
	if !ok {
		p.Type, p.Decl = &field.Type{Nullable: true}, "any?"
		return
	}
	if t.Min != nil && t.Max != nil && *t.Min > *t.Max {
		l.errorf(n.Span, path, "", "the lower bound %d is above the upper bound %d", *t.Min, *t.Max)
		return
	}
	p.Type = &t
	if def := n.Get("default"); def != nil && def.Kind != NullNode {
		l.propDefault(p, field.JoinPath(path, "default"), def)
	}
}

// bound reads one bound of a property's type into t.
func (l *loader) bound(t *field.Type, e *Entry, path string) bool {
	n := e.Value
	refuse := func(what string) bool {
		l.errorf(e.KeySpan, path, "", "%q is for %s, not for %s", e.Key, what, t)
		return false
	}
	number := t.Kind == field.IntKind || t.Kind == field.FloatKind
	sized := t.Kind == field.StringKind || t.Kind == field.ListKind || t.Kind == field.MapKind
	switch e.Key {
	case "minimum", "maximum":
		if !number {
			return refuse("numbers")
		}
		if t.Kind == field.FloatKind && (n.Kind == IntNode || n.Kind == FloatNode) {
			floatBound(t, e.Key == "minimum", n)
			return true
		}
		if n.Kind != IntNode {
			l.errorf(n.Span, path, "", "expected an integer here, not %s", n.kindName())
			return false
		}
	case "min_length", "max_length":
		if !sized {
			return refuse("strings, lists and maps")
		}
		if n.Kind != IntNode || n.Int < 0 {
			l.errorf(n.Span, path, "", "expected an integer from 0 on here")
			return false
		}
	case "pattern":
		return l.pattern(t, e, path)
	case "enum":
		return l.enum(t, e, path)
	}
	v := n.Int
	if strings.HasPrefix(e.Key, "min") {
		t.Min = &v
	} else {
		t.Max = &v
	}
	return true
}

// floatBound puts a bound of a float into its check; Min and Max hold integers only.
func floatBound(t *field.Type, lower bool, n *Node) {
	limit := n.Float
	if n.Kind == IntNode {
		limit = float64(n.Int)
	}
	before := t.Check
	t.Check = func(v field.Value) (field.Value, error) {
		f, ok := v.(field.Float)
		switch {
		case ok && lower && float64(f) < limit:
			return v, fmt.Errorf("%v is less than the minimum %v", f, limit)
		case ok && !lower && float64(f) > limit:
			return v, fmt.Errorf("%v is more than the maximum %v", f, limit)
		case before != nil:
			return before(v)
		}
		return v, nil
	}
}

// pattern is a regular expression that the whole string must match.
func (l *loader) pattern(t *field.Type, e *Entry, path string) bool {
	s, ok := l.text(e.Value, path)
	switch {
	case !ok:
		return false
	case t.Kind != field.StringKind:
		l.errorf(e.KeySpan, path, "", "%q is for strings, not for %s", e.Key, t)
		return false
	case len([]rune(s)) > maxPattern:
		l.errorf(e.Value.Span, path, "", "the pattern has more than %d characters", maxPattern)
		return false
	case s == "":
		l.errorf(e.Value.Span, path, "", "the pattern is empty")
		return false
	}
	re, err := regexp.Compile(`\A(?:` + s + `)\z`)
	if err == nil {
		// The parts alone must be an expression too: "a)|(b" is none.
		_, err = regexp.Compile(s)
	}
	if err != nil {
		l.errorf(e.Value.Span, path, "syntax: https://github.com/google/re2/wiki/Syntax", "this is not a regular expression")
		return false
	}
	t.Check = func(v field.Value) (field.Value, error) {
		if s, ok := v.(field.String); ok && !re.MatchString(string(s)) {
			return v, fmt.Errorf("%q does not match the pattern %s", clip(string(s)), e.Value.Str)
		}
		return v, nil
	}
	return true
}

func (l *loader) enum(t *field.Type, e *Entry, path string) bool {
	if t.Kind != field.StringKind && t.Kind != field.EnumKind {
		l.errorf(e.KeySpan, path, "", "%q is for strings, not for %s", e.Key, t)
		return false
	}
	if e.Value.Kind != ListNode || len(e.Value.Items) == 0 {
		l.errorf(e.Value.Span, path, "", "expected a list of strings here")
		return false
	}
	var values []string
	for i, item := range e.Value.Items {
		s, ok := l.text(item, field.IndexPath(path, i))
		if !ok {
			return false
		}
		values = append(values, s)
	}
	t.Kind, t.Values = field.EnumKind, values
	return true
}

// propDefault reads and checks a default.
func (l *loader) propDefault(p *Prop, path string, n *Node) {
	v, ok := l.literalValue(path, n)
	if !ok {
		return
	}
	out, problems := p.Type.Coerce(v)
	for _, q := range problems {
		at, where := n, path
		if q.Path != "" {
			at, where = n.at(q.Path), joinPaths(path, q.Path)
		}
		l.errorf(at.Span, where, q.Hint, "%s", q.Message)
	}
	if len(problems) == 0 {
		p.Default = out
	}
}

// literalValue is n as a value, reported where an expression stands in it.
func (l *loader) literalValue(path string, n *Node) (field.Value, bool) {
	ok := true
	var walk func(path string, n *Node) field.Value
	walk = func(path string, n *Node) field.Value {
		switch n.Kind {
		case BoolNode:
			return field.Bool(n.Bool)
		case IntNode:
			return field.Int(n.Int)
		case FloatNode:
			return field.Float(n.Float)
		case StringNode, TextNode:
			if strings.Contains(n.Str, "${{") {
				l.errorf(n.Span, path, "", "the value must be known when the file is read: no expression can stand here")
				ok = false
			}
			return field.String(n.Str)
		case ListNode:
			out := make(field.List, len(n.Items))
			for i, item := range n.Items {
				out[i] = walk(field.IndexPath(path, i), item)
			}
			return out
		case MapNode:
			out := make(field.Object, len(n.Entries))
			for _, e := range n.Entries {
				out[e.Key] = walk(field.JoinPath(path, e.Key), e.Value)
			}
			return out
		}
		return nil
	}
	v := walk(path, n)
	return v, ok && !n.broken
}

// at is the node at a path below n, or the nearest one that there is.
func (n *Node) at(path string) *Node {
	steps, err := field.SplitPath(path)
	if err != nil {
		return n
	}
	for _, s := range steps {
		var next *Node
		switch s := s.(type) {
		case string:
			next = n.Get(s)
		case int:
			if s < len(n.Items) {
				next = n.Items[s]
			}
		}
		if next == nil {
			return n
		}
		n = next
	}
	return n
}

func joinPaths(a, b string) string {
	if strings.HasPrefix(b, "[") {
		return a + b
	}
	return a + "." + b
}
