package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/field"
)

// SourceCLI is the source of a property that was given with -p.
const SourceCLI = "cli"

// LoadBuild reads a build document: strict JSON, version 1. All problems are reported at once; the Build is nil where there is one.
func LoadBuild(name string, data []byte) (*Build, diag.List) {
	b := &buildLoader{}
	build := b.load(name, data)
	b.list.Sort()
	if b.list.HasErrors() {
		return nil, b.list
	}
	return build, b.list
}

// ParseProperty reads the argument of -p: name=value. The value keeps its text and takes the declared type at render.
func ParseProperty(arg string) (string, Property, error) {
	name, value, ok := strings.Cut(arg, "=")
	switch {
	case !ok:
		return "", Property{}, fmt.Errorf("cannot read property %q: expected name=value", clip(arg))
	case name == "":
		return "", Property{}, fmt.Errorf("cannot read property %q: the name is empty", clip(arg))
	case !ValidProperty(name):
		return "", Property{}, fmt.Errorf("cannot read property %q: %q cannot be the name of a property", clip(arg), clip(name))
	}
	return name, Property{Value: field.String(value), Source: SourceCLI, Text: true}, nil
}

type buildLoader struct{ loader }

var (
	buildSections = []string{"version", "properties", "build", "sourcestamps", "worker"}
	buildKeys     = []string{"id", "number", "builder", "reason", "url", "tags", "files", "owners"}
	stampKeys     = []string{"codebase", "branch", "revision", "repository", "project"}
)

func (b *buildLoader) load(name string, data []byte) *Build {
	f := openData(name, data, &b.list)
	if f == nil {
		return nil
	}
	t := &tree{f: f, list: &b.list}
	root := t.readJSON()
	if root == nil {
		return nil
	}
	out := &Build{Properties: map[string]Property{}, WorkerInfo: map[string]string{}}
	if !b.is(root, MapNode, "", "a map") {
		return nil
	}
	if root.Get("version") == nil && !root.broken {
		b.errorf(diag.Span{Pos: root.Span.Pos}, "version", `a build document begins with {"version": 1`, "missing")
	}
	for _, e := range root.Entries {
		switch e.Key {
		case "version":
			if e.Value.Kind != IntNode || e.Value.Int != 1 {
				b.errorf(e.Value.Span, "version", "", "this version reads build documents of version 1 only")
			}
		case "properties":
			b.entries(e.Value, "properties", func(path string, e *Entry) { b.property(out, path, e) })
		case "build":
			b.entries(e.Value, "build", func(path string, e *Entry) { b.build(out, path, e) })
		case "sourcestamps":
			b.stamps(out, e.Value)
		case "worker":
			b.entries(e.Value, "worker", func(path string, e *Entry) {
				if e.Key != "info" {
					b.unknown(e.KeySpan, path, "key", e.Key, []string{"info"})
					return
				}
				b.entries(e.Value, path, func(path string, e *Entry) {
					if s, ok := b.str(e.Value, path); ok {
						out.WorkerInfo[e.Key] = s
					}
				})
			})
		default:
			b.unknown(e.KeySpan, e.Key, "key", e.Key, buildSections)
		}
	}
	return out
}

func (b *buildLoader) is(n *Node, kind NodeKind, path, wanted string) bool {
	if n.Kind == kind {
		return true
	}
	b.errorf(n.Span, path, "", "expected %s here, not %s", wanted, n.kindName())
	return false
}

func (b *buildLoader) str(n *Node, path string) (string, bool) {
	return n.Str, b.is(n, StringNode, path, "a string")
}

func (b *buildLoader) entries(n *Node, path string, f func(path string, e *Entry)) {
	if !b.is(n, MapNode, path, "a map") {
		return
	}
	for i := range n.Entries {
		f(field.JoinPath(path, n.Entries[i].Key), &n.Entries[i])
	}
}

// property reads [value, source]. Names are whatever the CI system has: what a worker does not declare is not read.
func (b *buildLoader) property(out *Build, path string, e *Entry) {
	n := e.Value
	if n.Kind != ListNode || len(n.Items) != 2 && !n.broken {
		b.errorf(n.Span, path, `such as ["main", "Change"]`, "a property is a list of its value and its source")
		return
	}
	if n.broken && len(n.Items) != 2 {
		return
	}
	source, ok := b.str(n.Items[1], field.IndexPath(path, 1))
	if !ok {
		return
	}
	out.Properties[e.Key] = Property{Value: plainValue(n.Items[0]), Source: source}
}

// plainValue is n as data, as it stands.
func plainValue(n *Node) field.Value {
	switch n.Kind {
	case BoolNode:
		return field.Bool(n.Bool)
	case IntNode:
		return field.Int(n.Int)
	case FloatNode:
		return field.Float(n.Float)
	case StringNode, TextNode:
		return field.String(n.Str)
	case ListNode:
		out := make(field.List, len(n.Items))
		for i, item := range n.Items {
			out[i] = plainValue(item)
		}
		return out
	case MapNode:
		out := make(field.Object, len(n.Entries))
		for _, e := range n.Entries {
			out[e.Key] = plainValue(e.Value)
		}
		return out
	}
	return nil
}

func (b *buildLoader) build(out *Build, path string, e *Entry) {
	n := e.Value
	switch e.Key {
	case "id", "number":
		if !b.is(n, IntNode, path, "an integer") {
			return
		}
		if e.Key == "id" {
			out.ID = n.Int
		} else {
			out.Number = n.Int
		}
	case "builder", "reason", "url":
		s, ok := b.str(n, path)
		switch {
		case !ok:
		case e.Key == "builder":
			out.Builder = s
		case e.Key == "reason":
			out.Reason = s
		default:
			out.URL = s
		}
	case "tags", "files", "owners":
		if !b.is(n, ListNode, path, "a list of strings") {
			return
		}
		list := make([]string, 0, len(n.Items))
		for i, item := range n.Items {
			if s, ok := b.str(item, field.IndexPath(path, i)); ok {
				list = append(list, s)
			}
		}
		switch e.Key {
		case "tags":
			out.Tags = list
		case "files":
			out.Files = list
		default:
			out.Owners = list
		}
	default:
		b.unknown(e.KeySpan, path, "key", e.Key, buildKeys)
	}
}

func (b *buildLoader) stamps(out *Build, n *Node) {
	if !b.is(n, ListNode, "sourcestamps", "a list") {
		return
	}
	codebases := map[string]diag.Span{}
	for i, item := range n.Items {
		path := field.IndexPath("sourcestamps", i)
		if !b.is(item, MapNode, path, "a map") {
			continue
		}
		var s SourceStamp
		at := item.Span
		for _, e := range item.Entries {
			p := field.JoinPath(path, e.Key)
			if !slices.Contains(stampKeys, e.Key) {
				b.unknown(e.KeySpan, p, "key", e.Key, stampKeys)
				continue
			}
			if e.Value.Kind == NullNode && (e.Key == "branch" || e.Key == "revision") {
				continue // Buildbot's None
			}
			v, ok := b.str(e.Value, p)
			if !ok {
				continue
			}
			switch e.Key {
			case "codebase":
				s.Codebase, at = v, e.Value.Span
			case "branch":
				s.Branch = &v
			case "revision":
				s.Revision = &v
			case "repository":
				s.Repository = v
			case "project":
				s.Project = v
			}
		}
		if first, ok := codebases[s.Codebase]; ok {
			b.errorf(at, path, "", "there is a source stamp for codebase %q at %s", clip(s.Codebase), first.Pos)
			continue
		}
		codebases[s.Codebase] = at
		out.SourceStamps = append(out.SourceStamps, s)
	}
}
