package field

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/latent-engine/latent-engine/engine/diag"
)

// Problem is something wrong inside a value: Path is relative to the value ("" = the value itself).
type Problem struct {
	Path    string
	Message string
	Hint    string
	// Key: it is the last key of Path that is wrong, not the value under it.
	Key bool
}

// PlaceError is what a [Type.Check] returns where one part of a value is wrong: the problem stands at that part. Several
// are joined with errors.Join.
type PlaceError struct {
	Path string // relative to the value
	Key  bool   // as in [Problem]
	Err  error
}

func (e *PlaceError) Error() string { return e.Err.Error() }

func (e *PlaceError) Unwrap() error { return e.Err }

// AtEntry places err at the value under a map's key.
func AtEntry(key string, err error) error { return &PlaceError{Path: JoinPath("", key), Err: err} }

// AtKey places err at a map's key.
func AtKey(key string, err error) error {
	return &PlaceError{Path: JoinPath("", key), Key: true, Err: err}
}

// AtIndex places err at an element of a list.
func AtIndex(i int, err error) error { return &PlaceError{Path: IndexPath("", i), Err: err} }

// Coerce holds v against t and gives the value in t's canonical form: aliases renamed, "16g" as bytes, list forms as maps.
// It is total: every problem is reported, and v is left as it is. A nil v is absent, which no type refuses here.
func (t *Type) Coerce(v Value) (Value, []Problem) {
	c := coercer{}
	out := c.coerce(t, v, "")
	return out, c.problems
}

// coercer collects problems while it walks a value.
type coercer struct{ problems []Problem }

func (c *coercer) add(path, hint, format string, args ...any) {
	c.problems = append(c.problems, Problem{Path: path, Message: fmt.Sprintf(format, args...), Hint: hint})
}

// refused adds what a type's Check returned, at the part of the value that it names.
func (c *coercer) refused(path string, err error) {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range several.Unwrap() {
			c.refused(path, e)
		}
		return
	}
	var at *PlaceError
	if !errors.As(err, &at) {
		c.add(path, "", "%s", err)
		return
	}
	switch {
	case path == "":
		path = at.Path
	case strings.HasPrefix(at.Path, "["):
		path += at.Path
	default:
		path += "." + at.Path
	}
	c.problems = append(c.problems, Problem{Path: path, Message: err.Error(), Key: at.Key})
}

func (c *coercer) misfit(t *Type, v Value, path string) Value {
	hint := ""
	if t.Kind == StringKind {
		switch v.(type) {
		case Int, Float, Bool:
			hint = "put it in quotes to make it a string"
		}
	}
	if s, ok := v.(String); ok && (t.Kind == BoolKind || t.Kind == IntKind || t.Kind == FloatKind) {
		c.add(path, hint, "the string %q cannot fill %s", clip(string(s)), t)
		return v
	}
	c.add(path, hint, "%s cannot fill %s", KindName(v), t)
	return v
}

func (c *coercer) coerce(t *Type, v Value, path string) Value {
	if v == nil {
		return nil
	}
	if t == nil {
		t = anyType
	}
	if secret, ok := v.(Text); ok && t.Kind != OneOfKind {
		return c.secret(t, secret, path)
	}
	before := len(c.problems)
	out := v
	switch t.Kind {
	case Any:
		out = c.free(t, v, path)
	case StringKind, QuantityKind:
		out = c.text(t, v, path)
	case BoolKind:
		if _, ok := v.(Bool); !ok {
			return c.misfit(t, v, path)
		}
	case IntKind, FloatKind, SizeKind, DurationKind, CPUKind:
		out = c.number(t, v, path)
	case EnumKind:
		s, ok := v.(String)
		if !ok {
			return c.misfit(t, v, path)
		}
		if !slices.Contains(t.Values, string(s)) {
			c.add(path, meant(string(s), t.Values), "%q is not %s", clip(string(s)), t)
		}
	case ListKind:
		out = c.list(t, v, path)
	case MapKind, ObjectKind:
		out = c.object(t, v, path)
	case OneOfKind:
		return c.oneOf(t, v, path)
	default:
		return c.misfit(t, v, path)
	}
	if len(c.problems) == before && t.Check != nil {
		checked, err := t.Check(out)
		if err != nil {
			c.refused(path, err)
			return out
		}
		out = checked
	}
	return out
}

