package field

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func ptr(n int64) *int64 { return &n }

func table() *Type {
	return ObjectOf(NewTable("hostconfig",
		Field{Name: "mem_limit", Aliases: []string{"Memory"}, Type: Of(SizeKind)},
		Field{Name: "dns", Aliases: []string{"Dns"}, Type: ListOf(Of(StringKind))},
		Field{Name: "init", Type: Of(BoolKind)},
		Field{Name: "lxc_conf", Retired: "lxc_conf has no field in today's Engine API"},
		Field{Name: "timeout", Type: &Type{Kind: DurationKind, Unit: int64(time.Second)}},
		Field{Name: "cpus", Type: Of(CPUKind)},
		Field{Name: "env", Type: &Type{Kind: MapKind, ListForm: true, Elem: &Type{Kind: StringKind, Secret: true, ScalarText: true}}},
	))
}

func TestCoerce(t *testing.T) {
	secret := Secret("db")
	for _, c := range []struct {
		name     string
		typ      *Type
		in, want Value
		problems []string // path: message
	}{
		{name: "absent", typ: Of(IntKind)},
		{name: "size in words", typ: Of(SizeKind), in: String("512m"), want: Int(512 << 20)},
		{name: "size in bytes", typ: Of(SizeKind), in: Int(1024), want: Int(1024)},
		{name: "size with a fraction", typ: Of(SizeKind), in: String("1.5g"), want: Int(1536 << 20)},
		{name: "size with gib", typ: Of(SizeKind), in: String("2GiB"), want: Int(2 << 30)},
		{name: "no size", typ: Of(SizeKind), in: String("lots"), problems: []string{`: "lots" is not a size such as "512m" or "16g"`}},
		{name: "size beyond counting", typ: Of(SizeKind), in: String("99999999999t"), problems: []string{`: "99999999999t" is more than can be counted`}},
		{name: "size from a list", typ: Of(SizeKind), in: List{Int(1)}, problems: []string{`: a list cannot fill a size (string such as "512m", or bytes)`}},
		{name: "seconds", typ: &Type{Kind: DurationKind, Unit: int64(time.Second)}, in: Int(90), want: Int(90)},
		{name: "duration in words", typ: &Type{Kind: DurationKind, Unit: int64(time.Second)}, in: String("1m30s"), want: Int(90)},
		{name: "milli-CPUs", typ: Of(CPUKind), in: String("500m"), want: Int(5e8)},
		{name: "float from int", typ: Of(FloatKind), in: Int(2), want: Float(2)},
		{name: "not a number", typ: Of(FloatKind), in: Float(math.NaN()), problems: []string{": not a finite number"}},
		{name: "string wants quotes", typ: Of(StringKind), in: Float(1.1), problems: []string{": a number cannot fill a string"}},
		{name: "text in a boolean", typ: Of(BoolKind), in: String("yes"), problems: []string{`: the string "yes" cannot fill a boolean`}},
		{name: "bounds", typ: &Type{Kind: IntKind, Min: ptr(1), Max: ptr(16)}, in: Int(17), problems: []string{": 17 is more than the maximum 16"}},
		{name: "a size's bound has its unit", typ: &Type{Kind: SizeKind, Min: ptr(6 << 20), Max: ptr(1 << 40)}, in: Int(1000), problems: []string{": 1000 bytes is less than the minimum 6 MiB"}},
		{name: "a size's bound in the greatest unit", typ: &Type{Kind: SizeKind, Max: ptr(1 << 40)}, in: String("2048g"), problems: []string{`: "2048g" is more than the maximum 1 TiB`}},
		{name: "a duration's bound has its unit", typ: &Type{Kind: DurationKind, Unit: int64(time.Second), Min: ptr(90), Max: ptr(3600)}, in: Int(2 * 3600), problems: []string{": 2h is more than the maximum 1h"}},
		{name: "a duration's bound, not whole", typ: &Type{Kind: DurationKind, Unit: int64(time.Second), Min: ptr(90)}, in: String("1m"), problems: []string{`: "1m" is less than the minimum 1m30s`}},
		{name: "a CPU's bound has its unit", typ: &Type{Kind: CPUKind, Min: ptr(1e9), Max: ptr(16e9)}, in: Float(0.5), problems: []string{": 0.5 CPUs is less than the minimum 1 CPU"}},
		{name: "one element", typ: &Type{Kind: ListKind, Min: ptr(2)}, in: List{Int(1)}, problems: []string{": 1 element; at least 2 are wanted"}},
		{name: "several elements", typ: &Type{Kind: ListKind, Max: ptr(1)}, in: List{Int(1), Int(2)}, problems: []string{": 2 elements; at most 1 is allowed"}},
		{name: "no characters", typ: &Type{Kind: StringKind, Min: ptr(1)}, in: String(""), problems: []string{": 0 characters; at least 1 is wanted"}},
		{name: "one entry", typ: &Type{Kind: MapKind, Min: ptr(2)}, in: Object{"a": Int(1)}, problems: []string{": 1 entry; at least 2 are wanted"}},
		{name: "enum", typ: EnumOf("gzip", "bzip2"), in: String("gzp"), problems: []string{`: "gzp" is not one of gzip, bzip2`}},
		{name: "aliases are renamed", typ: table(), in: Object{"Memory": String("1k"), "Dns": List{String("a")}}, want: Object{"mem_limit": Int(1024), "dns": List{String("a")}}},
		{name: "both spellings", typ: table(), in: Object{"Memory": Int(1), "mem_limit": Int(2)}, problems: []string{`mem_limit: two spellings of one field: "mem_limit" and "Memory"`}},
		{name: "unknown key", typ: table(), in: Object{"mem_limt": Int(1)}, problems: []string{`mem_limt: unknown field "mem_limt"`}},
		{name: "retired key", typ: table(), in: Object{"lxc_conf": Int(1)}, problems: []string{"lxc_conf: lxc_conf has no field in today's Engine API"}},
		{name: "all problems at once", typ: table(), in: Object{"init": Int(1), "dns": List{Int(1), nil}}, problems: []string{"dns[0]: an integer cannot fill a string", "dns[1]: null cannot be an element here", "init: an integer cannot fill a boolean"}},
		{name: "scalars as text", typ: table(), in: Object{"env": Object{"JOBS": Int(4), "DEBUG": Bool(true)}}, want: Object{"env": Object{"JOBS": String("4"), "DEBUG": String("true")}}},
		{name: "a list as a map", typ: table(), in: Object{"env": List{String("A=1=2"), Text{{Text: "B=x"}, {Secret: SecretRef{Name: "db"}}}}}, want: Object{"env": Object{"A": String("1=2"), "B": Text{{Text: "x"}, {Secret: SecretRef{Name: "db"}}}}}},
		{name: "a list entry twice", typ: table(), in: Object{"env": List{String("A=1"), String("A=2")}}, problems: []string{`env[1]: "A" is given twice`}},
		{name: "secret where it may be", typ: table(), in: Object{"env": Object{"P": secret}}, want: Object{"env": Object{"P": secret}}},
		{name: "secret where it may not be", typ: Of(StringKind), in: secret, problems: []string{": a secret cannot stand here"}},
		{name: "secret deep in anything", typ: Of(Any), in: Object{"a": List{secret}}, problems: []string{"a[0]: a secret cannot stand here"}},
		{name: "one-of takes the first that fits", typ: OneOf("", Of(SizeKind), Of(BoolKind)), in: Bool(true), want: Bool(true)},
		{name: "one-of with one shape says why", typ: OneOf("a list, or a map", ListOf(Of(StringKind)), table()), in: Object{"init": Int(3)}, problems: []string{"init: an integer cannot fill a boolean"}},
		{name: "one-of that nothing fits", typ: OneOf("a size, or a switch", Of(SizeKind), Of(BoolKind)), in: List{}, problems: []string{": a list cannot fill a size, or a switch"}},
		{name: "check", typ: &Type{Kind: StringKind, Check: func(Value) (Value, error) { return nil, errors.New("no") }}, in: String("x"), problems: []string{": no"}},
		{name: "required", typ: ObjectOf(NewTable("x", Field{Name: "type", Required: true, Type: Of(StringKind)})), in: Object{}, problems: []string{`: "type" is missing`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, problems := c.typ.Coerce(c.in)
			var texts []string
			for _, p := range problems {
				texts = append(texts, p.Path+": "+p.Message)
			}
			if d := cmp.Diff(c.problems, texts); d != "" {
				t.Fatalf("problems (-want +got):\n%s", d)
			}
			if c.problems == nil && !Equal(got, c.want) {
				t.Errorf("got %#v, want %#v", got, c.want)
			}
		})
	}
}

