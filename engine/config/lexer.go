package config

import (
	"strings"
	"unicode/utf8"
)

// piece is a stretch of a text that lex found: literal characters, or an expression.
type piece struct {
	expr bool
	text string // the characters, "$${{" undone; of an expression its source, trimmed
	from int    // of an expression: where its source starts, in code points of the text
}

// problem is what is wrong in a text, at code points [from, to).
type problem struct {
	from, to      int
	message, hint string
}

// lex cuts a text at its ${{ expressions }}. "$${{" stands for the characters "${{"; everything else that is no expression is
// literal, shell's ${VAR} too. The end of an expression is found as CEL reads it: not inside a string, a comment or a map.
func lex(text string) ([]piece, []problem) {
	if !strings.Contains(text, "${{") {
		return []piece{{text: text}}, nil
	}
	var pieces []piece
	var problems []problem
	var lit strings.Builder
	points := 0 // code points before i
	for i := 0; i < len(text); {
		next := strings.Index(text[i:], "${{")
		if next < 0 {
			lit.WriteString(text[i:])
			break
		}
		if next > 0 && text[i+next-1] == '$' {
			lit.WriteString(text[i:i+next-1] + "${{")
			points += utf8.RuneCountInString(text[i : i+next+3])
			i += next + 3
			continue
		}
		lit.WriteString(text[i : i+next])
		points += utf8.RuneCountInString(text[i : i+next])
		i += next
		body := text[i+3:]
		end, hint := expressionEnd(body)
		if end < 0 {
			problems = append(problems, problem{points, points + 3, `unterminated "${{"`, hint})
			break
		}
		length := utf8.RuneCountInString(body[:end]) + 5
		source := strings.Trim(body[:end], " \t\r\n")
		if source == "" {
			problems = append(problems, problem{points, points + length, "the expression is empty", `write "$${{" if the characters "${{" are meant`})
		} else {
			if lit.Len() > 0 {
				pieces = append(pieces, piece{text: lit.String()})
				lit.Reset()
			}
			blank := len(body[:end]) - len(strings.TrimLeft(body[:end], " \t\r\n"))
			pieces = append(pieces, piece{expr: true, text: source, from: points + 3 + blank})
		}
		points += length
		i += end + 5
	}
	if lit.Len() > 0 {
		pieces = append(pieces, piece{text: lit.String()})
	}
	return pieces, problems
}

// expressionEnd is the offset of the "}}" that ends the expression at the start of s, or -1 and what may be wrong.
func expressionEnd(s string) (int, string) {
	depth, lone := 0, false
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '{':
			depth++
			i++
		case c == '}':
			if depth == 0 && strings.HasPrefix(s[i:], "}}") {
				return i, ""
			}
			if depth--; depth < 0 {
				depth, lone = 0, true
			}
			i++
		case c == '/' && strings.HasPrefix(s[i:], "//"):
			line := strings.IndexByte(s[i:], '\n')
			if line < 0 {
				return -1, `a comment runs to the end of its line, over the "}}" too`
			}
			i += line
		case c == '$' && strings.HasPrefix(s[i:], "${{"):
			return -1, `another "${{" begins before this one has its "}}"`
		case c == '"' || c == '\'':
			n, ok := celString(s[i:], false)
			if !ok {
				return -1, "a string in the expression has no closing " + string(c)
			}
			i += n
		case c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z':
			start := i
			for i < len(s) && (s[i] == '_' || s[i]|0x20 >= 'a' && s[i]|0x20 <= 'z' || s[i] >= '0' && s[i] <= '9') {
				i++
			}
			if i < len(s) && (s[i] == '"' || s[i] == '\'') {
				switch strings.ToLower(s[start:i]) {
				case "r", "br", "rb":
					n, ok := celString(s[i:], true)
					if !ok {
						return -1, "a string in the expression has no closing " + string(s[i])
					}
					i += n
				}
			}
		default:
			i++
		}
	}
	switch {
	case depth > 0:
		return -1, `a "{" in the expression has no "}"`
	case lone:
		return -1, `a "{" in the expression takes one "}" for itself; "}}" ends the expression after that`
	}
	return -1, `end it with "}}"; write "$${{" if the characters "${{" are meant`
}

// celString is the length of the CEL string at the start of s. A string in single quotes ends with its line at the latest.
func celString(s string, raw bool) (int, bool) {
	quote := s[:1]
	long := strings.HasPrefix(s, quote+quote+quote)
	if long {
		quote = s[:3]
	}
	for i := len(quote); i < len(s); {
		switch {
		case strings.HasPrefix(s[i:], quote):
			return i + len(quote), true
		case s[i] == '\\' && !raw:
			i += 2
		case s[i] == '\n' && !long:
			return i, true
		default:
			i++
		}
	}
	return 0, false
}
