package cel

import (
	"math"
	"math/bits"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/renderers"
)

// spec is how a function is evaluated. Every call is charged one unit before; what depends on the size of the
// arguments or of the result is charged by call itself, before it does the work.
type spec struct {
	null   bool // takes null
	secret bool // takes a secret (and gives nothing away)
	call   func(f *frame, n *callNode, args []ref.Val) ref.Val
}

// celCall calls cel-go's own implementation: for functions of numbers and strings whose price was charged.
type celCall func(args []ref.Val) ref.Val

func strs(args []ref.Val) (n int64) {
	for _, a := range args {
		if s, ok := a.(types.String); ok {
			n += int64(len(s))
		}
	}
	return n
}

// scalar is a function of numbers and strings; copies is how many bytes cel-go allocates for one of its arguments
// (it makes runes of them).
func scalar(impl celCall, copies int64) *spec {
	return &spec{call: func(f *frame, n *callNode, args []ref.Val) ref.Val {
		if err := f.build(n.id, copies*strs(args)); err != nil {
			return err
		}
		return result(n, args, impl(args))
	}}
}

// search is indexOf, lastIndexOf and contains: the price is the product of the lengths.
func search(impl celCall) *spec {
	return &spec{call: func(f *frame, n *callNode, args []ref.Val) ref.Val {
		a, ok1 := args[0].(types.String)
		b, ok2 := args[1].(types.String)
		if ok1 && ok2 {
			if err := f.build(n.id, int64(len(a)+len(b))*4); err != nil { // cel-go makes runes of both
				return err
			}
			if err := f.spend(n.id, product(len(a)/bytesPerUnit, len(b)/bytesPerUnit)); err != nil {
				return err
			}
		}
		return result(n, args, impl(args))
	}}
}

func product(a, b int) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi != 0 || lo > math.MaxInt64/2 {
		return math.MaxInt64 / 2
	}
	return int64(lo)
}

// result makes cel-go's error one of ours, and cel-go's lists ours.
func result(n *callNode, args []ref.Val, v ref.Val) ref.Val {
	switch v := v.(type) {
	case *types.Err:
		return translate(n, args, v)
	case *list, *dict:
		return v
	case traits.Lister:
		size := int(v.Size().(types.Int))
		out := make([]ref.Val, size)
		for i := range out {
			out[i] = v.Get(types.Int(i))
		}
		return &list{elems: out}
	case traits.Mapper:
		return &failure{id: n.id, msg: "internal error: a map of an unknown kind"}
	}
	return v
}

// mismatch is the error of a call whose arguments have the wrong kinds, found only at run time.
func mismatch(n *callNode, args []ref.Val) *failure {
	kinds := make([]string, len(args))
	for i, a := range args {
		kinds[i] = kindOf(a)
	}
	msg, hint := mismatchText(n.name, kinds)
	return &failure{id: n.id, msg: msg, hint: hint}
}

func translate(n *callNode, args []ref.Val, err *types.Err) *failure {
	text := err.Error()
	fail := &failure{id: n.id, msg: text}
	switch {
	case strings.Contains(text, "no such overload"):
		return mismatch(n, args)
	case strings.Contains(text, "division by zero"):
		fail.msg = "division by zero"
	case strings.Contains(text, "modulus by zero"):
		fail.msg = "remainder of a division by zero"
	case strings.Contains(text, "overflow"), strings.Contains(text, "out of range") && isConversion(n.name):
		fail.msg = "a number is out of range: integers have 64 bits"
	case isConversion(n.name):
		fail.msg = "cannot read " + show(args[0]) + " as " + kindWord(n.name)
	case n.name == "format":
		fail.msg = "format() cannot put these values into this text"
		fail.hint = `there must be one value for every %s, %d, %f …, of a kind that fits: "%s-%d".format(["a", 1])`
	default:
		fail.msg = bare(n.name) + "(): a position is outside of the text or list"
	}
	return fail
}

