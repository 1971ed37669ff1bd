package cel

import (
	"strconv"
	"strings"

	"github.com/google/cel-go/common"

	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/renderers"
)

func itoa(n int64) string      { return strconv.FormatInt(n, 10) }
func thousands(n int64) string { return renderers.Thousands(n) }

// quote is strconv.Quote, with an end: a message is never huge.
func quote(s string) string {
	if len(s) > 80 {
		rs := []rune(s)
		s = string(rs[:min(len(rs), 60)]) + "…"
	}
	return strconv.Quote(s)
}

// path is how a diagnostic writes a path of the scope: props.x, src["my code"].
func path(root string, steps []pathStep) string {
	p := root
	for _, s := range steps {
		p = field.JoinPath(p, s.key)
	}
	return p
}

// thing is what messages call the value at a path: property "x", variable "x", build.number.
func thing(root string, keys []string) string {
	if len(keys) == 1 {
		switch root {
		case "props":
			return "property " + quote(keys[0])
		case "vars":
			return "variable " + quote(keys[0])
		case "src":
			return "codebase " + quote(keys[0])
		}
	}
	p := root
	for _, k := range keys {
		p = field.JoinPath(p, k)
	}
	return p
}

func noValue(root string, steps []pathStep) string {
	keys := make([]string, len(steps))
	for i, s := range steps {
		keys[i] = s.key
	}
	if root == "src" && len(keys) == 1 {
		return "this build has no " + thing(root, keys)
	}
	return thing(root, keys) + " has no value in this build"
}

// useOptional is the hint for a path whose step i has no value.
func useOptional(root string, steps []pathStep, i int) string {
	var b strings.Builder
	b.WriteString(root)
	for j, s := range steps {
		soft := s.optional || j == i
		switch plain := !(root == "src" && j == 0) && field.JoinPath("", s.key) == s.key && !strings.Contains(s.key, "-") && (s.key[0] < '0' || s.key[0] > '9'); {
		case plain && soft:
			b.WriteString(".?" + s.key)
		case plain:
			b.WriteString("." + s.key)
		case soft:
			b.WriteString("[?" + strconv.Quote(s.key) + "]")
		default:
			b.WriteString("[" + strconv.Quote(s.key) + "]")
		}
	}
	return "use " + b.String() + `.orValue("…")`
}

const secretRule = "; it can only stand as a whole value or inside a text"

func secretMessage(verb string) string { return "a secret cannot be " + verb + secretRule }

// secretCall is the error of a secret as an argument of a function or operator.
func secretCall(fn string) string {
	switch fn {
	case "_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_", "@in", "sort", "@sortByAssociatedKeys", "distinct", "sets.contains", "sets.equivalent", "sets.intersects":
		return secretMessage("compared")
	case "_+_", "join", "format":
		return secretMessage("joined to a text in an expression")
	case "str", "string":
		return secretMessage("made text")
	case "_[_]", "_[?_]", "_?._":
		return secretMessage("read into")
	}
	if strings.ContainsAny(fn, "_@!") {
		return secretMessage("an operand")
	}
	return secretMessage("given to " + fn + "()")
}

// mismatchText is the message for a function or operator and arguments of kinds that it does not take.
func mismatchText(fn string, kinds []string) (message, hint string) {
	binary := func(verb string) string { return "cannot " + verb + " " + kinds[0] + " and " + kinds[1] }
	if len(kinds) == 2 {
		mixed := func() string {
			text := kinds[0] == "a string" || kinds[1] == "a string"
			number := func(k string) bool {
				return k == "an integer" || k == "a number" || k == "a boolean" || k == "an unsigned integer"
			}
			switch {
			case strings.HasPrefix(kinds[0], "an optional") || strings.HasPrefix(kinds[1], "an optional"):
				return "take the value out with orValue(…)"
			case text && (number(kinds[0]) || number(kinds[1])):
				return "make it text with string(…)"
			case text && fn == "_+_":
				return "make it text with str(…)"
			case kinds[0] == "an integer" && kinds[1] == "a number" || kinds[0] == "a number" && kinds[1] == "an integer":
				return "convert one of them with double(…) or int(…)"
			case number(kinds[0]) && number(kinds[1]):
				return "convert one of them with int(…)"
			}
			return ""
		}
		switch fn {
		case "_+_":
			return binary("add"), mixed()
		case "_-_":
			return "cannot subtract " + kinds[1] + " from " + kinds[0], mixed()
		case "_*_":
			return binary("multiply"), mixed()
		case "_/_":
			return "cannot divide " + kinds[0] + " by " + kinds[1], mixed()
		case "_%_":
			return "cannot take the remainder of " + kinds[0] + " and " + kinds[1], mixed()
		case "_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_":
			return binary("compare"), mixed()
		case "@in":
			return "cannot look for " + kinds[0] + " in " + kinds[1], ""
		case "_[_]", "_[?_]", "_?._":
			return "cannot look up " + kinds[1] + " in " + kinds[0], ""
		case "_&&_", "_||_":
			op := strings.Trim(fn, "_")
			return op + " needs two booleans, not " + kinds[0] + " and " + kinds[1], "use truthy(…)"
		case "orValue":
			if !strings.HasPrefix(kinds[0], "an optional") {
				return "orValue() needs an optional value, not " + kinds[0], `x.?y and x["y"] with a ? before the key are optional: x[?"y"]`
			}
			return "orValue() takes the place of " + kinds[0] + ": it cannot be " + kinds[1], ""
		}
	}
	switch fn {
	case "-_":
		return "cannot negate " + kinds[0], ""
	case "!_":
		return "! needs a boolean, not " + kinds[0], "use !truthy(…)"
	case "_?_:_":
		if len(kinds) == 3 {
			hint := ""
			if strings.HasPrefix(kinds[1], "an optional") != strings.HasPrefix(kinds[2], "an optional") {
				hint = "make the other one optional too: optional.of(…)"
			}
			return "the two results of ?: must be of one type, not " + kinds[1] + " and " + kinds[2], hint
		}
	}
	fn = bare(fn)
	if len(kinds) == 0 {
		return fn + "() needs an argument", ""
	}
	return fn + "() does not take " + list2words(kinds), ""
}

