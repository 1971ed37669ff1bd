package cel

import (
	"slices"
	"strconv"
	"strings"

	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/containers"
	"github.com/google/cel-go/common/decls"
	"github.com/google/cel-go/common/types"

	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/renderers"
)

// resolved is a chain under a scope: how many of its steps are a path of the bindings, and of what type the value is.
// The steps after that are CEL's, on a value.
type resolved struct {
	chain *chain
	depth int
	mode  readMode
	typ   *field.Type // what stands there, without Optional
	// nullable: the value can be null. lenient: a missing last key is null.
	nullable, lenient bool
	problem           *renderers.Problem
}

var anyType = &field.Type{}

func elem(t *field.Type) *field.Type {
	if t.Elem == nil {
		return anyType
	}
	return t.Elem
}

func lookup(t *field.Type, key string) (*field.Field, bool) {
	if t.Fields == nil {
		return nil, false
	}
	return t.Fields.Lookup(key)
}

func (p *parsed) resolve(c *chain, scope *renderers.Scope) resolved {
	r := resolved{chain: c}
	t, ok := scope.Names[c.root]
	if !ok || t == nil {
		from, to := p.span(c.ids[0])
		r.problem = &renderers.Problem{From: from, To: to, Message: "unknown name " + quote(c.root)}
		r.problem.Hint, r.problem.Meant = p.suggestName(c.root, scope)
		return r
	}
	for i, s := range c.steps {
		var next *field.Type
		lenient, nullable := false, false
		switch t.Kind {
		case field.ObjectKind:
			f, ok := lookup(t, s.key)
			switch {
			case ok:
				next = f.Type
				lenient = f.Optional
			case !t.Open:
				from, to := p.keySpan(c, i)
				r.problem = unknownKey(c, i, t, from, to)
				return r
			}
		case field.MapKind:
			next = elem(t)
		default:
			if r.depth == 0 { // the root itself is no object
				r.typ, r.nullable = t, t.Nullable
			}
			return r
		}
		r.depth = i + 1
		if s.test {
			r.mode, r.typ, r.nullable, r.lenient = readHas, field.Of(field.BoolKind), false, false
			return r
		}
		if s.optional {
			r.mode = readOptional
		}
		if next == nil {
			next = anyType
		}
		nullable = lenient || next.Nullable
		t = next
		r.typ, r.nullable, r.lenient = t, nullable, lenient
	}
	if r.depth == 0 {
		r.typ, r.nullable = t, t.Nullable
	}
	return r
}

func unknownKey(c *chain, i int, t *field.Type, from, to int) *renderers.Problem {
	key := c.steps[i].key
	what := "unknown field "
	if i == 0 {
		switch c.root {
		case "props":
			what = "unknown property "
		case "vars":
			what = "unknown variable "
		}
	}
	var known []string
	if t.Fields != nil {
		known = t.Fields.Names()
	}
	hint, meant := "", ""
	switch s := diag.Suggest(key, known); {
	case s != "":
		hint = "did you mean " + quote(s) + "?"
		if i == 0 {
			meant = field.JoinPath(c.root, s)
		}
	case i == 0 && c.root == "props":
		hint = "declare it under props:"
	case i == 0 && c.root == "vars":
		hint = "declare it under vars:"
	case len(known) > 0 && len(known) <= 20:
		hint = "there are: " + strings.Join(known, ", ")
	}
	return &renderers.Problem{From: from, To: to, Message: what + quote(key), Hint: hint, Meant: meant}
}

// suggestName is a hint for an unknown name, and the path of what it proposes where that is a declared one.
func (p *parsed) suggestName(got string, scope *renderers.Scope) (hint, meant string) {
	var candidates []string
	for n := range scope.Names {
		candidates = append(candidates, n)
	}
	for _, d := range functionDocs {
		candidates = append(candidates, d.Name)
	}
	slices.Sort(candidates)
	if hint := didYouMean(got, candidates); hint != "" {
		return hint, ""
	}
	for _, root := range []string{"props", "vars", "build", "worker"} {
		if t := scope.Names[root]; t != nil && t.Kind == field.ObjectKind {
			if _, ok := lookup(t, got); ok {
				meant = field.JoinPath(root, got)
				return "did you mean " + meant + "?", meant
			}
		}
	}
	for _, d := range functionDocs {
		if strings.HasPrefix(d.Name, got+".") {
			return got + " is a group of functions: " + d.Name + "(…)", ""
		}
	}
	return "", ""
}