func isConversion(name string) bool {
	switch name {
	case "int", "uint", "double", "bool", "string":
		return true
	}
	return false
}

func kindWord(fn string) string {
	switch fn {
	case "int", "uint":
		return "an integer"
	case "double":
		return "a number"
	case "bool":
		return "a boolean"
	}
	return "a string"
}

// show is a value in a message: short, and never a secret.
func show(v ref.Val) string {
	if s, ok := v.(types.String); ok {
		if len(s) > 40 {
			return quote(string([]rune(string(s[:min(len(s), 160)]))[:40])) + "…"
		}
		return quote(string(s))
	}
	return kindOf(v)
}

// equal is ==. Whoever calls it has charged for one comparison; equal charges for what lies deeper, node by node, so
// that lists which share their elements a million times cannot run away.
func (f *frame) equal(id int64, a, b ref.Val) (bool, *failure) {
	switch x := a.(type) {
	case types.String:
		y, ok := b.(types.String)
		if !ok || len(x) != len(y) {
			return false, nil
		}
		if len(x) > 64 {
			if err := f.spend(id, int64(len(x))/bytesPerUnit); err != nil {
				return false, err
			}
		}
		return x == y, nil
	case *list:
		y, ok := b.(*list)
		if !ok || x.len() != y.len() {
			return false, nil
		}
		for i := range x.len() {
			if err := f.spend(id, 1); err != nil {
				return false, err
			}
			if eq, err := f.equal(id, x.at(i), y.at(i)); !eq || err != nil {
				return false, err
			}
		}
		return true, nil
	case *dict:
		y, ok := b.(*dict)
		if !ok || x.len() != y.len() {
			return false, nil
		}
		for _, k := range x.sorted() {
			if err := f.spend(id, 1); err != nil {
				return false, err
			}
			v, _ := x.get(k)
			w, ok := y.get(k)
			if !ok {
				return false, nil
			}
			if eq, err := f.equal(id, v, w); !eq || err != nil {
				return false, err
			}
		}
		return true, nil
	case *types.Optional:
		y, ok := b.(*types.Optional)
		switch {
		case !ok:
			return false, nil
		case !x.HasValue() || !y.HasValue():
			return x.HasValue() == y.HasValue(), nil
		}
		if err := f.spend(id, 1); err != nil {
			return false, err
		}
		return f.equal(id, x.GetValue(), y.GetValue())
	case secret:
		return false, &failure{id: id, msg: secretMessage("compared")}
	case types.Null:
		return b == types.NullValue, nil
	}
	switch b.(type) {
	case secret:
		return false, &failure{id: id, msg: secretMessage("compared")}
	case *list, *dict, *types.Optional:
		return false, nil
	}
	return types.Equal(a, b) == types.True, nil
}

func opEqual(want bool) *spec {
	return &spec{null: true, call: func(f *frame, n *callNode, args []ref.Val) ref.Val {
		eq, err := f.equal(n.id, args[0], args[1])
		if err != nil {
			return err
		}
		return types.Bool(eq == want)
	}}
}

// compare orders two values of one kind.
func (f *frame) compare(n *callNode, a, b ref.Val) (int, *failure) {
	switch x := a.(type) {
	case types.Int:
		if y, ok := b.(types.Int); ok {
			switch {
			case x < y:
				return -1, nil
			case x > y:
				return 1, nil
			}
			return 0, nil
		}
	case types.String:
		if y, ok := b.(types.String); ok {
			if err := f.spend(n.id, int64(min(len(x), len(y)))/bytesPerUnit); err != nil {
				return 0, err
			}
			return strings.Compare(string(x), string(y)), nil
		}
	}
	if c, ok := a.(traits.Comparer); ok {
		if r, ok := c.Compare(b).(types.Int); ok {
			return int(r), nil
		}
	}
	return 0, mismatch(n, []ref.Val{a, b})
}

