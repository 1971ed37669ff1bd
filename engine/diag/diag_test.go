package diag

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestList(t *testing.T) {
	var l List
	if l.Err() != nil || l.HasErrors() {
		t.Error("the zero list is an error")
	}
	l.Add(Diagnostic{Span: at(2, 1, 0), Message: "w", Severity: Warning})
	if l.Err() != nil {
		t.Error("a warning is an error")
	}
	l.Errorf(at(1, 5, 6), "a.b", "b %d", 1)
	l.Errorf(at(1, 5, 6), "a.b", "b %d", 1)
	l.Errorf(at(1, 5, 6), "a.c", "b %d", 1)
	l.Errorf(at(1, 5, 6), "a.b", "a")
	l.Errorf(Span{Pos: Pos{File: "a.yaml", Line: 9, Column: 9}}, "", "z")
	l.Sort()
	const want = "a.yaml:9:9: z\nci.yaml:1:5: a.b: a\nci.yaml:1:5: a.b: b 1\nci.yaml:1:5: a.c: b 1\nci.yaml:2:1: w"
	var le *ListError
	if err := l.Err(); !errors.As(err, &le) || err.Error() != want {
		t.Errorf("got %v", err)
	}
	for range 2 * MaxDiagnostics {
		l.Errorf(Span{}, "", "m")
	}
	if len(l) != MaxDiagnostics {
		t.Errorf("%d diagnostics are kept", len(l))
	}
}

func TestJSON(t *testing.T) {
	out, err := json.Marshal(Diagnostic{Span: at(1, 2, 3), Path: "a.b", Message: "m", Hint: "h", Severity: Error})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"file":"ci.yaml","line":1,"column":2,"end_column":3,"path":"a.b","message":"m","hint":"h","severity":"error"}`
	if d := cmp.Diff(want, string(out)); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestPosString(t *testing.T) {
	for want, p := range map[string]Pos{"-": {}, "f": {File: "f"}, "f:1:2": {File: "f", Line: 1, Column: 2}} {
		if got := p.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestText: a text of two lines, the second of which begins at its third code point.
func TestText(t *testing.T) {
	text := Text{File: "f", Runs: []Run{{0, 1, 10}, {3, 2, 5}, {6, 2, 9}}}
	for offset, want := range map[int]string{0: "f:1:10", 2: "f:1:12", 3: "f:2:5", 5: "f:2:7", 6: "f:2:9", 100: "f:2:103"} {
		if got := text.At(offset).String(); got != want {
			t.Errorf("At(%d): got %s, want %s", offset, got, want)
		}
		if got := text.From(2).At(max(offset-2, 0)).String(); offset >= 2 && got != want {
			t.Errorf("From(2).At(%d): got %s, want %s", offset-2, got, want)
		}
	}
	for _, c := range []struct{ from, to, line, col, end int }{
		{0, 3, 1, 10, 13}, {1, 5, 1, 11, 13}, {3, 7, 2, 5, 10}, {4, 4, 2, 6, 0},
	} {
		if s := text.Span(c.from, c.to); s.Line != c.line || s.Column != c.col || s.EndColumn != c.end {
			t.Errorf("Span(%d, %d): got %+v", c.from, c.to, s)
		}
	}
	if p := (Text{File: "f"}).At(3); !p.IsZero() || p.File != "f" {
		t.Errorf("a text without runs: %+v", p)
	}
}

func TestSuggest(t *testing.T) {
	names := []string{"image", "hostname", "hostconfig", "env", "build_wait_timeout"}
	for got, want := range map[string]string{
		"imgae": "image", "Image": "image", "imag": "image", "hostconfg": "hostconfig", "env": "env", "evn": "env", "build_wait_timout": "build_wait_timeout",
		"": "", "xyz": "", "policy": "", "ENVIRONMENT": "",
	} {
		if s := Suggest(got, names); s != want {
			t.Errorf("%q: got %q, want %q", got, s, want)
		}
	}
}
