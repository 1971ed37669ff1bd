package cel

import (
	"slices"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"

	"github.com/latent-engine/latent-engine/engine/field"
)

// local is a variable of a macro or of cel.bind, innermost first.
type local struct {
	name  string
	typ   *field.Type
	slot  int
	outer *local
}

func (l *local) find(name string) *local {
	for ; l != nil; l = l.outer {
		if l.name == name {
			return l
		}
	}
	return nil
}

// typeOf is the type of e as exactly as it can be known: where CEL knows a map of anything, the keys of a literal and
// their types. It also refuses what CEL lets through: whatever looks at a secret, and unknown fields of known objects.
func (c *check) typeOf(e ast.Expr, in *local) *field.Type {
	t := c.exact(e, in)
	if c.weigh(t) > maxTypeSize {
		return anyType
	}
	return t
}

// maxTypeSize bounds a type: [{}].map(v, {"a": v, "b": v}), forty times over, has one of 2^40 fields.
const maxTypeSize = 2000

// weigh is how many types t is made of, counting a shared one each time.
func (c *check) weigh(t *field.Type) int {
	if t == nil || t.Elem == nil && t.Fields == nil {
		return 1
	}
	if n, ok := c.weights[t]; ok {
		return n
	}
	n := 1
	if t.Elem != nil {
		n += c.weigh(t.Elem)
	}
	if t.Fields != nil {
		for i := range t.Fields.Fields {
			n = min(n+c.weigh(t.Fields.Fields[i].Type), 1<<20)
		}
	}
	c.weights[t] = n
	return n
}

func (c *check) exact(e ast.Expr, in *local) *field.Type {
	known := c.fromCEL(c.tree.GetType(e.ID()))
	switch e.Kind() {
	case ast.LiteralKind:
		return known
	case ast.IdentKind:
		if i, ok := readIndex(e); ok {
			return c.readType(i)
		}
		if l := in.find(e.AsIdent()); l != nil && l.typ != nil {
			return l.typ
		}
		return known
	case ast.SelectKind:
		s := e.AsSelect()
		t := c.typeOf(s.Operand(), in)
		if s.IsTestOnly() {
			return known
		}
		return c.member(e, t, s.FieldName(), known)
	case ast.ListKind:
		var of *field.Type
		l := e.AsList()
		for i, x := range l.Elements() {
			t := c.typeOf(x, in)
			if l.IsOptional(int32(i)) {
				t = present(t)
			}
			of = join(of, t)
		}
		return field.ListOf(of)
	case ast.MapKind:
		return c.mapType(e, in)
	case ast.ComprehensionKind:
		return c.foldType(e, in, known)
	case ast.CallKind:
		return c.callType(e, in, known)
	}
	return known
}

func (c *check) readType(i int) *field.Type {
	r := &c.reads[i]
	t := r.typ
	t = plain(t, 0)
	switch {
	case r.mode == readHas:
		return t
	case r.mode == readOptional:
		return optional(notNull(t))
	case t.Kind == field.StringKind && t.Secret: // a text with a secret in it
		return &field.Type{Kind: field.SecretKind, Nullable: r.nullable}
	case r.nullable && !t.Nullable:
		n := *t
		n.Nullable = true
		return &n
	}
	return t
}

// plain is t without what is not part of a program's key: bounds, words, checks. What scope a shared program was first
// compiled under must not show.
func plain(t *field.Type, depth int) *field.Type {
	if t == nil || depth > 64 {
		return anyType
	}
	n := &field.Type{Kind: t.Kind, Open: t.Open, Values: t.Values, Nullable: t.Nullable, Secret: t.Secret, Unit: t.Unit}
	if t.Elem != nil {
		n.Elem = plain(t.Elem, depth+1)
	}
	for _, o := range t.Of {
		n.Of = append(n.Of, plain(o, depth+1))
	}
	if t.Fields != nil {
		fields := make([]field.Field, len(t.Fields.Fields))
		for i, f := range t.Fields.Fields {
			fields[i] = field.Field{Name: f.Name, Type: plain(f.Type, depth+1), Optional: f.Optional}
		}
		n.Fields = field.NewTable(t.Fields.Name, fields...)
	}
	return n
}

