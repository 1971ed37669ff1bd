// Package render compiles definitions into templates, once, and renders templates against builds, many times.
//
// A [Template] is immutable and safe for concurrent use. Compiling finds every mistake that can be known without a build:
// each expression's type is held against its field. Rendering is pure: no clock, no random, no I/O; same inputs, same [Spec].
//
// Layers: the operator's defaults for the kind of backend, then what the worker extends, from the farthest, then the worker
// itself. Maps merge key by key (also maps that an expression gives); anything else replaces; null takes a key out.
package render
