package cel

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"unicode/utf8"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/latent-engine/latent-engine/engine/field"
)

// list is every list that an evaluation sees: elements of its own, or a bound list that is converted as it is read.
type list struct {
	elems []ref.Val
	raw   field.List // where set, elems is nil
}

func (l *list) len() int {
	if l.raw != nil {
		return len(l.raw)
	}
	return len(l.elems)
}

func (l *list) at(i int) ref.Val {
	if l.raw != nil {
		return fromField(l.raw[i])
	}
	return l.elems[i]
}

func (l *list) all() []ref.Val {
	if l.raw == nil {
		return l.elems
	}
	out := make([]ref.Val, len(l.raw))
	for i, v := range l.raw {
		out[i] = fromField(v)
	}
	return out
}

// The methods below make a list one of cel-go's, for cel-go's own functions (format). Equal, Contains and Add are never
// called: the evaluator has its own, under the budget.

func (l *list) ConvertToNative(reflect.Type) (any, error) { return nil, errForeign }
func (l *list) ConvertToType(ref.Type) ref.Val            { return types.WrapErr(errForeign) }
func (l *list) Equal(ref.Val) ref.Val                     { return types.WrapErr(errForeign) }
func (l *list) Type() ref.Type                            { return types.ListType }
func (l *list) Value() any                                { return l }
func (l *list) Add(ref.Val) ref.Val                       { return types.WrapErr(errForeign) }
func (l *list) Contains(ref.Val) ref.Val                  { return types.WrapErr(errForeign) }
func (l *list) Size() ref.Val                             { return types.Int(l.len()) }
func (l *list) Iterator() traits.Iterator                 { return &iterator{next: l.at, n: l.len()} }

func (l *list) Get(index ref.Val) ref.Val {
	if i, ok := index.(types.Int); ok && i >= 0 && int(i) < l.len() {
		return l.at(int(i))
	}
	return types.WrapErr(errForeign)
}

// dict is every map that an evaluation sees: keys are strings, and are visited in their order, so that the same inputs
// give the same result.
type dict struct {
	vals map[string]ref.Val
	raw  field.Object // where set, vals is nil
	keys []string     // sorted; nil until asked for
}

func (d *dict) len() int {
	if d.raw != nil {
		return len(d.raw)
	}
	return len(d.vals)
}

func (d *dict) get(key string) (ref.Val, bool) {
	if d.raw != nil {
		v, ok := d.raw[key]
		if !ok {
			return nil, false
		}
		return fromField(v), true
	}
	v, ok := d.vals[key]
	return v, ok
}

func (d *dict) sorted() []string {
	if d.keys == nil && d.len() > 0 {
		if d.raw != nil {
			d.keys = slices.Sorted(maps.Keys(d.raw))
		} else {
			d.keys = slices.Sorted(maps.Keys(d.vals))
		}
	}
	return d.keys
}

func (d *dict) ConvertToNative(reflect.Type) (any, error) { return nil, errForeign }
func (d *dict) ConvertToType(ref.Type) ref.Val            { return types.WrapErr(errForeign) }
func (d *dict) Equal(ref.Val) ref.Val                     { return types.WrapErr(errForeign) }
func (d *dict) Type() ref.Type                            { return types.MapType }
func (d *dict) Value() any                                { return d }
func (d *dict) Size() ref.Val                             { return types.Int(d.len()) }
func (d *dict) Contains(key ref.Val) ref.Val {
	_, ok := d.Find(key)
	return types.Bool(ok)
}

func (d *dict) Iterator() traits.Iterator {
	keys := d.sorted()
	return &iterator{next: func(i int) ref.Val { return types.String(keys[i]) }, n: len(keys)}
}

func (d *dict) Find(key ref.Val) (ref.Val, bool) {
	k, ok := key.(types.String)
	if !ok {
		return nil, false
	}
	return d.get(string(k))
}

