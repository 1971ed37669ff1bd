package cel

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
)

// pyWriter writes values as Python's repr() does, which is what Buildbot's Interpolate puts into a text.
type pyWriter struct {
	strings.Builder
	f *frame
	n *callNode
}

func (w *pyWriter) put(s string) *failure {
	if err := w.f.build(w.n.id, int64(len(s))); err != nil {
		return err
	}
	w.WriteString(s)
	return nil
}

func (w *pyWriter) repr(v ref.Val, depth int) *failure {
	if depth > maxWalkDepth {
		return &failure{id: w.n.id, msg: "a value is nested too deeply for str()"}
	}
	if depth > 1 {
		if err := w.f.spend(w.n.id, 1); err != nil {
			return err
		}
	}
	switch v := v.(type) {
	case types.Null:
		return w.put("None")
	case types.Bool:
		if v {
			return w.put("True")
		}
		return w.put("False")
	case types.Int:
		return w.put(strconv.FormatInt(int64(v), 10))
	case types.Uint:
		return w.put(strconv.FormatUint(uint64(v), 10))
	case types.Double:
		return w.put(pyFloat(float64(v)))
	case types.String:
		if err := w.f.build(w.n.id, int64(len(v))); err != nil {
			return err
		}
		return w.put(pyQuote(string(v)))
	case *list:
		if err := w.put("["); err != nil {
			return err
		}
		for i := range v.len() {
			if i > 0 {
				if err := w.put(", "); err != nil {
					return err
				}
			}
			if err := w.repr(v.at(i), depth+1); err != nil {
				return err
			}
		}
		return w.put("]")
	case *dict:
		if err := w.put("{"); err != nil {
			return err
		}
		for i, k := range v.sorted() {
			if i > 0 {
				if err := w.put(", "); err != nil {
					return err
				}
			}
			if err := w.put(pyQuote(k) + ": "); err != nil {
				return err
			}
			e, _ := v.get(k)
			if err := w.repr(e, depth+1); err != nil {
				return err
			}
		}
		return w.put("}")
	case *types.Optional:
		if !v.HasValue() {
			return w.put("None")
		}
		return w.repr(v.GetValue(), depth+1)
	case secret:
		return &failure{id: w.n.id, msg: secretCall("str")}
	}
	return &failure{id: w.n.id, msg: "str() cannot write " + kindOf(v)}
}

// pyFloat is repr(float): the shortest text that reads back, with a point or an exponent.
func pyFloat(x float64) string {
	switch {
	case x != x:
		return "nan"
	case x-x != 0 && x > 0:
		return "inf"
	case x-x != 0:
		return "-inf"
	}
	s := strconv.FormatFloat(x, 'e', -1, 64)
	at := strings.IndexByte(s, 'e')
	exp, _ := strconv.Atoi(s[at+1:])
	if exp < -4 || exp >= 16 {
		return s
	}
	s = strconv.FormatFloat(x, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// pyQuote is repr(str).
func pyQuote(s string) string {
	q := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		q = '"'
	}
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte(q)
	for _, r := range s {
		switch {
		case r == rune(q) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == ' ' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r < 0x100:
			b.WriteString(`\x` + hex(r, 2))
		case r < 0x10000:
			b.WriteString(`\u` + hex(r, 4))
		default:
			b.WriteString(`\U` + hex(r, 8))
		}
	}
	b.WriteByte(q)
	return b.String()
}

func hex(r rune, width int) string {
	s := strconv.FormatInt(int64(r), 16)
	return strings.Repeat("0", width-len(s)) + s
}
