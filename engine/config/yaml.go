package config

import (
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/latent-engine/latent-engine/engine/diag"
)

// readYAML reads f as one strict YAML document: YAML 1.2's core types, no anchors, aliases, merge keys or tags, unique string
// keys. It returns nil where there is nothing to go on with; problems are in the list.
func (t *tree) readYAML() *Node {
	if off, found := directive(t.f.src); found {
		t.errorf(t.f.span(off, t.f.lineEnd(t.f.pos(off).Line)), "", "YAML directives are not read; leave out the line")
		return nil
	}
	root, rest, err := parseYAML(t.f.src)
	switch {
	case err != nil:
		// A file that is JSON may hold what this YAML reader stumbles over (tabs, escaped surrogates, long keys).
		// There is no YAML reading of it then, so that the two cannot differ.
		if s := strings.TrimLeft(t.f.src, " \t\r\n"); strings.HasPrefix(s, "{") || strings.HasPrefix(s, "[") {
			var own diag.List
			j := &tree{f: t.f, list: &own, written: true}
			if n := j.readJSON(); n != nil && !own.HasErrors() {
				t.twins = j.twins
				return n
			}
		}
		t.syntax(err)
		return nil
	case root == nil || len(root.Content) == 0:
		t.errorf(t.f.top(), "", "the file is empty")
		return nil
	case rest != nil:
		t.errorf(t.f.span(t.f.offset(rest.Line, rest.Column), len(t.f.src)), "a file holds one document", "a second document starts here")
	}
	return t.yamlNode(root.Content[0], -1)
}

// directive finds a line such as %YAML or %TAG before the document.
func directive(src string) (int, bool) {
	for off := 0; off < len(src); {
		line, _, _ := strings.Cut(src[off:], "\n")
		switch s := strings.TrimSpace(line); {
		case strings.HasPrefix(line, "%"):
			return off, true
		case s != "" && !strings.HasPrefix(s, "#"):
			return 0, false
		}
		off += len(line) + 1
	}
	return 0, false
}

// parseYAML gives the first document, and the next one where there is one. The library is the one thing here that is not
// ours: a panic in it becomes an error.
func parseYAML(src string) (root, rest *yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			root, rest, err = nil, nil, errors.New("yaml: not readable")
		}
	}()
	dec := yaml.NewDecoder(strings.NewReader(src))
	var first, second yaml.Node
	switch err := dec.Decode(&first); {
	case errors.Is(err, io.EOF):
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	}
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
		return &first, nil, nil
	case err != nil:
		return nil, nil, err
	}
	return &first, &second, nil
}

const quoteStyles = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle

// yamlNode makes a node; nil where it cannot stand (said already). indent is the column, from 0, of the block collection
// around it, or -1.
func (t *tree) yamlNode(y *yaml.Node, indent int) *Node {
	off := t.f.offset(y.Line, y.Column)
	here := diag.Span{Pos: diag.Pos{File: t.f.name, Line: y.Line, Column: y.Column}}
	if y.Kind == yaml.ScalarNode && y.Value == "" {
		here.Pos = t.f.pos(off) // what is not written may stand anywhere, behind the end of the file too
	}
	if t.refused(y, off) {
		return nil
	}
	switch y.Kind {
	case yaml.ScalarNode:
		return t.yamlScalar(y, off, here, indent)
	case yaml.SequenceNode:
		return t.yamlList(y, off, here, indent)
	case yaml.MappingNode:
		return t.yamlMap(y, off, here, indent)
	}
	t.errorf(here, "", "this is not readable")
	return nil
}

// refused reports what YAML has beyond plain data: tags, aliases, anchors.
func (t *tree) refused(y *yaml.Node, off int) bool {
	what, mark := "", ""
	switch {
	case y.Style&yaml.TaggedStyle != 0, off < len(t.f.src) && t.f.src[off] == '!':
		what, mark = "tags", "!"
	case y.Kind == yaml.AliasNode:
		what, mark = "aliases", "*"
	case y.Anchor != "":
		what, mark = "anchors", "&"
	default:
		return false
	}
	t.errorf(t.f.span(off, off+len(word(t.f.src[off:]))), "leave it out, or quote the value if the \""+mark+"\" belongs to it", "%s are not read", what)
	return true
}

// word is what stands before the next blank or flow indicator.
func word(s string) string {
	s = s[:min(len(s), 80)]
	if i := strings.IndexAny(s, " \t\r\n,[]{}"); i >= 0 {
		s = s[:i]
	}
	return s
}

