package config

import (
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/latent-engine/latent-engine/engine/diag"
)

// locate finds where each code point of a scalar's decoded text stands: it reads the source once more in the scalar's style
// and compares with what the YAML library made of it. end is the offset after the scalar. Where the two readings differ, exact
// is false and end is that of the first line: positions then fall back to the scalar's start, and are never wrong by a guess.
func (t *tree) locate(text *diag.Text, y *yaml.Node, off, indent int) (end int, exact bool) {
	src, value := t.f.src, y.Value
	text.File = t.f.name
	// Nearly every scalar is one line without escapes.
	switch y.Style & quoteStyles {
	case 0:
		if strings.HasPrefix(src[off:], value) && strings.IndexByte(value, '\n') < 0 {
			text.Runs = t.run(y.Line, y.Column)
			return off + len(value), true
		}
	case yaml.SingleQuotedStyle, yaml.DoubleQuotedStyle:
		quote := src[min(off, len(src)-1)]
		if strings.HasPrefix(src[min(off+1, len(src)):], value) && off+1+len(value) < len(src) && src[off+1+len(value)] == quote &&
			strings.IndexByte(value, '\n') < 0 && strings.IndexByte(value, quote) < 0 && (quote == '\'' || strings.IndexByte(value, '\\') < 0) {
			text.Runs = t.run(y.Line, y.Column+1)
			return off + len(value) + 2, true
		}
	}
	s := scan{src: src, i: off, line: y.Line, col: y.Column, value: value, runs: text.Runs[:0:0]}
	var ok bool
	switch y.Style & quoteStyles {
	case 0:
		ok = s.flow(0)
	case yaml.SingleQuotedStyle:
		ok = s.flow('\'')
	case yaml.DoubleQuotedStyle:
		ok = s.flow('"')
	default:
		ok = s.block(indent)
	}
	if !ok || s.vi != len(value) {
		return t.f.lineEnd(y.Line), false
	}
	text.Runs = s.runs
	return s.i, true
}

// scan walks over a scalar in the source and over its decoded value at once.
type scan struct {
	src       string
	i         int // in src
	line, col int // of src[i]
	value     string
	vi        int // in value, bytes
	n         int // in value, code points
	runs      []diag.Run
}

// put says that the next code point of the value is r and stands at line and col.
func (s *scan) put(r rune, line, col int) bool {
	got, size := utf8.DecodeRuneInString(s.value[s.vi:])
	if size == 0 || got != r {
		return false
	}
	if len(s.runs) == 0 {
		s.runs = append(s.runs, diag.Run{Offset: s.n, Line: line, Column: col})
	} else if last := s.runs[len(s.runs)-1]; last.Line != line || last.Column+s.n-last.Offset != col {
		s.runs = append(s.runs, diag.Run{Offset: s.n, Line: line, Column: col})
	}
	s.vi += size
	s.n++
	return true
}

func (s *scan) peek() byte {
	if s.i < len(s.src) {
		return s.src[s.i]
	}
	return 0
}

// skip moves over one code point that is no line break.
func (s *scan) skip() rune {
	r, size := utf8.DecodeRuneInString(s.src[s.i:])
	s.i += size
	s.col++
	return r
}

// atBreak reports whether a line ends here.
func (s *scan) atBreak() bool {
	return s.peek() == '\n' && s.i < len(s.src) || s.peek() == '\r' && s.i+1 < len(s.src) && s.src[s.i+1] == '\n'
}

func (s *scan) newline() {
	if s.src[s.i] == '\r' {
		s.i++
	}
	s.i++
	s.line++
	s.col = 1
}

type place struct{ line, col int }

// flow reads a plain (quote 0) or quoted scalar, with its line folding.
func (s *scan) flow(quote byte) bool {
	if quote != 0 {
		if s.peek() != quote {
			return false
		}
		s.skip()
	}
	var blanks []place // white space inside a line; runs of it that end a line do not count
	var blankRunes []rune
	for {
		// The text up to the next white space.
		folded, broke := false, false
		for s.i < len(s.src) {
			c := s.src[s.i]
			if quote == 0 && s.vi == len(s.value) {
				return true
			}
			if c == ' ' || c == '\t' || s.atBreak() {
				break
			}
			line, col := s.line, s.col
			switch {
			case quote == '\'' && c == '\'':
				if s.i+1 < len(s.src) && s.src[s.i+1] == '\'' {
					s.skip()
					s.skip()
					if !s.put('\'', line, col) {
						return false
					}
					continue
				}
				s.skip()
				return s.vi == len(s.value)
			case quote == '"' && c == '"':
				s.skip()
				return s.vi == len(s.value)
			case quote == '"' && c == '\\':
				s.skip()
				if s.atBreak() {
					s.newline()
					folded, broke = true, true
				} else if r, ok := s.escape(); !ok || !s.put(r, line, col) {
					return false
				}
			default:
				if !s.put(s.skip(), line, col) {
					return false
				}
			}
			if broke {
				break
			}
		}
		if s.i >= len(s.src) {
			return quote == 0 && s.vi == len(s.value)
		}
		// White space and line breaks up to the next text.
		blanks, blankRunes = blanks[:0], blankRunes[:0]
		var first place
		var more []place
		seenBreak := false
		for s.i < len(s.src) {
			c := s.src[s.i]
			switch {
			case c == ' ' || c == '\t':
				if !folded {
					blanks, blankRunes = append(blanks, place{s.line, s.col}), append(blankRunes, rune(c))
				}
				s.skip()
				continue
			case s.atBreak():
				if !folded {
					if len(blanks) > 0 {
						first = blanks[0]
					} else {
						first = place{s.line, s.col}
					}
					folded, seenBreak = true, true
				} else {
					more = append(more, place{s.line, s.col})
				}
				s.newline()
				continue
			}
			break
		}
		if quote == 0 && s.vi == len(s.value) {
			return true
		}
		switch {
		case !folded:
			for i, p := range blanks {
				if !s.put(blankRunes[i], p.line, p.col) {
					return false
				}
			}
		case seenBreak && len(more) == 0:
			if !s.put(' ', first.line, first.col) {
				return false
			}
		default:
			for _, p := range more {
				if !s.put('\n', p.line, p.col) {
					return false
				}
			}
		}
	}
}

