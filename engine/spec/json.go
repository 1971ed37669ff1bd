package spec

import (
	"maps"
	"slices"
	"strconv"

	"github.com/latent-engine/latent-engine/engine/field"
)

// Mask is what stands for a secret wherever a plan is shown.
const Mask = "***"

// Encode is v as JSON, keys sorted, secrets filled in by fill. It is what a backend sends; nothing else sees its result.
// Absent values (nil) in maps are left out.
func Encode(v field.Value, fill func(field.SecretRef) (string, error)) ([]byte, error) {
	return appendJSON(make([]byte, 0, 2048), v, fill)
}

// AppendRedacted appends v as JSON with every secret as [Mask].
func AppendRedacted(b []byte, v field.Value) []byte {
	b, err := appendJSON(b, v, func(field.SecretRef) (string, error) { return Mask, nil })
	if err != nil {
		panic("internal error: masking cannot fail")
	}
	return b
}

// FillText is a Text's characters with the secrets filled in.
func FillText(t field.Text, fill func(field.SecretRef) (string, error)) (string, error) {
	var b []byte
	for _, s := range t {
		if s.Secret.IsZero() {
			b = append(b, s.Text...)
			continue
		}
		text, err := fill(s.Secret)
		if err != nil {
			return "", err
		}
		b = append(b, text...)
	}
	return string(b), nil
}

func appendJSON(b []byte, v field.Value, fill func(field.SecretRef) (string, error)) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case field.Bool:
		return strconv.AppendBool(b, bool(v)), nil
	case field.Int:
		return strconv.AppendInt(b, int64(v), 10), nil
	case field.Float:
		return appendFloat(b, float64(v)), nil
	case field.String:
		return AppendString(b, string(v)), nil
	case field.Text:
		s, err := FillText(v, fill)
		if err != nil {
			return nil, err
		}
		return AppendString(b, s), nil
	case field.List:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendJSON(b, e, fill); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case field.Object:
		b = append(b, '{')
		n := 0
		var buf [16]string
		keys := slices.AppendSeq(buf[:0], maps.Keys(v))
		slices.Sort(keys)
		for _, k := range keys {
			if v[k] == nil {
				continue
			}
			if n > 0 {
				b = append(b, ',')
			}
			n++
			b = append(AppendString(b, k), ':')
			if b, err = appendJSON(b, v[k], fill); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	}
	panic("internal error: unknown value in JSON")
}
