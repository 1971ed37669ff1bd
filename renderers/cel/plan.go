package cel

import (
	"slices"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
)

// planner makes the nodes that evaluate a checked tree. Variables get slots; no two that are alive at once share one.
type planner struct {
	c     *check
	slots int
}

func (pl *planner) slot(in *local) int {
	s := 0
	if in != nil {
		s = in.slot + 1
	}
	pl.slots = max(pl.slots, s+1)
	return s
}

func (pl *planner) declare(name string, in *local) *local {
	return &local{name: name, slot: pl.slot(in), outer: in}
}

func (pl *planner) plan(e ast.Expr, in *local) node {
	id := e.ID()
	switch e.Kind() {
	case ast.LiteralKind:
		return &constNode{e.AsLiteral()}
	case ast.IdentKind:
		if i, ok := readIndex(e); ok {
			return pl.read(i)
		}
		if l := in.find(e.AsIdent()); l != nil {
			return &localNode{l.slot}
		}
		if r, ok := pl.c.tree.ReferenceMap()[id]; ok && r.Value != nil {
			return &constNode{r.Value}
		}
		if v, ok := pl.c.env.types.FindIdent(e.AsIdent()); ok {
			return &constNode{v}
		}
		panic("internal error: unknown identifier " + e.AsIdent())
	case ast.SelectKind:
		s := e.AsSelect()
		operand := pl.plan(s.Operand(), in)
		if s.IsTestOnly() {
			return &hasNode{id: id, operand: operand, key: s.FieldName()}
		}
		return &indexNode{id: id, operand: operand, index: &constNode{types.String(s.FieldName())}}
	case ast.ListKind:
		l := e.AsList()
		n := &listNode{id: id}
		for i, x := range l.Elements() {
			n.elems = append(n.elems, pl.plan(x, in))
			if l.IsOptional(int32(i)) {
				if n.optional == nil {
					n.optional = map[int]bool{}
				}
				n.optional[i] = true
			}
		}
		return n
	case ast.MapKind:
		n := &mapNode{id: id}
		for _, x := range e.AsMap().Entries() {
			m := x.AsMapEntry()
			entry := mapEntry{id: m.Key().ID(), val: pl.plan(m.Value(), in), optional: m.IsOptional()}
			if s, ok := literalString(m.Key()); ok {
				entry.key = s
			} else {
				entry.keyNode = pl.plan(m.Key(), in)
			}
			n.entries = append(n.entries, entry)
		}
		return n
	case ast.ComprehensionKind:
		return pl.fold(e, in)
	case ast.CallKind:
		return pl.call(e, in)
	}
	panic("internal error: unknown expression")
}

func literalString(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}

func (pl *planner) read(i int) node {
	r := &pl.c.reads[i]
	n := &readNode{id: r.chain.ids[r.depth], root: r.chain.root, mode: r.mode, lenient: r.lenient}
	for _, s := range r.chain.steps[:r.depth] {
		n.path = append(n.path, pathStep{key: s.key, optional: s.optional})
	}
	return n
}

func (pl *planner) fold(e ast.Expr, in *local) node {
	k := e.AsComprehension()
	if isBind(k) {
		init := pl.plan(k.AccuInit(), in)
		v := pl.declare(k.AccuVar(), in)
		return &bindNode{slot: v.slot, init: init, body: pl.plan(k.Result(), v)}
	}
	n := &foldNode{id: e.ID(), iter2: -1, rng: pl.plan(k.IterRange(), in), init: pl.plan(k.AccuInit(), in)}
	iter := pl.declare(k.IterVar(), in)
	inner := pl.declare(k.AccuVar(), iter)
	n.iter, n.accu = iter.slot, inner.slot
	accu := inner
	if k.HasIterVar2() {
		inner = pl.declare(k.IterVar2(), inner)
		n.iter2 = inner.slot
	}
	n.cond = pl.plan(k.LoopCondition(), inner)
	n.step = pl.step(k.LoopStep(), k.AccuVar(), accu.slot, inner)
	// The result sees the accumulator only; its slot is where the steps had it.
	n.result = pl.plan(k.Result(), &local{name: k.AccuVar(), slot: accu.slot, outer: in})
	return n
}

// step plans a step, where accu + [x] and cel.@mapInsert(accu, …) change the accumulator in place.
func (pl *planner) step(e ast.Expr, accu string, slot int, in *local) node {
	if e.Kind() == ast.CallKind {
		k := e.AsCall()
		args := k.Args()
		switch {
		case appends(e, accu):
			return &appendNode{id: e.ID(), accu: slot, val: pl.plan(args[1].AsList().Elements()[0], in)}
		case k.FunctionName() == "cel.@mapInsert" && len(args) == 3:
			return &insertNode{id: e.ID(), accu: slot, key: pl.plan(args[1], in), val: pl.plan(args[2], in)}
		case k.FunctionName() == "cel.@mapInsert" && len(args) == 2:
			return &insertNode{id: e.ID(), accu: slot, val: pl.plan(args[1], in)}
		case k.FunctionName() == "_?_:_":
			return &condNode{id: e.ID(), cond: pl.plan(args[0], in), yes: pl.step(args[1], accu, slot, in), no: pl.step(args[2], accu, slot, in)}
		}
	}
	return pl.plan(e, in)
}

func (pl *planner) call(e ast.Expr, in *local) node {
	k := e.AsCall()
	id, name := e.ID(), k.FunctionName()
	exprs := slices.Clone(k.Args())
	if k.IsMemberFunction() {
		exprs = append([]ast.Expr{k.Target()}, exprs...)
	}
	args := make([]node, len(exprs))
	for i, a := range exprs {
		args[i] = pl.plan(a, in)
	}
	switch name {
	case "_&&_":
		return &andOrNode{id: id, stop: types.False, terms: args}
	case "_||_":
		return &andOrNode{id: id, stop: types.True, terms: args}
	case "_?_:_":
		return &condNode{id: id, cond: args[0], yes: args[1], no: args[2]}
	case "_[_]":
		return &indexNode{id: id, operand: args[0], index: args[1]}
	case "_[?_]", "_?._":
		return &indexNode{id: id, operand: args[0], index: args[1], optional: true}
	case "@not_strictly_false":
		return &strictNode{args[0]}
	case "or":
		return &orNode{id: id, opt: args[0], other: args[1]}
	case "orValue":
		return &orNode{id: id, opt: args[0], other: args[1], unwrap: true}
	case orNullFunc:
		return &orNode{id: id, opt: args[0], other: &constNode{types.NullValue}, unwrap: true}
	case "matches":
		if s, ok := literalString(exprs[1]); ok {
			if re, size, why := compileRegex(s); why == "" {
				return &matchNode{id: id, re: re, size: size, arg: args[0]}
			}
		}
	}
	sp := pl.c.env.specs[name]
	if sp == nil {
		panic("internal error: " + name + " has no evaluation")
	}
	return &callNode{id: id, name: name, spec: sp, args: args}
}
