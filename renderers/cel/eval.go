package cel

import (
	"context"
	"errors"
	"reflect"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/renderers"
)

// errForeign marks a path by which cel-go's own code would look into one of our values without a budget. Reaching it is
// a defect of this package, never of an expression.
var errForeign = errors.New("internal error: value used outside of its budget")

// node is one step of a compiled expression. Errors are values (*failure), as in CEL: && and || may not need them.
type node interface {
	eval(f *frame) ref.Val
}

// failure is an error as a value: at the expression node id, in the user's words.
type failure struct {
	id        int64
	msg, hint string
	spent     bool  // a budget: nothing absorbs it
	cause     error // the context's: nothing absorbs it
}

func (e *failure) Error() string                             { return e.msg }
func (e *failure) ConvertToNative(reflect.Type) (any, error) { return nil, e }
func (e *failure) ConvertToType(ref.Type) ref.Val            { return e }
func (e *failure) Equal(ref.Val) ref.Val                     { return e }
func (e *failure) Type() ref.Type                            { return types.ErrType }
func (e *failure) Value() any                                { return e }
func (e *failure) fatal() bool                               { return e.spent || e.cause != nil }

// frame is the state of one evaluation.
type frame struct {
	ctx    context.Context
	budget *renderers.Budget
	bound  *bindings
	locals []ref.Val
	stack  []ref.Val // arguments of the calls that run; a function keeps none of them
	ticks  int64
}

// interruptEvery is how many cost units pass between looks at the context: about a millisecond.
const interruptEvery = 2048

func (f *frame) spent(id int64, msg string) *failure { return &failure{id: id, msg: msg, spent: true} }

// spend charges n cost units for node id.
func (f *frame) spend(id, n int64) *failure {
	// A price beyond what is left is not charged in full: the render's account must serve the other expressions.
	n = min(n, f.budget.Limits.FieldCost-f.budget.FieldSpent()+1)
	if err := f.budget.Spend(n); err != nil {
		return f.spent(id, err.Error())
	}
	if f.ticks += n; f.ticks >= interruptEvery {
		f.ticks = 0
		if err := f.ctx.Err(); err != nil {
			return &failure{id: id, msg: err.Error(), cause: err}
		}
	}
	return nil
}

// build charges for n bytes that are about to be built: memory, and the time to fill it.
func (f *frame) build(id, n int64) *failure {
	if err := f.budget.SpendBytes(n); err != nil {
		return f.spent(id, err.Error())
	}
	return f.spend(id, n/bytesPerUnit)
}

// What things cost, in units and bytes. The units are CEL's own where CEL has them.
const (
	bytesPerUnit = 10 // characters looked at or written for one unit
	listCost     = 10 // units of a list literal
	mapCost      = 30 // units of a map literal
	elemBytes    = 16 // bytes of a list's element
	entryBytes   = 64 // bytes of a map's entry
)

type bindings struct {
	roots map[string]field.Object
}

// constant

type constNode struct{ val ref.Val }

func (n *constNode) eval(*frame) ref.Val { return n.val }

// localNode reads a variable of a macro or of cel.bind.
type localNode struct{ slot int }

func (n *localNode) eval(f *frame) ref.Val { return f.locals[n.slot] }

// readNode reads a path of the bindings: props.x.
type readNode struct {
	id   int64
	root string
	path []pathStep
	mode readMode
	// lenient: a missing value is null (the last key is declared as T?).
	lenient bool
}

type pathStep struct {
	key      string
	optional bool // written .? or [?]
}

type readMode uint8

const (
	readValue readMode = iota
	readOptional
	readHas
)

func (n *readNode) eval(f *frame) ref.Val {
	if err := f.spend(n.id, 1); err != nil {
		return err
	}
	var cur field.Value
	root, ok := f.bound.roots[n.root]
	if !ok {
		return &failure{id: n.id, msg: noValue(n.root, nil)}
	}
	cur = root
	soft := false
	for i := range n.path {
		s := &n.path[i]
		soft = soft || s.optional
		last := i == len(n.path)-1
		o, isObject := cur.(field.Object)
		v, found := field.Value(nil), false
		if isObject {
			v, found = o[s.key]
		}
		switch {
		case found && (v != nil || last && n.mode != readOptional):
			cur = v
			continue
		case n.mode == readHas && (last || soft):
			return types.False
		case soft:
			return types.OptionalNone
		case found, last && n.lenient && isObject:
			// null before the path's end, or a missing T?
			if last {
				return types.NullValue
			}
		}
		return &failure{id: n.id, msg: noValue(n.root, n.path[:i+1]), hint: useOptional(n.root, n.path, i)}
	}
	switch n.mode {
	case readHas:
		return types.True
	case readOptional:
		return types.OptionalOf(fromField(cur))
	}
	return fromField(cur)
}