func (t *tree) yamlList(y *yaml.Node, off int, here diag.Span, indent int) *Node {
	if t.deep(here) {
		return nil
	}
	n := t.new(here)
	if n == nil {
		return nil
	}
	n.Kind = ListNode
	if y.Style&yaml.FlowStyle == 0 {
		indent = y.Column - 1
	}
	n.Items = make([]*Node, 0, len(y.Content))
	for i, c := range y.Content {
		t.trail.item(i)
		if item := t.yamlNode(c, indent); item != nil {
			n.Items, n.broken = append(n.Items, item), n.broken || item.broken
		} else {
			n.broken = true
		}
		t.trail.up()
		if t.full {
			break
		}
	}
	t.collectionSpan(n, off, y.Style&yaml.FlowStyle != 0)
	return n
}

func (t *tree) yamlMap(y *yaml.Node, off int, here diag.Span, indent int) *Node {
	if t.deep(here) {
		return nil
	}
	n := t.new(here)
	if n == nil {
		return nil
	}
	n.Kind = MapNode
	if y.Style&yaml.FlowStyle == 0 {
		indent = y.Column - 1
	}
	n.Entries = make([]Entry, 0, len(y.Content)/2)
	var set keySet
	for i := 0; i+1 < len(y.Content) && !t.full; i += 2 {
		key, span, ok := t.yamlKey(y.Content[i])
		if !ok {
			n.broken, n.lossy = true, true
			continue
		}
		t.trail.key(key)
		value := t.yamlNode(y.Content[i+1], indent)
		t.trail.up()
		if value == nil {
			n.broken, n.lossy = true, true
			continue
		}
		if value.Kind == NullNode && value.Raw == "" {
			value.Span = span // nothing is written: the key is what can be pointed at
		}
		if !t.check(&set, n.Entries, key, span, value) {
			n.broken = true
			continue
		}
		n.broken = n.broken || value.broken
		n.Entries = append(n.Entries, Entry{Key: key, KeySpan: span, Value: value})
	}
	t.collectionSpan(n, off, y.Style&yaml.FlowStyle != 0)
	return n
}

// yamlKey reads a key: a string, in YAML's core types.
func (t *tree) yamlKey(y *yaml.Node) (string, diag.Span, bool) {
	off := t.f.offset(y.Line, y.Column)
	here := diag.Span{Pos: diag.Pos{File: t.f.name, Line: y.Line, Column: y.Column}}
	switch {
	case t.refused(y, off):
		return "", here, false
	case y.Kind != yaml.ScalarNode:
		t.errorf(here, "", "a key must be a string")
		return "", here, false
	}
	var text diag.Text
	end, _ := t.locate(&text, y, off, -1)
	span := t.f.span(off, end)
	switch {
	case y.Style&quoteStyles == 0 && y.Value == "<<":
		t.errorf(span, "write the keys out", `merge keys ("<<") are not read`)
		return "", span, false
	case y.Style&quoteStyles == 0 && !isPlainString(y.Value):
		what := "the key " + strconv.Quote(y.Value) + " is not a string"
		if y.Value == "" {
			what = "a key is missing here"
		}
		t.errorf(span, "quote it", "%s", what)
		return "", span, false
	}
	if !t.controls(y.Value, span) {
		return "", span, false
	}
	return y.Value, span, true
}

func (t *tree) yamlScalar(y *yaml.Node, off int, here diag.Span, indent int) *Node {
	n := t.new(here)
	if n == nil {
		return nil
	}
	plain := y.Style&quoteStyles == 0
	if plain && y.Value == "" {
		n.Kind = NullNode
		return n
	}
	n.Text.File = t.f.name
	end, exact := t.locate(&n.Text, y, off, indent)
	if !exact {
		n.Text.Runs = t.run(y.Line, y.Column)
	}
	first := min(end, t.f.lineEnd(y.Line))
	n.Raw = strings.TrimRight(t.f.src[off:max(off, first)], " \t")
	n.Span = here
	if t.f.ascii {
		n.Span.EndColumn = here.Column + len(n.Raw)
	} else {
		n.Span.EndColumn = here.Column + utf8.RuneCountInString(n.Raw)
	}
	if plain {
		return t.plain(n, y.Value)
	}
	n.Kind, n.Str = StringNode, y.Value
	if y.Style&yaml.DoubleQuotedStyle != 0 && !t.controls(n.Str, n.Span) {
		return nil
	}
	return n
}

// plain gives n the type that the YAML 1.2 core schema gives the unquoted text s.
func (t *tree) plain(n *Node, s string) *Node {
	switch c := s[0]; {
	case c == '-' || c == '+' || c == '.' || c >= '0' && c <= '9':
		return t.number(n, s)
	case s == "<<":
		t.errorf(n.Span, "quote it if it is meant as text", `merge keys ("<<") are not read`)
		return nil
	}
	switch s {
	case "~", "null", "Null", "NULL":
		n.Kind = NullNode
	case "true", "True", "TRUE":
		n.Kind, n.Bool = BoolNode, true
	case "false", "False", "FALSE":
		n.Kind = BoolNode
	default:
		n.Kind, n.Str = StringNode, s
	}
	return n
}

