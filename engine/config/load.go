package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/field"
)

// Source is one definition file.
type Source struct {
	Name string // as diagnostics call it
	Data []byte
}

// Kind is what is known of a kind of backend ("docker"): the tables of its connection settings and of a worker's fields.
// Load looks keys up in them; whether the values fit is engine/render's to say. A nil table knows no key and refuses none.
type Kind struct{ Connection, Worker *field.Table }

// Options says what a definition may speak about.
type Options struct {
	// Kinds are the kinds of backends that exist, by name. Empty: kinds and fields are not looked up at all.
	Kinds map[string]Kind
}

// Load reads files as one definition. All problems are reported at once, in file order. The Definition is never nil: where the
// list holds errors, it is what could be read, good for finding more problems and not for rendering.
func Load(files []Source, opts Options) (*Definition, diag.List) {
	l := &loader{
		opts: opts,
		def:  &Definition{Defaults: map[string]*Node{}, Sources: make(map[string][]byte, len(files))},
	}
	order := make(map[string]int, len(files))
	for i, src := range files {
		if _, ok := order[src.Name]; !ok {
			order[src.Name] = i
		}
		l.def.Sources[src.Name] = src.Data
		l.file(src)
	}
	l.resolve()
	for _, d := range l.twins {
		l.list.Add(d)
	}
	l.list.Sort()
	slices.SortStableFunc(l.list, func(a, b diag.Diagnostic) int { return order[a.File] - order[b.File] })
	return l.def, l.list
}

// loader collects the sections of all files.
type loader struct {
	opts Options
	def  *Definition
	list diag.List

	twins    map[*Node]diag.Diagnostic
	backends map[string]*Backend
	defaults map[string]diag.Span
	engine   map[string]diag.Span
	drafts   []*draft // workers as written, in file order
	byKey    map[string]*draft

	noBackends bool // said already
	// partial: a file, or something at the top of one, could not be read. What is missing then proves nothing.
	partial bool
}

func (l *loader) errorf(span diag.Span, path, hint, format string, args ...any) {
	if len(l.list) < diag.MaxDiagnostics {
		l.list.Add(diag.Diagnostic{Span: span, Path: path, Message: fmt.Sprintf(format, args...), Hint: hint})
	}
}

// read makes the tree of one file, nil where there is none.
func (l *loader) read(src Source) *Node {
	f := openFile(src.Name, src.Data, &l.list)
	if f == nil {
		return nil
	}
	t := &tree{f: f, list: &l.list, written: true}
	var root *Node
	if strings.HasSuffix(strings.ToLower(src.Name), ".json") {
		root = t.readJSON()
	} else {
		root = t.readYAML()
	}
	if l.twins == nil {
		l.twins = t.twins
	} else {
		maps.Copy(l.twins, t.twins)
	}
	return root
}

// sections are the keys of a file.
var sections = []string{"version", "engine", "backends", "defaults", "workers"}

func (l *loader) file(src Source) {
	root := l.read(src)
	if root == nil {
		l.partial = true
		return
	}
	if root.Kind == NullNode {
		l.errorf(root.Span, "", "", "the file is empty")
		return
	}
	if root.Kind != MapNode {
		l.errorf(root.Span, "", "the first line of a definition is \"version: 1\"", "a definition is a map, not %s", root.kindName())
		return
	}
	if root.Get("version") == nil && !root.broken {
		l.errorf(diag.Span{Pos: diag.Pos{File: src.Name, Line: 1, Column: 1}}, "version", `the first line of a definition is "version: 1"`, "missing")
	}
	l.partial = l.partial || root.lossy
	for i := range root.Entries {
		e := &root.Entries[i]
		switch e.Key {
		case "version":
			if e.Value.Kind != IntNode || e.Value.Int != 1 {
				l.errorf(e.Value.Span, "version", "", "this version reads definitions of version 1 only")
			}
		case "engine":
			l.engineSection(e)
		case "backends":
			l.each(e, l.backend)
		case "defaults":
			l.each(e, l.defaultsOf)
		case "workers":
			l.each(e, l.worker)
		case "modules", "policies", "tenants":
			l.errorf(e.KeySpan, e.Key, "", "this version does not have %s", e.Key)
		default:
			l.unknown(e.KeySpan, e.Key, "section", e.Key, sections)
		}
	}
}

// unknown reports a key that nothing knows.
func (l *loader) unknown(span diag.Span, path, what, key string, known []string) {
	if len(l.list) < diag.MaxDiagnostics {
		l.errorf(span, path, meant(key, known), "unknown %s %q", what, clip(key))
	}
}

