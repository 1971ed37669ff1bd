package diag

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func at(line, col, end int) Span {
	return Span{Pos: Pos{File: "ci.yaml", Line: line, Column: col}, EndColumn: end}
}

func printed(t *testing.T, src string, opts PrintOptions, list ...Diagnostic) string {
	t.Helper()
	var out bytes.Buffer
	if err := Print(&out, list, map[string][]byte{"ci.yaml": []byte(src)}, opts); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPrint(t *testing.T) {
	const src = "version: 1\n    env: {BRANCH: \"${{ props.brnach }}\"}\n\ttab:\tx  \nkey: \"日本 é e\u0301 x\" # y\r\nesc: \x1b[31m\u202e!\nbad: \xff!"
	for _, c := range []struct {
		name string
		d    Diagnostic
		want string
	}{
		{"all parts", Diagnostic{at(2, 24, 30), "workers.linux.env.BRANCH", `unknown property "brnach"`, "did you mean \"branch\"? Declared at ci.yaml:9.\nor not", Error}, `
ci.yaml:2:24: workers.linux.env.BRANCH: unknown property "brnach"
    2 |     env: {BRANCH: "${{ props.brnach }}"}
      |                        ^^^^^^
   did you mean "branch"? Declared at ci.yaml:9.
   or not
`},
		{"no end", Diagnostic{Span: at(1, 1, 0), Message: "m"}, `
ci.yaml:1:1: m
    1 | version: 1
      | ^
`},
		{"warning", Diagnostic{Span: at(1, 10, 11), Message: "m", Severity: Warning}, `
ci.yaml:1:10: warning: m
    1 | version: 1
      |          ^
`},
		{"behind the line", Diagnostic{Span: at(1, 11, 11), Message: "m"}, `
ci.yaml:1:11: m
    1 | version: 1
      |           ^
`},
		{"far behind the line", Diagnostic{Span: at(1, 99, 120), Message: "m"}, `
ci.yaml:1:99: m
    1 | version: 1
      |           ^
`},
		{"end behind the line", Diagnostic{Span: at(1, 9, 99), Message: "m"}, `
ci.yaml:1:9: m
    1 | version: 1
      |         ^^
`},
		{"tabs", Diagnostic{Span: at(3, 7, 8), Message: "m"}, "\nci.yaml:3:7: m\n    3 | \ttab:\tx\n      | \t    \t^\n"},
		{"under a tab", Diagnostic{Span: at(3, 1, 2), Message: "m"}, "\nci.yaml:3:1: m\n    3 | \ttab:\tx\n      | ^\n"},
		{"wide characters", Diagnostic{Span: at(4, 7, 9), Message: "m"}, "\nci.yaml:4:7: m\n    4 | key: \"日本 é e\u0301 x\" # y\n      |       ^^^^\n"},
		{"after wide and combining characters", Diagnostic{Span: at(4, 15, 16), Message: "m"}, "\nci.yaml:4:15: m\n    4 | key: \"日本 é e\u0301 x\" # y\n      |                ^\n"},
		{"control characters", Diagnostic{Span: at(5, 12, 13), Message: "a\x1b[31mb\nc", Path: "p\x07", Hint: "h\x1b]0;x\x07"}, `
ci.yaml:5:12: p\x07: a\x1b[31mb\x0ac
    5 | esc: \x1b[31m\u202e!
      |                    ^
   h\x1b]0;x\x07
`},
		{"not UTF-8", Diagnostic{Span: at(6, 7, 8), Message: "m\xff"}, "\nci.yaml:6:7: m\\ufffd\n    6 | bad: \uFFFD!\n      |       ^\n"},
		{"no such line", Diagnostic{Span: at(7, 1, 2), Message: "m"}, "\nci.yaml:7:1: m\n"},
		{"no source", Diagnostic{Span: Span{Pos: Pos{File: "x\x1b.yaml", Line: 1, Column: 1}}, Message: "m"}, "\nx\\x1b.yaml:1:1: m\n"},
		{"file only", Diagnostic{Span: Span{Pos: Pos{File: "ci.yaml"}}, Message: "m"}, "\nci.yaml: m\n"},
		{"nowhere", Diagnostic{Message: "m", Path: "p"}, "\np: m\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(strings.TrimPrefix(c.want, "\n"), printed(t, src, PrintOptions{}, c.d)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// TestPrintLongLine: a long line is cut around the caret, which stands under its own characters.
func TestPrintLongLine(t *testing.T) {
	for _, length := range []int{100, 101, 150, 1000, 1 << 20} {
		for _, col := range []int{1, 2, 50, 95, 97, 98, 99, 100, 101, 120, 149, 500, 990, 1000, 1 << 19, 1 << 20} {
			for _, width := range []int{1, 6, 85, 200} {
				if col > length {
					continue
				}
				src := strings.Repeat("-", col-1) + "X" + strings.Repeat("x", width-1) + strings.Repeat("-", length)
				src = src[:length]
				lines := strings.Split(printed(t, src, PrintOptions{}, Diagnostic{Span: at(1, col, col+width), Message: "m"}), "\n")
				text, caret := lines[1], lines[2]
				if len(text) > 8+100+8 {
					t.Fatalf("length %d, column %d: %d characters are shown", length, col, len(text))
				}
				i := strings.IndexByte(caret, '^')
				if i < 0 || i >= len(text) || text[i] != 'X' {
					t.Errorf("length %d, column %d, width %d:\n%s\n%s", length, col, width, text, caret)
					continue
				}
				for j := i; j < len(caret); j++ {
					if caret[j] != '^' || j >= len(text) || text[j]|0x20 != 'x' {
						t.Errorf("length %d, column %d, width %d:\n%s\n%s", length, col, width, text, caret)
						break
					}
				}
			}
		}
	}
}

func TestPrintColor(t *testing.T) {
	got := printed(t, "a: b\n", PrintOptions{Color: true}, Diagnostic{Span: at(1, 4, 5), Message: "m\x1b[0m"})
	want := "\x1b[1mci.yaml:1:4:\x1b[0m m\\x1b[0m\n\x1b[2m    1 |\x1b[0m a: b\n\x1b[2m      |\x1b[0m    \x1b[1;31m^\x1b[0m\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestPrintError(t *testing.T) {
	if err := Print(broken{}, List{{Message: "m"}}, nil, PrintOptions{}); err == nil {
		t.Error("no error of the writer")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, fmt.Errorf("broken pipe") }

func TestSummary(t *testing.T) {
	e := func(file string) Diagnostic {
		return Diagnostic{Span: Span{Pos: Pos{File: file, Line: 1}}, Severity: Error}
	}
	w := e("a")
	w.Severity = Warning
	full := make(List, MaxDiagnostics)
	for i := range full {
		full[i] = e("a")
	}
	for _, c := range []struct {
		list  List
		files int
		want  string
	}{
		{nil, 1, "no problems in 1 file"},
		{nil, 2, "no problems in 2 files"},
		{List{e("a")}, 1, "1 problem in 1 file"},
		{List{e("a"), e("a"), e("a")}, 1, "3 problems in 1 file"},
		{List{e("a"), e("b")}, 2, "2 problems in 2 files"},
		{List{e("a"), e("b")}, 5, "2 problems in 2 of 5 files"},
		{List{w}, 1, "1 warning in 1 file"},
		{List{e("a"), w, w}, 1, "1 problem and 2 warnings in 1 file"},
		{List{{Message: "m"}}, 0, "1 problem"},
		{full, 1, "at least 100 problems in 1 file"},
	} {
		if got := Summary(c.list, c.files); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