func count(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return itoa(int64(n)) + " " + word + "s"
}

func list2words(kinds []string) string {
	if len(kinds) == 1 {
		return kinds[0]
	}
	return "(" + strings.Join(kinds, ", ") + ")"
}

// syntax makes one problem of what the parser reports, for what the recognizer lets through: reserved words, macros'
// arguments, numbers out of range.
func (p *parsed) syntax(errs []*common.Error) {
	p.index()
	toks := p.toks
	end := toks[len(toks)-1].to
	at := p.offset(errs[0].Location)
	for _, e := range errs {
		text := e.Message
		from, to := p.tokenSpan(p.offset(e.Location))
		switch {
		case strings.Contains(text, "recursion limit"), strings.Contains(text, "recursion depth"), strings.Contains(text, "expression count exceeds"):
			p.problem(0, end, "the expression is nested too deeply", "use vars: for its parts")
			return
		case strings.Contains(text, "reserved identifier"):
			word := text[strings.LastIndexByte(text, ' ')+1:]
			p.problem(from, to, quote(word)+" is a reserved word", "")
			return
		case strings.Contains(text, "int literal"):
			p.problem(from, to, "an integer is out of range: integers have 64 bits", "")
			return
		case strings.Contains(text, "double literal"):
			p.problem(from, to, "a number is out of range", "")
			return
		case strings.Contains(text, "must be a simple identifier"), strings.Contains(text, "argument must be a simple name"), strings.Contains(text, "argument is not an identifier"):
			p.problem(from, to, "a variable must be a simple name here", "x.map(e, …)")
			return
		case strings.Contains(text, "has() macro"):
			p.problem(from, to, "has() needs a path that ends with a key", "has(x.key)")
			return
		case strings.HasPrefix(text, "math."):
			p.problem(from, to, "math.least() and math.greatest() need numbers, or one list of numbers", "")
			return
		case strings.HasPrefix(text, "More than"), strings.Contains(text, "limit exceeded"): // of errors, after those that count
		case !strings.HasPrefix(text, "Syntax error"):
			p.problem(from, to, "this cannot stand here", "")
			return
		}
	}
	from, to := p.tokenSpan(at)
	p.problem(from, to, "unexpected "+quote(p.slice(from, to)), "")
}

func (p *parsed) slice(from, to int) string {
	rs := []rune(p.text)
	return string(rs[min(from, len(rs)):min(to, len(rs))])
}

func tokText(toks []token, from int) string {
	for _, t := range toks {
		if t.from == from {
			return t.text
		}
	}
	return ""
}

// unclosed is the last bracket that is open at the end.
func unclosed(toks []token) (int, int, bool) {
	var open []token
	for _, t := range toks {
		switch t.text {
		case "(", "[", "{":
			open = append(open, t)
		case ")", "]", "}":
			if len(open) > 0 {
				open = open[:len(open)-1]
			}
		}
	}
	if len(open) == 0 {
		return 0, 0, false
	}
	t := open[len(open)-1]
	return t.from, t.to, true
}

// offset is where l stands, in code points; -1 where it says nothing.
func (p *parsed) offset(l common.Location) int {
	if l == nil || l.Line() < 1 {
		return -1
	}
	line, at := 1, 0
	for _, r := range p.text {
		if line == l.Line() {
			break
		}
		at++
		if r == '\n' {
			line++
		}
	}
	return at + l.Column()
}

func (p *parsed) tokenSpan(at int) (int, int) {
	for _, t := range p.toks {
		if at < t.to && at >= t.from {
			return t.from, t.to
		}
	}
	if n := len(p.toks); n > 0 && at >= p.toks[n-1].to {
		return p.toks[n-1].from, p.toks[n-1].to
	}
	for _, t := range p.toks {
		if at < t.to {
			return t.from, t.to
		}
	}
	return 0, 0
}