func meant(key string, known []string) string {
	if s := diag.Suggest(key, known); s != "" {
		return fmt.Sprintf("did you mean %q?", s)
	}
	return ""
}

// each calls f for every entry of the map under e, with its path.
func (l *loader) each(e *Entry, f func(path string, e *Entry)) {
	switch e.Value.Kind {
	case NullNode:
		return // a section with nothing in it
	case MapNode:
	default:
		l.partial = true
		l.errorf(e.Value.Span, e.Key, "", "expected a map here, not %s", e.Value.kindName())
		return
	}
	l.partial = l.partial || e.Value.lossy
	for i := range e.Value.Entries {
		in := &e.Value.Entries[i]
		f(field.JoinPath(e.Key, in.Key), in)
	}
}

// name checks a name of the given kind; its syntax is the same everywhere.
func (l *loader) name(span diag.Span, path, what, name string) bool {
	if ValidName(name) {
		return true
	}
	l.errorf(span, path, "letters, digits, \".\", \"_\" and \"-\", a letter or digit first, at most 63", "%q cannot be the name of %s", clip(name), what)
	return false
}

// ValidName reports whether s can be the name of a worker, a backend, a variable or an engine: [A-Za-z0-9][A-Za-z0-9._-]{0,62}.
func ValidName(s string) bool {
	return validName(s, 63, "._-")
}

// ValidProperty reports whether s can be the name of a declared property: [A-Za-z_][A-Za-z0-9._:/-]{0,254}. Buildbot's own
// properties fit ("owner-name" too).
func ValidProperty(s string) bool {
	if strings.HasPrefix(s, "_") {
		s = "a" + s[1:]
	}
	return validName(s, 255, "._:/-") && (s[0] < '0' || s[0] > '9')
}

func validName(s string, length int, also string) bool {
	if s == "" || len(s) > length {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || i > 0 && strings.IndexByte(also, c) >= 0 {
			continue
		}
		return false
	}
	return true
}

// clip shortens what a user wrote for a message.
func clip(s string) string {
	if utf8.RuneCountInString(s) <= 60 {
		return s
	}
	return string([]rune(s)[:57]) + "..."
}

// text is a literal string, reported where it is none.
func (l *loader) text(n *Node, path string) (string, bool) {
	switch {
	case n.Kind == StringNode && strings.Contains(n.Str, "${{"):
		l.errorf(n.Span, path, "", "the value must be known when the file is read: no expression can stand here")
		return "", false
	case n.Kind == StringNode:
		return n.Str, true
	}
	hint := ""
	if n.Raw != "" && n.Kind < StringNode {
		hint = "quote it if it is text"
	}
	l.errorf(n.Span, path, hint, "expected a string here, not %s", n.kindName())
	return "", false
}

func (l *loader) engineSection(sec *Entry) {
	if l.engine == nil {
		l.engine = map[string]diag.Span{}
	}
	l.each(sec, func(path string, e *Entry) {
		if first, ok := l.engine[e.Key]; ok {
			l.errorf(e.KeySpan, path, "", "set already at %s", first.Pos)
			return
		}
		switch e.Key {
		case "id":
			if s, ok := l.text(e.Value, path); ok && l.name(e.Value.Span, path, "an engine", s) {
				l.def.Engine.ID, l.def.Engine.IDSpan = s, e.Value.Span
			}
		case "advertise":
			s, ok := l.text(e.Value, path)
			switch {
			case !ok:
			case !validAdvertise(s):
				l.errorf(e.Value.Span, path, "such as ci.example:9989 or [2001:db8::1]:9989", "%q is not an address that workers can dial", clip(s))
			default:
				l.def.Engine.Advertise, l.def.Engine.AdvertiseSpan = s, e.Value.Span
			}
		case "secrets":
			l.each(&Entry{Key: path, Value: e.Value}, func(path string, e *Entry) {
				into := map[string]*string{"dir": &l.def.Engine.SecretsDir, "env": &l.def.Engine.SecretsEnv}[e.Key]
				if into == nil {
					l.unknown(e.KeySpan, path, "field", e.Key, []string{"dir", "env"})
					return
				}
				if s, ok := l.text(e.Value, path); ok {
					*into = s
				}
			})
		default:
			l.unknown(e.KeySpan, path, "field", e.Key, []string{"id", "advertise", "secrets"})
			return
		}
		l.engine[e.Key] = e.KeySpan
	})
}