func TestCoerceLeavesInput(t *testing.T) {
	in := Object{"Memory": String("1k"), "env": List{String("A=1")}}
	table().Coerce(in)
	if !Equal(in, Object{"Memory": String("1k"), "env": List{String("A=1")}}) {
		t.Errorf("input was changed: %#v", in)
	}
}

func TestAccepts(t *testing.T) {
	mapOf := func(rows ...Field) *Type { return ObjectOf(NewTable("map", rows...)) }
	for _, c := range []struct {
		name string
		want *Type
		from *Type
		bad  []string
	}{
		{name: "anything waits for the render", want: Of(SizeKind), from: Of(Any)},
		{name: "list for a size", want: Of(SizeKind), from: ListOf(Of(IntKind)), bad: []string{`: a list cannot fill a size (string such as "512m", or bytes)`}},
		{name: "int for a string", want: Of(StringKind), from: Of(IntKind), bad: []string{": an integer cannot fill a string"}},
		{name: "int for an env value", want: &Type{Kind: StringKind, ScalarText: true}, from: Of(IntKind)},
		{name: "secret for a string", want: Of(StringKind), from: Of(SecretKind), bad: []string{": a secret cannot stand here"}},
		{name: "secret in a map for anything", want: Of(Any), from: MapOf(Of(SecretKind)), bad: []string{": a secret cannot stand here"}},
		{name: "nested key", want: table(), from: mapOf(Field{Name: "Memory", Type: ListOf(Of(IntKind))}), bad: []string{`Memory: a list cannot fill a size (string such as "512m", or bytes)`}},
		{name: "nested unknown key", want: table(), from: mapOf(Field{Name: "nope", Type: Of(IntKind)}), bad: []string{`nope: unknown field "nope"`}},
		{name: "map whose values fit some field", want: table(), from: MapOf(Of(StringKind))},
		{name: "map whose values fit no field", want: ObjectOf(NewTable("b", Field{Name: "x", Type: Of(BoolKind)})), from: MapOf(Of(IntKind)), bad: []string{": a map of integers has no value that any field here takes"}},
		{name: "enums that never meet", want: EnumOf("a"), from: EnumOf("b"), bad: []string{": a string cannot fill one of a"}},
		{name: "one-of", want: OneOf("", Of(IntKind), ListOf(Of(StringKind))), from: ListOf(Of(StringKind))},
		{name: "list of wrong elements", want: ListOf(Of(StringKind)), from: ListOf(Of(IntKind)), bad: []string{": an integer cannot fill a string"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var texts []string
			for _, p := range c.want.Accepts(c.from) {
				texts = append(texts, p.Path+": "+p.Message)
			}
			if d := cmp.Diff(c.bad, texts); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestPaths(t *testing.T) {
	p := IndexPath(JoinPath(JoinPath(JoinPath("", "a"), "b"), "k.x"), 3)
	if p != `a.b["k.x"][3]` {
		t.Fatalf("path %s", p)
	}
	keys, err := SplitPath(p)
	if err != nil || !cmp.Equal(keys, []any{"a", "b", "k.x", 3}) {
		t.Errorf("keys %v, %v", keys, err)
	}
	for _, bad := range []string{"a.", ".a", "a[", "a[x]", `a["b`, "a..b", "a[-1]"} {
		if _, err := SplitPath(bad); err == nil {
			t.Errorf("SplitPath(%q) found nothing wrong", bad)
		}
	}
}

func TestMerge(t *testing.T) {
	under := Object{"a": Object{"x": Int(1), "y": Int(2)}, "b": List{Int(1)}, "c": Int(1)}
	over := Object{"a": Object{"y": Int(3)}, "b": List{Int(2)}, "c": Object{"z": Int(1)}}
	got := Merge(under, over)
	want := Object{"a": Object{"x": Int(1), "y": Int(3)}, "b": List{Int(2)}, "c": Object{"z": Int(1)}}
	if !Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if !Equal(under["a"], Object{"x": Int(1), "y": Int(2)}) {
		t.Error("merge changed what lay under")
	}
}

func FuzzSize(f *testing.F) {
	for _, s := range []string{"512m", "1.5g", "-1", "0x1", "1e3", "9223372036854775807", "8388608t", "m", "1kib", "1bb", " 1", "1 g"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseSize(s)
		if err == nil && n < 0 && s[0] != '-' {
			t.Errorf("ParseSize(%q) = %d", s, n)
		}
	})
}

// TestCheckPlaces: an error of a Check that names a part of the value is a problem of that part.
func TestCheckPlaces(t *testing.T) {
	cause := errors.New("it is wrong")
	refuse := func(err error) *Type {
		return &Type{Kind: Any, Check: func(Value) (Value, error) { return nil, err }}
	}
	for _, c := range []struct {
		name string
		typ  *Type
		in   Value
		want Problem
	}{
		{"the whole value", refuse(cause), Int(1), Problem{Message: "it is wrong"}},
		{"an entry", refuse(AtEntry("a", cause)), Int(1), Problem{Path: "a", Message: "it is wrong"}},
		{"a key that is no word", refuse(AtKey("a b", cause)), Int(1), Problem{Path: `["a b"]`, Message: "it is wrong", Key: true}},
		{"an element", refuse(AtIndex(2, cause)), Int(1), Problem{Path: "[2]", Message: "it is wrong"}},
		{"an entry further down", MapOf(refuse(AtEntry("a", cause))), Object{"m": Int(1)}, Problem{Path: "m.a", Message: "it is wrong"}},
		{"a key further down", MapOf(refuse(AtKey("=", cause))), Object{"m": Int(1)}, Problem{Path: `m["="]`, Message: "it is wrong", Key: true}},
		{"an element of one of several", OneOf("either", Of(BoolKind), refuse(AtIndex(0, cause))), Int(1), Problem{Path: "[0]", Message: "it is wrong"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, got := c.typ.Coerce(c.in)
			if diff := cmp.Diff([]Problem{c.want}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestHints: the hint says what the message does not.
func TestHints(t *testing.T) {
	for _, c := range []struct {
		given, message, hint string
	}{
		{"gzp", `"gzp" is not one of gzip, bzip2`, `did you mean "gzip"?`},
		{"none", `"none" is not one of gzip, bzip2`, ""},
	} {
		_, got := EnumOf("gzip", "bzip2").Coerce(String(c.given))
		if diff := cmp.Diff([]Problem{{Message: c.message, Hint: c.hint}}, got); diff != "" {
			t.Error(diff)
		}
	}
}
