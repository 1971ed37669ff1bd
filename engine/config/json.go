package config

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/latent-engine/latent-engine/engine/diag"
)

// readJSON reads the file as one strict JSON document (RFC 8259): unique keys, no trailing data, integers exact. It returns nil
// where there is nothing to go on with; a syntax error ends the reading.
func (t *tree) readJSON() *Node {
	j := &jsonReader{tree: t, src: t.f.src}
	j.blank()
	if j.i == len(j.src) {
		t.errorf(t.f.top(), "", "the file is empty")
		return nil
	}
	n := j.value()
	if j.failed || n == nil {
		return nil
	}
	if j.blank(); j.i < len(j.src) {
		j.fail(j.i, j.i+1, "", "text after the end of the JSON document")
		return nil
	}
	return n
}

type jsonReader struct {
	*tree
	src    string
	i      int
	failed bool
}

func (j *jsonReader) fail(from, to int, hint, format string, args ...any) {
	if !j.failed {
		j.errorf(j.f.span(from, to), hint, format, args...)
	}
	j.failed = true
}

func (j *jsonReader) blank() {
	for j.i < len(j.src) {
		switch j.src[j.i] {
		case ' ', '\t', '\n', '\r':
			j.i++
		default:
			return
		}
	}
}

// value reads one value. nil without j.failed: the value is read over and reported.
func (j *jsonReader) value() *Node {
	if j.i >= len(j.src) {
		j.fail(j.i, j.i, "", "the file ends where a value is expected")
		return nil
	}
	start := j.i
	switch c := j.src[j.i]; {
	case c == '{':
		return j.object()
	case c == '[':
		return j.array()
	case c == '"':
		pos := j.f.pos(start)
		text := diag.Text{File: j.f.name}
		s, ok := j.str(&text, pos)
		if !ok || j.written && !j.controls(s, j.f.span(start, j.i)) {
			return nil
		}
		return j.scalar(start, func(n *Node) { n.Kind, n.Str, n.Text = StringNode, s, text })
	case c == '-' || c >= '0' && c <= '9':
		return j.number()
	}
	for _, w := range []string{"true", "false", "null"} {
		if strings.HasPrefix(j.src[start:], w) {
			j.i += len(w)
			return j.scalar(start, func(n *Node) {
				switch w {
				case "true":
					n.Kind, n.Bool = BoolNode, true
				case "false":
					n.Kind = BoolNode
				}
			})
		}
	}
	_, size := utf8.DecodeRuneInString(j.src[start:])
	j.fail(start, start+size, "", "a JSON value cannot start with %q", j.src[start:start+size])
	return nil
}

func (j *jsonReader) scalar(start int, set func(*Node)) *Node {
	n := j.new(j.f.span(start, j.i))
	if n == nil {
		j.failed = true
		return nil
	}
	n.Raw = j.src[start:j.i]
	set(n)
	if n.Text.Runs == nil {
		n.Text = diag.Text{File: j.f.name, Runs: j.run(n.Span.Line, n.Span.Column)}
	}
	return n
}

func (j *jsonReader) number() *Node {
	start := j.i
	i := start
	if j.src[i] == '-' {
		i++
	}
	digits := i
	for i < len(j.src) && strings.IndexByte("0123456789+-.eE", j.src[i]) >= 0 {
		i++
	}
	s := j.src[start:i]
	j.i = i
	if whole := strings.TrimRight(s, "0123456789"); whole == "" || whole == "-" {
		switch {
		case digits == i:
			j.fail(start, i, "", "%s is not a JSON number", s)
			return nil
		case i-digits > 1 && j.src[digits] == '0':
			j.fail(start, i, "", "a JSON number cannot start with 0: %s", s)
			return nil
		}
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			j.errorf(j.f.span(start, i), "", "the integer %s does not fit into 64 bits", s)
			return nil
		}
		return j.scalar(start, func(n *Node) { n.Kind, n.Int = IntNode, v })
	}
	if !jsonFloat(j.src[digits:i]) {
		j.fail(start, i, "", "%s is not a JSON number", s)
		return nil
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(v, 0) {
		j.errorf(j.f.span(start, i), "", "the number %s is out of range", s)
		return nil
	}
	return j.scalar(start, func(n *Node) { n.Kind, n.Float = FloatNode, v })
}

func jsonFloat(s string) bool {
	if !isFloat(s) || s[0] == '.' || len(s) > 1 && s[0] == '0' && s[1] >= '0' && s[1] <= '9' {
		return false
	}
	dot := strings.IndexByte(s, '.')
	return dot < 0 || dot+1 < len(s) && s[dot+1] >= '0' && s[dot+1] <= '9'
}

// str reads a string at the opening quote. text gets the places of its code points; nil = not wanted.
func (j *jsonReader) str(text *diag.Text, pos diag.Pos) (string, bool) {
	start := j.i
	rest := j.src[start+1:]
	for k := 0; k < len(rest); k++ {
		if c := rest[k]; c == '"' {
			j.i = start + k + 2
			if text != nil {
				text.Runs = j.run(pos.Line, pos.Column+1)
			}
			return rest[:k], true
		} else if c == '\\' || c < 0x20 {
			break
		}
	}
	var b strings.Builder
	var runs []diag.Run
	col, points := pos.Column+1, 0
	put := func(r rune, at int) {
		if len(runs) == 0 || runs[len(runs)-1].Column+points-runs[len(runs)-1].Offset != at {
			runs = append(runs, diag.Run{Offset: points, Line: pos.Line, Column: at})
		}
		b.WriteRune(r)
		points++
	}
	for i := start + 1; i < len(j.src); {
		c := j.src[i]
		switch {
		case c == '"':
			j.i = i + 1
			if text != nil {
				if runs == nil {
					runs = j.run(pos.Line, pos.Column+1)
				}
				text.Runs = runs
			}
			return b.String(), true
		case c < 0x20:
			j.fail(i, i+1, `write it as an escape (\n, \t, \u001b)`, "a string cannot hold the character %s as it is", codePoint(rune(c)))
			return "", false
		case c != '\\':
			r, size := utf8.DecodeRuneInString(j.src[i:])
			put(r, col)
			i += size
			col++
		default:
			r, size, ok := jsonEscape(j.src[i:])
			if !ok {
				j.fail(i, min(i+size, len(j.src)), "", "\"%s\" is not an escape in JSON", j.src[i:min(i+size, len(j.src))])
				return "", false
			}
			put(r, col)
			i += size
			col += size
		}
	}
	j.fail(start, start+1, "", "this string is not closed")
	return "", false
}