// validAdvertise: a host or an address, perhaps with a port. Whether it is a sensible one is for who dials to say.
func validAdvertise(s string) bool {
	host, port := s, ""
	switch {
	case strings.HasPrefix(s, "["):
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return false
		}
		if host, port = s[1:end], s[end+1:]; port != "" && port[0] != ':' {
			return false
		}
	case strings.Count(s, ":") == 1:
		host, port = s[:strings.IndexByte(s, ':')], s[strings.IndexByte(s, ':'):]
	}
	if port != "" {
		n := 0
		for _, c := range port[1:] {
			if c < '0' || c > '9' || n > 65535 {
				return false
			}
			n = n*10 + int(c-'0')
		}
		if n < 1 || n > 65535 {
			return false
		}
	}
	return host != "" && len(host) <= 253 && strings.IndexFunc(host, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("/@\\\"'[]?#", r)
	}) < 0
}

// kinds are the names of the kinds of backends, sorted.
func (l *loader) kinds() []string {
	out := make([]string, 0, len(l.opts.Kinds))
	for k := range l.opts.Kinds {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func (l *loader) kind(span diag.Span, path, name string) bool {
	if _, ok := l.opts.Kinds[name]; ok || len(l.opts.Kinds) == 0 {
		return true
	}
	hint := meant(name, l.kinds())
	if hint == "" {
		hint = "there are: " + strings.Join(l.kinds(), ", ")
	}
	l.errorf(span, path, hint, "no kind of backend is called %q", clip(name))
	return false
}

func (l *loader) backend(path string, e *Entry) {
	if !l.name(e.KeySpan, path, "a backend", e.Key) {
		return
	}
	if first, ok := l.backends[e.Key]; ok {
		l.errorf(e.KeySpan, path, "", "there is a backend of this name at %s", first.NameSpan.Pos)
		return
	}
	if e.Value.Kind != MapNode || len(e.Value.Entries) != 1 {
		if !e.Value.broken {
			l.errorf(e.Value.Span, path, "such as {docker: {docker_host: unix:///var/run/docker.sock}}", "a backend is a map with one key, its kind")
		}
		// Workers that name it are not wrong for that.
		l.addBackend(&Backend{Name: e.Key, NameSpan: e.KeySpan, Settings: &Node{Kind: MapNode, Span: e.Value.Span}})
		return
	}
	k := &e.Value.Entries[0]
	b := &Backend{Name: e.Key, NameSpan: e.KeySpan, Kind: k.Key, Settings: k.Value}
	l.addBackend(b)
	if !l.kind(k.KeySpan, path, k.Key) {
		b.Kind = ""
		return
	}
	b.Settings = l.fields(field.JoinPath(path, k.Key), k.Value, l.opts.Kinds[k.Key].Connection)
}

func (l *loader) addBackend(b *Backend) {
	if l.backends == nil {
		l.backends = map[string]*Backend{}
	}
	l.backends[b.Name] = b
	l.def.Backends = append(l.def.Backends, b)
}

func (l *loader) defaultsOf(path string, e *Entry) {
	if !l.kind(e.KeySpan, path, e.Key) {
		return
	}
	if first, ok := l.defaults[e.Key]; ok {
		l.errorf(e.KeySpan, path, "", "set already at %s", first.Pos)
		return
	}
	if l.defaults == nil {
		l.defaults = map[string]diag.Span{}
	}
	l.defaults[e.Key] = e.KeySpan
	l.def.Defaults[e.Key] = l.fields(path, e.Value, l.opts.Kinds[e.Key].Worker)
}

// fields makes a map of fields ready: keys looked up in table, values renderable. It always gives a map.
func (l *loader) fields(path string, n *Node, table *field.Table) *Node {
	switch n.Kind {
	case MapNode:
	case NullNode:
		return &Node{Kind: MapNode, Span: n.Span}
	default:
		l.errorf(n.Span, path, "", "expected a map here, not %s", n.kindName())
		return &Node{Kind: MapNode, Span: n.Span, broken: true}
	}
	kept := n.Entries[:0]
	for _, e := range n.Entries {
		p := field.JoinPath(path, e.Key)
		var typ *field.Type
		if table != nil {
			f, ok := table.Lookup(e.Key)
			if !ok {
				l.unknown(e.KeySpan, p, "field", e.Key, table.Names())
				delete(l.twins, e.Value) // said once
				n.broken = true
				continue
			}
			typ = f.Type
		}
		if e.Value = l.renderable(p, e.Value, []*field.Type{typ}); e.Value == nil {
			n.broken = true
			continue
		}
		n.broken = n.broken || e.Value.broken
		kept = append(kept, e)
	}
	n.Entries = kept
	return n
}
