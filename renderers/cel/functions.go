package cel

import (
	"slices"
	"strings"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
)

// FunctionDoc is one function or macro that an expression may call.
type FunctionDoc struct {
	// Name as it is written: size, lists.range, map.
	Name string
	// Signature in the words of docs/expressions.md: text.split(separator) → list(string).
	Signature string
	// Doc is one line.
	Doc string
	// Group is the heading it stands under in documents.
	Group string
}

// Functions are all functions and macros, grouped as documents list them. Nothing else can be called.
func Functions() []FunctionDoc { return slices.Clone(functionDocs) }

const (
	groupBuildbot = "For Buildbot users"
	groupConvert  = "Types"
	groupText     = "Text"
	groupList     = "Lists and maps"
	groupOptional = "Values that may be missing"
	groupNumber   = "Numbers"
	groupOther    = "Names"
)

var functionDocs = []FunctionDoc{
	{"str", "str(x) → string", `Python's formatting: null → "", true → "True", [1, "a"] → "[1, 'a']".`, groupBuildbot},
	{"truthy", "truthy(x) → bool", `Python's truth: false for null, false, 0, 0.0, "", [] and {}.`, groupBuildbot},
	{"floordiv", "floordiv(a, b) → int or double", "Python's //: the quotient, rounded down.", groupBuildbot},
	{"floormod", "floormod(a, b) → int or double", "Python's %: the remainder, with the sign of b.", groupBuildbot},
	{"secret", "secret('name') → secret", "A secret, by its literal name. It has no operators: it is a whole value, or stands inside a text.", groupBuildbot},

	{"string", "string(x) → string", "Text of a string, number or boolean, as CEL writes it: true → \"true\".", groupConvert},
	{"int", "int(x) → int", "An integer from text or a number (the fraction is cut off).", groupConvert},
	{"uint", "uint(x) → uint", "An unsigned integer from text or a number.", groupConvert},
	{"double", "double(x) → double", "A number from text or an integer.", groupConvert},
	{"bool", "bool(x) → bool", `A boolean from text: "true", "false", "1", "0", "t", "f".`, groupConvert},
	{"dyn", "dyn(x) → any value", "x, without the checks of its type before the build.", groupConvert},
	{"type", "type(x) → type", "The type of x, to be compared: type(x) == int.", groupConvert},

	{"size", "size(x) → int, x.size() → int", "Characters of a text, elements of a list, keys of a map.", groupText},
	{"contains", "text.contains(part) → bool", "Whether part stands somewhere in the text.", groupText},
	{"startsWith", "text.startsWith(part) → bool", "Whether the text begins with part.", groupText},
	{"endsWith", "text.endsWith(part) → bool", "Whether the text ends with part.", groupText},
	{"matches", "text.matches(regex) → bool", "Whether a regular expression (RE2, at most 256 characters) fits somewhere in the text.", groupText},
	{"charAt", "text.charAt(i) → string", "The character at position i, counted from 0.", groupText},
	{"indexOf", "text.indexOf(part[, from]) → int", "Where part first stands, or -1.", groupText},
	{"lastIndexOf", "text.lastIndexOf(part[, from]) → int", "Where part last stands, or -1.", groupText},
	{"lowerAscii", "text.lowerAscii() → string", "A-Z in lower case.", groupText},
	{"upperAscii", "text.upperAscii() → string", "a-z in upper case.", groupText},
	{"replace", "text.replace(old, new[, n]) → string", "old replaced by new, everywhere or at most n times.", groupText},
	{"split", "text.split(separator[, n]) → list(string)", "The parts between the separators, at most n.", groupText},
	{"substring", "text.substring(from[, to]) → string", "The characters from position from on, up to to.", groupText},
	{"trim", "text.trim() → string", "Without white space at both ends.", groupText},
	{"reverse", "x.reverse() → string or list", "A text or a list, backwards.", groupText},
	{"format", "text.format([values]) → string", `"%s-%d".format(["a", 1]): %s, %d, %f, %.2f, %e, %b, %x, %X, %o.`, groupText},
	{"strings.quote", "strings.quote(text) → string", "The text in double quotes, with escapes.", groupText},
	{"join", "list.join([separator]) → string", "The texts of a list, with the separator between them.", groupText},

	{"all", "x.all(e, test) → bool, x.all(k, v, test) → bool", "Whether the test holds for every element (list) or key (map).", groupList},
	{"exists", "x.exists(e, test) → bool, x.exists(k, v, test) → bool", "Whether the test holds for at least one.", groupList},
	{"exists_one", "x.exists_one(e, test) → bool, x.exists_one(k, v, test) → bool", "Whether the test holds for exactly one.", groupList},
	{"existsOne", "x.existsOne(e, test) → bool, x.existsOne(k, v, test) → bool", "The same as exists_one.", groupList},
	{"filter", "x.filter(e, test) → list", "The elements (or keys) for which the test holds.", groupList},
	{"map", "x.map(e, value) → list, x.map(e, test, value) → list", "A value for each element (or key) for which the test holds.", groupList},
	{"transformList", "x.transformList(k, v, value) → list, x.transformList(k, v, test, value) → list", "A list with a value for each index and element, or key and value.", groupList},
	{"transformMap", "x.transformMap(k, v, value) → map, x.transformMap(k, v, test, value) → map", "A map with the same keys and new values.", groupList},
	{"transformMapEntry", "x.transformMapEntry(k, v, {key: value}) → map, x.transformMapEntry(k, v, test, {key: value}) → map", "A map with new keys and values.", groupList},
	{"distinct", "list.distinct() → list", "Each value once, in the order in which they come first.", groupList},
	{"flatten", "list.flatten([depth]) → list", "The elements of lists in the list, one level or depth levels down.", groupList},
	{"slice", "list.slice(from, to) → list", "The elements from position from on, up to to.", groupList},
	{"sort", "list.sort() → list", "Sorted; all elements must be of one kind.", groupList},
	{"sortBy", "list.sortBy(e, key) → list", "Sorted by a key that is computed from each element.", groupList},
	{"first", "list.first() → optional", "The first element, if there is one.", groupList},
	{"last", "list.last() → optional", "The last element, if there is one.", groupList},
	{"lists.range", "lists.range(n) → list(int)", "0, 1, … n-1.", groupList},
	{"sets.contains", "sets.contains(list, part) → bool", "Whether every element of part is in the list.", groupList},
	{"sets.equivalent", "sets.equivalent(a, b) → bool", "Whether two lists have the same elements, in any order and number.", groupList},
	{"sets.intersects", "sets.intersects(a, b) → bool", "Whether two lists have an element in common.", groupList},

	{"has", "has(x.key) → bool", "Whether a key is there (its value may be null).", groupOptional},
	{"orValue", "optional.orValue(x) → value", "The value, or x where there is none: props.?tag.orValue(\"latest\").", groupOptional},
	{"or", "optional.or(optional) → optional", "The first of the two that has a value.", groupOptional},
	{"hasValue", "optional.hasValue() → bool", "Whether there is a value.", groupOptional},
	{"value", "optional.value() → value", "The value; an error where there is none.", groupOptional},
	{"optMap", "optional.optMap(v, expression) → optional", "The expression of the value, if there is one.", groupOptional},
	{"optFlatMap", "optional.optFlatMap(v, optional) → optional", "The same, for an expression that is optional itself.", groupOptional},
	{"optional.of", "optional.of(x) → optional", "x as an optional value.", groupOptional},
	{"optional.ofNonZeroValue", "optional.ofNonZeroValue(x) → optional", "x, or none where truthy(x) is false.", groupOptional},
	{"optional.none", "optional.none() → optional", "No value: as a whole value it leaves the key out.", groupOptional},
	{"optional.unwrap", "optional.unwrap(list) → list", "The values of a list of optional values, without those that have none.", groupOptional},
	{"unwrapOpt", "list.unwrapOpt() → list", "The same, written after the list.", groupOptional},

	{"math.greatest", "math.greatest(a, b, …) → number, math.greatest(list) → number", "The biggest.", groupNumber},
	{"math.least", "math.least(a, b, …) → number, math.least(list) → number", "The smallest.", groupNumber},
	{"math.abs", "math.abs(x) → number", "Without its sign.", groupNumber},
	{"math.sign", "math.sign(x) → number", "-1, 0 or 1.", groupNumber},
	{"math.ceil", "math.ceil(x) → double", "Rounded up.", groupNumber},
	{"math.floor", "math.floor(x) → double", "Rounded down.", groupNumber},
	{"math.round", "math.round(x) → double", "Rounded to the nearest, .5 away from zero.", groupNumber},
	{"math.trunc", "math.trunc(x) → double", "Without its fraction.", groupNumber},
	{"math.sqrt", "math.sqrt(x) → double", "The square root.", groupNumber},
	{"math.isNaN", "math.isNaN(x) → bool", "Whether a double is not a number.", groupNumber},
	{"math.isInf", "math.isInf(x) → bool", "Whether a double is infinite.", groupNumber},
	{"math.isFinite", "math.isFinite(x) → bool", "Whether a double is an ordinary number.", groupNumber},
	{"math.bitAnd", "math.bitAnd(a, b) → int", "Bits set in both.", groupNumber},
	{"math.bitOr", "math.bitOr(a, b) → int", "Bits set in one or both.", groupNumber},
	{"math.bitXor", "math.bitXor(a, b) → int", "Bits set in one of them.", groupNumber},
	{"math.bitNot", "math.bitNot(x) → int", "All bits turned over.", groupNumber},
	{"math.bitShiftLeft", "math.bitShiftLeft(x, n) → int", "Shifted by n bits.", groupNumber},
	{"math.bitShiftRight", "math.bitShiftRight(x, n) → int", "Shifted by n bits.", groupNumber},

	{"cel.bind", "cel.bind(name, value, expression) → value", "The expression, with a name for a value that it needs more than once. Nests at most 8 deep.", groupOther},
}