var anyType = &Type{}

func (c *coercer) secret(t *Type, v Text, path string) Value {
	if !t.Secret || t.Kind != StringKind && t.Kind != Any {
		c.add(path, "", "a secret cannot stand here")
	}
	return v
}

// free walks a value that nothing is known about: a secret inside it is refused all the same.
func (c *coercer) free(t *Type, v Value, path string) Value {
	switch v := v.(type) {
	case List:
		for i, e := range v {
			c.coerce(&Type{Secret: t.Secret}, e, IndexPath(path, i))
		}
	case Object:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			c.coerce(&Type{Secret: t.Secret}, v[k], JoinPath(path, k))
		}
	}
	return v
}

func (c *coercer) text(t *Type, v Value, path string) Value {
	s, ok := v.(String)
	if !ok {
		if !t.ScalarText {
			return c.misfit(t, v, path)
		}
		switch v := v.(type) {
		case Int:
			s = String(strconv.FormatInt(int64(v), 10))
		case Float:
			s = String(strconv.FormatFloat(float64(v), 'g', -1, 64))
		case Bool:
			s = String(strconv.FormatBool(bool(v)))
		default:
			return c.misfit(t, v, path)
		}
	}
	if t.MaxLen > 0 && len(s) > t.MaxLen {
		c.add(path, "", "the string has %d bytes; at most %d are allowed", len(s), t.MaxLen)
	}
	if t.Min != nil || t.Max != nil {
		c.bounds(t, int64(utf8.RuneCountInString(string(s))), path, "character", "characters")
	}
	if ok {
		return v // the same, already in an interface
	}
	return s
}

func (c *coercer) number(t *Type, v Value, path string) Value {
	if t.Kind == FloatKind {
		switch n := v.(type) {
		case Float:
			if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
				c.add(path, "", "not a finite number")
			}
			return n
		case Int:
			return Float(n)
		}
		return c.misfit(t, v, path)
	}
	given := v
	n, err := integer(t, v)
	if errors.Is(err, errMisfit) {
		return c.misfit(t, v, path)
	}
	if err != nil {
		c.add(path, "", "%s", err)
		return v
	}
	if t.Min != nil && n < *t.Min {
		c.add(path, "", "%s is less than the minimum %s", show(t, v, n), amount(t, *t.Min))
	}
	if t.Max != nil && n > *t.Max {
		c.add(path, "", "%s is more than the maximum %s", show(t, v, n), amount(t, *t.Max))
	}
	if v, ok := v.(Int); ok && int64(v) == n {
		return given
	}
	return Int(n)
}

func show(t *Type, v Value, n int64) string {
	if s, ok := v.(String); ok {
		return strconv.Quote(clip(string(s)))
	}
	return amount(t, n)
}

// amount is a number with its unit, as a user would write or say it: 6 MiB, 1m30s, 0.5 CPUs.
func amount(t *Type, n int64) string {
	switch t.Kind {
	case SizeKind:
		return byteSize(n)
	case DurationKind:
		if d := time.Duration(n) * time.Duration(max(t.Unit, 1)); int64(d)/max(t.Unit, 1) == n {
			return duration(d)
		}
	case CPUKind:
		if n == 1e9 {
			return "1 CPU"
		}
		return strconv.FormatFloat(float64(n)/1e9, 'f', -1, 64) + " CPUs"
	}
	return strconv.FormatInt(n, 10)
}

func byteSize(n int64) string {
	unit := ""
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if n == 0 || n%1024 != 0 {
			break
		}
		n, unit = n/1024, u
	}
	if unit == "" {
		return counted(n, "byte", "bytes")
	}
	return strconv.FormatInt(n, 10) + " " + unit
}

// duration is d without the units that are zero at its end: 1h, not 1h0m0s.
func duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

func counted(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.FormatInt(n, 10) + " " + many
}

