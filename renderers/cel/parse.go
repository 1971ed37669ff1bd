package cel

import (
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"

	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/renderers"
)

// parsed is a text read once, whatever the scope: its tree, and the paths that it reads. It is shared and never changed.
type parsed struct {
	text     string
	tree     *ast.AST
	problems []renderers.Problem
	// chains are the paths that begin with a name of the scope, by the id of their outermost node.
	chains []*chain
	// aliases are the cel.bind nodes whose variable is another word for a name; spaces the identifiers that are the
	// namespace of a function.
	aliases, spaces map[int64]bool
	// secret is a node that calls secret(); 0 = none does.
	secret int64

	once  sync.Once
	toks  []token
	exprs map[int64]ast.Expr
}

// chain is a path as it is written: root.a["b"].?c, or has(root.a), or "a" in root.
type chain struct {
	root  string
	ids   []int64 // of the node that covers root and the first i steps
	steps []step
}

type step struct {
	key      string
	optional bool
	test     bool  // has(), in
	keyID    int64 // of the literal that names the key; 0 = a field's name
}

func (c *chain) outer() int64 { return c.ids[len(c.ids)-1] }

func (env *environment) parse(text string) *parsed {
	p := &parsed{text: text, aliases: map[int64]bool{}, spaces: map[int64]bool{}}
	switch {
	case len(text) > renderers.MaxSource:
		p.problem(0, utf8.RuneCountInString(text), "an expression of "+thousands(int64(len(text)))+" bytes is too long", "at most "+thousands(renderers.MaxSource)+" bytes are allowed; use vars: for its parts")
		return p
	case strings.TrimSpace(text) == "":
		p.problem(0, utf8.RuneCountInString(text), "an expression is empty", "")
		return p
	case !utf8.ValidString(text):
		p.problem(0, 0, "an expression is not valid UTF-8", "")
		return p
	}
	if !p.recognize() {
		return p
	}
	tree, errs := env.parser.Parse(common.NewTextSource(text))
	if all := errs.GetErrors(); len(all) > 0 {
		p.syntax(all)
		return p
	}
	p.tree = tree
	w := walker{env: env, p: p}
	w.expr(tree.Expr(), nil, 0)
	return p
}

func (p *parsed) problem(from, to int, message, hint string) {
	p.problems = append(p.problems, renderers.Problem{From: from, To: to, Message: message, Hint: hint})
}

// walker finds what can be said of a tree without a scope: the paths, and what is wrong under every scope.
type walker struct {
	env   *environment
	p     *parsed
	empty int // empty list and map literals, those in macros included
}

// names are the variables that macros and cel.bind put in scope, innermost first; alias is set where such a variable
// is another word for a name of the scope.
type names struct {
	name  string
	alias *chain
	outer *names
}

func (n *names) find(name string) *names {
	for ; n != nil; n = n.outer {
		if n.name == name {
			return n
		}
	}
	return nil
}

func (w *walker) problem(e ast.Expr, message, hint string) {
	from, to := w.p.span(e.ID())
	w.p.problem(from, to, message, hint)
}

// chain gives the path that e is, nil where it is none. A nil result says nothing of e's parts.
func (w *walker) chain(e ast.Expr, in *names) *chain {
	extend := func(operand ast.Expr, s step) *chain {
		c := w.chain(operand, in)
		if c == nil || len(c.steps) > 0 && c.steps[len(c.steps)-1].test {
			return nil
		}
		return &chain{root: c.root, ids: append(slices.Clone(c.ids), e.ID()), steps: append(slices.Clone(c.steps), s)}
	}
	switch e.Kind() {
	case ast.IdentKind:
		name := e.AsIdent()
		if local := in.find(name); local != nil {
			if local.alias == nil {
				return nil
			}
			return &chain{root: local.alias.root, ids: []int64{e.ID()}}
		}
		if slices.Contains(typeNames, name) {
			return nil
		}
		return &chain{root: name, ids: []int64{e.ID()}}
	case ast.SelectKind:
		s := e.AsSelect()
		return extend(s.Operand(), step{key: s.FieldName(), test: s.IsTestOnly()})
	case ast.CallKind:
		c := e.AsCall()
		if len(c.Args()) != 2 {
			return nil
		}
		operand, key := c.Args()[0], c.Args()[1]
		st := step{}
		switch c.FunctionName() {
		case "_[_]":
		case "_[?_]", "_?._":
			st.optional = true
		case "@in":
			operand, key, st.test = key, operand, true
		default:
			return nil
		}
		if key.Kind() != ast.LiteralKind {
			return nil
		}
		text, ok := key.AsLiteral().(types.String)
		if !ok {
			return nil
		}
		st.key = string(text)
		if c.FunctionName() != "_?._" {
			st.keyID = key.ID()
		}
		return extend(operand, st)
	}
	return nil
}