// signature is what the check of a text depends on beside the text, as a key: equal for equal types of the paths that it reads.
func signature(rs []resolved, secrets bool) (string, bool) {
	b := make([]byte, 0, 64)
	for i := range rs {
		r := &rs[i]
		if r.problem != nil {
			return "", false
		}
		b = strconv.AppendInt(b, int64(r.depth), 10)
		b = append(b, "vo?"[r.mode])
		if r.lenient {
			b = append(b, 'l')
		}
		if r.nullable {
			b = append(b, 'n')
		}
		b = fingerprint(b, r.typ, 0)
		b = append(b, ';')
	}
	if secrets {
		b = append(b, '$')
	}
	return string(b), true
}

func fingerprint(b []byte, t *field.Type, depth int) []byte {
	if t == nil || depth > 64 {
		return append(b, '*')
	}
	b = append(b, 'A'+byte(t.Kind))
	if t.Nullable {
		b = append(b, 'n')
	}
	if t.Secret {
		b = append(b, 's')
	}
	switch t.Kind {
	case field.EnumKind:
		for _, v := range t.Values {
			b = append(strconv.AppendQuote(b, v), ',')
		}
	case field.ListKind, field.MapKind:
		b = fingerprint(b, t.Elem, depth+1)
	case field.DurationKind:
		b = strconv.AppendInt(b, t.Unit, 10)
	case field.OneOfKind:
		b = append(b, '(')
		for _, o := range t.Of {
			b = fingerprint(b, o, depth+1)
		}
		b = append(b, ')')
	case field.ObjectKind:
		b = append(b, '{')
		if t.Open {
			b = append(b, '+')
		}
		if t.Fields != nil {
			for _, f := range t.Fields.Fields {
				b = strconv.AppendQuote(b, f.Name)
				if f.Optional {
					b = append(b, '?')
				}
				b = fingerprint(b, f.Type, depth+1)
			}
		}
		b = append(b, '}')
	}
	return b
}

// celType is the type under which cel-go checks a value of the scope. Null goes with the types that have a wrapper; the
// others are compared with null by a function of our own.
func celType(t *field.Type, nullable bool) *types.Type {
	if t == nil {
		return types.DynType
	}
	nullable = nullable || t.Nullable
	wrap := func(c *types.Type) *types.Type {
		if nullable {
			return types.NewNullableType(c)
		}
		return c
	}
	switch t.Kind {
	case field.StringKind, field.EnumKind:
		if t.Secret {
			return secretType
		}
		return wrap(types.StringType)
	case field.BoolKind:
		return wrap(types.BoolType)
	case field.IntKind:
		return wrap(types.IntType)
	case field.FloatKind:
		return wrap(types.DoubleType)
	case field.ListKind:
		return types.NewListType(celType(t.Elem, false))
	case field.MapKind:
		return types.NewMapType(types.StringType, celType(t.Elem, false))
	case field.ObjectKind:
		return types.NewMapType(types.StringType, types.DynType)
	case field.SecretKind:
		return secretType
	case field.NullKind:
		return types.NullType
	}
	return types.DynType
}