// bounds holds a length against Min and Max.
func (c *coercer) bounds(t *Type, n int64, path, one, many string) {
	verb := func(n int64) string {
		if n == 1 {
			return "is"
		}
		return "are"
	}
	if t.Min != nil && n < *t.Min {
		c.add(path, "", "%s; at least %d %s wanted", counted(n, one, many), *t.Min, verb(*t.Min))
	}
	if t.Max != nil && n > *t.Max {
		c.add(path, "", "%s; at most %d %s allowed", counted(n, one, many), *t.Max, verb(*t.Max))
	}
}

func (c *coercer) list(t *Type, v Value, path string) Value {
	l, ok := v.(List)
	if !ok {
		return c.misfit(t, v, path)
	}
	c.bounds(t, int64(len(l)), path, "element", "elements")
	out := make(List, len(l))
	for i, e := range l {
		if e == nil {
			if !t.Elem.nullable() {
				c.add(IndexPath(path, i), "", "null cannot be an element here")
			}
			continue
		}
		out[i] = c.coerce(t.Elem, e, IndexPath(path, i))
	}
	return out
}

func (t *Type) nullable() bool { return t == nil || t.Kind == Any || t.Nullable }

func (c *coercer) object(t *Type, v Value, path string) Value {
	o, ok := v.(Object)
	if l, isList := v.(List); isList && t.ListForm {
		o, ok = c.listForm(l, path), true
	}
	if !ok {
		return c.misfit(t, v, path)
	}
	out := make(Object, len(o))
	if t.Kind == MapKind {
		c.bounds(t, int64(len(o)), path, "entry", "entries")
	}
	for _, k := range slices.Sorted(maps.Keys(o)) {
		if t.Kind == MapKind {
			if o[k] == nil {
				if t.Elem.nullable() {
					out[k] = nil
				}
				continue
			}
			out[k] = c.coerce(t.Elem, o[k], JoinPath(path, k))
			continue
		}
		f, known := t.Fields.Lookup(k)
		switch {
		case !known && t.Open:
			out[k] = o[k]
		case !known:
			c.add(JoinPath(path, k), didYouMean(k, t.Fields.Names()), "unknown field %q", clip(k))
		case f.Retired != "":
			c.add(JoinPath(path, k), "", "%s", f.Retired)
		default:
			if _, twice := out[f.Name]; twice {
				c.add(JoinPath(path, k), "", "two spellings of one field: %s", Spellings(f, o))
				continue
			}
			if o[k] != nil {
				out[f.Name] = c.coerce(f.Type, o[k], JoinPath(path, k))
			}
		}
	}
	if t.Kind == ObjectKind {
		for _, f := range t.Fields.Fields {
			if f.Required && out[f.Name] == nil {
				c.add(path, "", "%q is missing", f.Name)
			}
		}
	}
	return out
}

// Spellings names the spellings of f that o has, for "two spellings of one field".
func Spellings(f *Field, o Object) string {
	var found []string
	for _, n := range append([]string{f.Name}, f.Aliases...) {
		if _, ok := o[n]; ok {
			found = append(found, strconv.Quote(n))
		}
	}
	return strings.Join(found, " and ")
}

// listForm reads docker-py's ["KEY=value", …] as a map. A secret may be in the value; the key must be plain characters.
func (c *coercer) listForm(l List, path string) Object {
	out := make(Object, len(l))
	for i, e := range l {
		var key string
		var val Value
		switch e := e.(type) {
		case String:
			k, v, ok := strings.Cut(string(e), "=")
			if !ok {
				c.add(IndexPath(path, i), `write "KEY=value"`, "%q has no \"=\"", clip(string(e)))
				continue
			}
			key, val = k, String(v)
		case Text:
			k, rest, ok := strings.Cut(e[0].Text, "=")
			if !ok || !e[0].Secret.IsZero() {
				c.add(IndexPath(path, i), `write "KEY=value"`, "a secret cannot stand in the name of an entry")
				continue
			}
			t := slices.Clone(e)
			if t[0].Text = rest; rest == "" {
				t = t[1:]
			}
			key, val = k, t
		default:
			c.add(IndexPath(path, i), `write "KEY=value"`, "%s cannot be an entry", KindName(e))
			continue
		}
		if _, twice := out[key]; twice {
			c.add(IndexPath(path, i), "", "%q is given twice", clip(key))
			continue
		}
		out[key] = val
	}
	return out
}