// andOrNode is && (stop = false) or || (stop = true): a term that decides absorbs another's error.
type andOrNode struct {
	id    int64
	stop  types.Bool
	terms []node
}

func (n *andOrNode) eval(f *frame) ref.Val {
	var first *failure
	for i, t := range n.terms {
		switch v := t.eval(f).(type) {
		case types.Bool:
			if v == n.stop {
				return v
			}
		case *failure:
			if v.fatal() {
				return v
			}
			if first == nil {
				first = v
			}
		default:
			if first == nil {
				first = f.notBool(n.id, n.terms[i], v)
			}
		}
	}
	if first != nil {
		return first
	}
	return !n.stop
}

type condNode struct {
	id            int64
	cond, yes, no node
}

func (n *condNode) eval(f *frame) ref.Val {
	switch v := n.cond.eval(f).(type) {
	case types.Bool:
		if v {
			return n.yes.eval(f)
		}
		return n.no.eval(f)
	case *failure:
		return v
	default:
		return f.notBool(n.id, n.cond, v)
	}
}

func (f *frame) notBool(id int64, n node, v ref.Val) *failure {
	if v == types.NullValue {
		return f.nullOperand(id, n)
	}
	return &failure{id: id, msg: "a condition must be a boolean, not " + kindOf(v), hint: "use truthy(…)"}
}

type listNode struct {
	id       int64
	elems    []node
	optional map[int]bool
}

func (n *listNode) eval(f *frame) ref.Val {
	if err := f.spend(n.id, listCost); err != nil {
		return err
	}
	if err := f.build(n.id, int64(len(n.elems))*elemBytes); err != nil {
		return err
	}
	out := make([]ref.Val, 0, len(n.elems))
	for i, e := range n.elems {
		v := e.eval(f)
		if err, ok := v.(*failure); ok {
			return err
		}
		if n.optional[i] {
			o, ok := v.(*types.Optional)
			if !ok {
				return &failure{id: n.id, msg: "an element written with ? must be an optional value, not " + kindOf(v)}
			}
			if !o.HasValue() {
				continue
			}
			v = o.GetValue()
		}
		out = append(out, v)
	}
	return &list{elems: out}
}

type mapNode struct {
	id      int64
	entries []mapEntry
}

type mapEntry struct {
	id       int64
	key      string // where constant
	keyNode  node   // else
	val      node
	optional bool
}

func (n *mapNode) eval(f *frame) ref.Val {
	if err := f.spend(n.id, mapCost); err != nil {
		return err
	}
	if err := f.build(n.id, int64(len(n.entries))*entryBytes); err != nil {
		return err
	}
	out := make(map[string]ref.Val, len(n.entries))
	for i := range n.entries {
		e := &n.entries[i]
		key := e.key
		if e.keyNode != nil {
			switch k := e.keyNode.eval(f).(type) {
			case types.String:
				key = string(k)
			case *failure:
				return k
			default:
				return &failure{id: e.id, msg: "the keys of a map must be strings, not " + kindOf(k)}
			}
			if _, dup := out[key]; dup {
				return &failure{id: e.id, msg: "a map has two keys " + quote(key)}
			}
		}
		v := e.val.eval(f)
		if err, ok := v.(*failure); ok {
			return err
		}
		if e.optional {
			o, ok := v.(*types.Optional)
			if !ok {
				return &failure{id: e.id, msg: "an entry written with ? must be an optional value, not " + kindOf(v)}
			}
			if !o.HasValue() {
				continue
			}
			v = o.GetValue()
		}
		out[key] = v
	}
	return &dict{vals: out}
}

// indexNode is x.f, x["f"], x[0], and with optional x.?f, x[?"f"], x[?0].
type indexNode struct {
	id       int64
	operand  node
	index    node
	optional bool
}

func (n *indexNode) eval(f *frame) ref.Val {
	if err := f.spend(n.id, 1); err != nil {
		return err
	}
	v := n.operand.eval(f)
	if err, ok := v.(*failure); ok {
		return err
	}
	k := n.index.eval(f)
	if err, ok := k.(*failure); ok {
		return err
	}
	soft := n.optional
	if o, ok := v.(*types.Optional); ok {
		if !o.HasValue() {
			return o
		}
		v, soft = o.GetValue(), true
	}
	got, found, err := f.lookup(n, v, k)
	switch {
	case err != nil:
		return err
	case found && soft:
		return types.OptionalOf(got)
	case found:
		return got
	case soft:
		return types.OptionalNone
	}
	if i, ok := k.(types.Int); ok {
		return &failure{id: n.id, msg: "the list has no element " + itoa(int64(i)) + ": it has " + itoa(int64(v.(*list).len()))}
	}
	return &failure{id: n.id, msg: "the map has no key " + quote(string(k.(types.String))), hint: "use [?…] or .? with orValue(…)"}
}

