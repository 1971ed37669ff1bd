package config

import (
	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/field"
)

// Plain is the node as data, as it stands: nothing in it is an expression.
func (n *Node) Plain() field.Value {
	if n.Kind == LiteralNode {
		return n.Items[0].Plain()
	}
	return plainValue(n)
}

// ParseJSON reads one strict JSON value: unique keys, integers exact, nothing after it. The error is a *diag.ListError.
func ParseJSON(name string, data []byte) (field.Value, error) {
	var list diag.List
	f := openData(name, data, &list)
	if f == nil {
		return nil, list.Err()
	}
	root := (&tree{f: f, list: &list}).readJSON()
	if err := list.Err(); err != nil {
		return nil, err
	}
	return root.Plain(), nil
}
