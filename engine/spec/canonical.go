package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/latent-engine/latent-engine/engine/field"
)

// Digest is "v1:" and the SHA-256 of the plan's sparse canonical JSON: keys sorted, integers exact, absent values dropped.
// A plan holds what the definition gave and fixed defaults, never an SDK's zero values, so that neither map order nor a field
// that a newer SDK adds changes it. Secrets are in it as (provider, name), never as values.
func Digest(p Plan) string {
	d, _ := DigestSize(p)
	return d
}

// DigestSize is Digest, and the size in bytes of the JSON that it was made of.
func DigestSize(p Plan) (string, int) {
	canonical := p.appendCanonical(make([]byte, 0, 1024))
	sum := sha256.Sum256(canonical)
	return string(hex.AppendEncode([]byte("v1:"), sum[:])), len(canonical)
}

// appendCanonical appends what AppendCanonical makes of p.Object, without making that object.
func (p Plan) appendCanonical(b []byte) []byte {
	start := len(b)
	key := func(name string) {
		b = append(append(append(b, ',', '"'), name...), '"', ':')
	}
	text := func(name, v string) {
		if v != "" {
			key(name)
			b = AppendString(b, v)
		}
	}
	part := func(name string, v field.Object) {
		if len(v) > 0 {
			key(name)
			b = AppendCanonical(b, v)
		}
	}
	part("after", p.After)
	text("backend", p.Backend)
	part("build", p.Build)
	part("create", p.Create)
	text("endpoint", p.Endpoint)
	if m := p.Master; m != (Master{}) {
		key("master")
		from := len(b)
		text("host", m.Host)
		if m.Port != 0 {
			key("port")
			b = strconv.AppendInt(b, int64(m.Port), 10)
		}
		text("protocol", m.Protocol)
		b[from] = '{' // in place of the first comma
		b = append(b, '}')
	}
	if len(p.Objects) > 0 {
		key("objects")
		for i, o := range p.Objects {
			b = append(b, "[,"[min(i, 1)])
			b = AppendCanonical(b, o)
		}
		b = append(b, ']')
	}
	if p.Password != nil {
		key("password")
		b = AppendCanonical(b, p.passwordHole())
	}
	part("pull", p.Pull)
	text("target", p.Target)
	if len(b) == start {
		return append(b, "{}"...)
	}
	b[start] = '{'
	return append(b, '}')
}

// Object is the plan as one value, as digested and as `render --full` shows it under "spec". Parts that the plan does
// not have are absent.
func (p Plan) Object() field.Object {
	out := make(field.Object, 10)
	text := func(o field.Object, key, v string) {
		if v != "" {
			o[key] = field.String(v)
		}
	}
	part := func(key string, v field.Object) {
		if len(v) > 0 {
			out[key] = v
		}
	}
	text(out, "backend", p.Backend)
	text(out, "target", p.Target)
	text(out, "endpoint", p.Endpoint)
	master := make(field.Object, 3)
	text(master, "host", p.Master.Host)
	text(master, "protocol", p.Master.Protocol)
	if p.Master.Port != 0 {
		master["port"] = field.Int(p.Master.Port)
	}
	part("master", master)
	part("pull", p.Pull)
	part("build", p.Build)
	part("create", p.Create)
	part("after", p.After)
	if p.Password != nil {
		out["password"] = p.passwordHole()
	}
	if len(p.Objects) > 0 {
		objects := make(field.List, len(p.Objects))
		for i, o := range p.Objects {
			objects[i] = o
		}
		out["objects"] = objects
	}
	return out
}

// passwordHole is the password as digested and shown: written as plain text in a definition it is a secret all the same.
func (p Plan) passwordHole() field.Value {
	if _, plain := p.Password.(field.String); plain {
		return field.Text{{Secret: field.SecretRef{Provider: "definition", Name: "password"}}}
	}
	return p.Password
}

// AppendCanonical appends v's sparse canonical JSON to b: in a map, absent values are dropped; in a list nothing is. What
// was given counts, also where it is empty or zero: "mask no path" is not "mask the usual paths". A secret is {"$secret":[provider,name]}, a text with secrets
// {"$text":["…",{"$secret":…}]}: no plain value collides with them, because a map that has a key starting with "$" is written with
// every such key doubled.
func AppendCanonical(b []byte, v field.Value) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case field.Bool:
		return strconv.AppendBool(b, bool(v))
	case field.Int:
		return strconv.AppendInt(b, int64(v), 10)
	case field.Float:
		return appendFloat(b, float64(v))
	case field.String:
		return AppendString(b, string(v))
	case field.Text:
		b = append(b, `{"$text":[`...)
		for i, s := range v {
			if i > 0 {
				b = append(b, ',')
			}
			if s.Secret.IsZero() {
				b = AppendString(b, s.Text)
				continue
			}
			b = append(b, `{"$secret":[`...)
			b = append(AppendString(b, s.Secret.Provider), ',')
			b = append(AppendString(b, s.Secret.Name), "]}"...)
		}
		return append(b, "]}"...)
	case field.List:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = AppendCanonical(b, e)
		}
		return append(b, ']')
	case field.Object:
		b = append(b, '{')
		first := true
		var buf [16]string
		keys := buf[:0]
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			if v[k] == nil {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			name := k
			if k != "" && k[0] == '$' {
				name = "$" + k
			}
			b = append(AppendString(b, name), ':')
			b = AppendCanonical(b, v[k])
		}
		return append(b, '}')
	}
	panic("internal error: unknown value in canonical JSON")
}

// appendFloat writes a number that JSON can hold; an integral one is written as an integer, so that 2.0 and 2 agree.
func appendFloat(b []byte, f float64) []byte {
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return strconv.AppendInt(b, int64(f), 10)
	}
	return strconv.AppendFloat(b, f, 'g', -1, 64)
}

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string; bytes that are not UTF-8 become U+FFFD.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(append(b, s[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += n
			continue
		}
		if c >= 0x20 && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\t':
			b = append(b, '\\', 't')
		case '\r':
			b = append(b, '\\', 'r')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(b, s[start:]...), '"')
}
