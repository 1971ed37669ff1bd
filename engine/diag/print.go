package diag

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// PrintOptions says how diagnostics are printed.
type PrintOptions struct {
	// Color: mark with ANSI colours. For terminals only.
	Color bool
}

// maxShown is how many columns of a source line are shown; longer lines are cut around the caret.
const maxShown = 100

// Print writes list as text, one diagnostic after the other as they stand in it:
//
//	ci.yaml:17:30: workers.linux.env.BRANCH: unknown property "brnach"
//	   17 |     env: {BRANCH: "${{ props.brnach }}"}
//	      |                              ^^^^^^
//	   did you mean "branch"?
//
// sources are the files' contents by name; a diagnostic in another file is printed without its line. Control characters, in
// the sources and in messages, are shown as escapes: what a file holds cannot steer the terminal.
func Print(w io.Writer, list List, sources map[string][]byte, opts PrintOptions) error {
	p := printer{opts: opts, lines: map[string][]int{}, sources: sources}
	for _, d := range list {
		p.one(d)
	}
	_, err := w.Write(p.out.Bytes())
	return err
}

// Summary says how many problems there are, in how many files: "3 problems in 1 file". files is the number of files read.
func Summary(list List, files int) string {
	errors, warnings := 0, 0
	in := map[string]bool{}
	for _, d := range list {
		if d.File != "" {
			in[d.File] = true
		}
		if d.Severity == Warning {
			warnings++
		} else {
			errors++
		}
	}
	if len(list) == 0 {
		return "no problems in " + count(files, "file")
	}
	var parts []string
	if errors > 0 {
		parts = append(parts, count(errors, "problem"))
	}
	if warnings > 0 {
		parts = append(parts, count(warnings, "warning"))
	}
	s := strings.Join(parts, " and ")
	if len(list) >= MaxDiagnostics {
		s = "at least " + s
	}
	switch {
	case len(in) == 0:
		return s
	case files > len(in):
		return s + " in " + strconv.Itoa(len(in)) + " of " + count(files, "file")
	}
	return s + " in " + count(len(in), "file")
}

func count(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return strconv.Itoa(n) + " " + word + "s"
}

type printer struct {
	opts    PrintOptions
	out     bytes.Buffer
	sources map[string][]byte
	lines   map[string][]int // offsets of line starts, by file
}

const (
	bold  = "\x1b[1m"
	red   = "\x1b[1;31m"
	faint = "\x1b[2m"
	reset = "\x1b[0m"
)

func (p *printer) color(code, s string) string {
	if !p.opts.Color || s == "" {
		return s
	}
	return code + s + reset
}

func (p *printer) one(d Diagnostic) {
	if d.Line != 0 || d.File != "" {
		p.out.WriteString(p.color(bold, clean(d.Pos.String())+":") + " ")
	}
	if d.Path != "" {
		p.out.WriteString(clean(d.Path) + ": ")
	}
	if d.Severity == Warning {
		p.out.WriteString("warning: ")
	}
	p.out.WriteString(clean(d.Message) + "\n")
	if line, ok := p.line(d.File, d.Line); ok {
		p.source(d.Span, line)
	}
	if d.Hint != "" {
		for _, h := range strings.Split(d.Hint, "\n") {
			p.out.WriteString("   " + clean(h) + "\n")
		}
	}
}

// line is one line of a source, without its line break.
func (p *printer) line(file string, n int) (string, bool) {
	src, ok := p.sources[file]
	if !ok || n < 1 {
		return "", false
	}
	starts, ok := p.lines[file]
	if !ok {
		starts = []int{0}
		for i, c := range src {
			if c == '\n' {
				starts = append(starts, i+1)
			}
		}
		p.lines[file] = starts
	}
	if n > len(starts) {
		return "", false
	}
	end := len(src)
	if n < len(starts) {
		end = starts[n] - 1
	}
	return strings.TrimSuffix(string(src[starts[n-1]:end]), "\r"), true
}

