package config

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestHostileFiles: every file ends with a diagnostic or a definition, and soon.
func TestHostileFiles(t *testing.T) {
	// What is quadratic takes minutes at the smaller size already; some cases have the whole.
	const size, whole = 1 << 19, MaxFileBytes - 16
	fill := func(unit string) string { return strings.Repeat(unit, size/len(unit)) }
	full := func(unit string) string { return strings.Repeat(unit, whole/len(unit)) }
	keys := func(format string) string {
		var b strings.Builder
		for i := 0; b.Len() < size-200; i++ {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	head := "version: 1\nbackends: {b: {docker: }}\nworkers:\n w:\n"
	for name, src := range map[string]string{
		"100k brackets":      strings.Repeat("[", 100_000),
		"4 MB brackets":      full("["),
		"balanced brackets":  strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
		"4 MB braces":        full("{a: "),
		"deep then wide":     strings.Repeat("[", 60) + fill("a,")[:size-200] + strings.Repeat("]", 60),
		"4 MB dashes":        full("- "),
		"dashes in a column": fill("- \n"),
		"dash and comment":   fill("- #a\n"),
		"question marks":     fill("? "),
		"colons":             fill(": "),
		"long plain":         head + "  image: " + fill("x")[:size-100],
		"long quoted":        head + "  image: \"" + fill(`\x41`)[:size-100] + "\"",
		"long folded":        head + "  image: \"" + fill("a\n   ")[:size-100] + "\"",
		"long literal":       head + "  image: |\n" + fill("   x\n")[:size-100],
		"folded block":       head + "  image: >\n" + fill("   x\n")[:size-100],
		"blank lines":        head + "  image: |\n" + fill("\n")[:size-100] + "   x",
		"unclosed quote":     "a: \"" + fill("x\n "),
		"4 MB of keys":       full("a: 1\n"),
		"many keys":          keys("k%d: 1\n"),
		"many flow keys":     "{" + keys("k%d: 1, ") + "}",
		"many workers":       "version: 1\nworkers:\n" + keys(" w%d: {image: x}\n"),
		"long chain": "version: 1\nworkers:\n w0: {}\n" + func() string {
			var b strings.Builder
			for i := 1; i < 60_000; i++ {
				fmt.Fprintf(&b, " w%d: {extends: w%d}\n", i, i-1)
			}
			return b.String()
		}(),
		"reversed chain": "version: 1\nworkers:\n" + func() string {
			var b strings.Builder
			for i := 1; i < 60_000; i++ {
				fmt.Fprintf(&b, " w%d: {extends: w%d}\n", i-1, i)
			}
			return b.String()
		}(),
		"expression a line":   head + "  image: |\n" + fill("   ${{ a }}\n")[:(size-100)/12*12],
		"many expressions":    head + "  image: \"" + fill("${{ a }}")[:(size-100)/8*8] + "\"",
		"one long expression": head + "  image: \"${{ " + fill("a+")[:size-100] + " }}\"",
		"unterminated":        head + "  image: \"" + fill("${{ ")[:size-100] + "\"",
		"many problems":       head + keys("  k%d: \"${{\"\n"),
		"wide characters":     "{" + strings.Repeat(`"é": "ü", `, size/16) + "}",
		"wide line":           head + "  image: [" + strings.Repeat(`"ü${{ ö }}", `, size/20) + "]",
		"tabs":                fill("\t"),
		"comments":            fill("#\n"),
		"anchors":             fill("- &a b\n"),
		"documents":           fill("---\n"),
		"indent ladder": func() string {
			var b strings.Builder
			for i := 0; b.Len() < size-4000; i++ {
				b.WriteString(strings.Repeat(" ", i) + "a:\n")
			}
			return b.String()
		}(),
		"json brackets":     fill(`[`),
		"json keys":         `{` + strings.TrimSuffix(keys(`"k%d":1,`), ",") + `}`,
		"json wide objects": `[` + strings.Repeat(`{"é":"ü"},`, size/14) + `{}]`,
		"wide objects":      head + "  image: [" + strings.Repeat(`{"é": ü}, `, size/14) + "]",
		"wide block":        head + "  image: {" + strings.Repeat(`é: [ü], `, size/14) + "}",
		"json escapes":      `{"version": 1, "x": "` + fill(`\u0041`)[:(size-100)/6*6] + `"}`,
		"zero bytes":        fill("\x00"),
		"bad bytes":         fill("\xff"),
	} {
		t.Run(name, func(t *testing.T) {
			files := []string{"t.yaml"}
			if strings.Contains(name, "json") || strings.Contains(name, "brackets") {
				files = append(files, "t.json")
				if _, list := LoadBuild("b.json", []byte(src)); len(list) == 0 {
					t.Error("accepted as a build document")
				}
			}
			for _, file := range files {
				start := time.Now()
				def, list := Load([]Source{{file, []byte(src)}}, Options{Kinds: testKinds()})
				if d := time.Since(start); d > 60*time.Second { // 2 s on an idle machine, 15 s with the race detector on a busy one; a hang is minutes
					t.Errorf("%s: took %v", file, d)
				} else {
					t.Logf("%s: %v, %d problems", file, d.Round(time.Millisecond), len(list))
				}
				if def == nil {
					t.Error("no definition")
				}
				checkPlaces(t, list, def.Sources)
			}
		})
	}
}

// TestTooLarge: a file beyond the limit is refused without being read.
func TestTooLarge(t *testing.T) {
	data := []byte(strings.Repeat("a: b\n", 2<<20))
	start := time.Now()
	_, list := Load([]Source{{"t.yaml", data}}, Options{})
	if len(list) != 1 || list[0].Line != 1 || list[0].Column != 1 || !strings.Contains(list[0].Message, "at most 4194304 (4 MiB)") {
		t.Errorf("got %v", list)
	}
	if d := time.Since(start); d > time.Second {
		t.Errorf("took %v", d)
	}
	if b, list := LoadBuild("b.json", data); b != nil || len(list) != 1 {
		t.Errorf("build: %v", list)
	}
}

func TestDepth(t *testing.T) {
	nest := func(n int) string {
		return "version: 1\nbackends: {b: {docker: }}\nworkers: {w: {x: " + strings.Repeat("[", n) + strings.Repeat("]", n) + "}}\n"
	}
	// The map of the file, workers, w and x are four levels.
	if _, list := Load([]Source{{"t.yaml", []byte(nest(MaxDepth - 3))}}, Options{}); len(list) > 0 {
		t.Errorf("%d levels: %v", MaxDepth, list.Err())
	}
	for _, name := range []string{"t.yaml", "t.json"} {
		src := nest(MaxDepth - 2)
		if name == "t.json" {
			src = `{"version": 1, "backends": {"b": {"docker": {}}}, "workers": {"w": {"x": ` + strings.Repeat("[", MaxDepth-2) + strings.Repeat("]", MaxDepth-2) + "}}}"
		}
		_, list := Load([]Source{{name, []byte(src)}}, Options{})
		if len(list) != 1 || !strings.Contains(list[0].Message, "nested more than 64 levels deep") {
			t.Errorf("%s: got %v", name, list)
		}
	}
}