func (f *frame) lookup(n *indexNode, v, k ref.Val) (ref.Val, bool, *failure) {
	switch c := v.(type) {
	case *dict:
		s, ok := k.(types.String)
		if !ok {
			return nil, false, &failure{id: n.id, msg: "the key of a map must be a string, not " + kindOf(k)}
		}
		got, found := c.get(string(s))
		return got, found, nil
	case *list:
		var i int64
		switch k := k.(type) {
		case types.Int:
			i = int64(k)
		case types.Uint:
			i = int64(min(k, 1<<62))
		case types.Double:
			if i = int64(k); types.Double(i) != k {
				return nil, false, &failure{id: n.id, msg: "the index of a list must be an integer"}
			}
		default:
			return nil, false, &failure{id: n.id, msg: "the index of a list must be an integer, not " + kindOf(k)}
		}
		if i < 0 || i >= int64(c.len()) {
			return nil, false, nil
		}
		return c.at(int(i)), true, nil
	case types.Null:
		return nil, false, f.nullOperand(n.id, n.operand)
	case secret:
		return nil, false, &failure{id: n.id, msg: secretMessage("read into")}
	}
	return nil, false, &failure{id: n.id, msg: kindOf(v) + " has no fields and no elements"}
}

// hasNode is has(x.f) where x is not a path of the bindings.
type hasNode struct {
	id      int64
	operand node
	key     string
}

func (n *hasNode) eval(f *frame) ref.Val {
	if err := f.spend(n.id, 1); err != nil {
		return err
	}
	v := n.operand.eval(f)
	if err, ok := v.(*failure); ok {
		return err
	}
	if o, ok := v.(*types.Optional); ok {
		if !o.HasValue() {
			return types.False
		}
		v = o.GetValue()
	}
	switch d := v.(type) {
	case *dict:
		_, ok := d.get(n.key)
		return types.Bool(ok)
	case types.Null:
		return f.nullOperand(n.id, n.operand)
	}
	return &failure{id: n.id, msg: "has() needs a map, not " + kindOf(v)}
}

// bindNode is cel.bind: the value is computed once, and its error matters only where it is read.
type bindNode struct {
	slot       int
	init, body node
}

func (n *bindNode) eval(f *frame) ref.Val {
	v := n.init.eval(f)
	if err, ok := v.(*failure); ok && err.fatal() {
		return err
	}
	f.locals[n.slot] = v
	return n.body.eval(f)
}

// foldNode is a comprehension: what all(), exists(), map(), filter() and their kin become.
type foldNode struct {
	id                 int64
	iter, iter2, accu  int // slots; iter2 = -1 where there is one variable
	rng, init          node
	cond, step, result node
}

func (n *foldNode) eval(f *frame) ref.Val {
	rng := n.rng.eval(f)
	if o, ok := rng.(*types.Optional); ok && o.HasValue() {
		rng = o.GetValue()
	}
	var count int
	var keys []string
	switch r := rng.(type) {
	case *failure:
		return r
	case *list:
		count = r.len()
	case *dict:
		keys = r.sorted()
		count = len(keys)
	case types.Null:
		return f.nullOperand(n.id, n.rng)
	default:
		return &failure{id: n.id, msg: "only lists and maps have elements to go through, not " + kindOf(rng)}
	}
	acc := n.init.eval(f)
	switch a := acc.(type) {
	case *list:
		acc = &list{elems: append([]ref.Val(nil), a.all()...)}
	case *dict:
		if a.len() == 0 {
			acc = &dict{vals: map[string]ref.Val{}}
		}
	}
	for i := range count {
		if err := f.spend(n.id, 1); err != nil {
			return err
		}
		switch r := rng.(type) {
		case *list:
			if n.iter2 >= 0 {
				f.locals[n.iter], f.locals[n.iter2] = types.Int(i), r.at(i)
			} else {
				f.locals[n.iter] = r.at(i)
			}
		case *dict:
			f.locals[n.iter] = types.String(keys[i])
			if n.iter2 >= 0 {
				f.locals[n.iter2], _ = r.get(keys[i])
			}
		}
		f.locals[n.accu] = acc
		switch c := n.cond.eval(f).(type) {
		case types.Bool:
			if !c {
				return n.finish(f, acc)
			}
		case *failure:
			if c.fatal() {
				return c
			}
		}
		acc = n.step.eval(f)
		if err, ok := acc.(*failure); ok && err.fatal() {
			return err
		}
	}
	return n.finish(f, acc)
}