func (c *coercer) oneOf(t *Type, v Value, path string) Value {
	var nearest []Problem
	near := 0
	for _, alt := range t.Of {
		try := coercer{}
		out := try.coerce(alt, v, path)
		if len(try.problems) == 0 {
			if t.Check != nil {
				checked, err := t.Check(out)
				if err != nil {
					c.refused(path, err)
					return v
				}
				return checked
			}
			return out
		}
		if alt.shapeFits(v) {
			nearest, near = try.problems, near+1
		}
	}
	// Where one alternative alone has the right shape, its own complaint says more than "fits none".
	if near == 1 {
		c.problems = append(c.problems, nearest...)
		return v
	}
	if _, secret := v.(Text); secret {
		c.add(path, "", "a secret cannot stand here")
		return v
	}
	return c.misfit(t, v, path)
}

// shapeFits reports whether v's JSON kind is one that t takes, whatever its content.
func (t *Type) shapeFits(v Value) bool {
	switch v.(type) {
	case String:
		return slices.Contains([]Kind{Any, StringKind, EnumKind, SizeKind, DurationKind, CPUKind, QuantityKind}, t.Kind)
	case Int, Float:
		return slices.Contains([]Kind{Any, IntKind, FloatKind, SizeKind, DurationKind, CPUKind}, t.Kind)
	case Bool:
		return t.Kind == Any || t.Kind == BoolKind
	case List:
		return t.Kind == Any || t.Kind == ListKind || t.ListForm
	case Object:
		return t.Kind == Any || t.Kind == MapKind || t.Kind == ObjectKind
	}
	return false
}

var errMisfit = fmt.Errorf("misfit")

func integer(t *Type, v Value) (int64, error) {
	switch t.Kind {
	case IntKind:
		if n, ok := v.(Int); ok {
			return int64(n), nil
		}
	case SizeKind:
		switch n := v.(type) {
		case Int:
			return int64(n), nil
		case String:
			return ParseSize(string(n))
		}
	case DurationKind:
		unit := max(t.Unit, 1)
		var d time.Duration
		switch n := v.(type) {
		case Int:
			if int64(n) > math.MaxInt64/int64(time.Second) || int64(n) < math.MinInt64/int64(time.Second) {
				return 0, fmt.Errorf("%d seconds are too many", n)
			}
			d = time.Duration(n) * time.Second
		case Float:
			if f := float64(n) * float64(time.Second); math.Abs(f) < math.MaxInt64/2 {
				d = time.Duration(f)
				break
			}
			return 0, fmt.Errorf("%v seconds are too many", n)
		case String:
			parsed, err := time.ParseDuration(string(n))
			if err != nil {
				return 0, fmt.Errorf("%q is not a duration such as \"1m30s\"", clip(string(n)))
			}
			d = parsed
		default:
			return 0, errMisfit
		}
		if int64(d)%unit != 0 {
			return 0, fmt.Errorf("%s is not a multiple of %s", d, time.Duration(unit))
		}
		return int64(d) / unit, nil
	case CPUKind:
		switch n := v.(type) {
		case Int:
			if int64(n) > math.MaxInt64/1_000_000_000 || n < 0 {
				return 0, fmt.Errorf("%d is not a number of CPUs", n)
			}
			return int64(n) * 1e9, nil
		case Float:
			if n < 0 || n > 1e6 || n != n {
				return 0, fmt.Errorf("%v is not a number of CPUs", n)
			}
			return int64(math.Round(float64(n) * 1e9)), nil
		case String:
			s, scale := strings.CutSuffix(string(n), "m")
			f, err := strconv.ParseFloat(s, 64)
			if err != nil || f < 0 || f > 1e9 || f != f {
				return 0, fmt.Errorf("%q is not a number of CPUs such as \"0.5\" or \"500m\"", clip(string(n)))
			}
			if scale {
				f /= 1000
			}
			return int64(math.Round(f * 1e9)), nil
		}
	}
	return 0, errMisfit
}