func opCompare(ok func(c int) bool) *spec {
	return &spec{call: func(f *frame, n *callNode, args []ref.Val) ref.Val {
		if x, isDouble := args[0].(types.Double); isDouble && x != x {
			return types.False
		}
		if y, isDouble := args[1].(types.Double); isDouble && y != y {
			return types.False
		}
		c, err := f.compare(n, args[0], args[1])
		if err != nil {
			return err
		}
		return types.Bool(ok(c))
	}}
}

func opAdd(f *frame, n *callNode, args []ref.Val) ref.Val {
	switch a := args[0].(type) {
	case types.String:
		if b, ok := args[1].(types.String); ok {
			if err := f.build(n.id, int64(len(a)+len(b))); err != nil {
				return err
			}
			return a + b
		}
	case *list:
		if b, ok := args[1].(*list); ok {
			if err := f.build(n.id, int64(a.len()+b.len())*elemBytes); err != nil {
				return err
			}
			return &list{elems: append(append(make([]ref.Val, 0, a.len()+b.len()), a.all()...), b.all()...)}
		}
	case types.Bytes:
		if b, ok := args[1].(types.Bytes); ok {
			if err := f.build(n.id, int64(len(a)+len(b))); err != nil {
				return err
			}
			return append(append(types.Bytes(nil), a...), b...)
		}
	case types.Int, types.Uint, types.Double:
		return result(n, args, args[0].(traits.Adder).Add(args[1]))
	}
	return mismatch(n, args)
}

func opArith(op func(a, b ref.Val) (ref.Val, bool)) *spec {
	return &spec{call: func(_ *frame, n *callNode, args []ref.Val) ref.Val {
		switch args[0].(type) {
		case types.Int, types.Uint, types.Double:
			if v, ok := op(args[0], args[1]); ok {
				return result(n, args, v)
			}
		}
		return mismatch(n, args)
	}}
}

func opIn(f *frame, n *callNode, args []ref.Val) ref.Val {
	switch c := args[1].(type) {
	case *list:
		found, err := f.member(n, c, args[0])
		if err != nil {
			return err
		}
		return types.Bool(found)
	case *dict:
		k, ok := args[0].(types.String)
		if !ok {
			return types.False
		}
		_, ok = c.get(string(k))
		return types.Bool(ok)
	case types.Null:
		return f.nullOperand(n.id, n.args[1])
	}
	return mismatch(n, args)
}

func (f *frame) member(n *callNode, l *list, v ref.Val) (bool, *failure) {
	for i := range l.len() {
		if err := f.spend(n.id, 1); err != nil {
			return false, err
		}
		if eq, err := f.equal(n.id, v, l.at(i)); eq || err != nil {
			return eq, err
		}
	}
	return false, nil
}

func opSize(_ *frame, n *callNode, args []ref.Val) ref.Val {
	switch v := args[0].(type) {
	case types.String:
		return types.Int(utf8.RuneCountInString(string(v)))
	case *list:
		return types.Int(v.len())
	case *dict:
		return types.Int(v.len())
	case types.Bytes:
		return types.Int(len(v))
	}
	return mismatch(n, args)
}

func convertTo(t *types.Type) *spec {
	return &spec{call: func(f *frame, n *callNode, args []ref.Val) ref.Val {
		switch v := args[0].(type) {
		case types.String, types.Bytes, types.Int, types.Uint, types.Double, types.Bool:
			if err := f.build(n.id, strs(args)); err != nil {
				return err
			}
			if b, ok := v.(types.Bytes); ok {
				if err := f.build(n.id, int64(len(b))); err != nil {
					return err
				}
			}
			return result(n, args, v.ConvertToType(t))
		}
		return mismatch(n, args)
	}}
}

