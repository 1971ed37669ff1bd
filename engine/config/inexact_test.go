package config

import (
	"go.yaml.in/yaml/v3"

	"github.com/latent-engine/latent-engine/engine/diag"
)

// inexact walks a YAML tree as yamlNode does and collects the scalars that locate cannot place.
func (t *tree) inexact(y *yaml.Node, indent int) []string {
	var out []string
	switch y.Kind {
	case yaml.AliasNode:
		return nil
	case yaml.ScalarNode:
		off := t.f.offset(y.Line, y.Column)
		if y.Value == "" && y.Style&quoteStyles == 0 || y.Anchor != "" || y.Style&yaml.TaggedStyle != 0 || off < len(t.f.src) && t.f.src[off] == '!' {
			return nil
		}
		var text diag.Text
		if _, exact := t.locate(&text, y, off, indent); !exact {
			out = append(out, y.Value)
		}
		return out
	case yaml.MappingNode, yaml.SequenceNode:
		if y.Style&yaml.FlowStyle == 0 {
			indent = y.Column - 1
		}
	}
	for _, c := range y.Content {
		out = append(out, t.inexact(c, indent)...)
	}
	return out
}