// ParseSize reads bytes as Docker writes them: "512m", "16g", "1.5g", "1024", "2gb", "2gib"; units are powers of 1024.
func ParseSize(s string) (int64, error) {
	bad := func() error { return fmt.Errorf("%q is not a size such as \"512m\" or \"16g\"", clip(s)) }
	num := strings.TrimRight(strings.ToLower(s), "bkmgtpi")
	unit := strings.ToLower(s[len(num):])
	unit = strings.TrimSuffix(strings.TrimSuffix(unit, "b"), "i")
	shift := strings.Index(" kmgtp", unit) * 10
	if unit == "" {
		shift = 0
	}
	if len(unit) > 1 || shift < 0 || num == "" || strings.HasSuffix(strings.ToLower(s), "i") || strings.TrimSpace(num) != num {
		return 0, bad()
	}
	if n, err := strconv.ParseInt(num, 10, 64); err == nil {
		if n > math.MaxInt64>>shift || n < math.MinInt64>>shift {
			return 0, fmt.Errorf("%q is more than can be counted", clip(s))
		}
		return n << shift, nil
	}
	for _, r := range num {
		if (r < '0' || r > '9') && r != '.' && r != '-' {
			return 0, bad()
		}
	}
	f, err := strconv.ParseFloat(num, 64)
	if err != nil {
		return 0, bad()
	}
	if f *= float64(int64(1) << shift); math.Abs(f) >= math.MaxInt64/2 {
		return 0, fmt.Errorf("%q is more than can be counted", clip(s))
	}
	return int64(f), nil
}

// Accepts holds a static type (what an expression gives) against t at load. An empty result means that a value of from
// can fill t; what only the value itself can tell is left to Coerce.
func (t *Type) Accepts(from *Type) []Problem {
	var out []Problem
	t.accepts(from, "", &out)
	return out
}

func (t *Type) accepts(from *Type, path string, out *[]Problem) {
	if from == nil || from.Kind == Any || from.Kind == NullKind {
		return
	}
	if t == nil {
		t = anyType
	}
	misfit := func() {
		hint := ""
		if t.Kind == StringKind && (from.Kind == IntKind || from.Kind == FloatKind || from.Kind == BoolKind) {
			hint = "string(…) makes a string of it"
		}
		*out = append(*out, Problem{Path: path, Message: fmt.Sprintf("%s cannot fill %s", from.kindName(), t), Hint: hint})
	}
	if from.Kind == OneOfKind {
		if !slices.ContainsFunc(from.Of, func(f *Type) bool { return len(t.Accepts(f)) == 0 }) {
			misfit()
		}
		return
	}
	if t.Kind == OneOfKind {
		if !slices.ContainsFunc(t.Of, func(alt *Type) bool { return len(alt.Accepts(from)) == 0 }) {
			if from.Kind == SecretKind {
				*out = append(*out, Problem{Path: path, Message: "a secret cannot stand here"})
				return
			}
			misfit()
		}
		return
	}
	if from.Kind == SecretKind {
		if !t.Secret || t.Kind != StringKind && t.Kind != Any {
			*out = append(*out, Problem{Path: path, Message: "a secret cannot stand here"})
		}
		return
	}
	fits := func(kinds ...Kind) {
		if !slices.Contains(kinds, from.Kind) {
			misfit()
		}
	}
	switch t.Kind {
	case Any:
		if from.hasSecret() && !t.Secret {
			*out = append(*out, Problem{Path: path, Message: "a secret cannot stand here"})
		}
	case StringKind:
		if t.ScalarText {
			fits(StringKind, EnumKind, QuantityKind, IntKind, FloatKind, BoolKind)
			return
		}
		fits(StringKind, EnumKind, QuantityKind)
	case QuantityKind:
		fits(StringKind, EnumKind, QuantityKind, IntKind, FloatKind)
	case BoolKind:
		fits(BoolKind)
	case IntKind:
		fits(IntKind)
	case FloatKind:
		fits(FloatKind, IntKind)
	case SizeKind:
		fits(SizeKind, IntKind, StringKind, EnumKind)
	case DurationKind, CPUKind:
		fits(t.Kind, IntKind, FloatKind, StringKind, EnumKind)
	case EnumKind:
		if from.Kind == EnumKind && !slices.ContainsFunc(from.Values, func(v string) bool { return slices.Contains(t.Values, v) }) {
			misfit()
			return
		}
		fits(EnumKind, StringKind)
	case ListKind:
		if from.Kind != ListKind {
			misfit()
			return
		}
		t.Elem.accepts(from.Elem, path, out)
	case MapKind, ObjectKind:
		t.acceptsObject(from, path, out, misfit)
	default:
		misfit()
	}
}

