// Package diag holds positioned diagnostics: what is wrong with a definition, where it stands, and what would help.
//
// Every phase that reads a definition reports through a [List]; the command line prints it. Messages are in the user's
// words: no Go types, no library's wording.
package diag

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Pos is a place in a file. Line and Column are 1-based; Column counts code points. The zero Pos is "nowhere".
type Pos struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
}

// IsZero reports whether p names no place.
func (p Pos) IsZero() bool { return p.Line == 0 }

// String is file:line:column, or file alone, or "-".
func (p Pos) String() string {
	switch {
	case p.Line == 0 && p.File == "":
		return "-"
	case p.Line == 0:
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Span is a Pos and where it ends on the same line (EndColumn is exclusive; 0 = one column wide or unknown).
type Span struct {
	Pos
	EndColumn int `json:"end_column,omitempty"`
}

// Severity says whether a diagnostic stops the work.
type Severity string

// The closed list of severities.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Diagnostic is one problem. Its JSON form is a contract: {file, line, column, end_column, path, message, hint, severity}.
type Diagnostic struct {
	Span
	// Path is the field path in the definition's words: workers.linux.hostconfig.mem_limit, a.b[0]["k.x"].
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
	// Hint says what would help; may hold several lines.
	Hint     string   `json:"hint,omitempty"`
	Severity Severity `json:"severity"`
}

func (d Diagnostic) String() string {
	var b strings.Builder
	if d.Line != 0 || d.File != "" {
		b.WriteString(d.Pos.String())
		b.WriteString(": ")
	}
	if d.Path != "" {
		b.WriteString(d.Path)
		b.WriteString(": ")
	}
	b.WriteString(d.Message)
	return b.String()
}

// MaxDiagnostics bounds a List: a hostile file cannot make the report itself huge.
const MaxDiagnostics = 100

// List collects diagnostics. The zero List is ready to use. A List with no error is a nil error: see [List.Err].
type List []Diagnostic

// Add appends d, with severity Error where none is set. Beyond [MaxDiagnostics] diagnostics are dropped.
func (l *List) Add(d Diagnostic) {
	if d.Severity == "" {
		d.Severity = Error
	}
	if len(*l) < MaxDiagnostics {
		*l = append(*l, d)
	}
}

// Errorf appends an error at span and path.
func (l *List) Errorf(span Span, path, format string, args ...any) {
	l.Add(Diagnostic{Span: span, Path: path, Message: fmt.Sprintf(format, args...)})
}

// Sort puts the diagnostics into file order and drops exact repetitions.
func (l *List) Sort() {
	slices.SortStableFunc(*l, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Message, b.Message))
	})
	*l = slices.CompactFunc(*l, func(a, b Diagnostic) bool {
		return a.Pos == b.Pos && a.Message == b.Message && a.Path == b.Path
	})
}

// HasErrors reports whether at least one diagnostic is an error.
func (l List) HasErrors() bool {
	return slices.ContainsFunc(l, func(d Diagnostic) bool { return d.Severity == Error })
}

// Err is the list as an error, nil when it holds no error.
func (l List) Err() error {
	if !l.HasErrors() {
		return nil
	}
	return &ListError{List: l}
}

// ListError is a List as an error, errors.As-able.
type ListError struct{ List List }

func (e *ListError) Error() string {
	parts := make([]string, len(e.List))
	for i, d := range e.List {
		parts[i] = d.String()
	}
	return strings.Join(parts, "\n")
}