// escape reads what follows a backslash in a double-quoted scalar.
func (s *scan) escape() (rune, bool) {
	if s.i >= len(s.src) {
		return 0, false
	}
	c := s.src[s.i]
	s.skip()
	length := 0
	switch c {
	case '0':
		return 0, true
	case 'a':
		return 7, true
	case 'b':
		return 8, true
	case 't', '\t':
		return 9, true
	case 'n':
		return 10, true
	case 'v':
		return 11, true
	case 'f':
		return 12, true
	case 'r':
		return 13, true
	case 'e':
		return 27, true
	case ' ', '"', '\'', '\\', '/':
		return rune(c), true
	case 'N':
		return 0x85, true
	case '_':
		return 0xa0, true
	case 'L':
		return 0x2028, true
	case 'P':
		return 0x2029, true
	case 'x':
		length = 2
	case 'u':
		length = 4
	case 'U':
		length = 8
	default:
		return 0, false
	}
	var r rune
	for range length {
		if s.i >= len(s.src) {
			return 0, false
		}
		d, ok := hexDigit(s.src[s.i])
		if !ok {
			return 0, false
		}
		r = r<<4 | d
		s.skip()
	}
	return r, true
}

func hexDigit(c byte) (rune, bool) {
	switch {
	case '0' <= c && c <= '9':
		return rune(c - '0'), true
	case 'a' <= c && c <= 'f':
		return rune(c-'a') + 10, true
	case 'A' <= c && c <= 'F':
		return rune(c-'A') + 10, true
	}
	return 0, false
}

// block reads a literal or folded block scalar; around is the column, from 0, of the block collection it stands in, or -1.
// On return i is the end of the header line: a span of a block scalar is its header.
func (s *scan) block(around int) bool {
	literal := s.peek() == '|'
	if !literal && s.peek() != '>' {
		return false
	}
	s.skip()
	chomp, indent := 0, 0
	for s.i < len(s.src) {
		switch c := s.src[s.i]; {
		case c == '+':
			chomp = 1
		case c == '-':
			chomp = -1
		case c >= '1' && c <= '9':
			indent = max(around, 0) + int(c-'0')
		default:
			goto header
		}
		s.skip()
	}
header:
	headerEnd := s.i
	for s.i < len(s.src) && !s.atBreak() {
		s.skip()
	}
	if s.i < len(s.src) {
		s.newline()
	}
	var breaks []place
	eat := func() {
		widest := 0
		for {
			for (indent == 0 || s.col-1 < indent) && s.peek() == ' ' {
				s.skip()
			}
			widest = max(widest, s.col-1)
			if !s.atBreak() {
				break
			}
			breaks = append(breaks, place{s.line, s.col})
			s.newline()
		}
		if indent == 0 {
			indent = max(widest, around+1, 1)
		}
	}
	putAll := func(ps []place) bool {
		for _, p := range ps {
			if !s.put('\n', p.line, p.col) {
				return false
			}
		}
		return true
	}
	eat()
	var lead []place // the line break that ended the line before
	leadBlank := false
	for s.col-1 == indent && s.i < len(s.src) {
		blank := s.peek() == ' ' || s.peek() == '\t'
		if !literal && !leadBlank && !blank && len(lead) > 0 {
			if len(breaks) == 0 && !s.put(' ', lead[0].line, lead[0].col) {
				return false
			}
		} else if !putAll(lead) {
			return false
		}
		lead = lead[:0]
		if !putAll(breaks) {
			return false
		}
		breaks = breaks[:0]
		leadBlank = blank
		for s.i < len(s.src) && !s.atBreak() {
			line, col := s.line, s.col
			if !s.put(s.skip(), line, col) {
				return false
			}
		}
		if s.i < len(s.src) {
			lead = append(lead, place{s.line, s.col})
			s.newline()
		}
		eat()
	}
	if chomp != -1 && !putAll(lead) {
		return false
	}
	if chomp == 1 && !putAll(breaks) {
		return false
	}
	s.i = headerEnd
	return s.vi == len(s.value)
}
