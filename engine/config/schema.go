package config

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"github.com/latent-engine/latent-engine/engine/field"
)

// schema is a part of a JSON Schema.
type schema = map[string]any

const dialect = "https://json-schema.org/draft/2020-12/schema"

// Patterns of the schemas, in the syntax that JSON Schema and Go share.
const (
	namePattern     = `^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`
	propertyPattern = `^[A-Za-z_][A-Za-z0-9._:/-]{0,254}$`
	typePattern     = `^ *(string|bool|int|float|any|list *\(.+\)|map *\( *string *,.+\)) *\?? *$`
	exprPattern     = `\$\{\{`
	sizePattern     = `^-?[0-9.]+[kKmMgGtTpP]?[iI]?[bB]?$`
)

// BuildSchema is the JSON Schema of build documents.
func BuildSchema() []byte {
	str := schema{"type": "string"}
	texts := schema{"type": "array", "items": str}
	build := schema{}
	for _, k := range buildKeys {
		switch k {
		case "id", "number":
			build[k] = schema{"type": "integer"}
		case "tags", "files", "owners":
			build[k] = texts
		default:
			build[k] = str
		}
	}
	stamp := schema{}
	for _, k := range stampKeys {
		stamp[k] = str
		if k == "branch" || k == "revision" {
			stamp[k] = schema{"type": []string{"string", "null"}}
		}
	}
	return encodeSchema(schema{
		"$schema":     dialect,
		"title":       "latent-engine build document",
		"description": "What one build brings to a render. Who delivers the document vouches for the sources of its properties.",
		"type":        "object",
		"required":    []string{"version"},
		"properties": schema{
			"version": schema{"const": 1},
			"properties": schema{
				"type":        "object",
				"description": "The build's properties: name to [value, source].",
				"additionalProperties": schema{
					"type": "array", "minItems": 2, "maxItems": 2,
					"prefixItems": []any{true, schema{"type": "string"}},
				},
			},
			"build":        closed(build),
			"sourcestamps": schema{"type": "array", "items": closed(stamp)},
			"worker":       closed(schema{"info": schema{"type": "object", "additionalProperties": str}}),
		},
		"additionalProperties": false,
	})
}

// DefinitionSchema is the JSON Schema of definition files, made from the tables of the kinds of backends.
func DefinitionSchema(opts Options) []byte {
	g := &schemaMaker{defs: schema{}, names: map[*field.Table]string{}}
	g.defs["expression"] = schema{
		"description": "A text with one or more ${{ CEL expressions }} in it.",
		"type":        "string", "pattern": exprPattern,
	}
	g.defs["literal"] = schema{
		"description": "A value that is meant as it stands: nothing in it is an expression or a call.",
		"type":        "object", "required": []string{"literal"}, "properties": schema{"literal": true}, "additionalProperties": false,
	}
	kinds := slices.Sorted(maps.Keys(opts.Kinds))
	connections, defaults, fields := schema{}, schema{}, map[string][]any{}
	for _, name := range kinds {
		k := opts.Kinds[name]
		connections[name] = orNull(g.table(k.Connection))
		defaults[name] = orNull(g.table(k.Worker))
		if k.Worker == nil {
			continue
		}
		for i := range k.Worker.Fields {
			f := &k.Worker.Fields[i]
			for _, n := range spellings(f) {
				fields[n] = append(fields[n], g.field(f))
			}
		}
	}
	worker := g.worker(fields)
	return encodeSchema(schema{
		"$schema":  dialect,
		"title":    "latent-engine definition",
		"type":     "object",
		"required": []string{"version"},
		"properties": schema{
			"version": schema{"const": 1},
			"engine": orNull(closed(schema{
				"id":        schema{"type": "string", "pattern": namePattern, "description": "The engine's stable id. Default: made once, kept in the state folder."},
				"advertise": schema{"type": "string", "description": "The address, perhaps with a port, that workers dial."},
				"secrets": orNull(closed(schema{
					"dir": schema{"type": "string", "description": "A folder with a file for each secret; a tenant's are in a folder of its own below."},
					"env": schema{"type": "string", "description": "A prefix of environment variables; a tenant's have TENANT__ after it."},
				})),
			})),
			"backends": orNull(schema{
				"type": "object", "propertyNames": schema{"pattern": namePattern},
				"description": "The connections, by name.",
				"additionalProperties": schema{
					"type": "object", "properties": connections, "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
				},
			}),
			"defaults": orNull(schema{
				"type": "object", "properties": defaults, "additionalProperties": false,
				"description": "Put under every worker of that kind of backend.",
			}),
			"workers": orNull(schema{
				"type": "object", "propertyNames": schema{"pattern": namePattern}, "additionalProperties": orNull(worker),
			}),
		},
		"additionalProperties": false,
		"$defs":                g.defs,
	})
}

