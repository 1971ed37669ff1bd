package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// writeYAML writes JSON as YAML, keys in the JSON's order. What a YAML reader could take for something else than the
// string it is stands in double quotes, as in JSON, which every YAML reader reads.
func writeYAML(b *bytes.Buffer, data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := readOrdered(dec)
	if err != nil {
		return err
	}
	yamlValue(b, v, 0, false)
	return nil
}

type ordered []pair

type pair struct {
	key   string
	value any
}

func readOrdered(dec *json.Decoder) (any, error) {
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		out := ordered{}
		for dec.More() {
			k, err := dec.Token()
			if err != nil {
				return nil, err
			}
			v, err := readOrdered(dec)
			if err != nil {
				return nil, err
			}
			out = append(out, pair{fmt.Sprint(k), v})
		}
		_, err = dec.Token()
		return out, err
	case json.Delim('['):
		out := []any{}
		for dec.More() {
			v, err := readOrdered(dec)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		_, err = dec.Token()
		return out, err
	}
	return t, nil
}

// yamlValue writes v; inline says that a key or a dash stands before it on the line.
func yamlValue(b *bytes.Buffer, v any, depth int, inline bool) {
	indent := strings.Repeat("  ", depth)
	switch v := v.(type) {
	case ordered:
		if len(v) == 0 {
			scalar(b, "{}", inline)
			return
		}
		if inline {
			b.WriteByte('\n')
		}
		for _, p := range v {
			b.WriteString(indent + yamlString(p.key) + ":")
			yamlValue(b, p.value, depth+1, true)
		}
	case []any:
		if len(v) == 0 {
			scalar(b, "[]", inline)
			return
		}
		if inline {
			b.WriteByte('\n')
		}
		for _, e := range v {
			var item bytes.Buffer
			yamlValue(&item, e, depth+1, false)
			// An element's first line stands behind its dash.
			b.WriteString(indent + "- " + strings.TrimPrefix(item.String(), indent+"  "))
		}
	case string:
		scalar(b, yamlString(v), inline)
	case nil:
		scalar(b, "null", inline)
	default:
		scalar(b, fmt.Sprint(v), inline)
	}
}

func scalar(b *bytes.Buffer, s string, inline bool) {
	if inline {
		b.WriteByte(' ')
	}
	b.WriteString(s + "\n")
}

var (
	plainWord = regexp.MustCompile(`^[A-Za-z_/][A-Za-z0-9_./-]*$`)
	// taken are the words that some YAML reader takes for a boolean, a null or a number.
	taken = regexp.MustCompile(`(?i)^(true|false|yes|no|on|off|y|n|null|nan|inf)$`)
)

func yamlString(s string) string {
	if plainWord.MatchString(s) && !taken.MatchString(s) {
		return s
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s)
	return strings.TrimSpace(b.String())
}