// check type-checks a parsed text under a scope, and plans its evaluation.
func (env *environment) check(p *parsed, rs []resolved, scope *renderers.Scope) (*program, []renderers.Problem) {
	problems := slices.Clone(p.problems)
	for i := range rs {
		if rs[i].problem != nil {
			problems = append(problems, *rs[i].problem)
		}
	}
	if p.tree == nil || len(p.problems) > 0 {
		return nil, order(problems)
	}
	if p.secret != 0 && !scope.Secrets {
		from, to := p.span(p.secret)
		problems = append(problems, renderers.Problem{From: from, To: to, Message: "a secret cannot be used here"})
	}
	c := &check{env: env, p: p, reads: rs, byNode: map[int64]int{}, reported: map[int64]bool{}, weights: map[*field.Type]int{}, problems: problems}
	ce, err := checker.NewEnv(containers.DefaultContainer, env.types, checker.CrossTypeNumericComparisons(true), checker.ValidatedDeclarations(env.base))
	if err != nil {
		panic("internal error: " + err.Error())
	}
	for i := range rs {
		r := &rs[i]
		if r.problem != nil {
			c.byNode[r.chain.outer()] = i
			if err := ce.AddIdents(decls.NewVariable(readName(i), types.DynType)); err != nil {
				panic("internal error: " + err.Error())
			}
			continue
		}
		c.byNode[r.chain.ids[r.depth]] = i
		t := celType(r.typ, r.nullable)
		if r.mode == readOptional {
			t = types.NewOptionalType(celType(notNull(r.typ), false))
		}
		if err := ce.AddIdents(decls.NewVariable(readName(i), t)); err != nil {
			panic("internal error: " + err.Error())
		}
	}
	tree := ast.Copy(p.tree)
	c.fac = ast.NewExprFactory()
	c.rewrite(tree.Expr(), nil)
	checked, errs := checker.Check(tree, common.NewTextSource(p.text), ce)
	c.tree = checked
	for _, e := range errs.GetErrors() {
		c.translate(e)
	}
	if len(c.problems) > 0 {
		return nil, order(c.problems)
	}
	typ := c.typeOf(checked.Expr(), nil)
	if len(c.problems) == 0 {
		c.checkResult(checked.Expr().ID(), checked.GetType(checked.Expr().ID()))
	}
	if len(c.problems) > 0 {
		return nil, order(c.problems)
	}
	prog := &program{env: env, parsed: p, typ: typ}
	prog.results = c.results(checked.Expr())
	seen := map[string]bool{}
	for i := range rs {
		steps := make([]pathStep, rs[i].depth)
		for j := range steps {
			steps[j] = pathStep{key: rs[i].chain.steps[j].key}
		}
		if s := path(rs[i].chain.root, steps); !seen[s] {
			seen[s] = true
			prog.reads = append(prog.reads, s)
		}
	}
	slices.Sort(prog.reads)
	pl := planner{c: c}
	prog.root = pl.plan(checked.Expr(), nil)
	prog.slots = pl.slots
	return prog, nil
}

func notNull(t *field.Type) *field.Type {
	if t == nil || !t.Nullable {
		return t
	}
	n := *t
	n.Nullable = false
	return &n
}

// maxProblems bounds what is said of one expression.
const maxProblems = 20

func order(ps []renderers.Problem) []renderers.Problem {
	slices.SortStableFunc(ps, func(a, b renderers.Problem) int { return a.From - b.From })
	ps = slices.CompactFunc(ps, func(a, b renderers.Problem) bool { return a.From == b.From && a.Message == b.Message })
	return ps[:min(len(ps), maxProblems)]
}

func readName(i int) string { return "@r" + strconv.Itoa(i) }

func readIndex(e ast.Expr) (int, bool) {
	if e.Kind() != ast.IdentKind {
		return 0, false
	}
	n, ok := strings.CutPrefix(e.AsIdent(), "@r")
	if !ok {
		return 0, false
	}
	i, err := strconv.Atoi(n)
	return i, err == nil
}

type check struct {
	env      *environment
	p        *parsed
	fac      ast.ExprFactory
	tree     *ast.AST
	reads    []resolved
	byNode   map[int64]int
	problems []renderers.Problem
	// reported are the nodes about which all is said.
	reported map[int64]bool
	weights  map[*field.Type]int
}

func (c *check) problem(id int64, message, hint string) {
	from, to := c.p.span(id)
	c.problems = append(c.problems, renderers.Problem{From: from, To: to, Message: message, Hint: hint})
}

func isNull(e ast.Expr) bool {
	return e.Kind() == ast.LiteralKind && e.AsLiteral().Type() == types.NullType
}

// rewrite makes what cel-go checks out of what was written: a path of the scope is a variable of its type, functions
// have their full names, null compares with anything.
func (c *check) rewrite(e ast.Expr, _ any) {
	if i, ok := c.byNode[e.ID()]; ok {
		e.SetKindCase(c.fac.NewIdent(e.ID(), readName(i)))
		return
	}
	sub := func(x ast.Expr) { c.rewrite(x, nil) }
	switch e.Kind() {
	case ast.SelectKind:
		sub(e.AsSelect().Operand())
	case ast.ListKind:
		for _, x := range e.AsList().Elements() {
			sub(x)
		}
	case ast.MapKind:
		for _, x := range e.AsMap().Entries() {
			sub(x.AsMapEntry().Key())
			sub(x.AsMapEntry().Value())
		}
	case ast.ComprehensionKind:
		k := e.AsComprehension()
		if c.p.aliases[e.ID()] {
			k.AccuInit().SetKindCase(c.fac.NewLiteral(k.AccuInit().ID(), types.NullValue))
		}
		for _, x := range []ast.Expr{k.IterRange(), k.AccuInit(), k.LoopCondition(), k.LoopStep(), k.Result()} {
			sub(x)
		}
	case ast.CallKind:
		c.rewriteCall(e)
	}
}

