package docker

import (
	"strings"
	"testing"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/field"
)

// filled is a filler that gave these values out, in this order.
func filled(t testing.TB, values ...string) *filler {
	t.Helper()
	f := newFiller(func(ref field.SecretRef) (string, error) { return ref.Name, nil })
	for _, v := range values {
		if _, err := f.fill(field.SecretRef{Name: v}); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestRedact(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []string
		text   string
		want   string
	}{
		{"one that begins another", []string{"hunter", "hunter2-long"}, "it is hunter2-long, or hunter", "it is ***, or ***"},
		{"two that overlap", []string{"abcd", "cdef"}, "xabcdefx", "x***x"},
		{"one in another's middle", []string{"bc", "abcd"}, "abcd bc", "*** ***"},
		{"over itself", []string{"abab"}, "xababab", "x***"},
		{"cut off", []string{"correct-horse"}, "token correct-ho…", "token ***…"},
		{"cut off within a message", []string{"correct-horse"}, "cannot run: correct-ho…; docker went away", "cannot run: ***…; docker went away"},
		{"in quotes", []string{`a"b\c`}, `said "a\"b\\c"`, `said "***"`},
		{"in JSON", []string{"a<b>c"}, `{"x":"a\u003cb\u003ec"}`, `{"x":"***"}`},
		{"in a query", []string{"a b+c"}, "?t=a+b%2Bc&", "?t=***&"},
		{"in a path", []string{"a b"}, "/a%20b/", "/***/"},
		{"without what a terminal acts on", []string{"a\x1b[1mb\x07c"}, "is abc.", "is ***."},
		{"nothing of it", []string{"secret"}, "nothing…", "nothing…"},
		{"none", nil, "text", "text"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := filled(t, c.values...).redact(c.text); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// TestBuildLines: what a build tells goes by lines, however the stream cuts them, and no piece of a secret is in it.
func TestBuildLines(t *testing.T) {
	const token = "correct-horse-battery"
	for _, c := range []struct {
		name   string
		pieces []string
		want   []string
	}{
		{"a line in two messages", []string{"token=correct-", "horse-battery\n"}, []string{"token=***"}},
		{"letter by letter", strings.Split("a correct-horse-battery b\n", ""), []string{"a *** b"}},
		{"coloured pieces", []string{"\x1b[91mcorrect-\x1b[0m", "\x1b[91mhorse-battery\n\x1b[0m"}, []string{"***"}},
		{"no end", []string{"one\ncorrect-", "horse-battery"}, []string{"one", "***"}},
		{"two lines in one message", []string{"a\nb\n"}, []string{"a", "b"}},
		{"at the clip", []string{strings.Repeat("x", 990) + token + "\n"}, []string{strings.Repeat("x", 990) + "***"}},
		{"over the clip", []string{strings.Repeat("x", 1100) + token + "\n"}, []string{strings.Repeat("x", 1000) + "…"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var told []string
			w := &building{start: &start{fill: filled(t, token), opts: backends.StartOptions{Progress: func(p backends.Progress) { told = append(told, p.Message) }}}}
			for _, p := range c.pieces {
				w.text(p)
			}
			w.flush()
			for _, got := range [][]string{told, w.log} {
				if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
					t.Errorf("%q, want %q", got, c.want)
				}
			}
		})
	}
	t.Run("a line without an end is bounded", func(t *testing.T) {
		big := strings.Repeat("z", secretLimit-36)
		w := &building{start: &start{fill: filled(t, token, big)}}
		w.text(big + big + strings.Repeat("x", 67) + token)
		for range 100 {
			w.text(strings.Repeat("y", 32<<10))
		}
		if w.rest.Len() > lineLimit+len(cutMark) {
			t.Errorf("%d bytes are held", w.rest.Len())
		}
		if w.flush(); len(w.log) != 1 || w.log[0] != "***"+strings.Repeat("x", 67)+"***…" {
			t.Errorf("%.200q", w.log)
		}
	})
	t.Run("the builder's last word", func(t *testing.T) {
		w := &building{start: &start{fill: filled(t, token)}, tag: "x:1"}
		f := backends.AsFailure(w.failed(t.Context(), &streamError{message: strings.Repeat("x", 1980) + token}))
		if strings.Contains(f.Message+f.Reason, "corr") || !strings.HasSuffix(f.Message, "x***") {
			t.Errorf("%.50q … %q", f.Message, f.Message[len(f.Message)-50:])
		}
	})
}
