package field

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Value is one value of a definition, a render or a plan: plain data, JSON with holes for secrets. The set is closed:
// Bool, Int, Float, String, Text, List, Object; nil is "absent" (JSON null). Values are never changed once they are
// handed on: whoever needs another one builds another one.
type Value interface{ value() }

// The closed set of values.
type (
	// Bool is a boolean.
	Bool bool
	// Int is an integer, exact.
	Int int64
	// Float is a number that need not be integral.
	Float float64
	// String is text without a secret.
	String string
	// Text is a string with at least one secret in it: the secret is a structural hole, never characters.
	Text []Segment
	// List is a list.
	List []Value
	// Object is a map with free order.
	Object map[string]Value
)

// Segment is a piece of a Text: characters, or, where Secret is set, a hole.
type Segment struct {
	Text   string
	Secret SecretRef
}

// SecretRef names a secret; it never holds one. The zero SecretRef is no secret.
type SecretRef struct {
	// Provider is the secret provider's name; "" = the engine's configured providers, in their order.
	Provider string
	Name     string
}

// IsZero reports whether r names no secret.
func (r SecretRef) IsZero() bool { return r == SecretRef{} }

func (Bool) value()   {}
func (Int) value()    {}
func (Float) value()  {}
func (String) value() {}
func (Text) value()   {}
func (List) value()   {}
func (Object) value() {}

// Secret is the value that stands for a whole secret.
func Secret(name string) Text { return Text{{Secret: SecretRef{Name: name}}} }

// KindName is the word that messages use for v's kind: "a list", "a string" ….
func KindName(v Value) string {
	switch v.(type) {
	case nil:
		return "null"
	case Bool:
		return "a boolean"
	case Int:
		return "an integer"
	case Float:
		return "a number"
	case String:
		return "a string"
	case Text:
		return "a secret"
	case List:
		return "a list"
	case Object:
		return "a map"
	}
	panic(fmt.Sprintf("internal error: unknown value %T", v))
}

// Equal reports whether a and b are the same value. Int and Float differ even where they are numerically equal.
func Equal(a, b Value) bool {
	switch a := a.(type) {
	case List:
		b, ok := b.(List)
		return ok && slices.EqualFunc(a, b, Equal)
	case Object:
		b, ok := b.(Object)
		return ok && maps.EqualFunc(a, b, Equal)
	case Text:
		b, ok := b.(Text)
		return ok && slices.Equal(a, b)
	}
	switch b.(type) {
	case List, Object, Text:
		return false
	}
	return a == b
}

// Merge puts over on top of under: objects merge key by key, recursively; anything else replaces. Neither is changed.
func Merge(under, over Value) Value {
	u, ok1 := under.(Object)
	o, ok2 := over.(Object)
	switch {
	case over == nil:
		return under
	case !ok1 || !ok2:
		return over
	case len(u) == 0:
		return o
	}
	out := maps.Clone(u)
	for k, v := range o {
		out[k] = Merge(out[k], v)
	}
	return out
}

// JoinPath appends a key to a field path: a.b, or a["k.x"] where the key is not a plain word.
func JoinPath(path, key string) string {
	if !plainKey(key) {
		return path + "[" + strconv.Quote(key) + "]"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// IndexPath appends a list index to a field path: a[0].
func IndexPath(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

func plainKey(k string) bool {
	if k == "" {
		return false
	}
	for _, r := range k {
		if !(r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return false
		}
	}
	return true
}

// SplitPath is the inverse of JoinPath and IndexPath: the keys (string) and indexes (int) of a path.
func SplitPath(path string) ([]any, error) {
	var out []any
	for rest := path; rest != ""; {
		switch {
		case rest[0] == '[':
			end := strings.IndexByte(rest, ']')
			if len(rest) > 1 && rest[1] == '"' {
				q, err := strconv.QuotedPrefix(rest[1:])
				if err != nil || len(rest) < len(q)+2 || rest[1+len(q)] != ']' {
					return nil, fmt.Errorf("cannot read path %q: unterminated key", path)
				}
				key, err := strconv.Unquote(q)
				if err != nil {
					return nil, fmt.Errorf("cannot read path %q: bad key %s", path, q)
				}
				out, rest = append(out, key), rest[len(q)+2:]
				break
			}
			if end < 0 {
				return nil, fmt.Errorf("cannot read path %q: unterminated index", path)
			}
			i, err := strconv.Atoi(rest[1:end])
			if err != nil || i < 0 {
				return nil, fmt.Errorf("cannot read path %q: bad index %q", path, rest[1:end])
			}
			out, rest = append(out, i), rest[end+1:]
		default:
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			if end == 0 {
				return nil, fmt.Errorf("cannot read path %q: empty key", path)
			}
			out, rest = append(out, rest[:end]), rest[end:]
		}
		if strings.HasPrefix(rest, ".") {
			if rest = rest[1:]; rest == "" {
				return nil, fmt.Errorf("cannot read path %q: empty key", path)
			}
		}
	}
	return out, nil
}