func opMatches(f *frame, n *callNode, args []ref.Val) ref.Val {
	s, ok1 := args[0].(types.String)
	p, ok2 := args[1].(types.String)
	if !ok1 || !ok2 {
		return mismatch(n, args)
	}
	re, size, why := compileRegex(string(p))
	if err := f.spend(n.id, int64(size)); err != nil {
		return err
	}
	if why != "" {
		return &failure{id: n.id, msg: why}
	}
	return f.match(n.id, re, size, string(s))
}

func (f *frame) match(id int64, re *regexp.Regexp, size int, s string) ref.Val {
	if err := f.spend(id, product(1+len(s)/bytesPerUnit, 1+size/4)); err != nil {
		return err
	}
	return types.Bool(re.MatchString(s))
}

// matchNode is matches() with a literal pattern, compiled once.
type matchNode struct {
	id   int64
	re   *regexp.Regexp
	size int
	arg  node
}

func (n *matchNode) eval(f *frame) ref.Val {
	if err := f.spend(n.id, 1); err != nil {
		return err
	}
	switch v := n.arg.eval(f).(type) {
	case types.String:
		return f.match(n.id, n.re, n.size, string(v))
	case *failure:
		return v
	case types.Null:
		return f.nullOperand(n.id, n.arg)
	case secret:
		return &failure{id: n.id, msg: secretCall("matches")}
	default:
		return &failure{id: n.id, msg: "matches() needs a string, not " + kindOf(v)}
	}
}

// maxRegexProgram bounds what a short pattern can expand to: (\pL{1000}){3}.
const maxRegexProgram = 1000

// compileRegex also gives the size of the regular expression's program, which is what matching costs for each character.
func compileRegex(pattern string) (*regexp.Regexp, int, string) {
	if utf8.RuneCountInString(pattern) > renderers.MaxRegex {
		return nil, 0, "the regular expression is longer than " + itoa(renderers.MaxRegex) + " characters"
	}
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, 0, "the regular expression is not valid: " + strings.TrimPrefix(err.Error(), "error parsing regexp: ")
	}
	size := regexSize(tree)
	if size > maxRegexProgram {
		return nil, size, "the regular expression is too big: its repetitions make " + thousands(int64(size)) + " steps, at most " + thousands(maxRegexProgram) + " are allowed"
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, 0, "the regular expression is not valid"
	}
	return re, size, ""
}

// regexSize is about how many steps the program of re has, found without making it: repetitions multiply.
func regexSize(re *syntax.Regexp) int {
	n := 1
	for _, sub := range re.Sub {
		n += regexSize(sub)
	}
	switch re.Op {
	case syntax.OpLiteral:
		n = len(re.Rune)
	case syntax.OpRepeat:
		n *= max(1, re.Min, re.Max)
	}
	return min(n, 1<<24)
}

// strings

func opReplace(impl celCall) *spec {
	return &spec{call: func(f *frame, n *callNode, args []ref.Val) ref.Val {
		s, ok1 := args[0].(types.String)
		old, ok2 := args[1].(types.String)
		by, ok3 := args[2].(types.String)
		if !ok1 || !ok2 || !ok3 {
			return mismatch(n, args)
		}
		if err := f.spend(n.id, int64(len(s))/bytesPerUnit); err != nil {
			return err
		}
		count := int64(strings.Count(string(s), string(old)))
		if len(args) > 3 {
			if lim, ok := args[3].(types.Int); ok && lim >= 0 && int64(lim) < count {
				count = int64(lim)
			}
		}
		grown := int64(len(s)) + product(int(count), max(0, len(by)-len(old)))
		if err := f.build(n.id, grown); err != nil {
			return err
		}
		return result(n, args, impl(args))
	}}
}