func (d *dict) Get(key ref.Val) ref.Val {
	if v, ok := d.Find(key); ok {
		return v
	}
	return types.WrapErr(errForeign)
}

type iterator struct {
	next func(int) ref.Val
	i, n int
}

func (it *iterator) ConvertToNative(reflect.Type) (any, error) { return nil, errForeign }
func (it *iterator) ConvertToType(ref.Type) ref.Val            { return types.WrapErr(errForeign) }
func (it *iterator) Equal(ref.Val) ref.Val                     { return types.WrapErr(errForeign) }
func (it *iterator) Type() ref.Type                            { return types.IteratorType }
func (it *iterator) Value() any                                { return nil }
func (it *iterator) HasNext() ref.Val                          { return types.Bool(it.i < it.n) }
func (it *iterator) Next() ref.Val {
	it.i++
	return it.next(it.i - 1)
}

// secret is what secret('name') gives: a hole. Nothing can be asked of it; only the conversion of a result opens it.
type secret struct{ text field.Text }

func (s secret) ConvertToNative(reflect.Type) (any, error) { return nil, errForeign }
func (s secret) ConvertToType(ref.Type) ref.Val            { return types.WrapErr(errForeign) }
func (s secret) Equal(ref.Val) ref.Val                     { return types.WrapErr(errForeign) }
func (s secret) Type() ref.Type                            { return secretType }
func (s secret) Value() any                                { return nil }
func (s secret) String() string                            { return "a secret" }

// fromField makes v a value of an evaluation. Lists and maps are not copied.
func fromField(v field.Value) ref.Val {
	switch v := v.(type) {
	case nil:
		return types.NullValue
	case field.String:
		return types.String(v)
	case field.Int:
		return types.Int(v)
	case field.Bool:
		return types.Bool(v)
	case field.Float:
		return types.Double(v)
	case field.Text:
		return secret{v}
	case field.List:
		if v == nil {
			v = field.List{}
		}
		return &list{raw: v}
	case field.Object:
		if v == nil {
			v = field.Object{}
		}
		return &dict{raw: v}
	}
	panic("internal error: unknown value in bindings")
}

// toField converts a result under the budget's limits on results: nodes, depth and bytes of JSON, checked as it goes, so
// that a value which refers to itself a million times ends early. optional.none() gives nil, and leaves out a list's
// element or a map's key.
func (f *frame) toField(v ref.Val, at int64) (field.Value, *failure) {
	c := converter{f: f, at: at}
	out, err := c.value(v, 1)
	if err != nil {
		return nil, err
	}
	return out, nil
}

type converter struct {
	f     *frame
	at    int64
	nodes int
	bytes int64
}

func (c *converter) count(bytes int) *failure {
	lim := &c.f.budget.Limits
	c.nodes++
	c.bytes += int64(bytes)
	if c.nodes&1023 == 0 {
		if err := c.f.spend(c.at, 1); err != nil {
			return err
		}
	}
	switch {
	case c.nodes > lim.ResultNodes:
		return c.f.spent(c.at, "result limit spent: the result has more than "+thousands(int64(lim.ResultNodes))+" values")
	case c.bytes > lim.ResultBytes:
		return c.f.spent(c.at, "result limit spent: the result is bigger than "+thousands(lim.ResultBytes)+" bytes")
	}
	return nil
}

