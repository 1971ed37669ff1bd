package diag

import "sort"

// Text is a decoded piece of a file that still knows where each of its code points stands, through quoting, escapes,
// block scalars and folded lines. It lets an error inside an expression point at the expression's own characters.
type Text struct {
	File string
	// Runs are sorted by Offset: from Offset (in code points of the decoded text) on, consecutive code points stand at
	// consecutive columns of Line, starting at Column, until the next run begins.
	Runs []Run
}

// Run is one stretch of a Text.
type Run struct{ Offset, Line, Column int }

// At is where the code point at offset stands. Offsets past the last run continue it. An empty Text gives the zero Pos.
func (t Text) At(offset int) Pos {
	if len(t.Runs) == 0 {
		return Pos{File: t.File}
	}
	i := max(sort.Search(len(t.Runs), func(i int) bool { return t.Runs[i].Offset > offset })-1, 0)
	r := t.Runs[i]
	return Pos{File: t.File, Line: r.Line, Column: r.Column + max(0, offset-r.Offset)}
}

// Span is where the code points [from, to) stand; where they cross a line, the span ends with the part on from's line.
func (t Text) Span(from, to int) Span {
	start := t.At(from)
	if to <= from {
		return Span{Pos: start}
	}
	// Walk back from the end to the last code point on start's line.
	for end := to - 1; end >= from; end-- {
		if p := t.At(end); p.Line == start.Line {
			return Span{Pos: start, EndColumn: p.Column + 1}
		}
	}
	return Span{Pos: start}
}

// From is the Text of the suffix that starts at offset.
func (t Text) From(offset int) Text {
	if offset == 0 || len(t.Runs) == 0 {
		return t
	}
	p := t.At(offset)
	out := Text{File: t.File, Runs: []Run{{Offset: 0, Line: p.Line, Column: p.Column}}}
	for _, r := range t.Runs {
		if r.Offset > offset {
			out.Runs = append(out.Runs, Run{Offset: r.Offset - offset, Line: r.Line, Column: r.Column})
		}
	}
	return out
}
