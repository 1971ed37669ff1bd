package docker

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"

	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// marks are the labels that everything carries that a build makes on its way. The base image's own labels must not make an
// instance of it.
func marks(engine, instance string) string {
	return "LABEL " + spec.LabelEngine + "=" + engine + " " + spec.LabelInstance + "= " + labelBuild + "=" + instance
}

// labelStages puts a LABEL after every FROM of a Dockerfile, and counts them.
//
// The engine's own builder commits an image for every step. If the connection breaks (we were killed, say), it kills the step
// under way and keeps the images, nameless and without any label of ours: the labels of the API's call come with the very last
// step. With a LABEL as each stage's first step, every later image and every step's container has it, and List finds them.
// What triggers (ONBUILD) of a base image make comes before it and has none.
func labelStages(dockerfile []byte, label string) (out []byte, stages int) {
	b := make([]byte, 0, len(dockerfile)+256)
	done := 0
	for _, i := range instructions(string(dockerfile)) {
		if !strings.EqualFold(i.words[0], "FROM") {
			continue
		}
		stages++
		if i.open {
			continue
		}
		b = append(b, dockerfile[done:i.end]...)
		if done = i.end; b[len(b)-1] != '\n' {
			b = append(b, '\n')
		}
		b = append(append(b, label...), '\n')
	}
	return append(b, dockerfile[done:]...), stages
}

// instruction is one instruction of a Dockerfile.
type instruction struct {
	words  []string // at least one
	rest   string   // what follows the first word
	escape byte
	end    int  // where the next line begins
	open   bool // the text ends within it
}

// instructions reads a Dockerfile as the engine's own builder does: directives first, lines that end in one escape character go
// on in the next, comments and empty lines within are left out.
func instructions(text string) []instruction {
	var out []instruction
	var joined strings.Builder
	escape := byte('\\')
	directives, open, at := true, false, 0
	add := func(open bool) {
		if words := strings.Fields(joined.String()); len(words) > 0 {
			_, rest, _ := strings.Cut(strings.TrimSpace(joined.String()), words[0])
			out = append(out, instruction{words: words, rest: rest, escape: escape, end: at, open: open})
		}
		joined.Reset()
	}
	for line := range strings.Lines(text) {
		first := at == 0
		at += len(line)
		line = strings.TrimRight(line, "\r\n")
		if first {
			line = strings.TrimPrefix(line, "\ufeff")
		}
		trimmed := strings.TrimSpace(line)
		if directives {
			if m := directive.FindStringSubmatch(trimmed); m != nil {
				if strings.EqualFold(m[1], "escape") && m[2] == "`" {
					escape = '`'
				}
				continue
			}
			directives = false
		}
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		if open = continues(line, escape); open {
			line = strings.TrimRight(line, " \t")
			line = line[:len(line)-1]
		}
		joined.WriteString(line)
		if !open {
			add(false)
		}
	}
	if open {
		add(true)
	}
	return out
}

var directive = regexp.MustCompile(`^#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$`)

// continues reports whether a line goes on in the next: it ends in one escape character.
func continues(line string, escape byte) bool {
	line = strings.TrimRight(line, " \t")
	n := len(line)
	return n > 0 && line[n-1] == escape && (n == 1 || line[n-2] != escape)
}

var onlyInKit = regexp.MustCompile(`(?im)^[ \t]*(?:RUN[ \t]+--(?:mount|network|security)\b|(?:COPY|ADD)[ \t]+.*--(?:link|checksum|parents|exclude)\b|(?:RUN|COPY|ADD)[ \t]+.*<<-?["']?[A-Za-z_])|^#[ \t]*syntax[ \t]*=`)

// needsBuildKit reports whether a Dockerfile has what the engine's own builder cannot do. It is asked only after a build
// failed: the builder's word comes first.
func needsBuildKit(dockerfile string) bool { return onlyInKit.MatchString(dockerfile) }

// builtText is the Dockerfile that a plan builds.
func builtText(build field.Object) string {
	if text := planString(build, "dockerfile"); text != "" {
		return text
	}
	return planString(build, "context_dockerfile")
}