func (c *converter) value(v ref.Val, depth int) (field.Value, *failure) {
	if depth > c.f.budget.Limits.ResultDepth {
		return nil, c.f.spent(c.at, "result limit spent: the result is nested deeper than "+thousands(int64(c.f.budget.Limits.ResultDepth))+" levels")
	}
	switch v := v.(type) {
	case types.String:
		if !utf8.ValidString(string(v)) {
			return nil, &failure{id: c.at, msg: "the result is a string that is not valid UTF-8"}
		}
		return field.String(v), c.count(len(v) + 2)
	case types.Int:
		return field.Int(v), c.count(8)
	case types.Bool:
		return field.Bool(v), c.count(4)
	case types.Double:
		if v != v || v-v != 0 {
			return nil, &failure{id: c.at, msg: "the result is not a finite number", hint: "was something divided by 0.0?"}
		}
		return field.Float(v), c.count(8)
	case types.Uint:
		if v > 1<<63-1 {
			return nil, &failure{id: c.at, msg: "the result is an integer of more than 64 bits"}
		}
		return field.Int(v), c.count(8)
	case types.Null:
		return nil, c.count(4)
	case secret:
		n := 0
		for _, s := range v.text {
			n += len(s.Text) + len(s.Secret.Name)
		}
		return v.text, c.count(n + 2)
	case *types.Optional:
		if !v.HasValue() {
			return nil, c.count(0)
		}
		return c.value(v.GetValue(), depth)
	case *list:
		if err := c.count(2); err != nil {
			return nil, err
		}
		if v.raw != nil {
			return v.raw, c.raw(v.raw, depth)
		}
		out := make(field.List, 0, min(len(v.elems), c.f.budget.Limits.ResultNodes))
		for _, e := range v.elems {
			if o, ok := e.(*types.Optional); ok && !o.HasValue() {
				continue
			}
			x, err := c.value(e, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, x)
		}
		return out, nil
	case *dict:
		if err := c.count(2); err != nil {
			return nil, err
		}
		if v.raw != nil {
			return v.raw, c.raw(v.raw, depth)
		}
		out := make(field.Object, min(len(v.vals), c.f.budget.Limits.ResultNodes))
		for _, k := range v.sorted() {
			e := v.vals[k]
			if o, ok := e.(*types.Optional); ok && !o.HasValue() {
				continue
			}
			if !utf8.ValidString(k) {
				return nil, &failure{id: c.at, msg: "the result has a key that is not valid UTF-8"}
			}
			c.bytes += int64(len(k) + 4)
			x, err := c.value(e, depth+1)
			if err != nil {
				return nil, err
			}
			out[k] = x
		}
		return out, nil
	}
	return nil, &failure{id: c.at, msg: "the result holds " + kindOf(v) + ", which no definition can hold", hint: notJSONHint}
}

// raw counts a bound value, which needs no conversion.
func (c *converter) raw(v field.Value, depth int) *failure {
	if depth > c.f.budget.Limits.ResultDepth {
		return c.f.spent(c.at, "result limit spent: the result is nested deeper than "+thousands(int64(c.f.budget.Limits.ResultDepth))+" levels")
	}
	one := func(v field.Value) *failure {
		switch v := v.(type) {
		case field.String:
			return c.count(len(v) + 2)
		case field.List, field.Object:
			if err := c.count(2); err != nil {
				return err
			}
			return c.raw(v, depth+1)
		}
		return c.count(8)
	}
	switch v := v.(type) {
	case field.List:
		for _, e := range v {
			if err := one(e); err != nil {
				return err
			}
		}
	case field.Object:
		for _, k := range slices.SortedFunc(maps.Keys(v), cmp.Compare[string]) {
			c.bytes += int64(len(k) + 4)
			if err := one(v[k]); err != nil {
				return err
			}
		}
	}
	return nil
}

const notJSONHint = "use string(…) to make it text"

// kindOf is the word that messages use for a value's kind.
func kindOf(v ref.Val) string {
	switch v := v.(type) {
	case types.String:
		return "a string"
	case types.Int, types.Uint:
		return "an integer"
	case types.Double:
		return "a number"
	case types.Bool:
		return "a boolean"
	case types.Null:
		return "null"
	case types.Bytes:
		return "bytes"
	case secret:
		return "a secret"
	case *list:
		return "a list"
	case *dict:
		return "a map"
	case *types.Optional:
		return "an optional value"
	case *types.Type:
		_ = v
		return "a type"
	}
	return "a value"
}
