package cel

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/google/cel-go/common/types/ref"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/renderers"
)

// Options are a Renderer's settings; the zero Options are the defaults.
type Options struct {
	// Texts is how many parsed texts are kept; 0 = 1,024.
	Texts int
	// Programs is how many checked programs are kept; 0 = 4,096.
	Programs int
}

// maxKept is the longest text that is kept for sharing, in bytes: the caches are bounded in what they hold, too.
const maxKept = 1 << 10

// Renderer compiles CEL. It implements [renderers.Renderer].
type Renderer struct {
	env      *environment
	texts    *lru.Cache[string, *parsed]
	programs *lru.Cache[programKey, checked]
}

var _ renderers.Renderer = (*Renderer)(nil)

type programKey struct{ text, signature string }

type checked struct {
	prog     *program
	problems []renderers.Problem
}

// New makes a Renderer. It panics where cel-go's library does not have what this package was written for, which a test finds.
func New(opts Options) *Renderer {
	env, err := newEnvironment()
	if err != nil {
		panic(err)
	}
	size := func(n, def int) int {
		if n <= 0 {
			return def
		}
		return n
	}
	r := &Renderer{env: env}
	r.texts, _ = lru.New[string, *parsed](size(opts.Texts, 1024))
	r.programs, _ = lru.New[programKey, checked](size(opts.Programs, 4096))
	return r
}

// Compile implements [renderers.Renderer].
func (r *Renderer) Compile(text string, scope *renderers.Scope) (out renderers.Program, problems []renderers.Problem) {
	defer func() {
		if x := recover(); x != nil {
			out, problems = nil, []renderers.Problem{{To: len([]rune(text)), Message: "internal error: this expression cannot be compiled", Hint: "please report it"}}
			if r.env.panics {
				panic(fmt.Sprint(x, "\n", string(debug.Stack())))
			}
		}
	}()
	if scope == nil {
		scope = &renderers.Scope{}
	}
	p, ok := r.texts.Get(text)
	if !ok {
		p = r.env.parse(text)
		if len(text) <= maxKept {
			r.texts.Add(text, p)
		}
	}
	rs := make([]resolved, len(p.chains))
	for i, c := range p.chains {
		rs[i] = p.resolve(c, scope)
	}
	sig, ok := signature(rs, scope.Secrets && p.secret != 0)
	key := programKey{text, sig}
	if ok {
		if c, found := r.programs.Get(key); found {
			return c.result()
		}
	}
	prog, found := r.env.check(p, rs, scope)
	c := checked{prog, found}
	if ok && len(text) <= maxKept {
		r.programs.Add(key, c)
	}
	return c.result()
}

func (c checked) result() (renderers.Program, []renderers.Problem) {
	if c.prog == nil {
		return nil, slices.Clone(c.problems)
	}
	return c.prog, nil
}

// Bind implements [renderers.Renderer]. The objects are read as they are, not copied: "vars" may grow.
func (r *Renderer) Bind(values map[string]field.Object) renderers.Bindings {
	return &bindings{roots: values}
}

type program struct {
	env     *environment
	parsed  *parsed
	typ     *field.Type
	reads   []string
	results []field.Value
	root    node
	slots   int
}

func (p *program) Type() *field.Type      { return p.typ }
func (p *program) Reads() []string        { return slices.Clone(p.reads) }
func (p *program) Results() []field.Value { return slices.Clone(p.results) }

// Eval implements [renderers.Program].
func (p *program) Eval(ctx context.Context, b renderers.Bindings, budget *renderers.Budget) (v field.Value, err error) {
	bound, ok := b.(*bindings)
	if !ok {
		return nil, &renderers.EvalError{Message: "internal error: bindings of another renderer"}
	}
	f := p.env.frames.Get().(*frame)
	f.ctx, f.budget, f.bound, f.ticks = ctx, budget, bound, 0
	if cap(f.locals) < p.slots {
		f.locals = make([]ref.Val, p.slots)
	}
	f.locals = f.locals[:cap(f.locals)]
	defer func() {
		if x := recover(); x != nil {
			if p.env.panics {
				panic(fmt.Sprint(x, "\n", string(debug.Stack())))
			}
			v, err = nil, &renderers.EvalError{To: len([]rune(p.parsed.text)), Message: "internal error: the expression " + quote(p.parsed.text) + " cannot be evaluated", Hint: "please report it"}
			return // the frame is not used again
		}
		clear(f.locals)
		clear(f.stack[:cap(f.stack)])
		f.stack = f.stack[:0]
		f.ctx, f.budget, f.bound = nil, nil, nil
		p.env.frames.Put(f)
	}()
	out := p.root.eval(f)
	fail, isFailure := out.(*failure)
	if !isFailure {
		v, fail = f.toField(out, 0)
		if fail == nil {
			return v, nil
		}
	}
	if fail.cause != nil {
		return nil, fail.cause
	}
	from, to := p.parsed.span(fail.id)
	return nil, &renderers.EvalError{From: from, To: to, Message: fail.msg, Hint: fail.hint, Spent: fail.spent}
}