// jsonEscape reads the escape at the start of s and tells its length.
func jsonEscape(s string) (r rune, size int, ok bool) {
	if len(s) < 2 {
		return 0, 1, false
	}
	switch s[1] {
	case '"', '\\', '/':
		return rune(s[1]), 2, true
	case 'b':
		return '\b', 2, true
	case 'f':
		return '\f', 2, true
	case 'n':
		return '\n', 2, true
	case 'r':
		return '\r', 2, true
	case 't':
		return '\t', 2, true
	case 'u':
		r, ok := hex4(s[2:])
		if !ok {
			return 0, 2, false
		}
		if !utf16.IsSurrogate(r) {
			return r, 6, true
		}
		if strings.HasPrefix(s[6:], `\u`) {
			if low, ok := hex4(s[8:]); ok {
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					return r, 12, true
				}
			}
		}
		return 0, 6, false
	}
	_, n := utf8.DecodeRuneInString(s[1:])
	return 0, 1 + n, false
}

func hex4(s string) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var r rune
	for i := range 4 {
		d, ok := hexDigit(s[i])
		if !ok {
			return 0, false
		}
		r = r<<4 | d
	}
	return r, true
}

func (j *jsonReader) array() *Node {
	start := j.i
	if len(j.trail) >= MaxDepth {
		j.fail(start, start+1, "", "nested more than %d levels deep", MaxDepth)
		return nil
	}
	n := j.new(diag.Span{Pos: j.f.pos(start)})
	if n == nil {
		j.failed = true
		return nil
	}
	n.Kind = ListNode
	j.i++
	if j.blank(); j.i < len(j.src) && j.src[j.i] == ']' {
		j.i++
		j.end(n, start)
		return n
	}
	for i := 0; ; i++ {
		j.trail.item(i)
		item := j.itemValue()
		j.trail.up()
		if j.failed {
			return nil
		}
		if item != nil {
			n.Items, n.broken = append(n.Items, item), n.broken || item.broken
		} else {
			n.broken = true
		}
		if j.blank(); j.i < len(j.src) && j.src[j.i] == ',' {
			j.i++
			continue
		}
		if j.i < len(j.src) && j.src[j.i] == ']' {
			j.i++
			j.end(n, start)
			return n
		}
		j.expected(`"," or "]"`)
		return nil
	}
}

func (j *jsonReader) itemValue() *Node {
	j.blank()
	return j.value()
}

func (j *jsonReader) expected(what string) {
	if j.i >= len(j.src) {
		j.fail(j.i, j.i, "", "the file ends where %s is expected", what)
		return
	}
	j.fail(j.i, j.i+1, "", "expected %s here", what)
}

// end closes a list or map; its span ends here, where that is on its first line.
func (j *jsonReader) end(n *Node, start int) {
	if p := j.f.pos(j.i); p.Line == n.Span.Line {
		n.Span.EndColumn = p.Column
		n.Raw = j.src[start:j.i]
	}
}

func (j *jsonReader) object() *Node {
	start := j.i
	if len(j.trail) >= MaxDepth {
		j.fail(start, start+1, "", "nested more than %d levels deep", MaxDepth)
		return nil
	}
	n := j.new(diag.Span{Pos: j.f.pos(start)})
	if n == nil {
		j.failed = true
		return nil
	}
	n.Kind = MapNode
	j.i++
	if j.blank(); j.i < len(j.src) && j.src[j.i] == '}' {
		j.i++
		j.end(n, start)
		return n
	}
	var set keySet
	for {
		if j.blank(); j.i >= len(j.src) || j.src[j.i] != '"' {
			j.expected("a key in double quotes")
			return nil
		}
		from := j.i
		key, ok := j.str(nil, j.f.pos(from))
		if !ok {
			return nil
		}
		span := j.f.span(from, j.i)
		if j.blank(); j.i >= len(j.src) || j.src[j.i] != ':' {
			j.expected(`":"`)
			return nil
		}
		j.i++
		j.trail.key(key)
		value := j.itemValue()
		j.trail.up()
		switch {
		case j.failed:
			return nil
		case value == nil, j.written && !j.controls(key, span):
			n.broken, n.lossy = true, true
		case !j.check(&set, n.Entries, key, span, value):
			n.broken = true
		default:
			n.broken = n.broken || value.broken
			n.Entries = append(n.Entries, Entry{Key: key, KeySpan: span, Value: value})
		}
		if j.blank(); j.i < len(j.src) && j.src[j.i] == ',' {
			j.i++
			continue
		}
		if j.i < len(j.src) && j.src[j.i] == '}' {
			j.i++
			j.end(n, start)
			return n
		}
		j.expected(`"," or "}"`)
		return nil
	}
}