func (t *Type) acceptsObject(from *Type, path string, out *[]Problem, misfit func()) {
	elem := func(key string) (*Type, bool) {
		if t.Kind == MapKind {
			return t.Elem, true
		}
		f, ok := t.Fields.Lookup(key)
		if !ok {
			if !t.Open {
				*out = append(*out, Problem{Path: JoinPath(path, key), Message: fmt.Sprintf("unknown field %q", clip(key)), Hint: didYouMean(key, t.Fields.Names())})
			}
			return nil, t.Open
		}
		if f.Retired != "" {
			*out = append(*out, Problem{Path: JoinPath(path, key), Message: f.Retired})
			return nil, false
		}
		return f.Type, true
	}
	switch from.Kind {
	case ListKind:
		if !t.ListForm {
			misfit()
			return
		}
		(&Type{Kind: StringKind, Secret: t.Elem != nil && t.Elem.Secret}).accepts(from.Elem, path, out)
	case MapKind:
		if t.Kind == MapKind {
			t.Elem.accepts(from.Elem, path, out)
			return
		}
		if from.Elem == nil || from.Elem.Kind == Any || t.Open {
			return
		}
		if !slices.ContainsFunc(t.Fields.Fields, func(f Field) bool { return f.Retired == "" && len(f.Type.Accepts(from.Elem)) == 0 }) {
			*out = append(*out, Problem{Path: path, Message: fmt.Sprintf("a map of %s has no value that any field here takes", from.Elem.plural())})
		}
	case ObjectKind:
		for _, f := range from.Fields.Fields {
			if want, ok := elem(f.Name); ok {
				want.accepts(f.Type, JoinPath(path, f.Name), out)
			}
		}
	default:
		misfit()
	}
}

func (t *Type) plural() string {
	return strings.TrimPrefix(strings.TrimPrefix(t.kindName(), "a "), "an ") + "s"
}

func (t *Type) hasSecret() bool {
	if t == nil {
		return false
	}
	switch t.Kind {
	case SecretKind:
		return true
	case ListKind, MapKind:
		return t.Elem.hasSecret()
	case ObjectKind:
		return t.Fields != nil && slices.ContainsFunc(t.Fields.Fields, func(f Field) bool { return f.Type.hasSecret() })
	case OneOfKind:
		return slices.ContainsFunc(t.Of, (*Type).hasSecret)
	}
	return false
}

// kindName is the word for what an expression gives, without the wants of a field.
func (t *Type) kindName() string {
	switch t.Kind {
	case SizeKind:
		return "an integer"
	case DurationKind, CPUKind, EnumKind, QuantityKind:
		return "a string"
	case ListKind:
		return "a list"
	case ObjectKind, MapKind:
		return "a map"
	}
	plain := Type{Kind: t.Kind, Of: t.Of}
	return plain.String()
}

// meant is the hint where the message has the names already.
func meant(got string, names []string) string {
	if s := diag.Suggest(got, names); s != "" {
		return fmt.Sprintf("did you mean %q?", s)
	}
	return ""
}

func didYouMean(got string, names []string) string {
	if hint := meant(got, names); hint != "" {
		return hint
	}
	if len(names) > 0 && len(names) <= 12 {
		return "there are: " + strings.Join(names, ", ")
	}
	return ""
}

// clip shortens a user's text for a message.
func clip(s string) string {
	const most = 80
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