// expr walks e; binds counts the cel.bind-like nodes around it.
func (w *walker) expr(e ast.Expr, in *names, binds int) {
	if c := w.chain(e, in); c != nil {
		w.p.chains = append(w.p.chains, c)
		return
	}
	if e.Kind() == ast.ListKind && e.AsList().Size() == 0 || e.Kind() == ast.MapKind && e.AsMap().Size() == 0 {
		if w.empty++; w.empty == maxEmpty+1 {
			w.problem(e, "an expression has more than "+itoa(maxEmpty)+" empty lists and maps", "use vars: for its parts")
		}
	}
	switch e.Kind() {
	case ast.SelectKind:
		w.expr(e.AsSelect().Operand(), in, binds)
	case ast.CallKind:
		w.call(e, in, binds)
	case ast.ListKind:
		for _, x := range e.AsList().Elements() {
			w.expr(x, in, binds)
		}
	case ast.MapKind:
		seen := map[string]bool{}
		for _, x := range e.AsMap().Entries() {
			entry := x.AsMapEntry()
			if entry.Key().Kind() == ast.LiteralKind {
				k, ok := entry.Key().AsLiteral().(types.String)
				switch {
				case !ok:
					w.problem(entry.Key(), "the keys of a map must be strings", "")
				case seen[string(k)]:
					w.problem(entry.Key(), "a map has two keys "+quote(string(k)), "")
				}
				seen[string(k)] = true
			} else {
				w.expr(entry.Key(), in, binds)
			}
			w.expr(entry.Value(), in, binds)
		}
	case ast.StructKind:
		w.problem(e, "unknown type "+quote(e.AsStruct().TypeName()), `a map is written {"key": value}`)
	case ast.ComprehensionKind:
		w.comprehension(e, in, binds)
	}
}

func isBind(c ast.ComprehensionExpr) bool {
	return c.IterVar() == "#unused" && c.LoopCondition().Kind() == ast.LiteralKind && c.IterRange().Kind() == ast.ListKind && c.IterRange().AsList().Size() == 0
}

// counts reports whether a bind adds a level: optMap and optFlatMap make two (the target, and its value), sortBy makes one
// that nobody can reach.
func counts(c ast.ComprehensionExpr) bool {
	if strings.HasPrefix(c.AccuVar(), "@") {
		return c.AccuVar() == "@target"
	}
	init := c.AccuInit()
	if init.Kind() != ast.CallKind || !init.AsCall().IsMemberFunction() || init.AsCall().FunctionName() != "value" {
		return true
	}
	t := init.AsCall().Target()
	return t.Kind() != ast.IdentKind || t.AsIdent() != "@target"
}

func (w *walker) comprehension(e ast.Expr, in *names, binds int) {
	c := e.AsComprehension()
	if isBind(c) {
		if counts(c) {
			binds++
		}
		if binds == renderers.MaxBindNesting+1 {
			w.problem(e, "cel.bind, optMap and optFlatMap are nested deeper than "+itoa(renderers.MaxBindNesting)+" levels", "use vars: for the parts of an expression")
		}
		if binds > renderers.MaxBindNesting {
			return
		}
		if alias := w.alias(c, in); alias != nil {
			w.p.aliases[e.ID()] = true
			w.expr(c.Result(), &names{name: c.AccuVar(), alias: alias, outer: in}, binds)
			return
		}
		w.expr(c.AccuInit(), in, binds)
		w.expr(c.Result(), &names{name: c.AccuVar(), outer: in}, binds)
		return
	}
	w.expr(c.IterRange(), in, binds)
	w.expr(c.AccuInit(), in, binds)
	inner := &names{name: c.AccuVar(), outer: &names{name: c.IterVar(), outer: in}}
	if c.HasIterVar2() {
		inner = &names{name: c.IterVar2(), outer: inner}
	}
	w.expr(c.LoopCondition(), inner, binds)
	w.expr(c.LoopStep(), inner, binds)
	w.expr(c.Result(), &names{name: c.AccuVar(), outer: in}, binds)
}

