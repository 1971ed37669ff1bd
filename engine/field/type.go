// Package field describes what may stand in a definition: one table per backend, the single source for load-time
// checks, JSON Schema, reference documents, explain and the policy's reflection test; and the plain values themselves.
package field

import (
	"slices"
	"strings"
)

// Kind is the closed list of type kinds.
type Kind uint8

// The kinds. In brackets: the Go value that a checked value of the kind has.
const (
	Any          Kind = iota // any JSON value, unchecked; as a static type: not known until render
	StringKind               // [String, or Text where Secret]
	BoolKind                 // [Bool]
	IntKind                  // [Int]
	FloatKind                // [Float; an Int is accepted and converted]
	SizeKind                 // bytes: an integer, or "512m", "16g", "1.5g" (docker's binary units b, k, m, g, t) [Int]
	DurationKind             // seconds or "1m30s"; [Int], in Type.Unit
	CPUKind                  // cores: 1, 0.5, "500m" [Int: nano-CPUs]
	QuantityKind             // a Kubernetes quantity [String, canonical]
	EnumKind                 // one of Type.Values [String]
	ListKind                 // [List]
	MapKind                  // free keys, values of Type.Elem [Object]
	ObjectKind               // keys from Type.Fields [Object, canonical names]
	OneOfKind                // the first of Type.Of that fits
	SecretKind               // only as a static type: what secret('x') gives
	NullKind                 // only as a static type: null
)

// Type is the closed type of a field, of a property or of an expression. Types are immutable and may be shared.
// The same language says what a field wants and what an expression gives; [Type.Accepts] holds one against the other.
type Type struct {
	Kind Kind
	// Elem is the type of a list's elements or a map's values. nil = Any.
	Elem *Type
	// Fields are an object's keys. Open objects also take keys that are not in the table, of type Any.
	Fields *Table
	Open   bool
	// Values of an enum.
	Values []string
	// Of are the alternatives of a one-of, tried in order. Named by Words in messages.
	Of []*Type
	// Nullable: null is a value too (T?). Optional: an expression of this type may give no value at all (optional.none()).
	Nullable bool
	Optional bool
	// Secret: a secret may stand here, whole or as a segment of a text (also in Elem, set it there).
	Secret bool
	// Min and Max bound a number (after conversion: bytes, nano-CPUs, Unit), or the length of a list or map. nil = no bound.
	Min, Max *int64
	// MaxLen bounds a string's length in bytes; 0 = no bound of its own.
	MaxLen int
	// Unit of a duration's Int: time.Second, time.Nanosecond … in nanoseconds. 0 = nanoseconds.
	Unit int64
	// ListForm: a map may also be written as a list of "KEY=value" (docker-py's environment, labels); the list becomes the map.
	ListForm bool
	// ScalarText: an integer, float or boolean may stand for its text (env values: `JOBS: 4`).
	ScalarText bool
	// Words are what messages call the type: `a size (string such as "512m", or bytes)`; "" = made from Kind.
	Words string
	// Check refines or normalises a value that already has the right shape: pure, total, never panics. The error's text is
	// the whole cause, in the user's words. It is not called for a Text (a value with a secret in it).
	Check func(Value) (Value, error)
}

// Field is one row of a table.
type Field struct {
	// Name is the canonical spelling (for Docker's hostconfig: docker-py's).
	Name string
	// Aliases are other spellings of the same field (the Engine API's). Two spellings in one map are an error.
	Aliases []string
	Type    *Type
	// Native is where the value goes in the native create object or the plan, as a path: HostConfig.Memory, pull.policy.
	Native string
	// Literal: the value must be known at load; an expression is an error. The zero value means renderable.
	Literal bool
	// Required: a definition without it is an error at load.
	Required bool
	// Optional: the key may be missing (only in scope types: a property of type T?).
	Optional bool
	// Default, for documents and explain, as it would be written; "" = none.
	Default string
	// Class groups fields for policy.
	Class PolicyClass
	// Retired: the name is known, but using it is an error at load with this text (it says what to do instead).
	Retired string
	// Doc is one or two sentences: meaning, unit, source (Buildbot option, Docker API field).
	Doc string
	// Buildbot names the option of Buildbot's that this is, where it is one.
	Buildbot string
}

// PolicyClass says what a field can do to others; profiles are written over classes, and a field without one fails a test.
type PolicyClass string