func optional(t *field.Type) *field.Type {
	if t.Optional {
		return t
	}
	n := *t
	n.Optional = true
	return &n
}

// present is the type of an optional's value.
func present(t *field.Type) *field.Type {
	if !t.Optional {
		return t
	}
	n := *t
	n.Optional = false
	return &n
}

// member is the type of t.key, on a value.
func (c *check) member(e ast.Expr, t *field.Type, key string, known *field.Type) *field.Type {
	soft := t.Optional || known.Optional
	out := known
	switch t.Kind {
	case field.ObjectKind:
		f, ok := lookup(t, key)
		switch {
		case ok:
			out = f.Type
			if out == nil {
				out = anyType
			}
			if f.Optional && !soft {
				out = present(out)
			}
		case !t.Open && !soft:
			hint := ""
			if t.Fields != nil {
				hint = didYouMean(key, t.Fields.Names())
			}
			c.problem(e.ID(), "unknown field "+quote(key), hint)
			return anyType
		}
	case field.MapKind:
		out = elem(t)
	}
	if soft {
		return optional(out)
	}
	return out
}

func (c *check) mapType(e ast.Expr, in *local) *field.Type {
	var fields []field.Field
	constant := true
	var of *field.Type
	for _, x := range e.AsMap().Entries() {
		entry := x.AsMapEntry()
		t := c.typeOf(entry.Value(), in)
		of = join(of, present(t))
		key := entry.Key()
		c.mapKey(key)
		c.typeOf(key, in)
		name, ok := types.String(""), false
		if key.Kind() == ast.LiteralKind {
			name, ok = key.AsLiteral().(types.String)
		}
		if !ok {
			constant = false
			continue
		}
		f := field.Field{Name: string(name), Type: t}
		if entry.IsOptional() {
			f.Type, f.Optional = present(t), true
		}
		fields = append(fields, f)
	}
	if !constant {
		return field.MapOf(of)
	}
	return field.ObjectOf(field.NewTable("map", fields...))
}

func (c *check) mapKey(key ast.Expr) {
	if t := c.tree.GetType(key.ID()); t != nil && t.Kind() != types.StringKind && t.Kind() != types.DynKind {
		c.problem(key.ID(), "the keys of a map must be strings, not "+kindWordOf(t), "string(…)")
	}
}

func (c *check) foldType(e ast.Expr, in *local, known *field.Type) *field.Type {
	k := e.AsComprehension()
	if isBind(k) {
		t := c.typeOf(k.AccuInit(), in)
		return c.typeOf(k.Result(), &local{name: k.AccuVar(), typ: t, outer: in})
	}
	rng := c.typeOf(k.IterRange(), in)
	c.typeOf(k.AccuInit(), in)
	var one, two *field.Type
	switch rng.Kind {
	case field.ListKind:
		one, two = elem(rng), elem(rng)
		if k.HasIterVar2() {
			one = field.Of(field.IntKind)
		}
	case field.MapKind:
		one, two = field.Of(field.StringKind), elem(rng)
	case field.ObjectKind:
		one = field.Of(field.StringKind)
	}
	inner := &local{name: k.AccuVar(), outer: &local{name: k.IterVar(), typ: one, outer: in}}
	if k.HasIterVar2() {
		inner = &local{name: k.IterVar2(), typ: two, outer: inner}
	}
	c.typeOf(k.LoopCondition(), inner)
	step := c.appended(k.LoopStep(), k.AccuVar(), inner)
	if step == nil {
		c.typeOf(k.LoopStep(), inner)
	}
	c.typeOf(k.Result(), &local{name: k.AccuVar(), outer: in})
	if step != nil && k.Result().Kind() == ast.IdentKind {
		return step
	}
	return known
}