func opSplit(impl celCall) *spec {
	return &spec{call: func(f *frame, n *callNode, args []ref.Val) ref.Val {
		s, ok1 := args[0].(types.String)
		sep, ok2 := args[1].(types.String)
		if !ok1 || !ok2 {
			return mismatch(n, args)
		}
		if err := f.spend(n.id, int64(len(s))/bytesPerUnit); err != nil {
			return err
		}
		parts := int64(strings.Count(string(s), string(sep))) + 1
		if err := f.build(n.id, parts*3*elemBytes); err != nil {
			return err
		}
		return result(n, args, impl(args))
	}}
}

func opJoin(f *frame, n *callNode, args []ref.Val) ref.Val {
	l, ok := args[0].(*list)
	sep := types.String("")
	if ok && len(args) > 1 {
		sep, ok = args[1].(types.String)
	}
	if !ok {
		return mismatch(n, args)
	}
	var total int64
	for i := range l.len() {
		switch s := l.at(i).(type) {
		case types.String:
			total += int64(len(s) + len(sep))
		case secret:
			return &failure{id: n.id, msg: secretCall("join")}
		default:
			return &failure{id: n.id, msg: "join() needs a list of strings; element " + itoa(int64(i)) + " is " + kindOf(s), hint: "x.map(e, str(e)).join(…)"}
		}
		if i&255 == 0 {
			if err := f.spend(n.id, 16); err != nil {
				return err
			}
		}
	}
	if err := f.build(n.id, total); err != nil {
		return err
	}
	var b strings.Builder
	b.Grow(int(total))
	for i := range l.len() {
		if i > 0 {
			b.WriteString(string(sep))
		}
		b.WriteString(string(l.at(i).(types.String)))
	}
	return types.String(b.String())
}

// opFormat charges for the values as they will be written out, before cel-go does it.
func opFormat(impl celCall) *spec {
	return &spec{call: func(f *frame, n *callNode, args []ref.Val) ref.Val {
		s, ok1 := args[0].(types.String)
		l, ok2 := args[1].(*list)
		if !ok1 || !ok2 {
			return mismatch(n, args)
		}
		if err := f.build(n.id, int64(len(s))); err != nil {
			return err
		}
		digits := 0
		for _, r := range string(s) { // a precision such as %.999999999f
			if r < '0' || r > '9' {
				digits = 0
			} else if digits++; digits > 2 && strings.Contains(string(s), "%.") {
				return &failure{id: n.id, msg: "format(): a precision has at most two digits"}
			}
		}
		for i := range l.len() {
			if l.at(i) != types.NullValue {
				continue
			}
			// "null" in a text is never meant.
			if written, ok := n.args[1].(*listNode); ok && len(written.elems) == l.len() {
				return f.nullOperand(n.id, written.elems[i])
			}
			return &failure{id: n.id, msg: "format(): value " + itoa(int64(i)) + " is null", hint: "use str(…)"}
		}
		if err := f.measure(n, l, 1); err != nil {
			return err
		}
		return result(n, args, impl(args))
	}}
}

// measure walks v as it will be written out, charging for each node and byte.
func (f *frame) measure(n *callNode, v ref.Val, depth int) *failure {
	if depth > maxWalkDepth {
		return &failure{id: n.id, msg: "a value is nested too deeply for " + bare(n.name) + "()"}
	}
	if err := f.spend(n.id, 1); err != nil {
		return err
	}
	switch v := v.(type) {
	case types.String:
		return f.build(n.id, 4*int64(len(v)))
	case types.Bytes:
		return f.build(n.id, 4*int64(len(v)))
	case *list:
		for i := range v.len() {
			if err := f.measure(n, v.at(i), depth+1); err != nil {
				return err
			}
		}
		return nil
	case *dict:
		for _, k := range v.sorted() {
			e, _ := v.get(k)
			if err := f.build(n.id, 4*int64(len(k))); err != nil {
				return err
			}
			if err := f.measure(n, e, depth+1); err != nil {
				return err
			}
		}
		return nil
	case *types.Optional:
		return &failure{id: n.id, msg: bare(n.name) + "() cannot write an optional value", hint: "x.orValue(…)"}
	case secret:
		return &failure{id: n.id, msg: secretCall(n.name)}
	}
	return f.build(n.id, 400) // the longest number: "%f" of 1e308
}