// source writes the line and the caret line below it.
func (p *printer) source(span Span, line string) {
	cells, from, to := window(line, span)
	number := fmt.Sprintf("%5d", span.Line)
	var text, caret strings.Builder
	for i, c := range cells {
		text.WriteString(c.text)
		switch {
		case i < from:
			if c.text == "\t" {
				caret.WriteByte('\t') // as wide as above, whatever the terminal makes of it
			} else {
				caret.WriteString(strings.Repeat(" ", c.width))
			}
		case i < to:
			caret.WriteString(strings.Repeat("^", c.width))
		}
	}
	blank, marks := caret.String(), ""
	if i := strings.IndexByte(blank, '^'); i >= 0 {
		blank, marks = blank[:i], blank[i:]
	} else {
		marks = "^" // behind the line's end
	}
	p.out.WriteString(p.color(faint, number+" |") + " " + strings.TrimRight(text.String(), " \t") + "\n")
	p.out.WriteString(p.color(faint, "      |") + " " + blank + p.color(red, marks) + "\n")
}

// cell is one code point as it is shown.
type cell struct {
	text  string
	width int
}

// window cuts a line to what is shown, and gives the cells [from, to) that the caret marks.
func window(line string, span Span) (cells []cell, from, to int) {
	from = max(span.Column-1, 0)
	to = max(span.EndColumn-1, from+1)
	// Only what can be shown is looked at: a line may be as long as the file.
	start := 0
	total := utf8.RuneCountInString(line)
	from = min(from, total)
	to = min(to, max(total, from))
	var cutLeft, cutRight bool
	if total > maxShown {
		to = min(to, from+maxShown-10)
		if to > maxShown-3 {
			start = max(0, min(from-20, total-maxShown+6))
			cutLeft = start > 0
		}
		cutRight = total-start > maxShown
	}
	if cutLeft {
		cells = append(cells, cell{"... ", 4})
	}
	i := 0
	for _, r := range line {
		if i >= start+maxShown {
			break
		}
		if i >= start {
			cells = append(cells, show(r))
		}
		i++
	}
	if cutRight {
		cells = append(cells, cell{" ...", 4})
	}
	shift := 0
	if cutLeft {
		shift = 1
	}
	from, to = from-start+shift, to-start+shift
	if cutRight {
		to = min(to, len(cells)-1)
	}
	return cells, min(from, len(cells)), max(min(to, len(cells)), min(from, len(cells)))
}

// show is how a code point is shown, and how wide that is.
func show(r rune) cell {
	switch {
	case r == '\t':
		return cell{"\t", 1}
	case r == utf8.RuneError:
		return cell{"\uFFFD", 1}
	case steers(r):
		s := escape(r)
		return cell{s, len(s)}
	case unicode.In(r, unicode.Mn, unicode.Me):
		return cell{string(r), 0}
	case wide(r):
		return cell{string(r), 2}
	}
	return cell{string(r), 1}
}

// wide: what takes two columns on a terminal (East Asian wide and full-width forms, emoji).
func wide(r rune) bool {
	switch {
	case r < 0x1100:
		return false
	case r <= 0x115f, r >= 0x2e80 && r <= 0x303e, r >= 0x3041 && r <= 0x33ff, r >= 0x3400 && r <= 0x4dbf,
		r >= 0x4e00 && r <= 0x9fff, r >= 0xa000 && r <= 0xa4cf, r >= 0xa960 && r <= 0xa97c, r >= 0xac00 && r <= 0xd7a3,
		r >= 0xf900 && r <= 0xfaff, r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0xffe0 && r <= 0xffe6,
		r >= 0x1f300 && r <= 0x1f64f, r >= 0x1f680 && r <= 0x1f6ff, r >= 0x1f900 && r <= 0x1f9ff, r >= 0x20000 && r <= 0x3fffd:
		return true
	}
	return false
}

// steers: control characters, and format characters that change the direction of writing or are not seen.
func steers(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) || r == utf8.RuneError
}

func escape(r rune) string {
	switch {
	case r < 0x80:
		return fmt.Sprintf(`\x%02x`, r)
	case r < 0x10000:
		return fmt.Sprintf(`\u%04x`, r)
	}
	return fmt.Sprintf(`\U%08x`, r)
}

// clean is s with control characters as escapes.
func clean(s string) string {
	if strings.IndexFunc(s, steers) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if steers(r) {
			b.WriteString(escape(r))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
