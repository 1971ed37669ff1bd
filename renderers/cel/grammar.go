package cel

import (
	"strings"
	"unicode/utf8"
)

// recognizer holds a text against CEL's grammar before cel-go's parser sees it, for the sake of syntax errors: the
// parser generator's messages list token names, and its recovery reports places where nothing is wrong. FuzzCompile
// holds the two against each other: what the parser takes, the recognizer takes.
type recognizer struct {
	p     *parsed
	toks  []token
	at    int
	depth int
	// bad: an error is reported, and there are no more tokens to read.
	bad bool
}

// recognize reports the text's first syntax error, and whether there is none.
func (p *parsed) recognize() bool {
	p.toks = tokenize(p.text)
	if len(p.toks) == 0 { // a comment alone
		p.problem(0, utf8.RuneCountInString(p.text), "an expression is empty", "")
		return false
	}
	for _, t := range p.toks {
		if message, hint := t.wrong(); message != "" {
			p.problem(t.from, t.to, message, hint)
			return false
		}
	}
	r := &recognizer{p: p, toks: p.toks}
	r.expr()
	if r.at < len(r.toks) {
		r.unexpected()
	}
	return !r.bad
}

// wrong is what is wrong with a token by itself.
func (t token) wrong() (message, hint string) {
	switch t.kind {
	case tokenString:
		if !t.closed {
			return "a string is not closed", ""
		}
		if !t.escapes {
			return "a text has an escape that does not exist", `write \\ for a backslash, or r"…" for a text without escapes`
		}
	case tokenNumber:
		if !validNumber(t.text) {
			return quote(t.text) + " is not a number", ""
		}
	case tokenWord:
		for _, c := range t.text {
			if c > 0x7f && t.text[0] != '`' {
				return "unexpected " + quote(t.text), "a name has letters a-z, digits and _; any other key is written [\"…\"]"
			}
		}
		if t.text[0] == '`' && (len(t.text) < 3 || strings.Trim(t.text[1:], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-/ ") != "`") {
			return "unexpected " + quote(t.text), `a key is written ["…"]`
		}
	}
	return "", ""
}

func validNumber(s string) bool {
	digits := func(s, set string) (int, string) {
		rest := strings.TrimLeft(s, set)
		return len(s) - len(rest), rest
	}
	const dec = "0123456789"
	if h, ok := strings.CutPrefix(s, "0x"); ok {
		n, rest := digits(h, dec+"abcdefABCDEF")
		return n > 0 && (rest == "" || rest == "u" || rest == "U")
	}
	whole, rest := digits(s, dec)
	if whole > 0 && (rest == "" || rest == "u" || rest == "U") {
		return true
	}
	if f, ok := strings.CutPrefix(rest, "."); ok {
		n := 0
		if n, rest = digits(f, dec); n == 0 {
			return false
		}
	} else if whole == 0 {
		return false
	}
	if rest == "" {
		return true
	}
	if rest[0] != 'e' && rest[0] != 'E' {
		return false
	}
	rest = rest[1:]
	if rest != "" && (rest[0] == '+' || rest[0] == '-') {
		rest = rest[1:]
	}
	n, rest := digits(rest, dec)
	return n > 0 && rest == ""
}

func (r *recognizer) fail(from, to int, message, hint string) {
	if r.bad {
		return
	}
	r.p.problem(from, to, message, hint)
	r.bad, r.at = true, len(r.toks)
}

func (r *recognizer) peek() string {
	if r.at < len(r.toks) && r.toks[r.at].kind != tokenString {
		return r.toks[r.at].text
	}
	return ""
}

func (r *recognizer) accept(texts ...string) bool {
	for _, t := range texts {
		if r.at < len(r.toks) && r.peek() == t {
			r.at++
			return true
		}
	}
	return false
}

// unexpected fails at the next token, or at the end.
func (r *recognizer) unexpected() {
	if r.at >= len(r.toks) {
		last := r.toks[len(r.toks)-1]
		if from, to, ok := unclosed(r.toks); ok {
			r.fail(from, to, quote(tokText(r.toks, from))+" is never closed", "")
		}
		r.fail(last.from, last.to, "the expression ends too early, after "+quote(r.p.slice(last.from, last.to)), "")
		return
	}
	t := r.toks[r.at]
	word := r.p.slice(t.from, t.to)
	hint := ""
	switch word {
	case "=":
		hint = "use == to compare"
	case "and":
		hint = "use &&"
	case "or":
		hint = "use ||"
	case "not":
		hint = "use !"
	case "if", "else":
		hint = "use condition ? value : other"
	case "&", "|":
		hint = "use " + word + word
	case "$":
		hint = "inside ${{ }} a name stands alone: props.x"
	}
	if hint == "" && r.at > 0 && t.kind == tokenWord && r.toks[r.at-1].text == "." && word[0] != '`' {
		hint = "a key with this name is written [" + quote(word) + "]"
	}
	r.fail(t.from, t.to, "unexpected "+quote(word), hint)
}

func (r *recognizer) expect(text string) {
	if !r.accept(text) {
		r.unexpected()
	}
}

func (r *recognizer) expr() {
	r.depth++
	defer func() { r.depth-- }()
	if r.depth > maxDepth {
		r.fail(0, r.toks[len(r.toks)-1].to, "the expression is nested too deeply", "use vars: for its parts")
		return
	}
	r.or()
	for r.accept("?") {
		r.or()
		r.expect(":")
		r.or()
	}
}

func (r *recognizer) or() {
	r.and()
	for r.accept("||") {
		r.and()
	}
}

func (r *recognizer) and() {
	r.relation()
	for r.accept("&&") {
		r.relation()
	}
}

func (r *recognizer) relation() {
	r.calc()
	for r.accept("<", "<=", ">", ">=", "==", "!=", "in") {
		r.calc()
	}
}

func (r *recognizer) calc() {
	r.unary()
	for r.accept("+", "-", "*", "/", "%") {
		r.unary()
	}
}

func (r *recognizer) unary() {
	switch r.peek() {
	case "!":
		for r.accept("!") {
		}
	case "-":
		for r.accept("-") {
		}
	}
	r.member()
}

func (r *recognizer) member() {
	r.primary()
	for {
		switch {
		case r.accept("."):
			r.accept("?")
			optional := r.toks[r.at-1].text == "?"
			if r.at >= len(r.toks) || r.toks[r.at].kind != tokenWord || reserved(r.toks[r.at].text) {
				r.unexpected()
				return
			}
			escaped := r.toks[r.at].text[0] == '`'
			r.at++
			if !optional && !escaped && r.accept("(") {
				r.list(")", false)
			}
		case r.accept("["):
			r.accept("?")
			r.expr()
			r.expect("]")
		case r.peek() == "{" && r.isTypeName():
			r.at++
			r.structure()
		default:
			return
		}
	}
}

// isTypeName reports whether what stands before the brace is a name or names with dots: msg.Type{…}, which the checker refuses.
func (r *recognizer) isTypeName() bool {
	i := r.at - 1
	for ; i >= 0; i-- {
		if t := r.toks[i]; t.text != "." && (t.kind != tokenWord || t.text[0] == '`' || reserved(t.text)) {
			break
		}
	}
	return i < r.at-1 && (i < 0 || r.toks[i].text != "]" && r.toks[i].text != ")" && r.toks[i].text != "}" && r.toks[i].text != "?" && r.toks[i].kind == tokenPunct || r.toks[i].text == "in")
}

// reserved are the words of the grammar, which are no names. (Others, such as for, are refused as names, not as keys.)
func reserved(word string) bool {
	switch word {
	case "true", "false", "null", "in":
		return true
	}
	return false
}

func (r *recognizer) primary() {
	if r.at >= len(r.toks) {
		r.unexpected()
		return
	}
	t := r.toks[r.at]
	switch {
	case t.kind == tokenString, t.kind == tokenNumber, t.text == "true", t.text == "false", t.text == "null":
		r.at++
	case t.text == "(":
		r.at++
		r.expr()
		r.expect(")")
	case t.text == "[":
		r.at++
		r.list("]", true)
	case t.text == "{":
		r.at++
		r.entries()
	case t.text == "." && r.at+1 < len(r.toks) && r.toks[r.at+1].kind == tokenWord && !reserved(r.toks[r.at+1].text) && r.toks[r.at+1].text[0] != '`':
		r.at++
		r.primary()
	case t.kind == tokenWord && !reserved(t.text) && t.text[0] != '`':
		switch t.text {
		case "if", "else":
			r.fail(t.from, t.to, quote(t.text)+" is a reserved word", "use condition ? value : other")
			return
		case "as", "break", "const", "continue", "for", "function", "import", "let", "loop", "package", "namespace", "return", "var", "void", "while":
			r.fail(t.from, t.to, quote(t.text)+" is a reserved word", "")
			return
		}
		r.at++
		if r.accept("(") {
			r.list(")", false)
		}
	default:
		r.unexpected()
	}
}

func (r *recognizer) list(end string, literal bool) {
	if r.accept(end) || literal && r.accept(",") && r.accept(end) {
		return
	}
	for !r.bad {
		if literal {
			r.accept("?")
		}
		r.expr()
		if r.accept(end) {
			return
		}
		r.expect(",")
		if literal && r.accept(end) {
			return
		}
	}
}

func (r *recognizer) entries() {
	if r.accept(",") {
		r.expect("}")
		return
	}
	for !r.bad && !r.accept("}") {
		r.accept("?")
		r.expr()
		r.expect(":")
		r.expr()
		if r.accept("}") {
			return
		}
		r.expect(",")
	}
}

func (r *recognizer) structure() {
	for !r.bad && !r.accept("}") {
		r.accept("?")
		if r.at >= len(r.toks) || r.toks[r.at].kind != tokenWord || reserved(r.toks[r.at].text) {
			r.unexpected()
			return
		}
		r.at++
		r.expect(":")
		r.expr()
		if r.accept("}") {
			return
		}
		r.expect(",")
	}
}