// maxWalkDepth bounds recursion over values that an expression can nest without writing the nesting down.
const maxWalkDepth = 1000

// lists

func opRange(f *frame, n *callNode, args []ref.Val) ref.Val {
	size, ok := args[0].(types.Int)
	if !ok {
		return mismatch(n, args)
	}
	size = min(max(size, 0), math.MaxInt64/64)
	if err := f.build(n.id, int64(size)*elemBytes); err != nil {
		return err
	}
	out := make([]ref.Val, size)
	for i := range out {
		out[i] = types.Int(i)
	}
	return &list{elems: out}
}

func opDistinct(f *frame, n *callNode, args []ref.Val) ref.Val {
	l, ok := args[0].(*list)
	if !ok {
		return mismatch(n, args)
	}
	if err := f.build(n.id, int64(l.len())*elemBytes); err != nil {
		return err
	}
	texts := make(map[types.String]bool)
	out := &list{elems: []ref.Val{}}
	others := &list{}
	for i := range l.len() {
		if err := f.spend(n.id, 1); err != nil {
			return err
		}
		v := l.at(i)
		if s, ok := v.(types.String); ok {
			if err := f.spend(n.id, int64(len(s))/bytesPerUnit); err != nil {
				return err
			}
			if texts[s] {
				continue
			}
			texts[s] = true
		} else {
			found, err := f.member(n, others, v)
			if err != nil {
				return err
			}
			if found {
				continue
			}
			if _, isSecret := v.(secret); isSecret {
				return &failure{id: n.id, msg: secretMessage("compared")}
			}
			others.elems = append(others.elems, v)
		}
		out.elems = append(out.elems, v)
	}
	return out
}

func opFlatten(f *frame, n *callNode, args []ref.Val) ref.Val {
	l, ok := args[0].(*list)
	depth := types.Int(1)
	if ok && len(args) > 1 {
		depth, ok = args[1].(types.Int)
	}
	switch {
	case !ok:
		return mismatch(n, args)
	case depth < 0:
		return &failure{id: n.id, msg: "flatten(): the depth cannot be negative"}
	}
	out := &list{elems: []ref.Val{}}
	if err := f.flatten(n, l, int(min(depth, maxWalkDepth)), out); err != nil {
		return err
	}
	return out
}

func (f *frame) flatten(n *callNode, l *list, depth int, out *list) *failure {
	for i := range l.len() {
		if err := f.build(n.id, elemBytes); err != nil {
			return err
		}
		v := l.at(i)
		if inner, ok := v.(*list); ok && depth > 0 {
			if err := f.spend(n.id, 1); err != nil {
				return err
			}
			if err := f.flatten(n, inner, depth-1, out); err != nil {
				return err
			}
			continue
		}
		out.elems = append(out.elems, v)
	}
	return nil
}

func opSlice(f *frame, n *callNode, args []ref.Val) ref.Val {
	l, ok1 := args[0].(*list)
	from, ok2 := args[1].(types.Int)
	to, ok3 := args[2].(types.Int)
	switch {
	case !ok1 || !ok2 || !ok3:
		return mismatch(n, args)
	case from < 0 || to < from || int64(to) > int64(l.len()):
		return &failure{id: n.id, msg: "slice(): from " + itoa(int64(from)) + " to " + itoa(int64(to)) + " is outside of the list: it has " + itoa(int64(l.len()))}
	}
	if err := f.build(n.id, int64(to-from)*elemBytes); err != nil {
		return err
	}
	if l.raw != nil {
		return &list{raw: l.raw[from:to:to]}
	}
	return &list{elems: l.elems[from:to:to]}
}