// appended is the type of the list or map that the step of map(), filter(), transformMap() … builds.
func (c *check) appended(e ast.Expr, accu string, in *local) *field.Type {
	if e.Kind() != ast.CallKind {
		return nil
	}
	k := e.AsCall()
	args := k.Args()
	switch {
	case k.FunctionName() == "_?_:_" && len(args) == 3:
		isAccu := func(x ast.Expr) bool { return x.Kind() == ast.IdentKind && x.AsIdent() == accu }
		if !isAccu(args[2]) {
			return nil
		}
		t := c.appended(args[1], accu, in)
		if t != nil {
			c.typeOf(args[0], in)
		}
		return t
	case appends(e, accu):
		return field.ListOf(c.typeOf(args[1].AsList().Elements()[0], in))
	case k.FunctionName() == "cel.@mapInsert" && len(args) == 3:
		c.typeOf(args[1], in)
		c.mapKey(args[1])
		return field.MapOf(c.typeOf(args[2], in))
	}
	return nil
}

// appends reports whether e is accu + [x].
func appends(e ast.Expr, accu string) bool {
	if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != "_+_" || !strings.HasPrefix(accu, "@") {
		return false
	}
	args := e.AsCall().Args()
	return args[0].Kind() == ast.IdentKind && args[0].AsIdent() == accu && args[1].Kind() == ast.ListKind &&
		args[1].AsList().Size() == 1 && len(args[1].AsList().OptionalIndices()) == 0
}

func (c *check) callType(e ast.Expr, in *local, known *field.Type) *field.Type {
	k := e.AsCall()
	args := slices.Clone(k.Args())
	if k.IsMemberFunction() {
		args = append([]ast.Expr{k.Target()}, args...)
	}
	ts := make([]*field.Type, len(args))
	for i, a := range args {
		ts[i] = c.typeOf(a, in)
	}
	name := k.FunctionName()
	c.guardSecrets(e, name, args)
	if name == "cel.@mapInsert" && len(args) == 3 {
		c.mapKey(args[1])
	}
	switch name {
	case "format":
		c.checkFormat(args)
	case "_?_:_":
		return join(ts[1], ts[2])
	case "orValue":
		return join(present(ts[0]), ts[1])
	case "or":
		return optional(join(present(ts[0]), present(ts[1])))
	case orNullFunc:
		t := present(ts[0])
		if t.Nullable {
			return t
		}
		n := *t
		n.Nullable = true
		return &n
	case "optional.of", "optional.ofNonZeroValue":
		return optional(ts[0])
	case "optional.none":
		return &field.Type{Kind: field.NullKind, Optional: true}
	case "value":
		return present(ts[0])
	case anyNullFunc:
		return field.Of(field.NullKind)
	case "dyn":
		return anyType
	case "_[_]", "_[?_]", "_?._":
		if name == "_?._" || name == "_[?_]" {
			known = optional(known)
		}
		if lit := args[1]; lit.Kind() == ast.LiteralKind {
			if s, ok := lit.AsLiteral().(types.String); ok {
				return c.member(e, ts[0], string(s), known)
			}
		}
		soft := known.Optional || ts[0].Optional
		if (ts[0].Kind == field.ListKind || ts[0].Kind == field.MapKind) && ts[0].Elem != nil {
			if soft {
				return optional(ts[0].Elem)
			}
			return ts[0].Elem
		}
		return known
	case "first", "last":
		if ts[0].Kind == field.ListKind {
			return optional(elem(ts[0]))
		}
	case "sort", "@sortByAssociatedKeys", "distinct", "slice", "reverse":
		if ts[0].Kind == field.ListKind {
			return present(ts[0])
		}
	case "_+_":
		if ts[0].Kind == field.ListKind && ts[1].Kind == field.ListKind {
			return field.ListOf(join(ts[0].Elem, ts[1].Elem))
		}
	}
	return known
}