func (c *check) rewriteCall(e ast.Expr) {
	k := e.AsCall()
	name, args := k.FunctionName(), k.Args()
	if k.IsMemberFunction() {
		if t := k.Target(); t.Kind() == ast.IdentKind && c.p.spaces[t.ID()] {
			e.SetKindCase(c.fac.NewCall(e.ID(), t.AsIdent()+"."+name, args...))
		} else {
			c.rewrite(t, nil)
		}
	}
	for _, a := range args {
		c.rewrite(a, nil)
	}
	switch {
	case (name == "_==_" || name == "_!=_") && len(args) == 2 && (isNull(args[0]) || isNull(args[1])):
		fn := isNullFunc
		if name == "_!=_" {
			fn = notNullFunc
		}
		other := args[0]
		if isNull(other) {
			other = args[1]
		}
		e.SetKindCase(c.fac.NewCall(e.ID(), fn, other))
	case name == "orValue" && k.IsMemberFunction() && len(args) == 1 && isNull(args[0]):
		e.SetKindCase(c.fac.NewCall(e.ID(), orNullFunc, k.Target()))
	case name == "_?_:_" && len(args) == 3:
		for _, a := range args[1:] {
			if isNull(a) {
				a.SetKindCase(c.fac.NewCall(a.ID(), anyNullFunc))
			}
		}
	case (name == "_[_]" || name == "_[?_]") && len(args) == 2:
		c.literalKey(e.ID(), args[0], args[1])
	case name == "@in" && len(args) == 2:
		c.literalKey(e.ID(), args[1], args[0])
	}
}

// literalKey refuses a computed key of an object whose keys are known: a typing error in it would be found only in a build.
func (c *check) literalKey(call int64, operand, key ast.Expr) {
	i, ok := readIndex(operand)
	if !ok || c.reads[i].problem != nil {
		return
	}
	t := c.reads[i].typ
	if t == nil || t.Kind != field.ObjectKind || t.Open || c.reads[i].mode == readHas {
		return
	}
	root := c.reads[i].chain.root
	c.reported[call] = true
	if key.Kind() == ast.LiteralKind {
		c.problem(key.ID(), "a key of "+root+" must be a string", "")
		return
	}
	hint := "write " + root + `["name"]`
	if root == "props" {
		hint += ", or set props_open: true for the worker"
	}
	c.problem(key.ID(), "a key of "+root+" must be written out: only then is it known before the build", hint)
}

// kindWord is what messages call a value of a CEL type.
func kindWordOf(t *types.Type) string {
	if t == nil {
		return "a value"
	}
	if t.IsAssignableType(types.NullType) && t.Kind() != types.DynKind && t.Kind() != types.NullTypeKind && t.Kind() != types.AnyKind {
		switch t.Kind() {
		case types.StringKind:
			return "a string"
		case types.IntKind:
			return "an integer"
		case types.BoolKind:
			return "a boolean"
		case types.DoubleKind:
			return "a number"
		}
	}
	switch t.Kind() {
	case types.StringKind:
		return "a string"
	case types.IntKind:
		return "an integer"
	case types.UintKind:
		return "an unsigned integer"
	case types.DoubleKind:
		return "a number"
	case types.BoolKind:
		return "a boolean"
	case types.NullTypeKind:
		return "null"
	case types.BytesKind:
		return "bytes"
	case types.ListKind:
		return "a list"
	case types.MapKind:
		return "a map"
	case types.TypeKind:
		return "a type"
	case types.OpaqueKind:
		if t.TypeName() == secretType.TypeName() {
			return "a secret"
		}
		if t.IsAssignableType(t) && len(t.Parameters()) == 1 {
			inner := kindWordOf(t.Parameters()[0])
			if inner == "any value" {
				return "an optional value"
			}
			return "an optional " + strings.TrimPrefix(strings.TrimPrefix(inner, "an "), "a ")
		}
	}
	return "any value"
}

func holdsSecret(t *types.Type) bool {
	if t == nil {
		return false
	}
	if t.Kind() == types.OpaqueKind && t.TypeName() == secretType.TypeName() {
		return true
	}
	return slices.ContainsFunc(t.Parameters(), holdsSecret)
}