func opReverse(impl celCall) *spec {
	return &spec{call: func(f *frame, n *callNode, args []ref.Val) ref.Val {
		l, ok := args[0].(*list)
		if !ok {
			if err := f.build(n.id, 4*strs(args)); err != nil {
				return err
			}
			return result(n, args, impl(args))
		}
		if err := f.build(n.id, int64(l.len())*elemBytes); err != nil {
			return err
		}
		out := slices.Clone(l.all())
		slices.Reverse(out)
		return &list{elems: out}
	}}
}

func opEnd(last bool) *spec {
	return &spec{call: func(_ *frame, n *callNode, args []ref.Val) ref.Val {
		l, ok := args[0].(*list)
		switch {
		case !ok:
			return mismatch(n, args)
		case l.len() == 0:
			return types.OptionalNone
		case last:
			return types.OptionalOf(l.at(l.len() - 1))
		}
		return types.OptionalOf(l.at(0))
	}}
}

// opSort is sort() and what sortBy() becomes: the first argument in the order of the last one's elements.
func opSort(f *frame, n *callNode, args []ref.Val) ref.Val {
	l, ok1 := args[0].(*list)
	keys, ok2 := args[len(args)-1].(*list)
	if !ok1 || !ok2 || l.len() != keys.len() {
		return mismatch(n, args)
	}
	size := l.len()
	if err := f.spend(n.id, int64(size)*int64(bits.Len(uint(size)))); err != nil {
		return err
	}
	if err := f.build(n.id, int64(size)*3*elemBytes); err != nil {
		return err
	}
	ks := keys.all()
	for i, k := range ks {
		switch k.(type) {
		case types.String, types.Int, types.Uint, types.Double, types.Bool, types.Bytes:
			if k.Type() == ks[0].Type() {
				continue
			}
		case secret:
			return &failure{id: n.id, msg: secretMessage("compared")}
		}
		return &failure{id: n.id, msg: bare(n.name) + "() needs elements of one kind; the first is " + kindOf(ks[0]) + ", element " + itoa(int64(i)) + " is " + kindOf(k)}
	}
	order := make([]int, size)
	for i := range order {
		order[i] = i
	}
	var failed *failure
	slices.SortStableFunc(order, func(i, j int) int {
		if failed != nil {
			return 0
		}
		c, err := f.compare(n, ks[i], ks[j])
		if err != nil {
			failed = err
		}
		return c
	})
	if failed != nil {
		return failed
	}
	out := make([]ref.Val, size)
	for i, at := range order {
		out[i] = l.at(at)
	}
	return &list{elems: out}
}

// opSets is sets.contains, sets.equivalent and sets.intersects, priced by the product of the sizes before the first look.
func opSets(name string) *spec {
	return &spec{call: func(f *frame, n *callNode, args []ref.Val) ref.Val {
		a, ok1 := args[0].(*list)
		b, ok2 := args[1].(*list)
		if !ok1 || !ok2 {
			return mismatch(n, args)
		}
		if err := f.spend(n.id, product(a.len(), b.len())); err != nil {
			return err
		}
		has := func(l *list, v ref.Val) (bool, *failure) {
			for i := range l.len() {
				if eq, err := f.equal(n.id, v, l.at(i)); eq || err != nil {
					return eq, err
				}
			}
			return false, nil
		}
		contains := func(l, of *list) ref.Val {
			for i := range of.len() {
				found, err := has(l, of.at(i))
				if err != nil {
					return err
				}
				if !found {
					return types.False
				}
			}
			return types.True
		}
		switch name {
		case "sets.contains":
			return contains(a, b)
		case "sets.equivalent":
			if v := contains(a, b); v != types.True {
				return v
			}
			return contains(b, a)
		}
		for i := range a.len() {
			found, err := has(b, a.at(i))
			if err != nil {
				return err
			}
			if found {
				return types.True
			}
		}
		return types.False
	}}
}