// checkFormat holds a literal text against a literal list of values.
func (c *check) checkFormat(args []ast.Expr) {
	text, ok := literalString(args[0])
	if !ok || args[1].Kind() != ast.ListKind || len(args[1].AsList().OptionalIndices()) > 0 {
		return
	}
	values := args[1].AsList().Elements()
	n := 0
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			continue
		}
		start := i
		i++
		if i < len(text) && text[i] == '%' {
			continue
		}
		if i < len(text) && text[i] == '.' {
			for i++; i < len(text) && text[i] >= '0' && text[i] <= '9'; i++ {
			}
		}
		if i >= len(text) || !strings.ContainsRune("sdfebxXo", rune(text[i])) {
			c.problem(args[0].ID(), "format() does not know "+quote(text[start:min(i+1, len(text))]), "there are %s, %d, %f, %.2f, %e, %b, %x, %X, %o, and %% for a percent sign")
			return
		}
		if n < len(values) {
			t := c.tree.GetType(values[n].ID())
			kind := kindWordOf(t)
			fits := true
			switch kind {
			case "a string":
				fits = text[i] == 's' || text[i] == 'x' || text[i] == 'X'
			case "a boolean":
				fits = text[i] == 's' || text[i] == 'b'
			case "a number":
				fits = text[i] != 'b' && text[i] != 'o' && text[i] != 'x' && text[i] != 'X'
			case "a list", "a map", "null", "a type":
				fits = text[i] == 's'
			}
			if !fits {
				c.problem(values[n].ID(), "%"+text[i:i+1]+" cannot write "+kind, "")
				return
			}
		}
		n++
	}
	if n != len(values) {
		c.problem(args[0].ID(), "format() has "+count(len(values), "value")+" for "+count(n, "place"), `one value for each %s, %d, …`)
	}
}

// guardSecrets refuses calls that would look at a secret, also inside of a list or map.
func (c *check) guardSecrets(e ast.Expr, name string, args []ast.Expr) {
	switch name {
	case "_?_:_", "optional.of", "orValue", "or", orNullFunc, "value", "hasValue", isNullFunc, notNullFunc, "first", "last",
		"cel.@mapInsert", "slice", "reverse", "flatten", "optional.unwrap", "unwrapOpt":
		return
	}
	for i, a := range args {
		t := c.tree.GetType(a.ID())
		if !holdsSecret(t) {
			continue
		}
		container := t.Kind() == types.ListKind || t.Kind() == types.MapKind
		switch {
		case container && (name == "size" || name == "_+_"),
			i == 0 && (name == "_[_]" || name == "_[?_]" || name == "_?._"),
			i == 1 && name == "@in" && t.Kind() == types.MapKind:
			continue
		}
		c.problem(e.ID(), secretCall(name), secretHint(name))
		return
	}
}

// join is the type of a value that is a or b.
func join(a, b *field.Type) *field.Type {
	switch {
	case a == nil || a == b:
		return b
	case b == nil:
		return a
	}
	if a.Optional || b.Optional {
		return optional(join(present(a), present(b)))
	}
	nullable := a.Nullable || b.Nullable || a.Kind == field.NullKind || b.Kind == field.NullKind
	out := joinKinds(a, b)
	if nullable && !out.Nullable && out.Kind != field.NullKind && out.Kind != field.Any {
		n := *out
		n.Nullable = true
		return &n
	}
	return out
}

func joinKinds(a, b *field.Type) *field.Type {
	number := func(t *field.Type) bool { return t.Kind == field.IntKind || t.Kind == field.FloatKind }
	text := func(t *field.Type) bool { return t.Kind == field.StringKind || t.Kind == field.EnumKind }
	switch {
	case a.Kind == field.NullKind:
		return b
	case b.Kind == field.NullKind:
		return a
	case a.Kind == field.EnumKind && b.Kind == field.EnumKind:
		values := slices.Clone(a.Values)
		for _, v := range b.Values {
			if !slices.Contains(values, v) {
				values = append(values, v)
			}
		}
		return field.EnumOf(values...)
	case text(a) && text(b):
		return field.Of(field.StringKind)
	case a.Kind == b.Kind:
		switch a.Kind {
		case field.ListKind:
			if a.Elem == nil || b.Elem == nil { // [] beside a list of something
				return field.ListOf(join(a.Elem, b.Elem))
			}
			return field.ListOf(join(a.Elem, b.Elem))
		case field.MapKind:
			return field.MapOf(join(a.Elem, b.Elem))
		case field.ObjectKind:
			return joinObjects(a, b)
		}
		return a
	case number(a) && number(b):
		return field.Of(field.FloatKind)
	case a.Kind == field.ObjectKind && b.Kind == field.MapKind, a.Kind == field.MapKind && b.Kind == field.ObjectKind:
		return field.MapOf(nil)
	}
	return anyType
}

