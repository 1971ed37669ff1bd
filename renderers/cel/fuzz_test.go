package cel

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/cel-go/common"

	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/renderers"
)

// FuzzCompile: whatever the text, nothing panics, every position lies inside the text, and what compiles ends within its
// budget, with a value of the promised kind.
func FuzzCompile(f *testing.F) {
	for _, c := range benchTexts {
		f.Add(c.text)
	}
	for _, s := range []string{
		`props.brnach`, `props["x`, "1 +\n props.x", `{"a": [1, {"b": props.?tag}]}`, `[[1]].map(v, v + v)`, `secret("x") + "a"`, `cel.bind(v, [1], v + v)`, `"%s-%d".format(["a", props.cores])`,
		`props.files.sortBy(f, f).transformMapEntry(i, v, {v: i})`, `src[?"lib"].?branch.optMap(b, b + "x").orValue("")`, `dyn(1) + "é"`, "`a`.b", `"\u00e9".matches("[")`, `math.greatest(1, 2.5)`, `r'''a''' + b"\xff"`, `x.y.z(1)[2].?w`, `// c`,
	} {
		f.Add(s)
	}
	if data, err := os.ReadFile("../../testdata/security/cel.json"); err == nil {
		var cases []struct{ Input string }
		if json.Unmarshal(data, &cases) == nil {
			for _, c := range cases {
				f.Add(c.Input)
			}
		}
	}
	r := newRenderer()
	limits := renderers.DefaultLimits()
	limits.FieldCost, limits.Bytes = 100_000, 2<<20
	f.Fuzz(func(t *testing.T, text string) {
		grammar(t, r, text)
		for _, scope := range []*renderers.Scope{testScope(), openScope()} {
			p, problems := r.Compile(text, scope)
			size := utf8.RuneCountInString(text)
			for _, q := range problems {
				if q.From < 0 || q.From > q.To || q.To > size || q.Message == "" {
					t.Errorf("problem %+v in a text of %d characters", q, size)
				}
			}
			if (p == nil) == (problems == nil) {
				t.Fatalf("program %v and problems %v", p, problems)
			}
			if p == nil {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			b := renderers.NewBudget(limits)
			b.Begin()
			v, err := p.Eval(ctx, r.Bind(testValues()), b)
			cancel()
			var e *renderers.EvalError
			switch {
			case errors.As(err, &e):
				if e.From < 0 || e.From > e.To || e.To > size {
					t.Errorf("error %+v in a text of %d characters", e, size)
				}
			case err != nil:
				t.Errorf("ended by %v, at cost %d", err, b.FieldSpent())
			case !fits(v, p.Type()):
				t.Errorf("got %s, promised %s", show2(v), words(p.Type()))
			}
			if b.FieldSpent() > limits.FieldCost+1 {
				t.Errorf("cost %d", b.FieldSpent())
			}
		}
	})
}

// grammar: the recognizer takes what the parser takes, but for numbers that touch a word (5in x) and deep nesting.
func grammar(t *testing.T, r *Renderer, text string) {
	if len(text) > renderers.MaxSource || !utf8.ValidString(text) || strings.TrimSpace(text) == "" {
		return
	}
	p := &parsed{text: text}
	if p.recognize() || strings.Contains(p.problems[0].Message, "is not a number") || strings.Contains(p.problems[0].Message, "nested too deeply") {
		return
	}
	if _, errs := r.env.parser.Parse(common.NewTextSource(text)); len(errs.GetErrors()) == 0 {
		t.Errorf("the parser takes %q; the recognizer says %+v", text, p.problems)
	}
}

// fits reports whether v is of the type that was promised.
func fits(v field.Value, t *field.Type) bool {
	if t == nil || t.Kind == field.Any {
		return true
	}
	switch v := v.(type) {
	case nil:
		return t.Nullable || t.Optional || t.Kind == field.NullKind
	case field.String:
		return t.Kind == field.StringKind || t.Kind == field.EnumKind
	case field.Text:
		return t.Kind == field.SecretKind
	case field.Int:
		return t.Kind == field.IntKind || t.Kind == field.FloatKind
	case field.Float:
		return t.Kind == field.FloatKind
	case field.Bool:
		return t.Kind == field.BoolKind
	case field.List:
		if t.Kind != field.ListKind {
			return false
		}
		for _, e := range v {
			if !fits(e, t.Elem) {
				return false
			}
		}
		return true
	case field.Object:
		if t.Kind == field.MapKind {
			for _, e := range v {
				if !fits(e, t.Elem) {
					return false
				}
			}
			return true
		}
		if t.Kind != field.ObjectKind {
			return false
		}
		for k, e := range v {
			if f, ok := lookup(t, k); ok && !fits(e, f.Type) || !ok && !t.Open {
				return false
			}
		}
		return true
	}
	return false
}
