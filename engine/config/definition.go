package config

import (
	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/field"
)

// Definition is what the user wrote, typed, every value with its position. Immutable once loaded.
type Definition struct {
	Engine   Engine
	Backends []*Backend // in file order
	// Defaults are put under every worker of that kind of backend: kind → map node.
	Defaults map[string]*Node
	// Workers, in file order, with count expanded and extends resolved into layers.
	Workers []*Worker
	// Sources are the files read, for printing diagnostics: name → content.
	Sources map[string][]byte
}

// Engine is the file's engine: section.
type Engine struct {
	ID        string // "" = made once, kept in the state folder
	Advertise string // host or host:port that workers dial; "" = none
	// Where they stand, for later phases' diagnostics.
	IDSpan, AdvertiseSpan diag.Span
	// SecretsDir and SecretsEnv are the providers of secrets: a folder of files, and a prefix of environment variables.
	SecretsDir, SecretsEnv string
}

// Backend is one connection.
type Backend struct {
	Name     string
	NameSpan diag.Span
	Kind     string // "docker"; "" where it is not known, which is reported
	// Settings is the map under the kind's key: its keys are in the kind's connection table, its values are not checked yet.
	Settings *Node
}

// Worker is one worker, ready to be compiled.
type Worker struct {
	Tenant string // "" = the operator's own
	// Key is the key under workers: ("linux-big"); Name is the worker's name, with -index where count is given ("linux-big-2").
	Key, Name string
	NameSpan  diag.Span // the key
	// WorkerName is WORKERNAME: the worker's name: field where it has one (with -index where count is given), else Name.
	WorkerName string
	Index      int // 1-based with count, else 0
	// Backend chooses the connection: a String node or one with expressions. nil = the file's only backend.
	Backend *Node
	// Props are the declared properties (its own and what it extends), by name, sorted.
	Props     []*Prop
	PropsOpen bool
	// Vars in file order, those of the worker itself replacing those it extends.
	Vars []*Var
	// Layers are the worker's fields, from the farthest base it extends to itself: each a map node that holds only backend
	// fields (no backend, props, vars, extends, count, name …). Each key is a field of some kind of backend; whether it is one of
	// the worker's own kind, and the types, are not checked yet.
	Layers []Layer
	// Incomplete: something of it was left out because of an error that is already reported, so that what is missing proves
	// nothing.
	Incomplete bool
}

// ID is tenant/name, or the bare name of the operator's own worker.
func (w *Worker) ID() string {
	if w.Tenant == "" {
		return w.Name
	}
	return w.Tenant + "/" + w.Name
}

// Layer is one level of a worker's fields.
type Layer struct {
	// From says where the layer comes from: "workers.linux".
	From string
	Node *Node
}

// Prop is a declared property.
type Prop struct {
	Name string
	Span diag.Span // the declaration
	// Type is String, Bool, Int, Float, Enum, List or Map of those; Nullable for "T?". Min, Max, MaxLen and Check (pattern) are set from bounds.
	Type    *field.Type
	Default field.Value // nil = none
	Doc     string
	// Decl is the type as written, for messages: "int", "string?".
	Decl string
}

// Required reports whether a build must have the property.
func (p *Prop) Required() bool { return p.Default == nil && !p.Type.Nullable }

// Var is one entry of vars:.
type Var struct {
	Name string
	Span diag.Span // the key
	Node *Node
}

// NodeKind is the closed list of node kinds.
type NodeKind uint8

// The node kinds.
const (
	NullNode NodeKind = iota
	BoolNode
	IntNode
	FloatNode
	StringNode // a string without expressions
	TextNode   // a string with at least one ${{ }}
	ListNode
	MapNode
	CallNode    // {wasm: …} and other reserved call keys
	LiteralNode // {literal: mapping}: Items[0] is the mapping, nothing in it is a call or an expression
)

// Node is one value as written. Immutable after load.
type Node struct {
	Kind  NodeKind
	Span  diag.Span // of the value; for a map or list, of its first line
	Bool  bool
	Int   int64
	Float float64
	// Str is the decoded string of a StringNode or TextNode ($${{ still doubled only in Raw, not here).
	Str string
	// Raw is the value's own source text, first line, as the user wrote it, quotes included: for explain and messages.
	Raw string
	// Text says where each code point of Str stands.
	Text diag.Text
	// Segments of a TextNode, in order, at least one with Expr.
	Segments []Segment
	Items    []*Node
	Entries  []Entry // of a MapNode, in file order, keys unique
	// Call is a CallNode's key ("wasm"), CallTarget its value, CallWith the with: node or nil.
	Call       string
	CallTarget *Node
	CallWith   *Node

	broken bool // something in it was left out because of an error that is already reported
	lossy  bool // an entry of its own was
}

// Segment is a piece of a TextNode: literal characters or an expression.
type Segment struct {
	Text string // literal characters
	Expr bool
	// Source is the expression's text between ${{ and }}, with surrounding white space trimmed; At says where its code points stand.
	Source string
	At     diag.Text
}

// Entry is one key of a MapNode.
type Entry struct {
	Key     string
	KeySpan diag.Span
	Value   *Node
}

// Get is the value of a MapNode's key, nil where there is none.
func (n *Node) Get(key string) *Node {
	if n == nil {
		return nil
	}
	for i := range n.Entries {
		if n.Entries[i].Key == key {
			return n.Entries[i].Value
		}
	}
	return nil
}

// Sole reports whether the node is exactly one ${{ }} and nothing else, so that the expression's type is kept.
func (n *Node) Sole() bool { return n.Kind == TextNode && len(n.Segments) == 1 }

// Build is the build document: what one build brings to a render. JSON, version 1.
type Build struct {
	Properties   map[string]Property
	ID           int64
	Number       int64
	Builder      string
	Reason       string
	URL          string
	Tags         []string
	Files        []string
	Owners       []string
	SourceStamps []SourceStamp
	WorkerInfo   map[string]string
}

// Property is a property's value and its source ("cli", "Force Build Form", "Change", …).
type Property struct {
	Value  field.Value
	Source string
	// Text: the value came as text from a command line and takes the declared type (-p cores=8).
	Text bool
}

// SourceStamp is one codebase's source. Branch and Revision may be absent (nil).
type SourceStamp struct {
	Codebase, Repository, Project string
	Branch, Revision              *string
}