// alias is the name that a cel.bind gives another one: cel.bind(p, props, p.x) reads props.x. A longer path is a value
// like any other: how much of it is a path depends on the scope.
func (w *walker) alias(c ast.ComprehensionExpr, in *names) *chain {
	a := w.chain(c.AccuInit(), in)
	if a == nil || len(a.steps) > 0 {
		return nil
	}
	return a
}

func (w *walker) call(e ast.Expr, in *names, binds int) {
	c := e.AsCall()
	name, args := c.FunctionName(), c.Args()
	if c.IsMemberFunction() {
		if space, ok := namespace(c.Target(), in); ok && w.env.spaces[space] {
			w.p.spaces[c.Target().ID()] = true
			name = space + "." + name
		} else {
			w.expr(c.Target(), in, binds)
			if !w.function(e, name, true) {
				return
			}
			name = ""
		}
	}
	if name != "" && !w.function(e, name, false) {
		return
	}
	switch {
	case name == "secret":
		w.p.secret = e.ID()
		if len(args) != 1 || args[0].Kind() != ast.LiteralKind || args[0].AsLiteral().Type() != types.StringType || args[0].AsLiteral() == types.String("") {
			w.problem(e, "secret() takes one literal name", "secret('name')")
		}
		return
	case c.FunctionName() == "matches" && len(args) > 0:
		pattern := args[len(args)-1]
		if pattern.Kind() == ast.LiteralKind {
			if s, ok := pattern.AsLiteral().(types.String); ok {
				if _, _, why := compileRegex(string(s)); why != "" {
					w.problem(pattern, why, "")
				}
			}
		}
	}
	for _, a := range args {
		w.expr(a, in, binds)
	}
}

// namespace gives the word before the dot of math.abs(x), which is no value.
func namespace(target ast.Expr, in *names) (string, bool) {
	if target.Kind() != ast.IdentKind || in.find(target.AsIdent()) != nil {
		return "", false
	}
	return target.AsIdent(), true
}

// function reports a function that does not exist, or is written in the wrong form. It says whether all is well.
func (w *walker) function(e ast.Expr, name string, member bool) bool {
	f, ok := w.env.forms[name]
	if ok && (strings.ContainsAny(name, "@_") || member && f.member || !member && f.global) {
		return true
	}
	from, to := w.p.nameSpan(e.ID(), name)
	switch {
	case ok && member:
		w.p.problem(from, to, name+"() is not called on a value", "write "+name+"(…)")
	case ok:
		w.p.problem(from, to, name+"() is called on a value", "write x."+name+"(…)")
	case w.env.macros[name] || w.env.known[name]:
		w.p.problem(from, to, "wrong number of arguments for "+name+"()", w.env.signature(name))
	default:
		candidates := make([]string, 0, len(w.env.names))
		for _, n := range w.env.names {
			if !member || w.env.forms[n].member || w.env.macros[n] {
				candidates = append(candidates, n)
			}
		}
		w.p.problem(from, to, "unknown function "+quote(name), didYouMean(name, candidates))
	}
	return false
}

func (env *environment) signature(name string) string {
	for _, d := range functionDocs {
		if d.Name == name {
			return d.Signature
		}
	}
	return ""
}

func didYouMean(got string, candidates []string) string {
	if s := diag.Suggest(got, candidates); s != "" {
		return "did you mean " + quote(s) + "?"
	}
	return ""
}

// positions

// index makes what span needs, on the first error of a text.
func (p *parsed) index() {
	p.once.Do(func() {
		if p.toks == nil {
			p.toks = tokenize(p.text)
		}
		p.exprs = map[int64]ast.Expr{}
		if p.tree == nil {
			return
		}
		seen := func(e ast.Expr) {
			if _, ok := p.exprs[e.ID()]; !ok && e.Kind() != ast.UnspecifiedExprKind {
				p.exprs[e.ID()] = e
			}
		}
		ast.PreOrderVisit(p.tree.Expr(), ast.NewExprVisitor(seen))
		for id, e := range p.tree.SourceInfo().MacroCalls() {
			ast.PreOrderVisit(e, ast.NewExprVisitor(seen))
			p.exprs[id] = e
		}
	})
}

