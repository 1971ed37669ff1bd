// Package cel is the renderer for ${{ }}: CEL expressions, checked against a scope of known types when a definition is
// loaded, evaluated within budgets when a build starts. It is the only importer of github.com/google/cel-go.
//
// From cel-go come the grammar, the macros, the signatures and the type checker, and the implementations of functions of
// numbers and texts. The evaluation is this package's own: a tree of nodes that charges [renderers.Budget] at every step.
// CEL's cost counter looks at a call after it has returned, so that a comparison of two lists which share their elements
// a million times, a concatenation doubled thirty times, or a result of 2^40 elements costs it next to nothing and the
// machine everything. Here the price is asked before the work, and during it. Tests hold the evaluation against cel-go's
// interpreter, on a table and on random expressions; TestDiffersFromCEL lists where they part on purpose.
//
// # A text's way
//
//   - recognize (grammar.go): the grammar, for messages about syntax. Then cel-go's parser, which expands the macros.
//   - walk (parse.go): what can be said without a scope. It finds the paths that begin with a name of the scope (props.x,
//     src[?"lib"].?branch, has(vars.a.b)), unknown functions, secrets' names, literal patterns, nesting.
//   - resolve (check.go): the paths under the scope's types. Each path that exists becomes one variable of its own exact
//     type, so that cel-go's checker never sees an object. The texts and the types of their paths are the key under which
//     programs are shared.
//   - check (check.go, types.go): cel-go's checker, its errors said in the user's words; then a pass over the checked tree
//     that knows more than CEL's types can say: the keys of a map literal, enums, null, and that nothing looks at a secret.
//   - plan and eval (plan.go, eval.go, ops.go).
//
// # The environment
//
// [Functions] is the whole list: CEL's standard library, its extensions strings, lists, math, sets, bindings, two-variable
// macros and optional values; without timestamps and durations (time zones are read from the host); and str, truthy,
// floordiv, floormod and secret. Integers compare with doubles. A declared value that is missing reads as null where it may
// be missing; .? and [?] take null for none. docs/expressions.md is the user's reference.
//
// # Values
//
// An int, uint (within 64 signed bits), double (finite), bool, string (valid UTF-8), list, map with string keys, null and
// secret become values of engine/field. Null and optional.none() give nil as a result; in a list or map null stays, and
// optional.none() is left out. Bytes and types are problems at load where the checker sees them, else errors: a definition
// can hold no such thing. A secret is a [field.Text] of one hole; it has no operators, and a text that looks like one is text.
//
// # Budgets
//
// A unit is one step; bytesPerUnit characters looked at or written cost one more. Bytes are charged for everything that is
// built. A spent budget is a [renderers.EvalError] with Spent set, which no && or || absorbs. The context is looked at every
// few thousand units, and within long calls; it is a safety net, and its error is handed on as it is.
package cel
