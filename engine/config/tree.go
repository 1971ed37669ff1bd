package config

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/latent-engine/latent-engine/engine/diag"
)

// tree makes nodes of one file, from YAML or JSON: what both have in common.
type tree struct {
	f     *file
	list  *diag.List
	trail trail
	// twins are keys that differ only in case, by the second one's value. Whether they are wrong depends on where they
	// stand: an environment may well have http_proxy and HTTP_PROXY.
	twins map[*Node]diag.Diagnostic

	// written: people write the file; a control character in it is a mistake, however it is escaped.
	written bool

	count int
	full  bool // MaxNodes reached: said once, the rest is left out
	slab  []Node
	runs  []diag.Run
}

func (t *tree) errorf(span diag.Span, hint, format string, args ...any) {
	if len(*t.list) < diag.MaxDiagnostics {
		t.list.Add(diag.Diagnostic{Span: span, Path: t.trail.String(), Message: fmt.Sprintf(format, args...), Hint: hint})
	}
}

// new is a fresh node, nil when there are too many.
func (t *tree) new(span diag.Span) *Node {
	if t.count++; t.count > MaxNodes {
		if !t.full {
			t.full = true
			t.errorf(span, "", "the file has more than %d values", MaxNodes)
		}
		return nil
	}
	if len(t.slab) == 0 {
		t.slab = make([]Node, 128)
	}
	n := &t.slab[0]
	t.slab = t.slab[1:]
	n.Span = span
	return n
}

// deep reports, once per place, that the nesting is too deep here.
func (t *tree) deep(span diag.Span) bool {
	if len(t.trail) < MaxDepth {
		return false
	}
	t.list.Add(diag.Diagnostic{Span: span, Message: fmt.Sprintf("nested more than %d levels deep", MaxDepth)})
	return true
}

// run is a text of one stretch.
func (t *tree) run(line, column int) []diag.Run {
	if len(t.runs) == cap(t.runs) {
		t.runs = make([]diag.Run, 0, 512)
	}
	t.runs = append(t.runs, diag.Run{Line: line, Column: column})
	return t.runs[len(t.runs)-1 : len(t.runs) : len(t.runs)]
}

// keySet finds keys that stand twice in one map, or that differ only in case.
type keySet struct {
	seen map[string]diag.Span // by folded key
	raw  map[string]diag.Span
}

// check looks key up among the entries before it and reports it when it stands there already. It returns false where the
// entry must be left out.
func (t *tree) check(set *keySet, entries []Entry, key string, span diag.Span, value *Node) bool {
	// Most maps are small; a comparison with each key is cheaper than a table then.
	if len(entries) < 16 {
		for i := range entries {
			e := &entries[i]
			if len(e.Key) == len(key) && e.Key == key {
				t.duplicate(key, span, e.KeySpan)
				return false
			}
			if strings.EqualFold(e.Key, key) {
				t.twin(key, span, e.KeySpan, value)
			}
		}
		return true
	}
	if set.raw == nil {
		set.raw, set.seen = make(map[string]diag.Span, 64), make(map[string]diag.Span, 64)
		for i := range entries {
			set.raw[entries[i].Key] = entries[i].KeySpan
			set.seen[foldCase(entries[i].Key)] = entries[i].KeySpan
		}
	}
	if first, ok := set.raw[key]; ok {
		t.duplicate(key, span, first)
		return false
	}
	folded := foldCase(key)
	if first, ok := set.seen[folded]; ok {
		t.twin(key, span, first, value)
	} else {
		set.seen[folded] = span
	}
	set.raw[key] = span
	return true
}

func (t *tree) duplicate(key string, span, first diag.Span) {
	t.trail.key(key)
	t.errorf(span, "", "key %q stands here twice; first at %s", key, first.Pos)
	t.trail.up()
}

func (t *tree) twin(key string, span, first diag.Span, value *Node) {
	if len(t.twins) > maxTwins {
		return
	}
	if t.twins == nil {
		t.twins = make(map[*Node]diag.Diagnostic)
	}
	t.trail.key(key)
	t.twins[value] = diag.Diagnostic{
		Span: span, Path: t.trail.String(), Severity: diag.Error,
		Message: fmt.Sprintf("key %q differs from the one at %s only in case", key, first.Pos),
	}
	t.trail.up()
}

// maxTwins bounds what is remembered of keys that differ only in case; no map has that many for a reason.
const maxTwins = 10_000

// foldCase maps all spellings that differ only in case to one, as strings.EqualFold sees them.
func foldCase(s string) string {
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf {
			if 'A' <= r && r <= 'Z' {
				return r + 'a' - 'A'
			}
			return r
		}
		least := r // of all that fold together: the Kelvin sign and the long s fold to ASCII letters
		for o := unicode.SimpleFold(r); o != r; o = unicode.SimpleFold(o) {
			least = min(least, o)
		}
		if 'A' <= least && least <= 'Z' {
			least += 'a' - 'A'
		}
		return least
	}, s)
}

// controls reports a control character that came in through an escape.
func (t *tree) controls(s string, span diag.Span) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < 0x20 && c != '\t' && c != '\n' && c != '\r' || c == 0x7f {
			t.errorf(span, "", "the text holds the control character %s", codePoint(rune(c)))
			return false
		}
		if c == 0xc2 && i+1 < len(s) && s[i+1] < 0xa0 {
			t.errorf(span, "", "the text holds the control character %s", codePoint(rune(s[i+1])))
			return false
		}
	}
	return true
}