// dockerfileImages are the images that a Dockerfile names: FROM, COPY --from and RUN --mount=from=, with the arguments
// before the first FROM put in. What cannot be told (an argument that is a secret) stays as written, and so fits no list.
func dockerfileImages(text string, args field.Object) []string {
	var images []string
	var stages []string
	known := map[string]string{}
	begun := false
	add := func(image string) {
		if image == "" || image == "scratch" || slices.ContainsFunc(stages, func(s string) bool { return strings.EqualFold(s, image) }) {
			return
		}
		if n, err := strconv.Atoi(image); err == nil && n < len(stages) {
			return
		}
		images = append(images, image)
	}
	for _, i := range instructions(text) {
		words := i.words
		for len(words) > 1 && strings.EqualFold(words[0], "ONBUILD") {
			words = words[1:]
		}
		switch strings.ToUpper(words[0]) {
		case "ARG":
			if begun {
				continue
			}
			for _, w := range quotedWords(i.rest, i.escape) {
				name, value, _ := strings.Cut(w, "=")
				switch given := args[name].(type) {
				case field.String:
					known[name] = string(given)
				case nil:
					known[name] = expand(value, known)
				}
			}
		case "FROM":
			begun = true
			words = words[1:]
			for len(words) > 0 && strings.HasPrefix(words[0], "--") {
				words = words[1:]
			}
			if len(words) == 0 {
				continue
			}
			add(expand(words[0], known))
			name := ""
			if len(words) == 3 && strings.EqualFold(words[1], "AS") {
				name = words[2]
			}
			stages = append(stages, name)
		case "COPY", "ADD", "RUN":
			for _, w := range words[1:] {
				if !strings.HasPrefix(w, "--") {
					break
				}
				if image, ok := strings.CutPrefix(w, "--from="); ok {
					add(image)
				}
				if options, ok := strings.CutPrefix(w, "--mount="); ok {
					for o := range strings.SplitSeq(options, ",") {
						if image, ok := strings.CutPrefix(o, "from="); ok {
							add(image)
						}
					}
				}
			}
		}
	}
	return images
}

// baseNames are the images that a Dockerfile names, as far as they can be told.
func baseNames(text string, args field.Object) []reference.Named {
	var out []reference.Named
	for _, i := range dockerfileImages(text, args) {
		if n, err := reference.ParseNormalizedNamed(i); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// quotedWords splits at spaces that are neither within quotes nor escaped: a quoted value cannot look like another argument.
func quotedWords(s string, escape byte) []string {
	var out []string
	quote, begin := byte(0), -1
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quote == 0 && strings.IndexByte(" \t\v\f\r", c) >= 0:
			if begin >= 0 {
				out, begin = append(out, s[begin:i]), -1
			}
			continue
		case c == escape && quote != '\'':
			if begin < 0 {
				begin = i
			}
			i++
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		}
		if begin < 0 {
			begin = i
		}
	}
	if begin >= 0 {
		out = append(out, s[begin:])
	}
	return out
}

// expand puts arguments into $NAME, ${NAME}, ${NAME:-word} and ${NAME:+word}, and drops quotes. A name that is not known
// stays as written.
func expand(s string, known map[string]string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\'':
		case c != '$' || i+1 == len(s):
			b.WriteByte(c)
		case s[i+1] == '{':
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				b.WriteString(s[i:])
				return b.String()
			}
			inner := s[i+2 : i+end]
			name, word, modified := strings.Cut(inner, ":")
			value, ok := known[name]
			switch {
			case modified && strings.HasPrefix(word, "-"):
				if value == "" {
					value = word[1:]
				}
				b.WriteString(value)
			case modified && strings.HasPrefix(word, "+"):
				if value != "" {
					b.WriteString(word[1:])
				}
			case ok && !modified:
				b.WriteString(value)
			default:
				b.WriteString(s[i : i+end+1])
			}
			i += end
		default:
			end := i + 1
			for end < len(s) && (alnum(s[end]) || s[end] == '_') {
				end++
			}
			if value, ok := known[s[i+1:end]]; ok {
				b.WriteString(value)
			} else {
				b.WriteString(s[i:end])
			}
			i = end - 1
		}
	}
	return b.String()
}