// translate says a type error in the user's words. cel-go reports the node and a text; the text only tells which of a few
// cases it is, the rest comes from the tree.
func (c *check) translate(e *common.Error) {
	if c.reported[e.ExprID] {
		return
	}
	node := c.find(e.ExprID)
	typ := func(x ast.Expr) *types.Type { return c.tree.GetType(x.ID()) }
	switch {
	case node != nil && node.Kind() == ast.CallKind && strings.HasPrefix(e.Message, "found no matching overload"):
		call := node.AsCall()
		operands := slices.Clone(call.Args())
		if call.IsMemberFunction() {
			operands = append([]ast.Expr{call.Target()}, operands...)
		}
		kinds := make([]string, len(operands))
		for i, o := range operands {
			kinds[i] = kindWordOf(typ(o))
			if holdsSecret(typ(o)) && call.FunctionName() != "_?_:_" {
				c.problem(e.ExprID, secretCall(call.FunctionName()), secretHint(call.FunctionName()))
				return
			}
		}
		if call.FunctionName() == "_?_:_" && kinds[0] != "a boolean" && kinds[0] != "any value" {
			c.problem(operands[0].ID(), "a condition must be a boolean, not "+kinds[0], "use truthy(…)")
			return
		}
		message, hint := mismatchText(call.FunctionName(), kinds)
		if sig := c.env.signature(bare(call.FunctionName())); hint == "" {
			hint = sig
		}
		c.problem(e.ExprID, message, hint)
	case strings.HasSuffix(e.Message, "(must be list, map, or dynamic)") && node != nil:
		c.problem(e.ExprID, "only lists and maps have elements to go through, not "+kindWordOf(typ(node)), "")
	case strings.HasSuffix(e.Message, "does not support field selection") && node != nil:
		operand, name := selection(node)
		if operand == nil {
			c.problem(e.ExprID, "what stands before the key has no fields", "")
			return
		}
		t := typ(operand)
		if holdsSecret(t) {
			c.problem(e.ExprID, secretMessage("read into"), "")
			return
		}
		c.problem(e.ExprID, kindWordOf(t)+" has no fields: there is no "+quote(name)+" in it", "")
	case strings.HasPrefix(e.Message, "unsupported optional field selection"):
		c.problem(e.ExprID, "a key after .? must be written out", "")
	case strings.HasPrefix(e.Message, "expected type 'bool'") && node != nil:
		c.problem(e.ExprID, "a condition must be a boolean, not "+kindWordOf(typ(node)), "use truthy(…)")
	case strings.HasPrefix(e.Message, "expected type") && node != nil:
		if t := typ(node); t != nil && t.Kind() != types.OpaqueKind {
			c.problem(e.ExprID, "what follows ? must be an optional value, not "+kindWordOf(t), "")
			return
		}
		c.problem(e.ExprID, "the type of this value does not fit here", "")
	case strings.HasPrefix(e.Message, "undeclared reference"):
		c.problem(e.ExprID, "unknown name", "")
	default:
		c.problem(e.ExprID, "the types in this expression do not fit together", "")
	}
}

// selection takes x.name and x.?name apart; nil where e is neither.
func selection(e ast.Expr) (operand ast.Expr, name string) {
	switch e.Kind() {
	case ast.SelectKind:
		return e.AsSelect().Operand(), e.AsSelect().FieldName()
	case ast.CallKind:
		call := e.AsCall()
		if call.FunctionName() != "_?._" || len(call.Args()) != 2 || call.Args()[1].Kind() != ast.LiteralKind {
			return nil, ""
		}
		key, _ := call.Args()[1].AsLiteral().Value().(string)
		return call.Args()[0], key
	}
	return nil, ""
}

func secretHint(fn string) string {
	if fn == "_+_" || fn == "format" || fn == "join" {
		return "write it beside the text: text-${{ secret('name') }}"
	}
	return ""
}

func (c *check) find(id int64) ast.Expr {
	var found ast.Expr
	ast.PreOrderVisit(c.tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.ID() == id && found == nil {
			found = e
		}
	}))
	return found
}

// checkResult refuses results that no definition can hold.
func (c *check) checkResult(id int64, t *types.Type) {
	if t == nil {
		return
	}
	switch t.Kind() {
	case types.BytesKind:
		c.problem(id, "the result is bytes, which no definition can hold", notJSONHint)
	case types.TypeKind:
		c.problem(id, "the result is a type, which no definition can hold", "compare it: type(x) == int")
	case types.ListKind, types.MapKind, types.OpaqueKind:
		for _, p := range t.Parameters() {
			c.checkResult(id, p)
		}
	}
}