// opExtreme is math.least and math.greatest.
func opExtreme(sign int) *spec {
	return &spec{call: func(f *frame, n *callNode, args []ref.Val) ref.Val {
		if l, ok := args[0].(*list); ok && len(args) == 1 {
			if err := f.spend(n.id, int64(l.len())); err != nil {
				return err
			}
			args = l.all()
			if len(args) == 0 {
				return &failure{id: n.id, msg: bare(n.name) + "() of an empty list"}
			}
		}
		best := args[0]
		for _, a := range args {
			switch a.(type) {
			case types.Int, types.Uint, types.Double:
			default:
				return &failure{id: n.id, msg: bare(n.name) + "() needs numbers, not " + kindOf(a)}
			}
			c, err := f.compare(n, a, best)
			if err != nil {
				return err
			}
			if c*sign > 0 {
				best = a
			}
		}
		return best
	}}
}

// optionals

func zero(v ref.Val) bool {
	switch v := v.(type) {
	case types.Null:
		return true
	case types.Bool:
		return !bool(v)
	case types.Int:
		return v == 0
	case types.Uint:
		return v == 0
	case types.Double:
		return v == 0
	case types.String:
		return v == ""
	case types.Bytes:
		return len(v) == 0
	case *list:
		return v.len() == 0
	case *dict:
		return v.len() == 0
	case *types.Optional:
		return !v.HasValue() || zero(v.GetValue())
	}
	return false
}

func opUnwrap(f *frame, n *callNode, args []ref.Val) ref.Val {
	l, ok := args[0].(*list)
	if !ok {
		return mismatch(n, args)
	}
	if err := f.build(n.id, int64(l.len())*elemBytes); err != nil {
		return err
	}
	out := []ref.Val{}
	for i := range l.len() {
		o, ok := l.at(i).(*types.Optional)
		if !ok {
			return mismatch(n, args)
		}
		if o.HasValue() {
			out = append(out, o.GetValue())
		}
	}
	return &list{elems: out}
}

// helpers for those who come from Buildbot

// floor is Python's // (quotient) and % (remainder): rounded towards minus infinity.
func opFloor(quotient bool) *spec {
	return &spec{call: func(_ *frame, n *callNode, args []ref.Val) ref.Val {
		switch a := args[0].(type) {
		case types.Int:
			b, ok := args[1].(types.Int)
			if !ok {
				break
			}
			if b == 0 {
				return &failure{id: n.id, msg: "division by zero"}
			}
			if b == -1 {
				if !quotient {
					return types.IntZero
				}
				return result(n, args, a.Negate())
			}
			q, r := a/b, a%b
			if r != 0 && (r < 0) != (b < 0) {
				q, r = q-1, r+b
			}
			if quotient {
				return q
			}
			return r
		case types.Double:
			b, ok := args[1].(types.Double)
			if !ok {
				break
			}
			if b == 0 {
				return &failure{id: n.id, msg: "division by zero"}
			}
			q := math.Floor(float64(a / b))
			if quotient {
				return types.Double(q)
			}
			r := math.Mod(float64(a), float64(b))
			if r != 0 && (r < 0) != (b < 0) {
				r += float64(b)
			}
			return types.Double(r)
		}
		return mismatch(n, args)
	}}
}

func opStr(f *frame, n *callNode, args []ref.Val) ref.Val {
	switch v := args[0].(type) {
	case types.Null:
		return types.String("")
	case types.String:
		return v
	case types.Bytes:
		return mismatch(n, args)
	}
	w := pyWriter{f: f, n: n}
	if err := w.repr(args[0], 1); err != nil {
		return err
	}
	return types.String(w.String())
}

func opSecret(_ *frame, n *callNode, args []ref.Val) ref.Val {
	name, ok := args[0].(types.String)
	if !ok {
		return mismatch(n, args)
	}
	return secret{field.Secret(string(name))}
}