// The closed list of policy classes.
const (
	ClassPlain      PolicyClass = "plain"      // touches only the instance itself
	ClassImage      PolicyClass = "image"      // what code runs
	ClassBuild      PolicyClass = "build"      // runs a build on the host
	ClassResource   PolicyClass = "resource"   // takes a share of the host
	ClassNetwork    PolicyClass = "network"    // reaches or is reached
	ClassMount      PolicyClass = "mount"      // host or shared storage
	ClassPrivilege  PolicyClass = "privilege"  // rights beyond an ordinary container's
	ClassNamespace  PolicyClass = "namespace"  // shares a namespace
	ClassScheduling PolicyClass = "scheduling" // where it runs
	ClassIdentity   PolicyClass = "identity"   // who it is: names, labels, reserved environment
	ClassHost       PolicyClass = "host"       // engine-wide behaviour: log sinks, runtimes, restart
)

// Table is the fields of one object. Immutable.
type Table struct {
	Name   string
	Fields []Field
	index  map[string]int
}

// NewTable makes a table; two fields with one spelling are a programmer error.
func NewTable(name string, fields ...Field) *Table {
	t := &Table{Name: name, Fields: fields, index: make(map[string]int, 2*len(fields))}
	for i, f := range fields {
		for _, n := range append([]string{f.Name}, f.Aliases...) {
			if _, dup := t.index[n]; dup {
				panic("internal error: table " + name + " has two fields named " + n)
			}
			t.index[n] = i
		}
	}
	return t
}

// Lookup finds a field by its name or an alias.
func (t *Table) Lookup(name string) (*Field, bool) {
	i, ok := t.index[name]
	if !ok {
		return nil, false
	}
	return &t.Fields[i], true
}

// Names are all spellings that are not retired, sorted: the candidates for did-you-mean.
func (t *Table) Names() []string {
	var out []string
	for _, f := range t.Fields {
		if f.Retired == "" {
			out = append(append(out, f.Name), f.Aliases...)
		}
	}
	slices.Sort(out)
	return out
}

// Shorthands for tables.

// Of is a plain type of kind k.
func Of(k Kind) *Type { return &Type{Kind: k} }

// ListOf is a list of elem.
func ListOf(elem *Type) *Type { return &Type{Kind: ListKind, Elem: elem} }

// MapOf is a map with free keys and values of elem.
func MapOf(elem *Type) *Type { return &Type{Kind: MapKind, Elem: elem} }

// EnumOf is one of the given words.
func EnumOf(values ...string) *Type { return &Type{Kind: EnumKind, Values: values} }

// ObjectOf is an object with the table's keys.
func ObjectOf(t *Table) *Type { return &Type{Kind: ObjectKind, Fields: t} }

// OneOf is the first of the types that fits.
func OneOf(words string, of ...*Type) *Type { return &Type{Kind: OneOfKind, Of: of, Words: words} }

// String is what messages call the type, with its article.
func (t *Type) String() string {
	if t == nil {
		return "any value"
	}
	if t.Words != "" {
		return t.Words
	}
	switch t.Kind {
	case Any:
		return "any value"
	case StringKind:
		return "a string"
	case BoolKind:
		return "a boolean"
	case IntKind:
		return "an integer"
	case FloatKind:
		return "a number"
	case SizeKind:
		return `a size (string such as "512m", or bytes)`
	case DurationKind:
		return `a duration (string such as "1m30s", or seconds)`
	case CPUKind:
		return `a number of CPUs (2, 0.5 or "500m")`
	case QuantityKind:
		return `a quantity (such as "500m" or "2Gi")`
	case EnumKind:
		return "one of " + strings.Join(t.Values, ", ")
	case ListKind:
		if t.Elem == nil || t.Elem.Kind == Any {
			return "a list"
		}
		return "a list of " + strings.TrimPrefix(strings.TrimPrefix(t.Elem.String(), "a "), "an ") + "s"
	case MapKind, ObjectKind:
		return "a map"
	case OneOfKind:
		parts := make([]string, len(t.Of))
		for i, o := range t.Of {
			parts[i] = o.String()
		}
		return strings.Join(parts, " or ")
	case SecretKind:
		return "a secret"
	case NullKind:
		return "null"
	}
	return "an unknown type"
}
