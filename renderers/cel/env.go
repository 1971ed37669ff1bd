package cel

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/containers"
	"github.com/google/cel-go/common/decls"
	"github.com/google/cel-go/common/functions"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/ext"
	"github.com/google/cel-go/parser"
)

// secretType is the CEL type of a secret: opaque, and no function but a few that look at nothing takes it.
var secretType = types.NewOpaqueType("secret")

// environment is what all expressions share: the grammar with its macros, the signatures, the implementations.
type environment struct {
	parser *parser.Parser
	base   *checker.Env // all signatures, no variables
	types  types.Provider
	specs  map[string]*spec
	// names of functions and macros, as they are written, sorted: for did-you-mean.
	names []string
	known map[string]bool
	// spaces are the namespaces of functions: math, lists, ….
	spaces map[string]bool
	macros map[string]bool
	forms  map[string]forms
	frames sync.Pool
	// panics passes panics on, for this package's tests; else they become errors.
	panics bool
}

// forms says how a function may be written: size(x), x.size().
type forms struct{ global, member bool }

// Limits of the parser, which bound what the type checker can take: it is not linear in either. maxDepth is the nesting
// of brackets, maxSteps that of operators (1 + 2 + …, a ? b : c ? d : …), maxNodes what the macros may expand to.
const (
	maxDepth = 32
	maxSteps = 250
	maxNodes = 2_500
	maxEmpty = 100 // empty lists and maps written out: each has an element type to be found
)

// newEnvironment is made of cel-go's standard library and extensions, less what reads a clock or the host's time zones
// (timestamps, durations), and of our helpers. An error is a defect of this package.
func newEnvironment() (*environment, error) {
	dyn, optional := types.DynType, types.NewOptionalType(types.NewTypeParamType("T"))
	lib, err := cel.NewCustomEnv(
		cel.StdLib(), cel.OptionalTypes(), ext.Strings(), ext.Lists(), ext.Math(), ext.Sets(), ext.Bindings(), ext.TwoVarComprehensions(),
		cel.Function("str", cel.Overload("str_any", []*cel.Type{dyn}, cel.StringType)),
		cel.Function("truthy", cel.Overload("truthy_any", []*cel.Type{dyn}, cel.BoolType)),
		cel.Function("floordiv",
			cel.Overload("floordiv_int", []*cel.Type{cel.IntType, cel.IntType}, cel.IntType),
			cel.Overload("floordiv_double", []*cel.Type{cel.DoubleType, cel.DoubleType}, cel.DoubleType)),
		cel.Function("floormod",
			cel.Overload("floormod_int", []*cel.Type{cel.IntType, cel.IntType}, cel.IntType),
			cel.Overload("floormod_double", []*cel.Type{cel.DoubleType, cel.DoubleType}, cel.DoubleType)),
		cel.Function("secret", cel.Overload("secret_string", []*cel.Type{cel.StringType}, secretType)),
		cel.Function(isNullFunc, cel.Overload("is_null_any", []*cel.Type{dyn}, cel.BoolType)),
		cel.Function(notNullFunc, cel.Overload("not_null_any", []*cel.Type{dyn}, cel.BoolType)),
		cel.Function(anyNullFunc, cel.Overload("any_null", []*cel.Type{}, dyn)),
		cel.Function(orNullFunc, cel.Overload("or_null", []*cel.Type{optional}, dyn)),
	)
	if err != nil {
		return nil, fmt.Errorf("cannot make the CEL environment: %w", err)
	}
	e := &environment{known: map[string]bool{}, spaces: map[string]bool{}, macros: map[string]bool{}, forms: map[string]forms{}, types: lib.CELTypeProvider()}
	for _, d := range functionDocs {
		e.names = append(e.names, d.Name)
		e.known[d.Name] = true
		if space, _, ok := strings.Cut(d.Name, "."); ok {
			e.spaces[space] = true
		}
	}
	slices.Sort(e.names)
	e.frames.New = func() any { return new(frame) }

	all := lib.Functions()
	var failed error
	e.specs = specs(func(name string) celCall {
		call, err := implementation(all[name])
		if err != nil && failed == nil {
			failed = err
		}
		return call
	})
	if failed != nil {
		return nil, failed
	}
	if e.base, err = checker.NewEnv(containers.DefaultContainer, e.types, checker.CrossTypeNumericComparisons(true)); err != nil {
		return nil, fmt.Errorf("cannot make the CEL environment: %w", err)
	}
	for _, v := range lib.Variables() {
		if err := e.base.AddIdents(v); err != nil {
			return nil, fmt.Errorf("cannot make the CEL environment: %w", err)
		}
	}
	for name, fn := range all {
		if !e.declared(name) || fn.IsDeclarationDisabled() {
			continue
		}
		if err := e.base.AddFunctions(fn); err != nil {
			return nil, fmt.Errorf("cannot make the CEL environment: %w", err)
		}
		var fm forms
		for _, o := range fn.OverloadDecls() {
			fm.member = fm.member || o.IsMemberFunction()
			fm.global = fm.global || !o.IsMemberFunction()
		}
		e.forms[name] = fm
	}
	var macros []parser.Macro
	for _, m := range lib.Macros() {
		macros = append(macros, m)
		e.macros[m.Function()] = true
	}
	e.parser, err = parser.NewParser(
		parser.Macros(macros...),
		parser.EnableOptionalSyntax(true),
		parser.PopulateMacroCalls(true),
		parser.MaxRecursionDepth(maxSteps),
		parser.MaxExpressionNodeCount(maxNodes),
		parser.ErrorRecoveryLimit(1),
		parser.ErrorRecoveryLookaheadTokenLimit(32),
		parser.ErrorReportingLimit(2),
	)
	if err != nil {
		return nil, fmt.Errorf("cannot make the CEL parser: %w", err)
	}
	return e, nil
}

// declared reports whether the checker may know the function: what specs evaluates, and what becomes a node of its own.
func (env *environment) declared(name string) bool {
	switch name {
	case "_&&_", "_||_", "_?_:_", "_[_]", "_[?_]", "_?._", "@not_strictly_false", "cel.@mapInsert", "or", "orValue", orNullFunc:
		return true
	}
	return env.specs[name] != nil
}

// implementation is cel-go's own code for all overloads of a function, chosen by the arguments' kinds.
func implementation(fn *decls.FunctionDecl) (celCall, error) {
	if fn == nil {
		return nil, fmt.Errorf("internal error: a function of the table does not exist in cel-go")
	}
	all, err := fn.Bindings()
	if err != nil {
		return nil, fmt.Errorf("internal error: %s: %w", fn.Name(), err)
	}
	for _, o := range all {
		if o.Operator == fn.Name() {
			return call(o), nil
		}
	}
	return nil, fmt.Errorf("internal error: %s has no implementation", fn.Name())
}

func call(o *functions.Overload) celCall {
	return func(args []ref.Val) ref.Val {
		switch {
		case len(args) == 1 && o.Unary != nil:
			return o.Unary(args[0])
		case len(args) == 2 && o.Binary != nil:
			return o.Binary(args[0], args[1])
		case o.Function != nil:
			return o.Function(args...)
		}
		return types.NewErr("no such overload")
	}
}

// typeNames are the names of types, as type(x) gives them.
var typeNames = []string{"bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"}
