package config

import (
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/field"
)

// Limits on what is read, held before anything is made of it.
const (
	MaxFileBytes = 4 << 20
	MaxDepth     = 64
	MaxNodes     = 500_000
	MaxWorkers   = 10_000
	MaxCount     = 1000
	maxChain     = 32 // workers in one chain of extends
)

// file is a source text that knows its lines.
type file struct {
	name  string
	src   string
	lines []int // byte offset of each line's start
	ascii bool
	// The last place asked for: places are asked for mostly in file order, and a line may be as long as the file.
	at struct{ off, line, col int }
}

// openFile checks what holds for a file that people write (size, encoding, no characters that are not seen) and finds its
// lines. It returns nil where the text cannot be read at all.
func openFile(name string, data []byte, list *diag.List) *file { return open(name, data, list, true) }

// openData is openFile for what programs write: strings in it may hold any character.
func openData(name string, data []byte, list *diag.List) *file { return open(name, data, list, false) }

func open(name string, data []byte, list *diag.List, written bool) *file {
	f := &file{name: name, ascii: true}
	if len(data) > MaxFileBytes {
		list.Errorf(f.top(), "", "the file has %d bytes; at most %d (4 MiB) are read", len(data), MaxFileBytes)
		return nil
	}
	f.src = string(data)
	f.lines = make([]int, 1, 1+strings.Count(f.src, "\n"))
	switch {
	case strings.HasPrefix(f.src, "\xef\xbb\xbf"):
		list.Add(diag.Diagnostic{Span: f.top(), Message: "the file begins with a byte order mark", Hint: "save it as UTF-8 without BOM"})
		return nil
	case strings.HasPrefix(f.src, "\xff\xfe"), strings.HasPrefix(f.src, "\xfe\xff"):
		list.Add(diag.Diagnostic{Span: f.top(), Message: "the file is UTF-16", Hint: "save it as UTF-8 without BOM"})
		return nil
	}
	const maxBad = 10 // a binary file must not fill the list
	bad := 0
	report := func(off int, message, hint string) {
		bad++
		p := f.pos(off)
		list.Add(diag.Diagnostic{Span: diag.Span{Pos: p, EndColumn: p.Column + 1}, Message: message, Hint: hint})
	}
	for i := 0; i < len(f.src) && bad < maxBad; {
		c := f.src[i]
		switch {
		case c == '\n':
			f.lines = append(f.lines, i+1)
			i++
		case c == '\r':
			if written && (i+1 == len(f.src) || f.src[i+1] != '\n') {
				report(i, "a carriage return without a line feed", "end lines with LF or CRLF")
			}
			i++
		case written && (c < 0x20 && c != '\t' || c == 0x7f):
			report(i, "control character "+codePoint(rune(c)), "")
			i++
		case c < utf8.RuneSelf:
			i++
		default:
			f.ascii = false
			r, n := utf8.DecodeRuneInString(f.src[i:])
			switch {
			case r == utf8.RuneError && n == 1:
				report(i, "the file is not UTF-8 here: byte "+hex(uint32(c), 2), "save it as UTF-8")
			case written && invisible(r):
				hint := ""
				if r >= 0xa0 {
					hint = "write it as an escape in a double-quoted string, if it is meant"
				}
				report(i, "invisible control character "+codePoint(r), hint)
			}
			i += n
		}
	}
	if bad > 0 {
		return nil
	}
	return f
}

// invisible: what ends a line for some readers and not for others (U+0085, U+2028, U+2029), other C1 controls, what turns the
// direction of writing, and a byte order mark inside the text.
func invisible(r rune) bool {
	return r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0xfeff
}

func codePoint(r rune) string { return "U+" + hex(uint32(r), 4) }

func hex(v uint32, width int) string {
	const digits = "0123456789ABCDEF"
	var b [8]byte
	for i := range b {
		b[i] = digits[v>>(28-4*i)&15]
	}
	s := strings.TrimLeft(string(b[:]), "0")
	return strings.Repeat("0", max(0, width-len(s))) + s
}

func (f *file) top() diag.Span {
	return diag.Span{Pos: diag.Pos{File: f.name, Line: 1, Column: 1}}
}

// lineEnd is the offset where line's text ends, its line break not included.
func (f *file) lineEnd(line int) int {
	end := len(f.src)
	if line < len(f.lines) {
		if end = f.lines[line] - 1; end > f.lines[line-1] && f.src[end-1] == '\r' {
			end--
		}
	}
	return end
}

// offset is where the code point at line and column starts; places outside the file are moved to the nearest inside.
func (f *file) offset(line, col int) int {
	line = min(max(line, 1), len(f.lines))
	start, end := f.lines[line-1], f.lineEnd(line)
	if f.ascii {
		return min(start+max(col, 1)-1, end)
	}
	if f.at.line != line || f.at.col > col {
		f.at.off, f.at.line, f.at.col = start, line, 1
	}
	for f.at.col < col && f.at.off < end {
		_, n := utf8.DecodeRuneInString(f.src[f.at.off:end])
		f.at.off += n
		f.at.col++
	}
	return f.at.off
}

// pos is the place of the code point at offset.
func (f *file) pos(off int) diag.Pos {
	off = min(max(off, 0), len(f.src))
	line := sort.Search(len(f.lines), func(i int) bool { return f.lines[i] > off })
	start := f.lines[line-1]
	if f.ascii {
		return diag.Pos{File: f.name, Line: line, Column: off - start + 1}
	}
	if f.at.line != line || f.at.off > off {
		f.at.off, f.at.line, f.at.col = start, line, 1
	}
	f.at.col += utf8.RuneCountInString(f.src[f.at.off:off])
	f.at.off = off
	return diag.Pos{File: f.name, Line: line, Column: f.at.col}
}

// span is the place of [from, to), its end cut at the end of the first line.
func (f *file) span(from, to int) diag.Span {
	p := f.pos(from)
	end := min(to, f.lineEnd(p.Line))
	s := diag.Span{Pos: p}
	switch {
	case end <= from:
	case f.ascii:
		s.EndColumn = p.Column + end - from
	default:
		s.EndColumn = p.Column + utf8.RuneCountInString(f.src[from:end])
	}
	return s
}

// trail is where a walk through a tree stands; the path is put together only for a message.
type trail []step

type step struct {
	key   string
	index int // of a list's item; -1 for a key
}

func (t *trail) key(k string) { *t = append(*t, step{k, -1}) }
func (t *trail) item(i int)   { *t = append(*t, step{"", i}) }
func (t *trail) up()          { *t = (*t)[:len(*t)-1] }

func (t trail) String() string {
	path := ""
	for _, s := range t {
		if s.index >= 0 {
			path = field.IndexPath(path, s.index)
		} else {
			path = field.JoinPath(path, s.key)
		}
	}
	return path
}
