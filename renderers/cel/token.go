package cel

import (
	"strconv"
	"strings"
	"unicode"
)

// token is a lexical piece of an expression, at code points [from, to). It exists for positions only: cel-go's parser
// says where a node begins, and never where it ends.
type token struct {
	from, to int
	kind     tokenKind
	text     string
	closed   bool // a string that ends
	escapes  bool // whether all its escapes exist
}

type tokenKind uint8

const (
	tokenPunct tokenKind = iota
	tokenWord
	tokenNumber
	tokenString
)

// tokenize reads text as CEL's lexer does, as far as positions need it; it takes anything.
func tokenize(text string) []token {
	rs := []rune(text)
	var out []token
	word := func(r rune) bool { return r == '_' || unicode.IsLetter(r) || r >= '0' && r <= '9' }
	for i := 0; i < len(rs); {
		r := rs[i]
		start := i
		switch {
		case r == ' ' || r == '\t' || r == '\n' || r == '\r' || r == '\f':
			i++
			continue
		case r == '/' && i+1 < len(rs) && rs[i+1] == '/':
			for i < len(rs) && rs[i] != '\n' {
				i++
			}
			continue
		case r == '"' || r == '\'' || isPrefixed(rs[i:]):
			end, closed := stringEnd(rs, i)
			i = end
			out = append(out, token{start, i, tokenString, "", closed, validEscapes(rs[start:i])})
			continue
		case r == '`':
			for i++; i < len(rs) && rs[i] != '`'; i++ {
			}
			i = min(i+1, len(rs))
			out = append(out, token{start, i, tokenWord, string(rs[start:i]), true, true})
			continue
		case r >= '0' && r <= '9', r == '.' && i+1 < len(rs) && rs[i+1] >= '0' && rs[i+1] <= '9':
			i++
			for i < len(rs) && (word(rs[i]) || rs[i] == '.' && i+1 < len(rs) && rs[i+1] >= '0' && rs[i+1] <= '9' ||
				(rs[i] == '+' || rs[i] == '-') && (rs[i-1] == 'e' || rs[i-1] == 'E') && !strings.HasPrefix(string(rs[start:i]), "0x")) {
				i++
			}
			out = append(out, token{start, i, tokenNumber, string(rs[start:i]), true, true})
			continue
		case word(r):
			for i < len(rs) && word(rs[i]) {
				i++
			}
			out = append(out, token{start, i, tokenWord, string(rs[start:i]), true, true})
			continue
		}
		i++
		if i < len(rs) {
			switch string(rs[start : i+1]) {
			case "==", "!=", "<=", ">=", "&&", "||":
				i++
			}
		}
		out = append(out, token{start, i, tokenPunct, string(rs[start:i]), true, true})
	}
	return out
}

// isPrefixed reports whether rs begins with r", b', rb""" ….
func isPrefixed(rs []rune) bool {
	for i := 0; i < 3 && i < len(rs); i++ {
		switch rs[i] {
		case 'r', 'R', 'b', 'B':
		case '"', '\'':
			return i > 0
		default:
			return false
		}
	}
	return false
}

// stringEnd is where the string that begins at i ends.
func stringEnd(rs []rune, i int) (int, bool) {
	raw := false
	for rs[i] != '"' && rs[i] != '\'' {
		raw = raw || rs[i] == 'r' || rs[i] == 'R'
		i++
	}
	q := rs[i]
	triple := i+2 < len(rs) && rs[i+1] == q && rs[i+2] == q
	if triple {
		i += 3
	} else {
		i++
	}
	for i < len(rs) {
		switch {
		case rs[i] == '\\' && !raw:
			i += 2
			continue
		case rs[i] == q && !triple:
			return i + 1, true
		case rs[i] == q && i+2 < len(rs) && rs[i+1] == q && rs[i+2] == q:
			return i + 3, true
		case rs[i] == '\n' && !triple:
			return i, false
		}
		i++
	}
	return len(rs), false
}

// validEscapes reports whether a string's escapes are CEL's.
func validEscapes(rs []rune) bool {
	bytes := false
	for i, r := range rs {
		if r == 'r' || r == 'R' {
			return true
		}
		bytes = bytes || r == 'b' || r == 'B'
		if r == '"' || r == '\'' {
			rs = rs[i:]
			break
		}
	}
	in := func(i, n int, set string) bool {
		for ; n > 0; n-- {
			if i >= len(rs) || !strings.ContainsRune(set, rs[i]) {
				return false
			}
			i++
		}
		return true
	}
	const hexDigits = "0123456789abcdefABCDEF"
	for i := 0; i < len(rs); i++ {
		if rs[i] == '\r' && rs[0] != rs[min(1, len(rs)-1)] {
			return false // a line end in a string of one line
		}
		if rs[i] != '\\' {
			continue
		}
		i++
		ok := false
		switch {
		case i >= len(rs):
		case strings.ContainsRune("abfnrtv\"'\\`?", rs[i]):
			ok = true
		case rs[i] >= '0' && rs[i] <= '3':
			ok = in(i+1, 2, "01234567")
			i += 2
		case rs[i] == 'x' || rs[i] == 'X':
			ok = in(i+1, 2, hexDigits)
			i += 2
		case rs[i] == 'u' && !bytes:
			ok = in(i+1, 4, hexDigits) && !surrogate(rs[i+1:i+5])
			i += 4
		case rs[i] == 'U' && !bytes:
			ok = in(i+1, 8, hexDigits) && !surrogate(rs[i+1:i+9])
			i += 8
		}
		if !ok {
			return false
		}
	}
	return true
}

// surrogate reports whether hexadecimal digits are no code point.
func surrogate(digits []rune) bool {
	n, err := strconv.ParseUint(string(digits), 16, 32)
	return err != nil || n >= 0xd800 && n < 0xe000 || n > 0x10ffff
}

// tokenAt is the index of the token that holds or follows the code point at offset.
func tokenAt(toks []token, offset int) int {
	for i, t := range toks {
		if offset < t.to {
			return i
		}
	}
	return len(toks) - 1
}

// cover is the code points from token lo to token hi, widened until its brackets match.
func cover(toks []token, lo, hi int) (int, int) {
	if len(toks) == 0 {
		return 0, 0
	}
	open, missing := 0, 0
	for i := lo; i <= hi; i++ {
		switch toks[i].text {
		case "(", "[", "{":
			open++
		case ")", "]", "}":
			if open > 0 {
				open--
			} else {
				missing++
			}
		}
	}
	for depth := 0; open > 0 && hi+1 < len(toks); {
		hi++
		switch toks[hi].text {
		case "(", "[", "{":
			depth++
		case ")", "]", "}":
			if depth > 0 {
				depth--
			} else {
				open--
			}
		}
	}
	for depth := 0; missing > 0 && lo > 0; {
		lo--
		switch toks[lo].text {
		case ")", "]", "}":
			depth++
		case "(", "[", "{":
			if depth > 0 {
				depth--
			} else {
				missing--
			}
		}
	}
	return toks[lo].from, toks[hi].to
}
