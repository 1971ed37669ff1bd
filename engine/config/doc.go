// Package config turns bytes into definitions and build documents. It is the only importer of a YAML library, and it is strict:
// what two readers could read in two ways is an error.
//
// [Load] reads definition files: UTF-8 without byte order mark and control characters, at most 4 MiB each, one YAML 1.2
// document (or, in a file named *.json, one JSON document), without anchors, aliases, merge keys, tags and directives; keys are
// strings, unique, and differ in more than case (except where the keys are the user's own: an environment, labels, the names of
// properties). Unquoted scalars have the types of YAML 1.2's core schema: yes and on are text, 0777 is an error.
// Files are never expanded with the engine's environment.
//
// Every value keeps its place in its file, to the code point, through quotes, escapes, folded lines and block scalars: an error
// inside an expression points at the expression's own characters. To that end each scalar is read a second time, beside what the
// library made of it; where the two differ, the place is the scalar's start.
//
// What it does not do: it knows expressions only as text between ${{ and }} (renderers compile them), and field tables only as
// lists of keys (engine/render holds values against types). Where a definition has errors, Load gives what is left of it, so that
// later phases find theirs in the same run; [Worker.Incomplete] says where something is missing for that reason.
//
// [LoadBuild] reads build documents, [ParseProperty] the command line's name=value; [DefinitionSchema] and [BuildSchema] are the
// JSON Schemas of both formats.
package config