// specs is how everything that can stand as a call in a checked expression is evaluated: operators by CEL's names,
// functions by theirs. What is not in it cannot be called.
func specs(builtin func(name string) celCall) map[string]*spec {
	own := func(call func(f *frame, n *callNode, args []ref.Val) ref.Val) *spec { return &spec{call: call} }
	out := map[string]*spec{
		"_==_": opEqual(true),
		"_!=_": opEqual(false),
		"_<_":  opCompare(func(c int) bool { return c < 0 }),
		"_<=_": opCompare(func(c int) bool { return c <= 0 }),
		"_>_":  opCompare(func(c int) bool { return c > 0 }),
		"_>=_": opCompare(func(c int) bool { return c >= 0 }),
		"_+_":  own(opAdd),
		"_-_": opArith(func(a, b ref.Val) (ref.Val, bool) {
			s, ok := a.(traits.Subtractor)
			if !ok {
				return nil, false
			}
			return s.Subtract(b), true
		}),
		"_*_": opArith(func(a, b ref.Val) (ref.Val, bool) {
			s, ok := a.(traits.Multiplier)
			if !ok {
				return nil, false
			}
			return s.Multiply(b), true
		}),
		"_/_": opArith(func(a, b ref.Val) (ref.Val, bool) {
			s, ok := a.(traits.Divider)
			if !ok {
				return nil, false
			}
			return s.Divide(b), true
		}),
		"_%_": opArith(func(a, b ref.Val) (ref.Val, bool) {
			s, ok := a.(traits.Modder)
			if !ok {
				return nil, false
			}
			return s.Modulo(b), true
		}),
		"-_": own(func(_ *frame, n *callNode, args []ref.Val) ref.Val {
			switch v := args[0].(type) {
			case types.Int, types.Double:
				return result(n, args, v.(traits.Negater).Negate())
			}
			return mismatch(n, args)
		}),
		"!_": own(func(_ *frame, n *callNode, args []ref.Val) ref.Val {
			if b, ok := args[0].(types.Bool); ok {
				return !b
			}
			return mismatch(n, args)
		}),
		"@in": {null: true, call: opIn},

		"string": convertTo(types.StringType),
		"int":    convertTo(types.IntType),
		"uint":   convertTo(types.UintType),
		"double": convertTo(types.DoubleType),
		"bool":   convertTo(types.BoolType),
		"dyn":    {null: true, call: func(_ *frame, _ *callNode, args []ref.Val) ref.Val { return args[0] }},
		"type": {null: true, call: func(_ *frame, _ *callNode, args []ref.Val) ref.Val {
			return args[0].Type().(*types.Type)
		}},

		"size":                  own(opSize),
		"matches":               own(opMatches),
		"join":                  own(opJoin),
		"lists.range":           own(opRange),
		"distinct":              own(opDistinct),
		"flatten":               own(opFlatten),
		"slice":                 own(opSlice),
		"sort":                  own(opSort),
		"@sortByAssociatedKeys": own(opSort),
		"first":                 opEnd(false),
		"last":                  opEnd(true),
		"sets.contains":         opSets("sets.contains"),
		"sets.equivalent":       opSets("sets.equivalent"),
		"sets.intersects":       opSets("sets.intersects"),
		"math.@max":             opExtreme(1),
		"math.@min":             opExtreme(-1),

		"optional.none": {call: func(*frame, *callNode, []ref.Val) ref.Val { return types.OptionalNone }},
		"optional.of": {null: true, secret: true, call: func(_ *frame, _ *callNode, args []ref.Val) ref.Val {
			return types.OptionalOf(args[0])
		}},
		"optional.ofNonZeroValue": {null: true, call: func(_ *frame, _ *callNode, args []ref.Val) ref.Val {
			if zero(args[0]) {
				return types.OptionalNone
			}
			return types.OptionalOf(args[0])
		}},
		"optional.unwrap": own(opUnwrap),
		"unwrapOpt":       own(opUnwrap),
		"hasValue": own(func(_ *frame, n *callNode, args []ref.Val) ref.Val {
			if o, ok := args[0].(*types.Optional); ok {
				return types.Bool(o.HasValue())
			}
			return mismatch(n, args)
		}),
		"value": own(func(_ *frame, n *callNode, args []ref.Val) ref.Val {
			o, ok := args[0].(*types.Optional)
			switch {
			case !ok:
				return mismatch(n, args)
			case !o.HasValue():
				return &failure{id: n.id, msg: "there is no value", hint: "use orValue(…) instead of value()"}
			}
			return o.GetValue()
		}),

		"str":      {null: true, call: opStr},
		"truthy":   {null: true, call: func(_ *frame, _ *callNode, args []ref.Val) ref.Val { return types.Bool(!zero(args[0])) }},
		"floordiv": opFloor(true),
		"floormod": opFloor(false),
		"secret":   own(opSecret),
		// What x == null and x != null become: null can be compared with a value of any type.
		isNullFunc: {null: true, secret: true, call: func(_ *frame, _ *callNode, args []ref.Val) ref.Val {
			return types.Bool(args[0] == types.NullValue)
		}},
		notNullFunc: {null: true, secret: true, call: func(_ *frame, _ *callNode, args []ref.Val) ref.Val {
			return types.Bool(args[0] != types.NullValue)
		}},
		// null in a place where a value of any type may stand.
		anyNullFunc: {call: func(*frame, *callNode, []ref.Val) ref.Val { return types.NullValue }},
	}
	for name, copies := range map[string]int64{"startsWith": 1, "endsWith": 1, "trim": 1, "charAt": 4, "substring": 5, "lowerAscii": 5, "upperAscii": 5, "strings.quote": 12} {
		out[name] = scalar(builtin(name), copies)
	}
	for _, name := range []string{"contains", "indexOf", "lastIndexOf"} {
		out[name] = search(builtin(name))
	}
	out["replace"] = opReplace(builtin("replace"))
	out["split"] = opSplit(builtin("split"))
	out["format"] = opFormat(builtin("format"))
	out["reverse"] = opReverse(builtin("reverse"))
	for _, d := range functionDocs {
		if strings.HasPrefix(d.Name, "math.") && d.Name != "math.greatest" && d.Name != "math.least" {
			out[d.Name] = scalar(builtin(d.Name), 1)
		}
	}
	return out
}

const (
	isNullFunc  = "@isNull"
	notNullFunc = "@notNull"
	anyNullFunc = "@null"
	orNullFunc  = "@orNull"
)

// bare is a function's name as a message writes it.
func bare(name string) string {
	switch name {
	case "math.@max":
		return "math.greatest"
	case "math.@min":
		return "math.least"
	case "@sortByAssociatedKeys":
		return "sortBy"
	}
	return name
}
