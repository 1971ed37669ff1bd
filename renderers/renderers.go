// Package renderers is the contract of what evaluates expressions: compile a text against a scope, then evaluate it
// against a build's bindings, within a budget. renderers/cel and renderers/wasm implement it; engine/render calls it.
package renderers

import (
	"context"
	"fmt"

	"github.com/latent-engine/latent-engine/engine/field"
)

// Scope says which names an expression may read, and their types: "props", "build", "src", "worker", "vars".
// Each is an object type; a field with Optional set may be missing in a build, a Nullable one may be null; an Open object
// may hold more than its table names (type Any). A Scope is immutable once a Renderer has seen it.
type Scope struct {
	Names map[string]*field.Type
	// Secrets: secret('name') may be called.
	Secrets bool
}

// Problem is what is wrong with an expression, at code points [From, To) of its text.
type Problem struct {
	From, To int
	Message  string
	Hint     string
	// Meant is the path of the name in scope that the hint proposes, such as "props.branch"; "" = none. Who declared the name
	// can then say where.
	Meant string
}

// Renderer compiles expressions of one language. Safe for concurrent use. Programs are shared where the text and the
// types of the names that it reads are equal.
type Renderer interface {
	// Compile parses and type-checks text against scope. All problems at once; a nil Program where there is one.
	// Never panics and never hangs, whatever the text.
	Compile(text string, scope *Scope) (Program, []Problem)
	// Bind prepares the values that programs of one render read. The objects are the scope's names.
	// The "vars" object may grow between evaluations; nothing else changes.
	Bind(values map[string]field.Object) Bindings
}

// Bindings are values prepared by a Renderer's Bind, for its own programs only. Not safe for concurrent use.
type Bindings any

// Program is a compiled expression: immutable, shared, safe for concurrent use.
type Program interface {
	// Type is what the expression gives, as exactly as it can be known at load: an object type with fields for a map
	// literal with constant keys, SecretKind for a secret, Optional set for an optional.
	Type() *field.Type
	// Reads are the paths the expression reads, sorted: "props.branch", "vars.size.cpu", "build.number"; a name alone where
	// the path cannot be known ("props").
	Reads() []string
	// Results are all values the expression can give, where they can be known at load (string constants under ternaries,
	// an enum property); nil where they cannot.
	Results() []field.Value
	// Eval gives the value, nil where there is none (optional.none(), null). It charges budget as it goes and stops when that is
	// spent. Errors are *EvalError, or the context's.
	Eval(ctx context.Context, b Bindings, budget *Budget) (field.Value, error)
}

// EvalError is a run-time error of an expression, at code points [From, To) of its text.
type EvalError struct {
	From, To int
	Message  string
	Hint     string
	// Spent: the expression ran out of a budget.
	Spent bool
}

func (e *EvalError) Error() string { return e.Message }

// Limits are the budgets of a render. A tenant can only lower them.
type Limits struct {
	FieldCost  int64 // CEL cost units of one expression
	RenderCost int64 // CEL cost units of a whole render
	Bytes      int64 // bytes of strings, lists and maps that one expression may build, in all
	// A result: bytes of its JSON, nodes, and depth.
	ResultBytes int64
	ResultNodes int
	ResultDepth int
	PlanBytes   int64
}

// DefaultLimits are the documented defaults.
func DefaultLimits() Limits {
	return Limits{
		FieldCost: 1_000_000, RenderCost: 10_000_000, Bytes: 16 << 20,
		ResultBytes: 256 << 10, ResultNodes: 10_000, ResultDepth: 32, PlanBytes: 1 << 20,
	}
}

// Limits on the text of an expression, held by every Renderer at load.
const (
	MaxSource      = 4 << 10 // bytes of an expression
	MaxBindNesting = 8       // nested cel.bind, optMap, optFlatMap
	MaxRegex       = 256     // characters of a literal regular expression
)

// Budget is what is left for one render. One Budget serves all expressions of a render, one after another; it is not
// safe for concurrent use. The costs decide, not the clock: same inputs, same cost, on any machine.
type Budget struct {
	Limits Limits
	spent  int64
	// Field is what the expression that runs now, or the last one, has spent.
	field int64
	bytes int64
}

// NewBudget is a fresh budget.
func NewBudget(l Limits) *Budget { return &Budget{Limits: l} }

// Begin starts the account of the next expression.
func (b *Budget) Begin() { b.field, b.bytes = 0, 0 }

// Spend charges n cost units to the expression and to the render.
func (b *Budget) Spend(n int64) error {
	b.field += n
	b.spent += n
	switch {
	case b.field > b.Limits.FieldCost:
		return fmt.Errorf("cost limit spent: more than %s units for one expression", Thousands(b.Limits.FieldCost))
	case b.spent > b.Limits.RenderCost:
		return fmt.Errorf("cost limit spent: more than %s units for one render", Thousands(b.Limits.RenderCost))
	}
	return nil
}

// SpendBytes charges n bytes of built data to the expression.
func (b *Budget) SpendBytes(n int64) error {
	b.bytes += n
	if b.bytes > b.Limits.Bytes || b.bytes < 0 {
		return fmt.Errorf("memory limit spent: the expression builds more than %s bytes", Thousands(b.Limits.Bytes))
	}
	return nil
}

// FieldSpent is what the expression that runs now, or the last one, has cost.
func (b *Budget) FieldSpent() int64 { return b.field }

// Spent is what the render has cost so far.
func (b *Budget) Spent() int64 { return b.spent }

// Thousands prints n with commas: 1,000,000.
func Thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