// joinObjects has the keys of both; a key that only one of them has may be missing.
func joinObjects(a, b *field.Type) *field.Type {
	var fields []field.Field
	add := func(f field.Field, other *field.Type, swap bool) {
		if g, ok := lookup(other, f.Name); ok {
			if swap {
				return
			}
			f.Type, f.Optional = join(f.Type, g.Type), f.Optional || g.Optional
		} else {
			f.Optional = true
		}
		fields = append(fields, f)
	}
	if a.Fields != nil {
		for _, f := range a.Fields.Fields {
			add(field.Field{Name: f.Name, Type: f.Type, Optional: f.Optional}, b, false)
		}
	}
	if b.Fields != nil {
		for _, f := range b.Fields.Fields {
			add(field.Field{Name: f.Name, Type: f.Type, Optional: f.Optional}, a, true)
		}
	}
	t := field.ObjectOf(field.NewTable("map", fields...))
	t.Open = a.Open || b.Open
	return t
}

// fromCEL is the type that a CEL type says.
func (c *check) fromCEL(t *types.Type) *field.Type {
	if t == nil {
		return anyType
	}
	of := func(k field.Kind) *field.Type {
		out := field.Of(k)
		out.Nullable = t.IsAssignableType(types.NullType)
		return out
	}
	switch t.Kind() {
	case types.StringKind:
		return of(field.StringKind)
	case types.IntKind, types.UintKind:
		return of(field.IntKind)
	case types.DoubleKind:
		return of(field.FloatKind)
	case types.BoolKind:
		return of(field.BoolKind)
	case types.NullTypeKind:
		return field.Of(field.NullKind)
	case types.ListKind:
		return field.ListOf(c.fromCEL(t.Parameters()[0]))
	case types.MapKind:
		return field.MapOf(c.fromCEL(t.Parameters()[1]))
	case types.OpaqueKind:
		if t.TypeName() == secretType.TypeName() {
			return field.Of(field.SecretKind)
		}
		if len(t.Parameters()) == 1 {
			return optional(c.fromCEL(t.Parameters()[0]))
		}
	}
	return anyType
}

// maxResults bounds the closed set of results that Results gives.
const maxResults = 256

// results are all values that e can give; nil where they cannot be known.
func (c *check) results(e ast.Expr) []field.Value {
	switch e.Kind() {
	case ast.LiteralKind:
		switch v := e.AsLiteral().(type) {
		case types.String:
			return []field.Value{field.String(v)}
		case types.Int:
			return []field.Value{field.Int(v)}
		case types.Bool:
			return []field.Value{field.Bool(v)}
		case types.Double:
			return []field.Value{field.Float(v)}
		case types.Null:
			return []field.Value{nil}
		}
	case ast.IdentKind:
		i, ok := readIndex(e)
		if !ok || c.reads[i].typ.Kind != field.EnumKind {
			return nil
		}
		r := &c.reads[i]
		var out []field.Value
		for _, v := range r.typ.Values {
			out = append(out, field.String(v))
		}
		if r.nullable || r.mode == readOptional {
			out = append(out, nil)
		}
		return out
	case ast.CallKind:
		k := e.AsCall()
		args := k.Args()
		switch k.FunctionName() {
		case "_?_:_":
			return union(c.results(args[1]), c.results(args[2]))
		case "optional.of":
			return c.results(args[0])
		case "optional.none", anyNullFunc:
			return []field.Value{nil}
		case "orValue":
			if opt := c.results(k.Target()); opt != nil {
				some := slices.DeleteFunc(opt, func(v field.Value) bool { return v == nil })
				return union(some, c.results(args[0]))
			}
		case orNullFunc:
			return union(c.results(args[0]), []field.Value{nil})
		}
	case ast.ComprehensionKind:
		if k := e.AsComprehension(); isBind(k) {
			return c.results(k.Result())
		}
	}
	return nil
}

func union(a, b []field.Value) []field.Value {
	if a == nil || b == nil {
		return nil
	}
	out := slices.Clone(a)
	for _, v := range b {
		if !slices.ContainsFunc(out, func(o field.Value) bool { return field.Equal(o, v) }) {
			out = append(out, v)
		}
	}
	if len(out) > maxResults {
		return nil
	}
	return out
}