func (g *schemaMaker) worker(fields map[string][]any) schema {
	g.defs["value"] = schema{"description": "Any value; texts in it may hold ${{ CEL expressions }}."}
	length := schema{"type": "integer", "minimum": 0}
	g.defs["prop"] = schema{"anyOf": []any{
		schema{"type": "string", "pattern": typePattern, "description": `A type such as string, "int?", list(string) or map(string, int).`},
		schema{
			"type": "object", "anyOf": []any{schema{"required": []string{"type"}}, schema{"required": []string{"enum"}}},
			"properties": schema{
				"type":       schema{"type": "string", "pattern": typePattern},
				"default":    true,
				"minimum":    schema{"type": "number"},
				"maximum":    schema{"type": "number"},
				"min_length": length,
				"max_length": length,
				"pattern":    schema{"type": "string", "minLength": 1, "maxLength": maxPattern, "description": "A regular expression (RE2) that the whole text matches."},
				"enum":       schema{"type": "array", "minItems": 1, "items": schema{"type": "string"}},
				"doc":        schema{"type": "string"},
			},
			"additionalProperties": false,
		},
	}}
	props := schema{}
	for n, alternatives := range fields {
		props[n] = alternatives[0]
		if len(alternatives) > 1 {
			props[n] = schema{"anyOf": alternatives}
		}
	}
	name := schema{"type": "string", "pattern": namePattern}
	props["backend"] = schema{"anyOf": []any{name, ref("expression")}, "description": "The backend's name, or an expression that gives one."}
	props["extends"] = name
	props["count"] = schema{"type": "integer", "minimum": 1, "maximum": MaxCount}
	props["name"] = name
	props["props"] = orNull(schema{
		"type": "object", "propertyNames": schema{"pattern": propertyPattern}, "additionalProperties": ref("prop"),
		"description": "The build properties that the worker reads, with their types.",
	})
	props["props_open"] = schema{"type": "boolean", "description": "Undeclared properties may be read too."}
	props["vars"] = orNull(schema{"type": "object", "propertyNames": schema{"pattern": namePattern}, "additionalProperties": ref("value")})
	g.defs["worker"] = closed(props)
	return ref("worker")
}

// schemaMaker makes schemas of types; each table becomes one definition, whatever refers to it.
type schemaMaker struct {
	defs  schema
	names map[*field.Table]string
}

func ref(name string) schema { return schema{"$ref": "#/$defs/" + name} }

func closed(properties schema) schema {
	return schema{"type": "object", "properties": properties, "additionalProperties": false}
}

func orNull(s schema) schema { return schema{"anyOf": []any{s, schema{"type": "null"}}} }

func spellings(f *field.Field) []string {
	if f.Retired != "" {
		return nil
	}
	return append([]string{f.Name}, f.Aliases...)
}

// table is an object with the table's keys. nil: any object.
func (g *schemaMaker) table(t *field.Table) schema { return g.object(t, false) }

func (g *schemaMaker) object(t *field.Table, open bool) schema {
	if t == nil {
		return schema{"type": "object"}
	}
	name, ok := g.names[t]
	if !ok {
		name = "fields." + t.Name
		for i := 2; g.defs[name] != nil; i++ {
			name = "fields." + t.Name + "." + strconv.Itoa(i)
		}
		g.names[t] = name
		g.defs[name] = schema{} // a table may hold itself
		props := schema{}
		var required []string
		for i := range t.Fields {
			f := &t.Fields[i]
			for _, n := range spellings(f) {
				props[n] = g.field(f)
			}
			if f.Required && len(f.Aliases) == 0 {
				required = append(required, f.Name)
			}
		}
		s := schema{"type": "object", "properties": props}
		if !open {
			s["additionalProperties"] = false
		}
		if required != nil {
			s["required"] = required
		}
		g.defs[name] = s
	}
	return ref(name)
}

func (g *schemaMaker) field(f *field.Field) schema {
	s := g.value(f.Type, !f.Literal)
	doc := f.Doc
	if f.Default != "" {
		if doc != "" {
			doc += " "
		}
		doc += "Default: " + f.Default + "."
	}
	if doc != "" {
		s["description"] = doc
	}
	return s
}

// value is what may be written for a value of type t.
func (g *schemaMaker) value(t *field.Type, renderable bool) schema {
	alternatives := g.plain(t, renderable)
	if slices.ContainsFunc(alternatives, func(a any) bool { return len(a.(schema)) == 0 }) {
		return schema{} // anything
	}
	if renderable {
		alternatives = append(alternatives, ref("expression"), ref("literal"))
	}
	return schema{"anyOf": append(alternatives, schema{"type": "null"})}
}

func (g *schemaMaker) plain(t *field.Type, renderable bool) []any {
	if t == nil {
		return []any{schema{}}
	}
	one := func(s schema) []any { return []any{s} }
	text := schema{"type": "string"}
	switch t.Kind {
	case field.StringKind, field.QuantityKind:
		if t.ScalarText {
			text = schema{"type": []string{"string", "number", "boolean"}}
		}
		return one(limits(text, t, "minLength", "maxLength"))
	case field.BoolKind:
		return one(schema{"type": "boolean"})
	case field.IntKind:
		return one(limits(schema{"type": "integer"}, t, "minimum", "maximum"))
	case field.FloatKind:
		return one(schema{"type": "number"})
	case field.SizeKind:
		return []any{limits(schema{"type": "integer"}, t, "minimum", "maximum"), schema{"type": "string", "pattern": sizePattern}}
	case field.DurationKind, field.CPUKind:
		return []any{schema{"type": "number"}, text}
	case field.EnumKind:
		return one(schema{"enum": t.Values})
	case field.ListKind:
		return one(limits(schema{"type": "array", "items": g.value(t.Elem, renderable)}, t, "minItems", "maxItems"))
	case field.MapKind:
		m := one(limits(schema{"type": "object", "additionalProperties": g.value(t.Elem, renderable)}, t, "minProperties", "maxProperties"))
		if t.ListForm {
			m = append(m, schema{"type": "array", "items": schema{"type": "string"}})
		}
		return m
	case field.ObjectKind:
		return one(g.object(t.Fields, t.Open))
	case field.OneOfKind:
		var out []any
		for _, o := range t.Of {
			out = append(out, g.plain(o, renderable)...)
		}
		return out
	case field.NullKind:
		return one(schema{"type": "null"})
	}
	return []any{schema{}}
}

func limits(s schema, t *field.Type, lower, upper string) schema {
	if t.Min != nil {
		s[lower] = *t.Min
	}
	if t.Max != nil {
		s[upper] = *t.Max
	}
	return s
}

func encodeSchema(s schema) []byte {
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return append(out, '\n')
}