func (n *foldNode) finish(f *frame, acc ref.Val) ref.Val {
	f.locals[n.accu] = acc
	return n.result.eval(f)
}

// appendNode is the step of map(), filter() and their kin: accu + [x], where nothing else can see accu.
type appendNode struct {
	id   int64
	accu int
	val  node
}

func (n *appendNode) eval(f *frame) ref.Val {
	v := n.val.eval(f)
	if err, ok := v.(*failure); ok {
		return err
	}
	acc := f.locals[n.accu]
	l, ok := acc.(*list)
	if !ok {
		return acc // an earlier element's error
	}
	if err := f.build(n.id, elemBytes); err != nil {
		return err
	}
	if err := f.spend(n.id, 1); err != nil {
		return err
	}
	l.elems = append(l.elems, v)
	return l
}

// insertNode is the step of transformMap() and transformMapEntry().
type insertNode struct {
	id       int64
	accu     int
	key, val node // key nil: val is a map whose entries are added
}

func (n *insertNode) eval(f *frame) ref.Val {
	var key string
	if n.key != nil {
		switch k := n.key.eval(f).(type) {
		case types.String:
			key = string(k)
		case *failure:
			return k
		default:
			return &failure{id: n.id, msg: "the keys of a map must be strings, not " + kindOf(k)}
		}
	}
	v := n.val.eval(f)
	if err, ok := v.(*failure); ok {
		return err
	}
	acc, ok := f.locals[n.accu].(*dict)
	if !ok {
		return f.locals[n.accu]
	}
	put := func(key string, v ref.Val) *failure {
		if err := f.build(n.id, entryBytes); err != nil {
			return err
		}
		if err := f.spend(n.id, 1); err != nil {
			return err
		}
		if _, dup := acc.vals[key]; dup {
			return &failure{id: n.id, msg: "a map has two keys " + quote(key)}
		}
		acc.vals[key], acc.keys = v, nil
		return nil
	}
	if n.key != nil {
		if err := put(key, v); err != nil {
			return err
		}
		return acc
	}
	d, ok := v.(*dict)
	if !ok {
		return &failure{id: n.id, msg: "transformMapEntry() needs a map, not " + kindOf(v)}
	}
	for _, k := range d.sorted() {
		e, _ := d.get(k)
		if err := put(k, e); err != nil {
			return err
		}
	}
	return acc
}

// orNode is x.or(y) and x.orValue(y): y is computed only where it is needed.
type orNode struct {
	id         int64
	opt, other node
	unwrap     bool
}

func (n *orNode) eval(f *frame) ref.Val {
	if err := f.spend(n.id, 1); err != nil {
		return err
	}
	switch o := n.opt.eval(f).(type) {
	case *failure:
		return o
	case *types.Optional:
		switch {
		case !o.HasValue():
			return n.other.eval(f)
		case n.unwrap:
			return o.GetValue()
		}
		return o
	default:
		return &failure{id: n.id, msg: "orValue() needs an optional value (x.?y, x[?\"y\"]), not " + kindOf(o)}
	}
}

// strictNode is @not_strictly_false, which the macros all() and exists() use: an error does not end the loop.
type strictNode struct{ arg node }

func (n *strictNode) eval(f *frame) ref.Val {
	switch v := n.arg.eval(f).(type) {
	case *failure:
		if v.fatal() {
			return v
		}
		return types.True
	case types.Bool:
		return v
	}
	return types.True
}

// callNode calls a function with all its arguments evaluated.
type callNode struct {
	id   int64
	name string
	spec *spec
	args []node
}

func (n *callNode) eval(f *frame) ref.Val {
	if err := f.spend(n.id, 1); err != nil {
		return err
	}
	base := len(f.stack)
	for i, a := range n.args {
		v := a.eval(f)
		switch v := v.(type) {
		case *failure:
			f.stack = f.stack[:base]
			return v
		case types.Null:
			if !n.spec.null {
				f.stack = f.stack[:base]
				return f.nullOperand(n.id, n.args[i])
			}
		case secret:
			if !n.spec.secret {
				f.stack = f.stack[:base]
				return &failure{id: n.id, msg: secretCall(n.name)}
			}
		}
		f.stack = append(f.stack, v)
	}
	v := n.spec.call(f, n, f.stack[base:])
	f.stack = f.stack[:base]
	return v
}

// nullOperand says that the value which operand gave is missing where one is needed.
func (f *frame) nullOperand(id int64, operand node) *failure {
	if r, ok := operand.(*readNode); ok {
		return &failure{id: r.id, msg: noValue(r.root, r.path), hint: useOptional(r.root, r.path, len(r.path)-1)}
	}
	return &failure{id: id, msg: "null where a value is needed", hint: "test for it: x == null ? … : …"}
}