// number reads integers and floats; whatever is none is a string, except what another reader might take for one.
func (t *tree) number(n *Node, s string) *Node {
	digits := strings.TrimLeft(s, "+-")
	if len(s)-len(digits) > 1 {
		n.Kind, n.Str = StringNode, s
		return n
	}
	switch {
	case allIn(digits, "0123456789"):
		if len(digits) > 1 && digits[0] == '0' {
			hint := "quote it if it is text"
			if octal := strings.TrimLeft(digits, "0"); allIn(octal, "01234567") {
				hint = "write " + strconv.Quote(s) + " if it is text, 0o" + octal + " if it is octal"
			}
			t.errorf(n.Span, hint, "a number cannot start with 0: some readers take %s for octal", s)
			return nil
		}
		return t.integer(n, s, s, 10)
	case strings.HasPrefix(digits, "0x") && allIn(digits[2:], "0123456789abcdefABCDEF"):
		return t.integer(n, s, sign(s)+digits[2:], 16)
	case strings.HasPrefix(digits, "0o") && allIn(digits[2:], "01234567"):
		return t.integer(n, s, sign(s)+digits[2:], 8)
	case isFloat(digits):
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || math.IsInf(v, 0) {
			t.errorf(n.Span, "", "the number %s is out of range", s)
			return nil
		}
		if len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
			t.errorf(n.Span, "quote it if it is text", "a number cannot start with 0: %s", s)
			return nil
		}
		n.Kind, n.Float = FloatNode, v
		return n
	}
	switch digits {
	case ".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN":
		t.errorf(n.Span, "quote it if it is text", "%s is not a number that can be used", s)
		return nil
	}
	n.Kind, n.Str = StringNode, s
	return n
}

func sign(s string) string {
	if s[0] == '-' {
		return "-"
	}
	return ""
}

func (t *tree) integer(n *Node, written, digits string, base int) *Node {
	v, err := strconv.ParseInt(digits, base, 64)
	if err != nil {
		t.errorf(n.Span, "quote it if it is text", "the integer %s does not fit into 64 bits", written)
		return nil
	}
	n.Kind, n.Int = IntNode, v
	return n
}

func allIn(s, set string) bool { return s != "" && strings.Trim(s, set) == "" }

// isFloat: \.[0-9]+ or [0-9]+(\.[0-9]*)?, then perhaps an exponent.
func isFloat(s string) bool {
	i := 0
	digits := func() int {
		start := i
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		return i - start
	}
	whole := digits()
	if i < len(s) && s[i] == '.' {
		i++
		if digits() == 0 && whole == 0 {
			return false
		}
	} else if whole == 0 {
		return false
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		if digits() == 0 {
			return false
		}
	}
	return i == len(s)
}

// isPlainString reports whether the unquoted text s is a string in the YAML 1.2 core schema (and no number that we refuse).
func isPlainString(s string) bool {
	if s == "" {
		return false
	}
	switch s {
	case "~", "null", "Null", "NULL", "true", "True", "TRUE", "false", "False", "FALSE", "<<":
		return false
	}
	if c := s[0]; c != '-' && c != '+' && c != '.' && (c < '0' || c > '9') {
		return true
	}
	var list diag.List
	probe := &tree{list: &list}
	n := probe.number(&Node{}, s)
	return n != nil && n.Kind == StringNode
}

// collectionSpan ends n's span where the collection's first line ends: at the closing bracket, the last item or the first
// line's last value.
func (t *tree) collectionSpan(n *Node, off int, flow bool) {
	line := n.Span.Line
	if flow {
		limit := min(off+200, t.f.lineEnd(line))
		if end := closing(t.f.src[off:limit]); end > 0 {
			s := t.f.src[off : off+end]
			n.Span.EndColumn = n.Span.Column + utf8.RuneCountInString(s)
			n.Raw = s
		}
		return
	}
	end := 0
	for i := range n.Entries {
		if e := &n.Entries[i]; e.KeySpan.Line == line {
			end = max(end, e.KeySpan.EndColumn)
			if e.Value.Span.Line == line {
				end = max(end, e.Value.Span.EndColumn)
			}
		} else {
			break
		}
	}
	if len(n.Items) > 0 && n.Items[0].Span.Line == line {
		end = n.Items[0].Span.EndColumn
	}
	if end > n.Span.Column {
		n.Span.EndColumn = end
		n.Raw = t.f.src[off:t.f.offset(line, end)]
	}
}

// closing is the length of the flow collection that s starts with; 0 where it does not end in s.
func closing(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		case '"', '\'':
			if i > 0 && !strings.ContainsRune(" \t,:[{", rune(s[i-1])) {
				continue // inside a plain text
			}
			for i++; i < len(s) && s[i] != c; i++ {
				if c == '"' && s[i] == '\\' {
					i++
				}
			}
		}
	}
	return 0
}
