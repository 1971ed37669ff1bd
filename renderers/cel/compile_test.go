package cel

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestCompileIsBounded: the most expensive texts that fit. The clock is a guard only; what is allocated is the measure.
func TestCompileIsBounded(t *testing.T) {
	for i, text := range []string{
		nest(30, "[1].map(x, %s)", "1"), nest(30, "[1].exists(x, %s)", "true"), nest(15, "[1].sortBy(x, %s).size()", "1"), nest(60, "%s.sortBy(x, x)", "[1]"), nest(60, "%s.map(x, x)", "[1]"),
		nest(15, "{'a': %s}.transformMap(k, v, v)", "1"), nest(30, "math.greatest(1, %s)", "1"), nest(8, "[%s, %s]", "1"), nest(5, "{'a': %s, 'b': %s}", "props.branch"), nest(7, "optional.of(%s).optMap(x, x).value()", "1"),
		strings.Repeat("props.zzz + ", 90) + "1", "[" + strings.Repeat("props.zzz,", 390) + "1]", "[" + strings.Repeat("zz(1),", 600) + "1]", "[" + strings.Repeat("1+'a',", 600) + "1]",
		"[" + strings.Repeat("props.branch,", 300) + "1]", "[" + strings.Repeat("[1].map(x,x),", 300) + "1]", "[" + strings.Repeat("[1].map(x,x),", 95) + "1]", "size([" + strings.Repeat("[],", 1200) + "[]])", "[" + strings.Repeat("'a'.matches('b{999}'),", 180) + "1]",
		"{" + strings.Repeat("'a':1,", 600) + "}", strings.Repeat("props.nightly ? 'a' : ", 95) + "'b'", nest(30, "[1].all(x, x > 0 && %s)", "true"), nest(31, "[%s]", "1"), strings.Repeat("(", 31) + "1" + strings.Repeat(")", 31),
		"[" + strings.Repeat("[", 30) + strings.Repeat("[1],", 400) + strings.Repeat("]", 30) + "]", "size([" + strings.Repeat("[],", 90) + "[]])",
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			r := newRenderer()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			_, problems := r.Compile(text, testScope())
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			alloc := (after.TotalAlloc - before.TotalAlloc) >> 20
			t.Logf("%.50s: %d bytes, %s, %d MiB, %d problems", text, len(text), took, alloc, len(problems))
			if alloc > 40 || took > 10*time.Second {
				t.Errorf("%.50s…: %d MiB, %s", text, alloc, took)
			}
		})
	}
}