// span is the code points of the expression node id; the whole text where it is not known.
func (p *parsed) span(id int64) (int, int) {
	p.index()
	if len(p.toks) == 0 {
		return 0, utf8.RuneCountInString(p.text)
	}
	lo, hi := len(p.toks), -1
	p.extent(id, p.exprs[id], &lo, &hi, 0)
	if hi < 0 {
		return p.toks[0].from, p.toks[len(p.toks)-1].to
	}
	// A node that a macro made stands where its call's bracket is.
	if p.toks[lo].text == "(" && lo > 0 && p.toks[lo-1].kind == tokenWord {
		lo--
	}
	return cover(p.toks, lo, hi)
}

func (p *parsed) extent(id int64, e ast.Expr, lo, hi *int, depth int) {
	if depth > 4*maxSteps {
		return
	}
	if r, ok := p.tree.SourceInfo().GetOffsetRange(id); ok {
		at := tokenAt(p.toks, int(r.Start))
		*lo, *hi = min(*lo, at), max(*hi, at)
		if e != nil && e.Kind() == ast.SelectKind {
			for i := at; i < len(p.toks) && i < at+3; i++ {
				if p.toks[i].kind == tokenWord {
					*hi = max(*hi, i)
					break
				}
			}
		}
	}
	if e == nil {
		return
	}
	sub := func(x ast.Expr) {
		if y, ok := p.exprs[x.ID()]; ok {
			x = y
		}
		p.extent(x.ID(), x, lo, hi, depth+1)
	}
	switch e.Kind() {
	case ast.SelectKind:
		sub(e.AsSelect().Operand())
	case ast.CallKind:
		c := e.AsCall()
		if c.IsMemberFunction() {
			sub(c.Target())
		}
		for _, a := range c.Args() {
			sub(a)
		}
		if at := *lo; !c.IsMemberFunction() && at > 0 && at < len(p.toks) && p.toks[at].text == "(" && p.toks[at-1].text == c.FunctionName() {
			*lo = at - 1
		}
	case ast.ListKind:
		for _, x := range e.AsList().Elements() {
			sub(x)
		}
	case ast.MapKind:
		for _, x := range e.AsMap().Entries() {
			sub(x.AsMapEntry().Key())
			sub(x.AsMapEntry().Value())
		}
	case ast.StructKind:
		for *lo > 0 && *lo < len(p.toks) && (p.toks[*lo-1].kind == tokenWord || p.toks[*lo-1].text == ".") {
			*lo--
		}
	case ast.ComprehensionKind:
		c := e.AsComprehension()
		sub(c.IterRange())
		sub(c.LoopStep())
	}
}

// nameSpan is the name of the function that node id calls.
func (p *parsed) nameSpan(id int64, name string) (int, int) {
	p.index()
	if r, ok := p.tree.SourceInfo().GetOffsetRange(id); ok && len(p.toks) > 0 {
		last := name[strings.LastIndexByte(name, '.')+1:]
		at := tokenAt(p.toks, int(r.Start))
		for _, i := range []int{at, at - 1, at + 1} {
			if i >= 0 && i < len(p.toks) && p.toks[i].text == last {
				from := p.toks[i].from
				if last != name && i >= 2 {
					from = p.toks[i-2].from
				}
				return from, p.toks[i].to
			}
		}
	}
	return p.span(id)
}

// keySpan is the name that step i of a chain reads.
func (p *parsed) keySpan(c *chain, i int) (int, int) {
	if id := c.steps[i].keyID; id != 0 {
		return p.span(id)
	}
	p.index()
	if r, ok := p.tree.SourceInfo().GetOffsetRange(c.ids[i+1]); ok {
		for at := tokenAt(p.toks, int(r.Start)); at >= 0 && at < len(p.toks); at++ {
			if t := p.toks[at]; t.kind == tokenWord && strings.Trim(t.text, "`") == c.steps[i].key {
				return t.from, t.to
			}
		}
	}
	// An alias: the word that stands for the path.
	return p.span(c.ids[i+1])
}
