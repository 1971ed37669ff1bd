package docker

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/latent-engine/latent-engine/engine/field"
)

// bind is one parsed source:destination[:options].
type bind struct {
	Source string // "" = a volume without a name
	Target string
	Mode   string // options as written, "" = none
}

// String is the canonical form: what is judged and sent.
func (b bind) String() string {
	s := b.Target
	if b.Source != "" {
		s = b.Source + ":" + s
	}
	if b.Mode != "" {
		s += ":" + b.Mode
	}
	return s
}

// hostPath reports whether the source is a path of the host, not the name of a volume.
func (b bind) hostPath() bool {
	return strings.HasPrefix(b.Source, "/") || windowsPath(b.Source)
}

// parseBind reads a bind as the engine does, and canonicalises its paths. What it refuses, an engine refuses too, or it
// would mean something else than it looks like.
func parseBind(s string) (bind, error) {
	parts := splitBind(s)
	if len(parts) == 0 || parts[0] == "" || strings.IndexByte(s, 0) >= 0 {
		return bind{}, fmt.Errorf("%q is not source:destination[:options]", s)
	}
	var b bind
	switch len(parts) {
	case 1:
		b.Target = parts[0]
	case 2:
		if !absolute(parts[1]) && bindMode(parts[1]) == nil {
			return bind{}, fmt.Errorf("%q has options but no source: write source:destination:%s", s, parts[1])
		}
		b.Source, b.Target = parts[0], parts[1]
	case 3:
		b.Source, b.Target, b.Mode = parts[0], parts[1], parts[2]
	default:
		return bind{}, fmt.Errorf("%q has too many colons: it is source:destination[:options]", s)
	}
	if err := bindMode(b.Mode); err != nil {
		return bind{}, fmt.Errorf("%q: %w", s, err)
	}
	var err error
	if b.Target, err = cleanTarget(b.Target); err != nil {
		return bind{}, fmt.Errorf("%q: %w", s, err)
	}
	switch {
	case b.Source == "":
	case strings.HasPrefix(b.Source, "/"):
		b.Source = path.Clean(b.Source)
	case windowsPath(b.Source), volumeName(b.Source):
	case strings.ContainsAny(b.Source, "~$"):
		return bind{}, fmt.Errorf("%q: the source %q is neither an absolute path nor the name of a volume (~ and $ are not expanded)", s, b.Source)
	default:
		return bind{}, fmt.Errorf("%q: the source %q is neither an absolute path nor the name of a volume", s, b.Source)
	}
	return b, nil
}

// splitBind splits at the colons that are no part of a Windows drive.
func splitBind(s string) []string {
	parts := make([]string, 0, 3)
	for start, i := 0, 0; ; i++ {
		switch {
		case i == len(s):
			return append(parts, s[start:])
		case s[i] != ':':
		case i-start == 1 && letter(s[start]) && i+1 < len(s) && (s[i+1] == '\\' || s[i+1] == '/'):
			// A name of one letter is no volume, so this is a drive.
		case i-start == 5 && strings.HasPrefix(s[start:], `\\?\`) && letter(s[start+4]):
		default:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
}

// bindMode checks the options after the second colon: at most one of each class.
func bindMode(mode string) error {
	if mode == "" {
		return nil
	}
	var seen [5]string
	for o := range strings.SplitSeq(mode, ",") {
		class := 0
		switch o {
		case "ro", "rw":
		case "z", "Z":
			class = 1
		case "private", "rprivate", "shared", "rshared", "slave", "rslave":
			class = 2
		case "nocopy":
			class = 3
		case "consistent", "cached", "delegated":
			class = 4
		default:
			return fmt.Errorf("%q is not an option of a bind", o)
		}
		if seen[class] != "" {
			return fmt.Errorf("%q and %q cannot stand together", seen[class], o)
		}
		seen[class] = o
	}
	return nil
}

func cleanTarget(s string) (string, error) {
	switch {
	case strings.IndexByte(s, 0) >= 0:
		return "", errors.New("a NUL byte cannot stand in a path")
	case windowsPath(s):
		return s, nil
	case !strings.HasPrefix(s, "/"):
		return "", fmt.Errorf("the destination %q is not an absolute path", s)
	}
	if s = path.Clean(s); s == "/" {
		return "", errors.New("the destination cannot be the root of the container")
	}
	return s, nil
}

func absolute(s string) bool { return strings.HasPrefix(s, "/") || windowsPath(s) }

// windowsPath is C:\…, c:/…, \\?\C:\… or a pipe \\.\pipe\….
func windowsPath(s string) bool {
	return len(s) >= 3 && letter(s[0]) && s[1] == ':' && (s[2] == '\\' || s[2] == '/') || strings.HasPrefix(s, `\\`)
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// volumeName is the engine's rule for the name of a volume.
func volumeName(s string) bool { return len(s) >= 2 && objectName(s) }

// checkBind is an element of hostconfig.binds; a destination alone is a volume without a name, as for the engine.
func checkBind(v field.Value) (field.Value, error) {
	b, err := parseBind(string(v.(field.String)))
	if err != nil {
		return nil, err
	}
	return field.String(b.String()), nil
}

// checkVolumeText is an element of volumes; as in Buildbot it has a source.
func checkVolumeText(v field.Value) (field.Value, error) {
	b, err := parseBind(string(v.(field.String)))
	if err != nil {
		return nil, err
	}
	if b.Source == "" {
		return nil, fmt.Errorf("%q has no source: it is source:destination[:options]", string(v.(field.String)))
	}
	return field.String(b.String()), nil
}

// checkVolume is volumes as one text.
func checkVolume(v field.Value) (field.Value, error) {
	c, err := checkVolumeText(v)
	if err != nil {
		return nil, err
	}
	return field.List{c}, nil
}

// bindsFromMap reads docker-py's {source: destination} and {source: {bind, mode or ro}}.
func bindsFromMap(v field.Value) (field.Value, error) {
	o := v.(field.Object)
	l := make(field.List, 0, len(o))
	var wrong []error
	for _, source := range slices.Sorted(maps.Keys(o)) {
		s := source
		switch e := o[source].(type) {
		case field.String:
			s += ":" + string(e)
		case field.Object:
			target, _ := e["bind"].(field.String)
			s += ":" + string(target)
			mode, hasMode := e["mode"].(field.String)
			ro, hasRO := e["ro"].(field.Bool)
			switch {
			case hasMode && hasRO:
				wrong = append(wrong, field.AtEntry(source, fmt.Errorf("%q has both ro and mode", source)))
				continue
			case bool(ro):
				s += ":ro"
			case mode != "":
				s += ":" + string(mode)
			}
		}
		c, err := checkVolumeText(field.String(s))
		if err != nil {
			wrong = append(wrong, field.AtEntry(source, err))
			continue
		}
		l = append(l, c)
	}
	return l, errors.Join(wrong...)
}

// bindTarget is the destination in a canonical bind.
func bindTarget(s string) string {
	parts := splitBind(s)
	if len(parts) == 1 {
		return parts[0]
	}
	return parts[1]
}
